"""The public store: what devices see, search and fetch.

    catalogue.py  one app, its history, the categories      search.py   lists and searches
    updates.py    which version a device is offered         revision.py  which state of the store this is
    fetching.py   the bytes of packages and pictures, and the counting of downloads
"""

from mosis.store.catalogue import Listing, categories, get, history
from mosis.store.fetching import (
    ICON_SIZES,
    Picture,
    flush_downloads,
    icon,
    package,
    screenshot,
    sweep_packages,
    sweep_pictures,
)  # fmt: skip
from mosis.store.revision import revision
from mosis.store.search import SORTS, Query, index, position_types
from mosis.store.updates import LONGEST_DEVICE, MOST_APPS, Device, Offer, in_rollout, offered, updates

__all__ = [
    "ICON_SIZES", "LONGEST_DEVICE", "MOST_APPS", "SORTS", "Device", "Listing", "Offer", "Picture", "Query", "categories",
    "flush_downloads", "get", "history", "icon", "in_rollout", "index", "offered", "package", "position_types", "revision",
    "screenshot", "sweep_packages", "sweep_pictures", "updates",
]  # fmt: skip

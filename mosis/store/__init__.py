"""The public store: what devices see, search and fetch.

    catalogue.py  one app, its history, the categories      search.py   lists and searches
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
from mosis.store.search import SORTS, Query, index, position_types

__all__ = [
    "ICON_SIZES", "SORTS", "Listing", "Picture", "Query", "categories", "flush_downloads", "get", "history", "icon", "index",
    "package", "position_types", "screenshot", "sweep_packages", "sweep_pictures",
]  # fmt: skip

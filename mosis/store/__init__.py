"""The public store: what devices see, search and download.

listings.py       one app, its history, the categories
search.py         lists and searches
updates.py        which version a device is offered
revisions.py      revisions, on which cached responses depend
signed_index.py   the whole catalogue as one signed file
index_keys.py     the keys that sign it
downloads.py      packages and pictures, and the count of downloads
fetched.py        which downloads count
changes.py        additions, updates and removals in order
"""

from mosis.store.changes import Change, changes
from mosis.store.downloads import (
    ICON_SIZES,
    Picture,
    add_up_days,
    count_download,
    download_days,
    flush_downloads,
    icon,
    package,
    package_id,
    screenshot,
    sweep_packages,
    sweep_pictures,
    versions_with_days,
)
from mosis.store.index_keys import IndexKey, index_keys, rotate
from mosis.store.listings import (
    Listing,
    categories,
    get,
    history,
    latest_releases,
    signing_key,
)
from mosis.store.revisions import app_revision, list_revision, revision
from mosis.store.search import SORTS, Query, index, position_types
from mosis.store.signed_index import AGES, SignedIndex, current_index, gzip_index_at, index_at
from mosis.store.updates import (
    LONGEST_AGE_DAYS,
    LONGEST_DEVICE,
    MOST_APPS,
    Device,
    Offer,
    in_rollout,
    offered,
    published_before,
    updates,
)

__all__ = [
    "AGES",
    "ICON_SIZES",
    "LONGEST_AGE_DAYS",
    "LONGEST_DEVICE",
    "MOST_APPS",
    "SORTS",
    "Change",
    "Device",
    "IndexKey",
    "Listing",
    "Offer",
    "Picture",
    "Query",
    "SignedIndex",
    "add_up_days",
    "app_revision",
    "categories",
    "changes",
    "count_download",
    "current_index",
    "download_days",
    "flush_downloads",
    "get",
    "gzip_index_at",
    "history",
    "icon",
    "in_rollout",
    "index",
    "index_at",
    "index_keys",
    "latest_releases",
    "list_revision",
    "offered",
    "package",
    "package_id",
    "position_types",
    "published_before",
    "revision",
    "rotate",
    "screenshot",
    "signing_key",
    "sweep_packages",
    "sweep_pictures",
    "updates",
    "versions_with_days",
]

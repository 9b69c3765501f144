"""The public store: what devices see, search and download.

listings.py       one app, its history, the categories
search.py         lists and searches
updates.py        which version a device is offered
revisions.py      revisions, on which cached responses depend
signed_index.py   the whole catalogue as one signed file
published_index.py, front_index.py   the same at a store front end
download_batches.py   download counts of store front ends
index_keys.py     the keys that sign it
downloads.py      packages and pictures, and the count of downloads
fetched.py        which downloads count
changes.py        additions, updates and removals in order
"""

from mosis.store.changes import Change, changes
from mosis.store.download_batches import EVERY_SECONDS as REPORT_SECONDS
from mosis.store.download_batches import MOST_VERSIONS as MOST_VERSIONS_OF_BATCH
from mosis.store.download_batches import add_batch, keep_counts
from mosis.store.download_batches import report as report_downloads
from mosis.store.download_batches import sweep as sweep_batches
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
from mosis.store.front_index import refresh as refresh_indexes
from mosis.store.index_keys import IndexKey, index_keys, public_keys, rotate
from mosis.store.listings import Listing, categories, get, history, latest_releases, signing_key
from mosis.store.published_index import NotHere, SignedIndex, announced_keys
from mosis.store.revisions import app_revision, list_revision, revision
from mosis.store.search import SORTS, Query, index, position_types
from mosis.store.signed_index import AGES, current_index, gzip_index_at, index_at
from mosis.store.signed_index import refresh as renew_indexes
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
    "MOST_VERSIONS_OF_BATCH",
    "REPORT_SECONDS",
    "SORTS",
    "Change",
    "Device",
    "IndexKey",
    "Listing",
    "NotHere",
    "Offer",
    "Picture",
    "Query",
    "SignedIndex",
    "add_batch",
    "add_up_days",
    "announced_keys",
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
    "keep_counts",
    "latest_releases",
    "list_revision",
    "offered",
    "package",
    "package_id",
    "position_types",
    "public_keys",
    "published_before",
    "refresh_indexes",
    "renew_indexes",
    "report_downloads",
    "revision",
    "rotate",
    "screenshot",
    "signing_key",
    "sweep_batches",
    "sweep_packages",
    "sweep_pictures",
    "updates",
    "versions_with_days",
]

"""The public store: what devices see, search and download.

listings.py       one app, its history, the categories, the changes in order
search.py         lists and searches
updates.py        which version a device is offered
revisions.py      revisions, on which cached responses depend
signed_index.py   the whole catalogue as one signed file
published_index.py, front_index.py   the same at a store front end
download_batches.py   download counts of store front ends
index_keys.py     the keys that sign it
downloads.py      packages and pictures, and which downloads count
"""

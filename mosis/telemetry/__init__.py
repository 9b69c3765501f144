"""Telemetry: events and crashes from every device, in a database of its own.

schemas.py       what devices may send, declared once
timestamps.py    RFC 3339
intake.py        take in batches of events: quota, clock, once only, many in one commit
shares.py        what a household or a device may use of a day
space.py         what all of it may take of the disk
pseudonyms.py    what stands for a device in the database
devices.py       what is stored about a device: shown and erased
settings.py      what a developer has chosen for an app
hyperloglog.py   how many different devices, without keeping them
histogram.py     counts by size, from which percentiles are read
rollups.py       sums by hour and day
watches.py       sessions by device and day of versions with a rollout plan
rollout_health.py the job that advances rollout plans
downloads.py     downloads by day, version and channel
analytics.py     what a developer sees of them
crashes.py       reports
crash_groups.py  which group a report belongs to, and for which there is room
crash_notices.py what owners learn of them
retention.py     deleting, in small slices
maintenance.py   the thread that does the last ones
"""

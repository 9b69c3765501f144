"""Telemetry: events and crash reports of devices, in a separate database.

schemas.py       schemas of what devices may send
timestamps.py    RFC 3339
intake.py        receiving batches of events
shares.py        daily shares of networks and devices
space.py         the disk space for telemetry
pseudonyms.py    pseudonyms of devices
devices.py       export and erasure of a device's data
telemetry_apps.py  the row of an app: its number here, its developer's settings
hyperloglog.py   approximate number of different devices
histogram.py     histograms and percentiles
rollups.py       sums by hour and day
watches.py       sessions by device and day, of versions with a rollout plan
rollout_health.py  the job that advances rollout plans
downloads.py     downloads by day, version and channel
analytics.py     what developers see of the sums
crashes.py       crash reports
crash_groups.py  which group a report belongs to, and bounds for groups
crash_notices.py notifications about crashes
retention.py     deleting old rows, in small slices
maintenance.py   the thread that runs rollups and retention
"""

"""Telemetry: events and crashes from every device, in a database of its own.

schemas.py    what devices may send, declared once
intake.py     take in batches of events: quota, clock, once only, many in one commit
pseudonyms.py what stands for a device in the database
devices.py    what is stored about a device: shown and erased
settings.py   what a developer has chosen for an app
sketch.py     how many different devices, without keeping them
histogram.py  counts by size, from which percentiles are read
rollups.py    sums by hour and day
analytics.py  what a developer sees of them
crashes.py    reports, grouped
retention.py  forgetting, in small slices
upkeep.py     the thread that does the last ones
simulate.py   plausible devices, for looking and measuring
"""

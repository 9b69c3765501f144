"""What `portal.py` does: its command line, the process that serves, and the demonstration data."""

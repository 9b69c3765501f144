"""Backup, integrity, readiness, and what `doctor` looks at."""

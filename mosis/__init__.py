"""The portal. docs/ARCHITECTURE.md lists the rooms and what each may import."""

VERSION = "0.1.0"

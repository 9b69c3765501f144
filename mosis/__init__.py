"""The portal. docs/ARCHITECTURE.md lists the packages and what each may import."""

VERSION = "0.1.0"

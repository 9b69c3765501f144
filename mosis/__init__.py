"""The portal's package: nouns downstairs, faces (web/) upstairs. docs/ARCHITECTURE.md is the map."""

VERSION = "0.1.0"

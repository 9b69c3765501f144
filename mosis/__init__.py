"""The portal's package: nouns downstairs, faces (web/) upstairs. docs/ARCHITECTURE.md is the map."""

"""A catalogue, packages and telemetry to look around in."""

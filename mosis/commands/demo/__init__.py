"""An example catalogue and simulated telemetry."""

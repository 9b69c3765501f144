#!/usr/bin/env python3
"""mosis-portal. `python portal.py --help` lists the commands; `application()` is for other WSGI servers."""

import gc
import sys
from collections.abc import Mapping
from typing import Any

if __name__ == "__main__":
    gc.disable()  # modules make no garbage, and looking for it is a seventh of the start; see `main`

from mosis import VERSION
from mosis.commands.application import build
from mosis.commands.cli import CONFIG, FAILED, main
from mosis.commands.process import (
    HERE,
    acquired,
    migrate_databases,
    open_migrated,
    start_replication,
)
from mosis.config import Config, ConfigError

__all__ = [
    "CONFIG",
    "FAILED",
    "HERE",
    "VERSION",
    "application",
    "build",
    "main",
    "migrate_databases",
    "open_migrated",
]


def application(settings: Mapping[str, str] | None = None) -> Any:
    """The migrated portal with its worker, for another WSGI server of one process: `waitress-serve --call portal:application`."""
    from mosis.operations.integrity import IntegrityMonitor
    from mosis.telemetry.maintenance import Maintenance
    from mosis.worker import Worker

    config = Config.read(settings)
    if config.lease_seconds:
        raise ConfigError(["LEASE_SECONDS: works with `portal.py serve` only."])
    lock, _ = acquired(config)
    env = open_migrated(config)
    IntegrityMonitor(env).start()
    Worker(env).start()
    Maintenance(env).start()
    start_replication(env, lock)
    return build(env)


if __name__ == "__main__":
    sys.exit(main())

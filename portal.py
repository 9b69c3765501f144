#!/usr/bin/env python3
"""mosis-portal. `python portal.py --help` lists the commands; `application()` is for other WSGI servers."""

import sys
from collections.abc import Mapping
from typing import Any

from mosis import VERSION
from mosis.application import build
from mosis.commands.cli import CONFIG, FAILED, main
from mosis.commands.process import HERE, migrate_databases, open_migrated, restore_if_lost
from mosis.config import Config

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
    lock = restore_if_lost(config)
    env = open_migrated(config)
    IntegrityMonitor(env).start()
    Worker(env).start()
    Maintenance(env).start()
    if env.replication is not None and lock is not None:
        env.replication.start(lock)
    return build(env)


if __name__ == "__main__":
    sys.exit(main())

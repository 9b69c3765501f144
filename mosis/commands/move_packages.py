"""`portal.py move-packages`: its options and its output."""

import argparse
import sys
from typing import Any

from mosis.commands.process import open_migrated
from mosis.config import Config


def add_to(command: Any) -> None:
    """Add the command, by `Commands` of cli.py."""
    moving = command(
        "move-packages",
        "copy the packages to a bucket, or back to the disk, while the portal serves",
        run,
    )
    moving.add_argument(
        "--to", required=True, metavar="URL", help="s3://BUCKET/PREFIX?..., or file: for the disk"
    )
    moving.add_argument(
        "--parallel",
        type=int,
        default=4,
        choices=range(1, 33),
        metavar="1-32",
        help="packages at a time",
    )
    moving.add_argument("--dry-run", action="store_true", help="only count what would be copied")
    moving.add_argument("--verify", action="store_true", help="then read everything at the target")
    moving.add_argument(
        "--prune",
        action="store_true",
        help="remove at the source what was read at the target; needs a drill that passed",
    )


def run(given: argparse.Namespace, config: Config) -> int:
    """Copy the packages to the other place, or remove them at the source."""
    from mosis.operations import moving

    def report(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    env = open_migrated(config)
    options = {"dry_run": given.dry_run, "verify": given.verify, "prune": given.prune}
    try:
        found = moving.move(env, given.to, parallel=given.parallel, report=report, **options)
    except moving.MoveError as error:
        print(f"portal: {error}.", file=sys.stderr)
        return 1
    finally:
        env.close()
    print(("would be done: " if given.dry_run else "") + found.text)
    return 1 if found.findings else 0

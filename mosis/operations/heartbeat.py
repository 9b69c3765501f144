"""The heartbeat: one row of portal.db that the primary updates while a replica is configured, so that
store front ends, which read copies of the database, know how old their copy is.

It also has the settings on which the responses of the store depend, and the number of the primary's
start. An update changes no revision: cached responses and their entity tags stay valid.
"""

import json
from dataclasses import field
from typing import Any

from mosis.clock import seconds
from mosis.config import Config
from mosis.context import Context
from mosis.database import Connection, new_id
from mosis.records import dataclass

EVERY_SECONDS = 10
COMPARED = ("base_url", "compression")  # settings that the primary and its front ends share


@dataclass
class _Start:
    """This start of the process."""

    id: str = field(default_factory=new_id)


@dataclass(frozen=True)
class Heartbeat:
    """The last one: when, by the primary's clock, its settings, and the start that wrote it."""

    beaten_at: str
    settings: str
    started: str

    @property
    def at_seconds(self) -> int:
        """When, in seconds since 1970."""
        return seconds(self.beaten_at)

    def differences(self, config: Config) -> list[str]:
        """A sentence for each setting that is another one here."""
        there, here = json.loads(self.settings), settings_of(config)
        return [
            f"{name.upper()} is {here[name]} here and {there.get(name)} on the primary"
            for name in COMPARED
            if here[name] != there.get(name)
        ]


def settings_of(config: Config) -> dict[str, Any]:
    """The settings of COMPARED."""
    return {name: getattr(config, name) for name in COMPARED}


def beat(env: Context) -> None:
    """Update the row; a tick of the worker, in the process that runs Litestream."""
    if not env.replicates or env.db.damage is not None:
        return
    with env.db.write() as db:
        sql = (
            "INSERT INTO heartbeat (id, beaten_at, settings, started) VALUES (1, ?, ?, ?)"
            " ON CONFLICT DO UPDATE SET beaten_at = excluded.beaten_at,"
            " settings = excluded.settings, started = excluded.started"
        )
        db.change(sql, db.now, json.dumps(settings_of(env.config)), env.state(_Start).id)


def read(db: Connection) -> Heartbeat | None:
    """The last heartbeat in this database; None if there was none."""
    return db.one("SELECT beaten_at, settings, started FROM heartbeat", into=Heartbeat)

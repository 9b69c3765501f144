"""Apps in telemetry.db: their number there, their developer's settings (on or off, event types,
share of sessions), and what was done for them."""

import json
from typing import Any

from mosis.database import Connection
from mosis.records import dataclass


@dataclass(frozen=True)
class Settings:
    """The settings; the defaults apply to an app without any."""

    enabled: bool = True
    usage_events: bool = False
    sample_rate: float = 1.0


def number(db: Connection, app_id: str) -> int:
    """The number of an app in this database, created if it is new, in the running transaction."""
    found = db.value("SELECT id FROM apps WHERE app_id = ?", app_id)
    return int(found) if found is not None else db.insert("apps", app_id=app_id)


def settings(db: Connection, app_id: str) -> Settings:
    """The settings that apply to this app now."""
    row = db.one("SELECT enabled, usage_events, sample_rate FROM apps WHERE app_id = ?", app_id)
    return Settings() if row is None else Settings(bool(row[0]), bool(row[1]), row[2])


def change(db: Connection, app_id: str, fields: dict[str, Any]) -> Settings:
    """Change the settings, in the running transaction."""
    set_columns(db, number(db, app_id), **fields)
    return settings(db, app_id)


def set_columns(db: Connection, app: int, **values: Any) -> None:
    """Set columns of an app, in the running transaction."""
    if values:
        db.update("apps", "id = ?", app, **values)


def all_listed(db: Connection, rows: list[tuple[int]]) -> None:
    """These apps have nothing older than the table `devices`: no separate search any more."""
    sql = "UPDATE apps SET unlisted = 0 WHERE id IN (SELECT value FROM json_each(?))"
    db.change(sql, json.dumps([row[0] for row in rows]))

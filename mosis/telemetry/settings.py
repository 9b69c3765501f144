"""A developer's telemetry settings for an app: on or off, event types, share of sessions."""

from dataclasses import dataclass
from typing import Any

from mosis.database import Connection
from mosis.telemetry.intake import app_number


@dataclass(frozen=True)
class Settings:
    """The settings; the defaults apply to an app without any."""

    enabled: bool = True
    usage_events: bool = False
    sample_rate: float = 1.0


def get(db: Connection, app_id: str) -> Settings:
    """The settings that apply to this app now."""
    row = db.one("SELECT enabled, usage_events, sample_rate FROM apps WHERE app_id = ?", app_id)
    return Settings() if row is None else Settings(bool(row[0]), bool(row[1]), row[2])


def change(db: Connection, app_id: str, fields: dict[str, Any]) -> Settings:
    """Change the settings, in the running transaction."""
    app = app_number(db, app_id)
    for name, value in fields.items():
        db.change(f"UPDATE apps SET {name} = ? WHERE id = ?", value, app)
    return get(db, app_id)

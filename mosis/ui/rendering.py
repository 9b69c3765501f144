"""Templates and messages: Bottle's SimpleTemplate, which escapes, and a catalogue of texts."""

import hashlib
import json
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import bottle

from mosis.caller import Caller
from mosis.records import dataclass

HERE = Path(__file__).parent
TEMPLATES, MESSAGES, ASSETS = HERE / "templates", HERE / "messages", HERE / "assets"
LANGUAGE = "en"
BASE_STYLES = "pico.classless.min.css"


@cache
def messages() -> dict[str, str]:
    """The texts of all pages by their keys."""
    path = MESSAGES / f"{LANGUAGE}.json"
    found: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))
    return found


def message(key: str, **values: Any) -> str:
    """A text of the catalogue with its placeholders filled in. It is plain text; the template
    escapes it. Raises KeyError for an unknown key."""
    text = messages()[key]
    return text.format(**values) if values else text


def message_or(key: str, default: str) -> str:
    """A text of the catalogue, or the given text if the key is unknown."""
    return messages().get(key, default)


@cache
def template(name: str) -> Any:
    """A template, compiled at its first use."""
    return bottle.SimpleTemplate(name=name, lookup=[str(TEMPLATES)])


def render(name: str, values: dict[str, Any]) -> bytes:
    """The bytes of a page."""
    html: str = template(name).render(values)
    return html.encode("utf-8", "replace")


@cache
def asset(name: str) -> bytes:
    """The bytes of an asset. The style sheet is one file with its base in front: a browser that has
    only the base would ask for the base's own icons, which the Content-Security-Policy blocks.
    """
    parts = (BASE_STYLES, name) if name == "portal.css" else (name,)
    return b"".join((ASSETS / part).read_bytes() for part in parts)


@cache
def asset_version(name: str) -> str:
    """A short hash of an asset for its address, so that it can be cached without limit."""
    return hashlib.sha256(asset(name)).hexdigest()[:12]


def size_of(size_bytes: int) -> str:
    """A size as text: MiB, or KiB below a tenth of one."""
    if size_bytes < 104_858:
        return f"{max(1, round(size_bytes / 1024))} KiB"
    return f"{size_bytes / 1_048_576:.1f} MiB"


def count_of(number: int) -> str:
    """A number with thin spaces between thousands."""
    return f"{number:,}".replace(",", "\u202f")


def day_of(stamp: str) -> str:
    """The date of a time: `31 January 2026`."""
    moment = _parsed(stamp)
    return f"{moment.day} {message(f'month.{moment.month}')} {moment.year}"


def minute_of(stamp: str) -> str:
    """A time to the minute, in UTC: `31 January 2026, 12:00 UTC`."""
    return f"{day_of(stamp)}, {_parsed(stamp):%H:%M} UTC"


def _parsed(stamp: str) -> datetime:
    return datetime.fromisoformat(stamp.replace("Z", "+00:00")).astimezone(UTC)


@dataclass(frozen=True)
class Entry:
    """A link of the navigation: its path, the key of its text, and the role that sees it."""

    path: str
    text: str
    role: str = "developer"


NAVIGATION = (
    Entry("/console/", "navigation.overview"),
    Entry("/console/notifications", "navigation.notifications"),
    Entry("/console/reviews", "navigation.reviews", role="reviewer"),
    Entry("/console/reports", "navigation.reports", role="reviewer"),
    Entry("/console/account", "navigation.account"),
    Entry("/console/admin", "navigation.admin", role="admin"),
)


def entries_for(caller: Caller) -> list[Entry]:
    """The links for a signed-in account."""
    return [entry for entry in NAVIGATION if caller.has_role(entry.role)]

"""`portal.py demo`: an example catalogue, made by the functions that serve real requests."""

import colorsys
import io
import json
import random
import secrets
import time
from typing import Any

from mosis import events, packages
from mosis.caller import Caller
from mosis.context import Context
from mosis.credentials import passwords
from mosis.database import Connection
from mosis.errors import Conflict
from mosis.packages.build import png, signed, zipped
from mosis.people import accounts, signing_keys
from mosis.publishing import apps, releases, review_queue, reviews, versions
from mosis.publishing.releases import Publication
from mosis.publishing.versions import Upload
from mosis.store import downloads
from mosis.worker import Worker

APPS = 50
PATIENCE_SECONDS = 60.0  # for the checks of one version
_DEVELOPERS = (
    "Acme Apps", "Birgit Lund", "Nordlicht Studio", "Tiny Tools", "Kenji Mori", "Open Pocket",
)  # fmt: skip
_NAMES = {
    "productivity": "Notes Tasks Calendar Journal Timer Clipboard Checklist Planner Habits",
    "tools": "Calculator Converter Compass Torch Ruler Passwords Backup Terminal Scanner",
    "games": "Chess Sudoku Snake Minesweeper Solitaire Crosswords Dominoes Blocks",
    "media": "Player Radio Podcasts Gallery Recorder Tuner Metronome Camera",
    "travel": "Maps Timetable Currency Phrasebook Packing Tides Weather Trails",
    "reading": "Reader Dictionary Quotes Feeds Poems Recipes Atlas Comics",
}
_PERMISSIONS = {
    "media": ["storage", "microphone"],
    "travel": ["network", "location"],
    "reading": ["network", "storage"],
}


def fill(env: Context, apps_count: int = APPS, worker: Worker | None = None) -> str:
    """Create developers, apps, versions and downloads, the same for every portal. Returns a
    summary. Raises Conflict if the portal has apps, or had a demo."""
    db, rng, password = env.db.connection(), random.Random(20), secrets.token_urlsafe(12)  # noqa: S311
    sql = "SELECT 1 FROM apps UNION SELECT 1 FROM developers WHERE email LIKE '%@demo.example'"
    if db.value(sql):
        detail = "This portal has apps already; the demo only fills one without."
        raise Conflict("invalid_state", detail)
    password_hash = passwords.make_hash(password, env.password_cost)
    reviewer = _account(db, "reviewer@demo.example", "Rita Review", password_hash, "reviewer")
    makers = [_maker(db, name, password_hash) for name in _DEVELOPERS]
    names = [
        (category, name) for category, all_names in _NAMES.items() for name in all_names.split()
    ]
    worker = worker or Worker(env)
    for category, name in names[:apps_count]:
        _app(env, db, worker, rng, rng.choice(makers), reviewer, category, name)
    downloads.flush_downloads(env)
    return (
        f"{len(_DEVELOPERS)} developers and {apps_count} apps. Sign in as acme.apps@demo.example or reviewer@demo.example, "
        f"password {password}"
    )


def _account(db: Connection, email: str, name: str, password_hash: str, role: str) -> Caller:
    with db.write():
        developer = accounts.create(
            db, Caller(), email, name, password_hash, role=role, verified=True
        )
        # no client address
        accounts.choose_mail(db, developer.id, dict.fromkeys(events.KINDS, False))
    return Caller(developer.id, role)


def _maker(db: Connection, name: str, password_hash: str) -> tuple[Caller, Any]:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    caller = _account(
        db, name.lower().replace(" ", ".") + "@demo.example", name, password_hash, "developer"
    )
    private = Ed25519PrivateKey.generate()
    public = packages.to_pem(private.public_key().public_bytes_raw())
    signing_keys.add(db, caller, "demo", public)
    return caller, private.sign


def _app(
    env: Context,
    db: Connection,
    worker: Worker,
    rng: random.Random,
    maker: tuple[Caller, Any],
    reviewer: Caller,
    category: str,
    name: str,
) -> None:
    caller, sign = maker
    app = apps.create(
        db,
        env.config,
        caller,
        {
            "package_id": f"example.{category}.{name.lower()}",
            "name": name,
            "category": category,
            "summary": f"A small {name.lower()} for everyday use",
            "tags": [category, "demo"],
            "description": f"{name} does one thing and does it well. It works without a network and keeps its data on the phone.",
        },
    )
    for code in range(1, rng.randint(2, 4)):
        version = _upload(env, db, caller, app, sign, f"1.{code - 1}.0", code)
        _wait_for_checks(db, worker, app, version)
        reviews.submit(env, db, caller, versions.get(db, app, version))
        standing = review_queue.standing(db, versions.get(db, app, version).id)
        assert standing is not None
        reviews.approve(db, reviewer, standing.review, "")
        published = releases.publish(env, db, caller, versions.get(db, app, version), Publication())
        for _ in range(int(rng.paretovariate(1.1) * 10) % 500):
            env.downloads.add(published.id)


def _wait_for_checks(db: Connection, worker: Worker, app: apps.App, version: str) -> None:
    """Wait until a version is checked, by this process or by a portal that has claimed the job."""
    until = time.monotonic() + PATIENCE_SECONDS
    while versions.get(db, app, version).state == "checking" and time.monotonic() < until:
        if not worker.run_due():
            time.sleep(0.02)


def _upload(
    env: Context, db: Connection, caller: Caller, app: apps.App, sign: Any, version: str, code: int
) -> str:
    package = zipped(signed(_files(app, version, code), sign))
    received = env.files.receive(io.BytesIO(package), env.config.package_limit_bytes)
    options = Upload(release_notes=f"Version {version}: fixes and small improvements.")
    trusted = signing_keys.that_sign(db, app.id)
    created = versions.upload(env, db, caller, app, received, options, trusted)
    return created.version.version


def _files(app: apps.App, version: str, code: int) -> dict[str, bytes]:
    hue = sum(map(ord, app.name)) % 100 / 100
    red, green, blue = (int(255 * part) for part in colorsys.hsv_to_rgb(hue, 0.6, 0.7))
    manifest = {
        "id": app.package_id,
        "name": app.name,
        "version": version,
        "version_code": code,
        "entry": "assets/main.rml",
        "min_mosis_version": "1.0.0",
        "author": {"name": "Demo", "email": "demo@demo.example"},
        "permissions": _PERMISSIONS.get(app.category, ["storage"]),
        "icons": {size: f"icons/icon-{size}.png" for size in ("32", "64", "128")},
    }
    return {
        "manifest.json": json.dumps(manifest, indent=2).encode(),
        **{f"icons/icon-{size}.png": png(size, (red, green, blue)) for size in (32, 64, 128)},
        "assets/main.rml": f"<rml><head><title>{app.name}</title></head><body>{app.name} {version}</body></rml>".encode(),
        "assets/main.rcss": b"body { font-size: 16dp; padding: 12dp; }\n",
        "assets/main.lua": b"local started = true\nreturn started\n",
    }

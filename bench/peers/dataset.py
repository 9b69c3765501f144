"""The same catalogue for all systems: developers, apps and five published versions of each."""

import hashlib
import json
import random
import sqlite3
from pathlib import Path

from mosis.credentials import passwords

PASSWORD = "correct horse battery"
EMAIL = "bench@example.net"
WHEN = "2026-01-31T12:00:00Z"
CATEGORIES = ("productivity", "games", "tools", "music", "health", "travel", "photo", "other")
DOWNLOAD_BYTES = 10 * 1024 * 1024

PEERS_SCHEMA = """
CREATE TABLE developers (id TEXT PRIMARY KEY, email TEXT NOT NULL UNIQUE, name TEXT NOT NULL, password_hash TEXT, created_at TEXT NOT NULL);
CREATE TABLE apps (
    id TEXT PRIMARY KEY, package_id TEXT NOT NULL UNIQUE, developer_id TEXT NOT NULL REFERENCES developers (id), name TEXT NOT NULL,
    summary TEXT NOT NULL, description TEXT NOT NULL, category TEXT NOT NULL, tags TEXT NOT NULL, version TEXT NOT NULL,
    version_code INTEGER NOT NULL, size_bytes INTEGER NOT NULL, sha256 TEXT NOT NULL, downloads INTEGER NOT NULL, updated_at TEXT NOT NULL
);
CREATE INDEX apps_by_developer ON apps (developer_id, id);
CREATE INDEX apps_by_name ON apps (name, id);
CREATE TABLE versions (
    id TEXT PRIMARY KEY, app_id TEXT NOT NULL REFERENCES apps (id), version TEXT NOT NULL, version_code INTEGER NOT NULL,
    size_bytes INTEGER NOT NULL, sha256 TEXT NOT NULL, state TEXT NOT NULL, created_at TEXT NOT NULL
);
CREATE INDEX versions_by_app ON versions (app_id, version_code);
CREATE TABLE events (
    number INTEGER PRIMARY KEY, app_id TEXT NOT NULL, device_id TEXT NOT NULL, session_id TEXT NOT NULL, type TEXT NOT NULL,
    timestamp TEXT NOT NULL, data TEXT NOT NULL
);
"""


def package_ids(apps: int) -> list[str]:
    """The package ids of the catalogue."""
    return [f"com.vendor{number % 1000}.app{number}" for number in range(apps)]


class Catalogue:
    """`developers` people (the first is the one who signs in, with 20 apps of his own) and `apps` apps, drawn from a fixed seed."""

    def __init__(self, developers: int, apps: int) -> None:
        draw = random.Random(7)
        phc = passwords.make_hash(PASSWORD)
        self.people = [
            (
                f"d{number:07}",
                EMAIL if number == 0 else f"d{number}@example.net",
                f"Vendor {number}",
                phc if number == 0 else None,
            )
            for number in range(developers)
        ]
        self.apps = []
        for number, package_id in enumerate(package_ids(apps)):
            owner = self.people[0 if number < 20 else 1 + number % (developers - 1)][0]
            words = draw.sample(
                (
                    "quick",
                    "notes",
                    "camera",
                    "weather",
                    "puzzle",
                    "chess",
                    "timer",
                    "budget",
                    "radio",
                    "maps",
                ),
                3,
            )
            self.apps.append(
                {
                    "id": f"a{number:07}",
                    "package_id": package_id,
                    "developer_id": owner,
                    "name": f"{words[0].title()} {words[1]} {number}",
                    "summary": f"A {words[2]} for every day",
                    "description": " ".join(words) * 12,
                    "category": CATEGORIES[number % len(CATEGORIES)],
                    "tags": json.dumps(words[:2]),
                    "downloads": draw.randrange(10_000),
                }
            )


def fill_peers(path: Path, catalogue: Catalogue) -> None:
    """The peers' database, in a folder of their own, with the file that is downloaded beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    (path.parent / "packages").mkdir(exist_ok=True)
    (path.parent / "download.bin").write_bytes(random.Random(1).randbytes(DOWNLOAD_BYTES))
    db = sqlite3.connect(path)
    db.execute("PRAGMA journal_mode = WAL")
    db.executescript(PEERS_SCHEMA)
    db.executemany(
        "INSERT INTO developers VALUES (?, ?, ?, ?, ?)",
        [(*account[:3], account[3], WHEN) for account in catalogue.people],
    )
    for app in catalogue.apps:
        db.execute(
            "INSERT INTO apps VALUES (?, ?, ?, ?, ?, ?, ?, ?, '5.0.0', 5, 20480, ?, ?, ?)",
            (
                app["id"],
                app["package_id"],
                app["developer_id"],
                app["name"],
                app["summary"],
                app["description"],
                app["category"],
                app["tags"],
                "ab" * 32,
                app["downloads"],
                WHEN,
            ),
        )
        db.executemany(
            "INSERT INTO versions VALUES (?, ?, ?, ?, 20480, ?, 'published', ?)",
            [
                (f"{app['id']}-{code}", app["id"], f"{code}.0.0", code, "ab" * 32, WHEN)
                for code in range(1, 6)
            ],
        )
    db.commit()
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()


def fill_ours(path: Path, packages: Path, catalogue: Catalogue) -> str:
    """The portal's database, already migrated, and one real file to download; the path of its address."""
    db = sqlite3.connect(path)
    key = (
        "k0000000",
        catalogue.people[0][0],
        "bench",
        b"\x01" * 32,
        "SHA256:bench",
        "active",
        WHEN,
    )
    db.executemany(
        "INSERT INTO developers (id, email, email_verified, name, password_hash, created_at) VALUES (?, ?, 1, ?, ?, ?)",
        [(*account, WHEN) for account in catalogue.people],
    )
    db.execute(
        "INSERT INTO signing_keys (id, developer_id, name, public_key, fingerprint, state, created_at) VALUES (?, ?, ?, ?, ?, ?, ?)",
        key,
    )
    content = random.Random(1).randbytes(DOWNLOAD_BYTES)
    for app in catalogue.apps:
        db.execute(
            "INSERT INTO apps (id, package_id, developer_id, name, summary, description, category, tags, published, created_at, updated_at)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, 1, ?, ?)",
            (
                app["id"],
                app["package_id"],
                app["developer_id"],
                app["name"],
                app["summary"],
                app["description"],
                app["category"],
                app["tags"],
                WHEN,
                WHEN,
            ),
        )
        size, digest = (
            (DOWNLOAD_BYTES, hashlib.sha256(content).hexdigest())
            if app["id"] == "a0000000"
            else (20480, "ab" * 32)
        )
        db.executemany(
            "INSERT INTO versions (id, app_id, version, version_code, channel, state, released, min_mosis_version, manifest, files,"
            " size_bytes, sha256, signing_key_id, created_at, published_at) VALUES (?, ?, ?, ?, 'stable', 'published', 1, '1.0.0', '{}', '{}',"
            " ?, ?, 'k0000000', ?, ?)",
            [
                (f"{app['id']}-{code}", app["id"], f"{code}.0.0", code, size, digest, WHEN, WHEN)
                for code in range(1, 6)
            ],
        )
    db.commit()
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()
    first = catalogue.apps[0]
    file = packages / first["developer_id"] / first["id"] / "5.0.0" / "package.mosis"
    file.parent.mkdir(parents=True)
    file.write_bytes(content)
    return f"/packages/{first['developer_id']}/{first['id']}/5.0.0/package.mosis"

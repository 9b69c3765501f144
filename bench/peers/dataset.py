"""The same catalogue for all systems: developers, apps and five published versions of each."""

import hashlib
import json
import os
import random
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from mosis.credentials import passwords
from tests.package_builder import SigningKey

PASSWORD = "correct horse battery"
EMAIL = "bench@example.net"
WHEN = "2026-01-31T12:00:00Z"
CATEGORIES = ("productivity", "games", "tools", "music", "health", "travel", "photo", "other")
DOWNLOAD_BYTES = 10 * 1024 * 1024
SMALL_BYTES = 20_480
OWN_APPS = 20  # of the account that signs in; new versions of all but the first are published
SMALL = random.Random(2).randbytes(SMALL_BYTES)
SMALL_SHA256 = hashlib.sha256(SMALL).hexdigest()
KEY = SigningKey(Ed25519PrivateKey.from_private_bytes(bytes(range(32))))

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
CREATE TABLE signing_keys (developer_id TEXT NOT NULL, public_key BLOB NOT NULL);
CREATE TABLE events (
    number INTEGER PRIMARY KEY, app_id TEXT NOT NULL, device_id TEXT NOT NULL, session_id TEXT NOT NULL, type TEXT NOT NULL,
    timestamp TEXT NOT NULL, data TEXT NOT NULL
);
"""


def package_ids(apps: int) -> list[str]:
    """The package ids of the catalogue."""
    return [f"com.vendor{number % 1000}.app{number}" for number in range(apps)]


def publication(number: int) -> tuple[int, int]:
    """The number of the app and the version code of a publication; they take turns among the apps."""
    return 1 + number % (OWN_APPS - 1), 6 + number // (OWN_APPS - 1)


class Catalogue:
    """`developers` accounts, of which the first signs in and owns 20 apps; `apps` apps with five
    published versions each; `publications` approved versions of the first account's apps. All are
    drawn from a fixed seed."""

    def __init__(self, developers: int, apps: int, publications: int = 0) -> None:
        self.publications = publications
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
            owner = self.people[0 if number < OWN_APPS else 1 + number % (developers - 1)][0]
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

    def approved(self) -> Iterator[tuple[str, str, str, int]]:
        """The id, app id, version and version code of each version that can be published."""
        for number in range(self.publications):
            app, code = publication(number)
            yield f"p{number:07}", self.apps[app]["id"], f"{code}.0.0", code


def fill_peers(path: Path, catalogue: Catalogue) -> None:
    """The peers' database, in a folder of their own, with the file that is downloaded beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    (path.parent / "packages").mkdir(exist_ok=True)
    (path.parent / "download.bin").write_bytes(random.Random(1).randbytes(DOWNLOAD_BYTES))
    (path.parent / "small.bin").write_bytes(SMALL)
    db = sqlite3.connect(path)
    db.execute("PRAGMA journal_mode = WAL")
    db.executescript(PEERS_SCHEMA)
    db.executemany(
        "INSERT INTO developers VALUES (?, ?, ?, ?, ?)",
        [(*account[:3], account[3], WHEN) for account in catalogue.people],
    )
    for app in catalogue.apps:
        db.execute(
            "INSERT INTO apps VALUES (?, ?, ?, ?, ?, ?, ?, ?, '5.0.0', 5, ?, ?, ?, ?)",
            (
                app["id"],
                app["package_id"],
                app["developer_id"],
                app["name"],
                app["summary"],
                app["description"],
                app["category"],
                app["tags"],
                SMALL_BYTES,
                SMALL_SHA256,
                app["downloads"],
                WHEN,
            ),
        )
        db.executemany(
            "INSERT INTO versions VALUES (?, ?, ?, ?, ?, ?, 'published', ?)",
            [
                (
                    f"{app['id']}-{code}",
                    app["id"],
                    f"{code}.0.0",
                    code,
                    SMALL_BYTES,
                    SMALL_SHA256,
                    WHEN,
                )
                for code in range(1, 6)
            ],
        )
    db.executemany(
        "INSERT INTO versions VALUES (?, ?, ?, ?, ?, ?, 'approved', ?)",
        [(*version, SMALL_BYTES, SMALL_SHA256, WHEN) for version in catalogue.approved()],
    )
    db.execute("INSERT INTO signing_keys VALUES (?, ?)", (catalogue.people[0][0], KEY.raw))
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
        KEY.raw,
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
            else (SMALL_BYTES, SMALL_SHA256)
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
    db.executemany(
        "INSERT INTO versions (id, app_id, version, version_code, channel, state, min_mosis_version, manifest, files,"
        " size_bytes, sha256, signing_key_id, created_at, decided_at)"
        " VALUES (?, ?, ?, ?, 'stable', 'approved', '1.0.0', '{}', '{}', ?, ?, 'k0000000', ?, ?)",
        [(*version, SMALL_BYTES, SMALL_SHA256, WHEN, WHEN) for version in catalogue.approved()],
    )
    db.commit()
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()
    owner = catalogue.people[0][0]
    offered = [(app["id"], "5.0.0") for app in catalogue.apps[:OWN_APPS]]
    offered += [(app_id, version) for _, app_id, version, _ in catalogue.approved()]
    first, *others = [
        packages / owner / app / version / "package.mosis" for app, version in offered
    ]
    first.parent.mkdir(parents=True)
    first.write_bytes(content)
    for number, file in enumerate(others):
        file.parent.mkdir(parents=True, exist_ok=True)
        if number == 0:
            file.write_bytes(SMALL)
        else:
            os.link(others[0], file)  # one copy of the bytes
    return f"/{first.relative_to(packages.parent)}"

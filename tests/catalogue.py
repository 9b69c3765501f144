"""Fills a database with published apps by plain rows: for what needs many of them and no packages."""

from typing import Any

from mosis.database import Connection, new_id


def add_developer(db: Connection, name: str = "Acme") -> str:
    """A developer with a signing key of the same id."""
    developer = new_id()
    db.insert(
        "developers",
        id=developer,
        email=f"{developer}@example.net",
        name=name,
        created_at="2027-01-01T00:00:00Z",
    )
    db.insert(
        "signing_keys",
        id=developer,
        developer_id=developer,
        name="k",
        public_key=bytes(32),
        fingerprint="SHA256:x",
        created_at="2027-01-01T00:00:00Z",
    )
    return developer


def add_app(db: Connection, developer: str, package_id: str, name: str, **more: Any) -> str:
    """An app of which something was published; its id."""
    app = {
        "id": new_id(),
        "package_id": package_id,
        "developer_id": developer,
        "name": name,
        "published": 1,
        "created_at": "2027-01-01T00:00:00Z",
        "updated_at": "2027-01-01T00:00:00Z",
    }
    db.insert("apps", **app | more)
    return str(app["id"])


def add_version(db: Connection, developer: str, app: str, code: int = 1, **more: Any) -> str:
    """A published version; its id."""
    version = {
        "id": new_id(),
        "app_id": app,
        "version": f"1.{code}.0",
        "version_code": code,
        "channel": "stable",
        "state": "published",
        "released": 1,
        "min_mosis_version": "1.0.0",
        "manifest": "{}",
        "files": "{}",
        "size_bytes": 1000,
        "sha256": f"{code:064x}",
        "signing_key_id": developer,
        "created_at": "2027-01-01T00:00:00Z",
        "published_at": "2027-01-01T00:00:00Z",
    }
    db.insert("versions", **version | more)
    return str(version["id"])


def add_listed(db: Connection, developer: str, package_id: str, name: str, **more: Any) -> str:
    """An app with one version that everybody gets; its id."""
    app = add_app(db, developer, package_id, name, **more)
    add_version(db, developer, app)
    return app

"""The peer on FastAPI and uvicorn: sqlite3, PyJWT, pydantic and Argon2id from cryptography.

PEER_FOLDER=... uvicorn fastapi_app:app --port PORT
"""

import hashlib
import json
import os
import secrets
import sqlite3
import threading
import time
import uuid
from typing import Annotated, Any, Literal

import jwt
from cryptography.exceptions import InvalidKey
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from fastapi import Depends, FastAPI, Header, HTTPException, Query, Request
from fastapi.responses import FileResponse
from pydantic import BaseModel, Field

FOLDER = os.environ["PEER_FOLDER"]
SECRET = "a secret of at least thirty-two bytes"
app = FastAPI()
connections = threading.local()
writing = threading.Lock()


def db() -> sqlite3.Connection:
    if not hasattr(connections, "db"):
        connections.db = sqlite3.connect(f"{FOLDER}/peers.db", isolation_level=None, timeout=5)
        connections.db.row_factory = sqlite3.Row
        for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
            connections.db.execute(f"PRAGMA {pragma}")
    return connections.db  # type: ignore[no-any-return]


class Account(BaseModel):
    email: str = Field(min_length=3, max_length=254)
    password: str = Field(min_length=10, max_length=1024)
    name: str = Field(min_length=1, max_length=100)


class Credentials(BaseModel):
    email: str
    password: str


class NewApp(BaseModel):
    package_id: str = Field(max_length=255, pattern=r"^[a-z0-9]+(\.[a-z0-9]+)+$")
    name: str = Field(min_length=1, max_length=50)
    summary: str = Field("", max_length=200)
    description: str = Field("", max_length=10_000)
    category: str = "other"
    tags: list[Annotated[str, Field(max_length=40)]] = Field([], max_length=10)


class Event(BaseModel):
    type: Literal[
        "app_start",
        "app_stop",
        "app_crash",
        "lua_error",
        "perf_frame",
        "perf_memory",
        "perf_startup",
    ]
    timestamp: str
    data: dict[str, Any]


class Batch(BaseModel):
    app_id: str
    app_version: str
    mosis_version: str
    device_id: str = Field(min_length=64, max_length=64)
    session_id: str = Field(max_length=64)
    events: list[Event] = Field(max_length=100)


def now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def token(sub: str) -> str:
    return jwt.encode(
        {"iss": "peer", "sub": sub, "exp": int(time.time()) + 900}, SECRET, algorithm="HS256"
    )


def caller(authorization: str = Header("")) -> str:
    try:
        return str(
            jwt.decode(authorization[7:], SECRET, algorithms=["HS256"], issuer="peer")["sub"]
        )
    except jwt.PyJWTError:
        raise HTTPException(401, "invalid_token") from None


def shown(row: sqlite3.Row) -> dict[str, Any]:
    return {**dict(row), "tags": json.loads(row["tags"])}


@app.get("/healthz")
def healthz() -> dict[str, str]:
    return {"status": "ok"}


@app.post("/auth/register", status_code=201)
def register(body: Account) -> dict[str, str]:
    phc = Argon2id(
        salt=secrets.token_bytes(16), length=32, iterations=2, lanes=1, memory_cost=19456
    ).derive_phc_encoded(body.password.encode())
    developer = str(uuid.uuid4())
    with writing:
        try:
            db().execute(
                "INSERT INTO developers (id, email, name, password_hash, created_at) VALUES (?, ?, ?, ?, ?)",
                (developer, body.email, body.name, phc, now()),
            )
        except sqlite3.IntegrityError:
            raise HTTPException(409, "email_taken") from None
    return {"id": developer, "access_token": token(developer)}


@app.post("/auth/login")
def login(body: Credentials) -> dict[str, str]:
    row = (
        db()
        .execute("SELECT id, password_hash FROM developers WHERE email = ?", (body.email,))
        .fetchone()
    )
    try:
        if row is None:
            raise InvalidKey
        Argon2id.verify_phc_encoded(body.password.encode(), row["password_hash"])
    except InvalidKey:
        raise HTTPException(401, "invalid_credentials") from None
    return {"access_token": token(row["id"]), "refresh_token": secrets.token_urlsafe(32)}


@app.get("/apps")
def apps(who: str = Depends(caller)) -> dict[str, Any]:
    return {
        "apps": [
            shown(row)
            for row in db()
            .execute("SELECT * FROM apps WHERE developer_id = ? ORDER BY id DESC LIMIT 20", (who,))
            .fetchall()
        ]
    }


@app.get("/apps/{package_id}")
def one(package_id: str, who: str = Depends(caller)) -> dict[str, Any]:
    row = (
        db()
        .execute("SELECT * FROM apps WHERE package_id = ? AND developer_id = ?", (package_id, who))
        .fetchone()
    )
    if row is None:
        raise HTTPException(404, "not_found")
    return shown(row)


@app.post("/apps", status_code=201)
def new_app(body: NewApp, who: str = Depends(caller)) -> dict[str, Any]:
    row = {"id": str(uuid.uuid4()), **body.model_dump()}
    with writing:
        try:
            db().execute(
                "INSERT INTO apps (id, package_id, developer_id, name, summary, description, category, tags, version, version_code, size_bytes,"
                " sha256, downloads, updated_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, '', 0, 0, '', 0, ?)",
                (
                    row["id"],
                    body.package_id,
                    who,
                    body.name,
                    body.summary,
                    body.description,
                    body.category,
                    json.dumps(body.tags),
                    now(),
                ),
            )
        except sqlite3.IntegrityError:
            raise HTTPException(409, "package_id_taken") from None
    return row


@app.post("/apps/{package_id}/versions", status_code=201)
async def upload(package_id: str, request: Request, who: str = Depends(caller)) -> dict[str, Any]:
    row = (
        db()
        .execute("SELECT id FROM apps WHERE package_id = ? AND developer_id = ?", (package_id, who))
        .fetchone()
    )
    if row is None:
        raise HTTPException(404, "not_found")
    version, target, digest, size = (
        str(uuid.uuid4()),
        f"{FOLDER}/packages/{row['id']}",
        hashlib.sha256(),
        0,
    )
    os.makedirs(target, exist_ok=True)
    with open(f"{target}/{version}.part", "wb") as file:
        async for block in request.stream():
            file.write(block)
            digest.update(block)
            size += len(block)
        file.flush()
        os.fsync(file.fileno())
    os.replace(f"{target}/{version}.part", f"{target}/{version}.mosis")
    folder = os.open(target, os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)
    with writing:
        db().execute(
            "INSERT INTO versions (id, app_id, version, version_code, size_bytes, sha256, state, created_at) VALUES (?, ?, ?, 1, ?, ?, 'ready', ?)",
            (version, row["id"], version, size, digest.hexdigest(), now()),
        )
    return {"id": version, "size_bytes": size, "sha256": digest.hexdigest()}


@app.post("/apps/{package_id}/versions/{version}/publish")
def publish(package_id: str, version: str, who: str = Depends(caller)) -> dict[str, str]:
    with writing:
        connection = db()
        row = connection.execute(
            "SELECT v.id, v.app_id, v.version_code, v.size_bytes, v.sha256 FROM versions v JOIN apps a ON a.id = v.app_id"
            " WHERE a.package_id = ? AND a.developer_id = ? AND v.version = ? AND v.state = 'approved' AND v.version_code > a.version_code",
            (package_id, who, version),
        ).fetchone()
        if row is None:
            raise HTTPException(409, "invalid_state")
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("UPDATE versions SET state = 'published' WHERE id = ?", (row["id"],))
        connection.execute(
            "UPDATE apps SET version = ?, version_code = ?, size_bytes = ?, sha256 = ?, updated_at = ? WHERE id = ?",
            (version, row["version_code"], row["size_bytes"], row["sha256"], now(), row["app_id"]),
        )
        connection.execute("COMMIT")
    return {"id": row["id"], "version": version, "state": "published"}


counts: dict[str, int] = {}


def write_counts() -> None:
    """Add the counted downloads to their apps once a second."""
    while True:
        time.sleep(1)
        taken = [(counts.pop(name), name) for name in list(counts)]
        with writing:
            connection = db()
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(
                "UPDATE apps SET downloads = downloads + ? WHERE package_id = ?", taken
            )
            connection.execute("COMMIT")


threading.Thread(target=write_counts, daemon=True).start()


@app.get("/small/{package_id}")
async def small(package_id: str) -> FileResponse:
    counts[package_id] = counts.get(package_id, 0) + 1
    return FileResponse(f"{FOLDER}/small.bin")


LISTED = "SELECT a.*, d.name AS developer_name FROM apps a JOIN developers d ON d.id = a.developer_id WHERE a.version_code > 0"


@app.get("/store/apps")
def store() -> dict[str, Any]:
    return {
        "apps": [
            shown(row)
            for row in db().execute(f"{LISTED} ORDER BY a.name, a.id LIMIT 20").fetchall()
        ]
    }


@app.get("/store/apps/{package_id}")
def detail(package_id: str) -> dict[str, Any]:
    row = db().execute(f"{LISTED} AND a.package_id = ?", (package_id,)).fetchone()
    if row is None:
        raise HTTPException(404, "not_found")
    return shown(row)


@app.get("/store/updates")
def updates(pkgs: str = Query("")) -> dict[str, Any]:
    found = []
    for part in pkgs.split(","):
        name, _, code = part.partition(":")
        row = (
            db()
            .execute(
                "SELECT package_id, version, version_code, size_bytes, sha256 FROM apps WHERE package_id = ? AND version_code > ?",
                (name, int(code or 0)),
            )
            .fetchone()
        )
        if row:
            found.append(dict(row))
    return {"updates": found}


@app.post("/telemetry/events", status_code=202)
def events(body: Batch) -> dict[str, int]:
    with writing:
        connection = db()
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(
            "INSERT INTO events (app_id, device_id, session_id, type, timestamp, data) VALUES (?, ?, ?, ?, ?, ?)",
            [
                (
                    body.app_id,
                    body.device_id,
                    body.session_id,
                    each.type,
                    each.timestamp,
                    json.dumps(each.data),
                )
                for each in body.events
            ],
        )
        connection.execute("COMMIT")
    return {"accepted": len(body.events), "rejected": 0}


@app.get("/download")
def download() -> FileResponse:
    return FileResponse(f"{FOLDER}/download.bin")

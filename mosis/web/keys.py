"""Signing keys over HTTP."""

from typing import Any

import bottle

from mosis import keys, packages
from mosis.callers import Caller
from mosis.db import Connection
from mosis.keys import SigningKey
from mosis.web.request import created, read_json

SIGNING_KEY = {
    "name": {"type": "string", "required": True, "minlength": 1, "maxlength": 100, "regex": r"[^\x00-\x1f\x7f]*\Z"},
    "public_key": {"type": "string", "required": True, "minlength": 1, "maxlength": 2000},
}


def routes(app: bottle.Bottle) -> None:
    app.get("/signing-keys", callback=index, scope="keys:manage")
    app.post("/signing-keys", callback=add, scope="keys:manage")
    app.delete("/signing-keys/<key>", callback=revoke, scope="keys:manage")


def index(db: Connection, caller: Caller) -> dict[str, Any]:
    return {"signing_keys": [public(key) for key in keys.signing_keys(db, caller.account)], "next_cursor": None}


def add(db: Connection, caller: Caller) -> dict[str, Any]:
    key = keys.add_signing_key(db, caller, **read_json(SIGNING_KEY))
    return created(public(key), f"/v1/signing-keys/{key.id}")


def revoke(db: Connection, caller: Caller, key: str) -> None:
    keys.revoke_signing_key(db, caller, key)


def public(key: SigningKey) -> dict[str, Any]:
    return {
        "id": key.id, "name": key.name, "public_key": packages.to_pem(key.public_key), "fingerprint": key.fingerprint,
        "state": key.state, "created_at": key.created_at, "revoked_at": key.revoked_at,
    }

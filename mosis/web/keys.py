"""API keys and signing keys over HTTP."""

import base64
import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import bottle

from mosis import packages
from mosis.caller import ROLES, SCOPES, Caller
from mosis.context import Context
from mosis.credentials.scanners import ScannerKeys
from mosis.database import Connection
from mosis.errors import Denied, MalformedRequest
from mosis.people import api_keys as keys
from mosis.people import signing_keys
from mosis.people.api_keys import ApiKey, NewKey
from mosis.people.signing_keys import SigningKey
from mosis.publishing import apps, package_files, versions
from mosis.validation import (
    Finding,
    Json,
    Schema,
    choice,
    finding,
    findings_of,
    required_text,
    some_of,
    text,
    timestamps,
)
from mosis.validation.names import NAME
from mosis.web.long_poll import in_turn
from mosis.web.request import created, listed, read_page, require_match, spend
from mosis.web.schemas import extended_with, list_of, many, one_of, operation, shape, shown

API_KEY: Schema = {
    "name": required_text(100, NAME),
    "scopes": some_of(SCOPES, required=True),
    "apps": {
        "type": "list",
        "nullable": True,
        "minlength": 1,
        "maxlength": 100,
        "schema": text(255),
    },
    "expires_at": timestamps.RULES | {"nullable": True},
    "role": choice(ROLES),
}
REPORT: Schema = {"key": text(200, required=True)}
# https://docs.github.com/en/code-security/secret-scanning/secret-scanning-partner-program
MATCH: Schema = {
    "token": text(10_000, required=True),
    "type": text(200, required=True),
    "url": text(10_000, nullable=True),
    "source": text(200, nullable=True),
}
SIGNING_KEY = {
    "name": required_text(100, NAME),
    "public_key": text(2000, required=True, minlength=1),
}

KEY = shape(
    "ApiKey",
    "id name prefix scopes[] apps[]? role expires_at? last_used_at? created_at made_by:id?",
    scopes=one_of(*SCOPES),
    role=one_of(*ROLES),
)
NEW_KEY = extended_with("NewApiKey", KEY, "key")
REPORTED = shape("Reported", "revoked:bool")
LABELLED = shape(
    "ReportedMatch", "token_hash token_type label", label=one_of("true_positive", "false_positive")
)
PUBLIC_KEY = shape(
    "SigningKey",
    "id name public_key fingerprint state created_at revoked_at? made_by:id?",
    state=one_of("active", "revoked"),
)
VERIFIED = shape("SignatureCheck", "signing_key_id fingerprint version_id version verified:bool")
OF_VERIFY: Schema = {
    "app": text(255, meta="Its package_id or id; needed with a version string."),
    "version": text(255, required=True, meta="A version's id, or its version string."),
}


def routes(app: bottle.Bottle) -> None:
    own = {"scope": "keys:manage", "limited": "filtered"}
    app.get("/keys", callback=api_keys, **own)
    app.post("/keys", callback=add_api_key, idempotent="yes", **own)
    app.get("/keys/<key>", callback=show_api_key, **own)
    app.delete("/keys/<key>", callback=revoke_api_key, **own)
    app.post("/keys/report", callback=report, scope="public", lane=_lane_of_report)
    signing = {"scope": "keys:manage", "limited": "refused"}
    app.get("/signing-keys", callback=index, **signing)
    app.post("/signing-keys", callback=add, idempotent="yes", **signing)
    app.get("/signing-keys/<key>", callback=show, **signing)
    app.delete("/signing-keys/<key>", callback=revoke, **signing)
    app.get("/signing-keys/<key>/verify", callback=verify, **signing)


@operation(list_of("keys", KEY))
def api_keys(db: Connection, caller: Caller) -> Json:
    """The active API keys of the caller, newest first."""
    page = keys.index(db, caller, read_page(str))
    return listed("keys", page, [public_api_key(key) for key in page.rows])


def _signing_key_findings(env: Context, fields: Mapping[str, Any]) -> list[Finding]:
    if "public_key" not in fields:
        return []
    return findings_of(packages.parse_public_key, fields["public_key"])


def _key_findings(env: Context, fields: Mapping[str, Any]) -> Iterator[Finding]:
    given = fields.get("expires_at")
    expires_at = timestamps.stored(given)
    if given is not None and expires_at is None:
        yield finding("/expires_at", "wrong_format", timestamps.NO_MOMENT)
    role = fields.get("role", "developer")
    yield from keys.findings(expires_at, role, fields.get("apps"), env.clock.time())


@operation({201: NEW_KEY}, body=API_KEY, further=_key_findings, refuses="limit_reached not_found")
def add_api_key(db: Connection, caller: Caller, body: Json) -> Json:
    """Create an API key. `key` is shown only in this response."""
    key, secret = keys.add(
        db, caller, NewKey(**body | {"expires_at": timestamps.stored(body.get("expires_at"))})
    )
    return created(public_api_key(key) | {"key": secret}, f"/v1/keys/{key.id}")


@operation(KEY)
def show_api_key(db: Connection, caller: Caller, key: str) -> Json:
    """One active API key, without the key itself."""
    return public_api_key(keys.get(db, caller, key))


@operation(matches=True)
def revoke_api_key(db: Connection, caller: Caller, key: str) -> None:
    """Revoke an API key and the keys made with it, effective immediately."""
    with db.write():
        require_match(lambda: public_api_key(keys.get(db, caller, key)))
        keys.revoke(db, caller, key)


@operation(
    {200: {"oneOf": [REPORTED, many(LABELLED)]}},
    body=REPORT,
    array=MATCH,
    refuses="signature_invalid provider_unavailable",
)
def report(env: Context, db: Connection, caller: Caller, body: Any) -> Any:
    """Report leaked API keys by presenting them: they are revoked, and their owners are notified.
    An array is the form of GitHub's secret scanning partners, whose signature is checked if the
    operator has set SECRET_SCANNING_KEYS."""
    spend(env, "report", caller.network)
    if isinstance(body, dict):
        return {"revoked": keys.report(db, caller, body["key"])}
    if env.config.secret_scanning_keys is not None:
        _check_signature(env, env.config.secret_scanning_keys)
    return [_labelled(db, caller, match) for match in body]


def _lane_of_report(env: Context) -> str:
    """The lane of `report`: the keys of a scanner may have to be read from its server."""
    return "outside" if env.config.secret_scanning_keys else "quick"


def _check_signature(env: Context, url: str) -> None:
    """Raises Denied `signature_invalid`, Unavailable `provider_unavailable`."""
    key_id, signature = (
        bottle.request.get_header(f"Github-Public-Key-{name}", "")
        for name in ("Identifier", "Signature")
    )
    signed = bottle.request.environ["mosis.body"]
    if not env.state(ScannerKeys).has_signed(url, env.clock, signed, key_id, signature):
        raise Denied(
            "signature_invalid",
            "Reports in this form must be signed: send Github-Public-Key-Identifier, and the "
            "signature of the body with that key in Github-Public-Key-Signature.",
        )


def _labelled(db: Connection, caller: Caller, match: Json) -> Json:
    """Revoke the key and give the scanner feedback, with a hash in place of the secret."""
    known = keys.is_known(db, match["token"])
    if known:
        keys.report(db, caller, match["token"])
    digest = hashlib.sha256(match["token"].encode()).digest()
    return {
        "token_hash": base64.b64encode(digest).decode(),
        "token_type": match["type"],
        "label": "true_positive" if known else "false_positive",
    }


@operation(list_of("signing_keys", PUBLIC_KEY))
def index(db: Connection, caller: Caller) -> Json:
    """All signing keys of the caller, newest first."""
    page = signing_keys.index(db, caller.account, read_page(str))
    return listed("signing_keys", page, [public(key) for key in page.rows])


@operation(
    {201: PUBLIC_KEY},
    body=SIGNING_KEY,
    further=_signing_key_findings,
    refuses="signing_key_exists limit_reached",
)
def add(db: Connection, caller: Caller, body: Json) -> Json:
    """Register an Ed25519 public key, as PEM or base64."""
    key = signing_keys.add(db, caller, **body)
    return created(public(key), f"/v1/signing-keys/{key.id}")


@operation(PUBLIC_KEY)
def show(db: Connection, caller: Caller, key: str) -> Json:
    """One signing key."""
    return public(signing_keys.get(db, caller.account, key))


@operation(matches=True)
def revoke(db: Connection, caller: Caller, key: str) -> None:
    """Revoke a signing key: no new upload may use it; installed versions stay."""
    with db.write():
        require_match(lambda: public(signing_keys.get(db, caller.account, key)))
        signing_keys.revoke(db, caller, key)


@operation(VERIFIED, query=OF_VERIFY, refuses="package_unavailable gone")
def verify(env: Context, db: Connection, caller: Caller, key: str) -> Json:
    """Whether the package of a version of the caller is signed with this key; the file is read
    again."""
    found, query = signing_keys.get(db, caller.account, key), bottle.request.query
    app, version = query.get("app", ""), query.get("version", "")
    if not version:
        detail = "Name what to verify: ?app=com.acme.notes&version=1.0.0, or version=ID."
        raise MalformedRequest(detail)
    signed = (
        versions.get(db, apps.with_role(db, caller, app, "viewer"), version)
        if app
        else versions.with_role(db, caller, version, "viewer")
    )
    with package_files.open_file(env, db, signed, anew=True, turn=in_turn(caller)) as package:
        by_it = packages.is_signed_by(package, found.public_key)
    return {
        "signing_key_id": found.id,
        "fingerprint": found.fingerprint,
        "version_id": signed.id,
        "version": signed.version,
        "verified": by_it,
    }


def public_api_key(key: ApiKey) -> Json:
    return shown(KEY, key)


def public(key: SigningKey) -> Json:
    return shown(PUBLIC_KEY, key, public_key=packages.to_pem(key.public_key))

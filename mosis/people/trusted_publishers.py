"""Trusted publishers: build servers that publish an app without a stored secret.

An owner names an issuer of ID tokens and the required claims. A build presents its ID token and
gets a token of this portal for one app, valid for 15 minutes (RFC 8693). Packages still need a
signature with a key of a publisher or owner of the app.
"""

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from mosis import audit
from mosis.caller import Caller
from mosis.clock import text
from mosis.context import Context
from mosis.credentials import tokens
from mosis.credentials.oauth.signed_claims import NotTrusted
from mosis.credentials.oauth.trusted import Identity, issuer_of
from mosis.database import Connection, Record, columns, new_id
from mosis.database.pagination import Page, PageRequest, newest_first
from mosis.errors import Conflict, Invalid, Malformed, PortalError
from mosis.publishing import members
from mosis.publishing.apps import App
from mosis.records import dataclass

MOST = 20  # of one app
LIFE_SECONDS = 15 * 60
MOST_TOKENS = 100  # valid ones of one publisher
SCOPES = ("apps:read", "versions:upload", "versions:publish")
# Claims that identify a repository or project by an id that is never reused. A name is not
# sufficient: anybody who takes over an abandoned name would be trusted. GitHub:
# https://docs.github.com/en/actions/reference/security/oidc (repository_id); GitLab:
# https://docs.gitlab.com/ci/secrets/id_token_authentication (project_id); Forgejo:
# https://codeberg.org/forgejo/forgejo/pulls/12355 (repository_id, a number as text or not; older
# versions have none). Gitea issues no ID tokens for its Actions yet:
# https://github.com/go-gitea/gitea/issues/26383
LASTING = ("repository_id", "project_id", "pipeline_id", "oidc.circleci.com/project-id")
LASTING_SUBJECTS = ("https://accounts.google.com",)  # issuers whose `sub` is such a claim
# Claims that the audit trail records, if the token has them.
NOTED = (
    "repository", "repository_id", "project_path", "project_id", "ref", "sha", "workflow_ref",
    "run_id", "pipeline_id", "job_id", "environment",
)  # fmt: skip


@dataclass(frozen=True)
class TrustedPublisher(Record, table="trusted_publishers"):
    """A row of `trusted_publishers`."""

    id: str
    app_id: str
    developer_id: str
    issuer: str
    claims: str
    scopes: str
    created_at: str
    last_used_at: str | None


@dataclass(frozen=True)
class Exchanged:
    """What an ID token was exchanged for."""

    token: str
    scopes: list[str]


def findings(env: Context, issuer: str, claims: Mapping[str, str]) -> list[dict[str, Any]]:
    """What is wrong with a publisher beyond its schema."""
    found = []
    if env.issuers is None or not env.issuers.is_usable(issuer):
        found.append(
            {
                "pointer": "/issuer",
                "code": "wrong_format",
                "detail": "This must be the https address of an issuer on the public internet, exactly"
                " as its tokens name it, such as https://token.actions.githubusercontent.com.",
            }
        )
    lasting = (*LASTING, *(("sub",) if issuer in LASTING_SUBJECTS else ()))
    if not any(name in claims for name in lasting):
        found.append(
            {
                "pointer": "/claims",
                "code": "required",
                "detail": (
                    "One claim must identify the repository by its id, because "
                    f"names can be reused: {', '.join(lasting)}."
                ),
            }
        )
    return found


def add(
    env: Context, db: Connection, caller: Caller, app: App, publisher: Mapping[str, Any]
) -> TrustedPublisher:
    """Add one, in the running transaction; owners are notified. Raises Invalid, `limit_reached`."""
    if found := findings(env, publisher["issuer"], publisher["claims"]):
        raise Invalid(found)
    if db.value("SELECT count(*) FROM trusted_publishers WHERE app_id = ?", app.id) >= MOST:
        detail = f"An app has at most {MOST} trusted publishers; remove one first."
        raise Conflict("limit_reached", detail)
    made = TrustedPublisher(
        new_id(),
        app.id,
        caller.account,
        publisher["issuer"],
        json.dumps(publisher["claims"], sort_keys=True),
        json.dumps(sorted(set(publisher["scopes"]))),
        db.now,
        None,
    )
    db.insert("trusted_publishers", **vars(made))
    facts: dict[str, Any] = {"issuer": made.issuer, "claims": dict(publisher["claims"])}
    members.note(db, caller, app.id, "app.publisher_added", made.id, **facts)
    host = urlsplit(made.issuer).hostname or ""
    members.add_events(db, app.id, "owner", "app.publisher_added", host=host, **facts)
    return made


def index(db: Connection, app: App, paging: PageRequest) -> Page[TrustedPublisher]:
    """The trusted publishers of an app, the newest first."""
    return newest_first(db, TrustedPublisher, "app_id = ?1", app.id, paging=paging)


def get(db: Connection, app: App, publisher_id: str) -> TrustedPublisher:
    """One trusted publisher of an app. Raises NotFound."""
    return db.get(TrustedPublisher, "id = ? AND app_id = ?", publisher_id, app.id)


def remove(db: Connection, caller: Caller, publisher: TrustedPublisher) -> None:
    """Remove a trusted publisher, in the running transaction: its tokens are revoked too."""
    db.change("DELETE FROM trusted_publishers WHERE id = ?", publisher.id)
    members.note(db, caller, publisher.app_id, "app.publisher_removed", publisher.id)


def exchange(
    env: Context, db: Connection, caller: Caller, package_id: str, id_token: str
) -> Exchanged:
    """Exchange an ID token for a token of one app, once. Raises Malformed `invalid_grant` for a token
    that is not trusted, Unavailable `provider_unavailable`.

    Only issuers that an owner of this app has named are asked for their keys.
    """
    app_id = db.value("SELECT id FROM apps WHERE package_id = ?", package_id)
    try:
        issuer = issuer_of(id_token)
        fitting = _of(db, app_id, issuer)
        if not fitting or env.issuers is None:
            raise _refusal("no trusted publisher of this app has its issuer")
        account = db.value("SELECT developer_id FROM apps WHERE id = ?", app_id)
        identity = env.issuers.verify(issuer, id_token, env.config.base_url, account)
    except NotTrusted as error:
        raise _refusal(str(error)) from error
    with db.write():
        matching = [each for each in _of(db, app_id, issuer) if _matches(each, identity)]
        if not matching:
            raise _refusal("no trusted publisher of this app has all of its claims")
        return _issued(db, caller, matching[0], identity)


def sweep(env: Context) -> None:
    """Job, hourly: delete expired tokens, and the memory of ID tokens that have expired."""
    with env.db.write() as db:
        db.change("DELETE FROM publisher_tokens WHERE expires_at <= ?", db.now)
        db.change("DELETE FROM exchanged_tokens WHERE expires_at <= ?", db.now)


def _of(db: Connection, app_id: str | None, issuer: str) -> list[TrustedPublisher]:
    """The trusted publishers of an app with this issuer, while its account is not suspended."""
    sql = (
        f"SELECT {columns(TrustedPublisher, 'p')} FROM trusted_publishers p JOIN apps a ON a.id = p.app_id"
        " JOIN developers d ON d.id = a.developer_id"
        " WHERE p.app_id = ? AND p.issuer = ? AND d.suspended = 0 ORDER BY p.id"
    )
    return db.all(sql, app_id, issuer, into=TrustedPublisher)


def _matches(publisher: TrustedPublisher, identity: Identity) -> bool:
    """Whether a token has each claim with exactly this value; numbers count as their digits."""
    wanted: dict[str, str] = json.loads(publisher.claims)
    return all(_plain(identity.claims.get(name)) == value for name, value in wanted.items())


def _plain(value: Any) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, (str, int)) else None


def _issued(
    db: Connection, caller: Caller, publisher: TrustedPublisher, identity: Identity
) -> Exchanged:
    sql = "INSERT INTO exchanged_tokens (use_hash, expires_at) VALUES (?, ?) ON CONFLICT DO NOTHING"
    if not db.change(sql, identity.use_hash, text(int(identity.expires_at))):
        raise _refusal("was exchanged already; each is valid once")
    valid = "SELECT count(*) FROM publisher_tokens WHERE publisher_id = ? AND expires_at > ?"
    if db.value(valid, publisher.id, db.now) >= MOST_TOKENS:
        raise _refusal(f"would be one of more than {MOST_TOKENS} at the same time")
    token, scopes = tokens.make_publisher_token(), list(json.loads(publisher.scopes))
    token_id = new_id()
    db.insert(
        "publisher_tokens",
        id=token_id,
        publisher_id=publisher.id,
        token_hash=tokens.key_hash(token),
        created_at=db.now,
        expires_at=db.clock.now(LIFE_SECONDS),
    )
    db.update("trusted_publishers", "id = ?", publisher.id, last_used_at=db.now)
    noted = {
        name: shown[:200]
        for name in NOTED
        if (shown := _plain(identity.claims.get(name))) is not None
    }
    owner = db.value("SELECT developer_id FROM apps WHERE id = ?", publisher.app_id)
    facts = {"publisher_id": publisher.id, "build": noted}
    audit.add(db, caller, "publisher_token.issued", token_id, owner_id=owner, **facts)
    return Exchanged(token, scopes)


def _refusal(why: str) -> PortalError:
    """RFC 6749, section 5.2, as RFC 8693, section 2.2.2, has it."""
    return Malformed("invalid_grant", f"The ID token was refused: it {why}.", error="invalid_grant")

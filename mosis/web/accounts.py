"""The caller's own account."""

import bottle

from mosis import audit, events
from mosis.audit import Entry
from mosis.caller import ROLES, SCOPES, Caller
from mosis.context import Context
from mosis.database import Connection
from mosis.people import accounts, identities, personal_data, second_factor
from mosis.people.accounts import Developer
from mosis.validation import Json, Schema, choice, text
from mosis.validation.names import NAME
from mosis.web.request import listed, read_page, require_match, spend
from mosis.web.schemas import each, extended_with, list_of, many, one_of, operation, shape, shown

CHANGE: Schema = {
    "name": text(100, minlength=1, regex=NAME),
    "mail": {
        "type": "dict",
        "keysrules": choice(sorted(events.KINDS)),
        "valuesrules": {"type": "boolean"},
    },
}
ERASE: Schema = {"password": text(1024, nullable=True), "apps": choice(("keep", "withdraw"))}

DEVELOPER = shape(
    "Developer",
    "id email email_verified:bool name role suspended:bool providers[] second_factor:bool"
    " created_at",
    role=one_of(*ROLES),
)
OWN = extended_with("Me", DEVELOPER, "mail", mail=each(bool))
HOLDER = shape(
    "CredentialHolder",
    "id name email role scopes[] apps[]?",
    role=one_of(*ROLES),
    scopes=one_of(*SCOPES),
)
ENTRY = shape(
    "AuditEntry",
    "number:int at actor_id? action subject_id:str? owner_id? network details:dict hash",
)


def routes(app: bottle.Bottle) -> None:
    app.get("/auth/me", callback=me, scope="any")
    app.route("/auth/me", method="PATCH", callback=change, scope="account")
    app.delete("/auth/me", callback=erase, scope="account", lane="passwords")
    app.get("/auth/me/export", callback=export, scope="account")
    app.get("/auth/me/audit", callback=trail, scope="account")


@operation({200: {"oneOf": [OWN, HOLDER]}})
def me(db: Connection, caller: Caller) -> Json:
    """The caller's account; for an API key or a device login, its account and its rights."""
    developer = accounts.get(db, caller.account)
    if caller.scopes is None:
        return _own(db, developer)
    return {
        "id": developer.id,
        "name": developer.name,
        "email": developer.email,
        "role": caller.role,
        "scopes": sorted(caller.scopes),
        "apps": None if caller.apps is None else sorted(caller.apps),
    }


@operation(OWN, body=CHANGE, matches=True)
def change(env: Context, db: Connection, caller: Caller, body: Json) -> Json:
    """Change the caller's name, or which kinds of notifications are mailed."""
    if "name" in body:
        spend(env, "names", caller.account)
    with db.write():
        require_match(lambda: _own(db, accounts.get(db, caller.account)))
        mail = body.pop("mail", None)
        if mail is not None:
            accounts.choose_mail(db, caller.account, mail)
        return _own(db, accounts.change(db, caller, body))


@operation(body=ERASE, optional=True, matches=True, refuses="invalid_credentials")
def erase(env: Context, db: Connection, caller: Caller, body: Json) -> None:
    """Erase the caller's account: personal data is deleted, published apps stay under a pseudonym
    or are withdrawn."""
    require_match(lambda: _own(db, accounts.get(db, caller.account)))
    spend(env, "sign_in", f"{caller.account} {caller.network}")
    personal_data.erase(
        env, db, caller, body.get("password"), withdraw_apps=body.get("apps") == "withdraw"
    )


@operation(each(many(dict)))
def export(env: Context, db: Connection, caller: Caller) -> Json:
    """All data about the caller: lists of rows by name."""
    return personal_data.export(env, db, caller)


@operation(list_of("entries", ENTRY))
def trail(db: Connection, caller: Caller) -> Json:
    """The lines of the audit trail about the caller's account and apps, newest first."""
    page = audit.index(db, read_page(int), owner_id=caller.account)
    return listed(
        "entries",
        page,
        [entry(audit.redacted_for_owner(each, caller.account)) for each in page.rows],
    )


def public(db: Connection, developer: Developer) -> Json:
    passwords = ["password"] * bool(developer.password_hash)
    providers = passwords + identities.providers_of(db, developer.id)
    has_second_factor = second_factor.active(db, developer.id) is not None
    return shown(DEVELOPER, developer, providers=providers, second_factor=has_second_factor)


def entry(each: Entry) -> Json:
    return shown(ENTRY, each, network=each.address, details=each.facts)


def _own(db: Connection, developer: Developer) -> Json:
    """The account as its owner sees it."""
    return public(db, developer) | {"mail": events.mail_choices(db, developer.id)}

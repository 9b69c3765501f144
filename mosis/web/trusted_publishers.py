"""Trusted publishers of an app over HTTP; device_login.py exchanges their tokens."""

from collections.abc import Mapping
from typing import Any

import bottle

from mosis.caller import Caller
from mosis.context import Context
from mosis.database import Connection
from mosis.people import trusted_publishers
from mosis.people.trusted_publishers import SCOPES, TrustedPublisher
from mosis.publishing import apps
from mosis.validation import Finding, Json, Schema, some_of, text
from mosis.web.request import created, listed, read_page, require_match
from mosis.web.schemas import each, list_of, one_of, operation, shape, shown

ADD: Schema = {
    "issuer": text(500, required=True, minlength=8),
    "claims": {
        "type": "dict",
        "required": True,
        "minlength": 1,
        "maxlength": 20,
        "keysrules": text(100, minlength=1),
        "valuesrules": text(500, minlength=1),
    },
    "scopes": some_of(SCOPES, required=True),
}
PUBLISHER = shape(
    "TrustedPublisher",
    "id issuer claims scopes[] added_by:id created_at last_used_at?",
    claims=each(str),
    scopes=one_of(*SCOPES),
)


def routes(app: bottle.Bottle) -> None:
    app.get("/apps/<app>/publishers", callback=index, scope="apps:read")
    app.post("/apps/<app>/publishers", callback=add, scope="account", idempotent="yes")
    app.get("/apps/<app>/publishers/<publisher>", callback=show, scope="apps:read")
    app.delete("/apps/<app>/publishers/<publisher>", callback=remove, scope="account")


def _findings(env: Context, fields: Mapping[str, Any]) -> list[Finding]:
    """What the schema cannot express."""
    if "issuer" not in fields or "claims" not in fields:
        return []
    return trusted_publishers.findings(env, fields["issuer"], fields["claims"])


@operation(list_of("publishers", PUBLISHER))
def index(db: Connection, caller: Caller, app: str) -> Json:
    """The trusted publishers of an app, the newest first."""
    found = apps.with_role(db, caller, app, "viewer")
    page = trusted_publishers.index(db, found, read_page(str))
    return listed("publishers", page, [public(publisher) for publisher in page.rows])


@operation({201: PUBLISHER}, body=ADD, further=_findings, refuses="limit_reached")
def add(env: Context, db: Connection, caller: Caller, app: str, body: Json) -> Json:
    """Trust a build server: ID tokens of this issuer with these claims may be exchanged for tokens of the app."""
    with apps.changing(db, caller, app, "owner") as found:
        made = trusted_publishers.add(env, db, caller, found, body)
        return created(public(made), f"/v1/apps/{found.package_id}/publishers/{made.id}")


@operation(PUBLISHER)
def show(db: Connection, caller: Caller, app: str, publisher: str) -> Json:
    """One trusted publisher."""
    found = apps.with_role(db, caller, app, "viewer")
    return public(trusted_publishers.get(db, found, publisher))


@operation(matches=True)
def remove(db: Connection, caller: Caller, app: str, publisher: str) -> None:
    """Trust it no more; tokens that it has got end at once."""
    with apps.changing(db, caller, app, "owner") as found:
        one = trusted_publishers.get(db, found, publisher)
        require_match(lambda: public(one))
        trusted_publishers.remove(db, caller, one)


def public(publisher: TrustedPublisher) -> Json:
    return shown(PUBLISHER, publisher, added_by=publisher.developer_id)

"""Webhooks over HTTP."""

from collections.abc import Mapping
from typing import Any

import bottle

from mosis.caller import Caller
from mosis.context import Context
from mosis.database import Connection
from mosis.events import KINDS
from mosis.notifications import webhooks
from mosis.notifications.webhooks import Delivery, Webhook
from mosis.validation import Finding, Json, Schema, findings_of, some_of, text
from mosis.web.request import created, listed, read_page, require_match
from mosis.web.schemas import EMPTY, extended_with, list_of, one_of, operation, shape, shown

_URL = text(2000, minlength=1)
_KINDS = some_of(sorted(KINDS), nullable=True)
ADD: Schema = {"url": _URL | {"required": True}, "kinds": _KINDS}
CHANGE: Schema = {"url": _URL, "kinds": _KINDS, "enabled": {"type": "boolean"}}

WEBHOOK = shape(
    "Webhook",
    "id url:str kinds[]? enabled:bool failing_since:time? old_secret_until? created_at",
    kinds=one_of(*KINDS),
)
NEW_WEBHOOK = extended_with("NewWebhook", WEBHOOK, "secret")
DELIVERY = shape(
    "Delivery",
    "id event_id state attempts:int due_at? status:int? error? attempted_at? created_at"
    " finished_at?",
    state=one_of("waiting", "delivered", "failed"),
)


def routes(app: bottle.Bottle) -> None:
    one = "/webhooks/<webhook>"
    again = f"{one}/deliveries/<delivery>/redeliver"
    app.get("/webhooks", callback=index, scope="account")
    app.post("/webhooks", callback=add, scope="account", idempotent="yes")
    app.get(one, callback=show, scope="account")
    app.route(one, method="PATCH", callback=change, scope="account")
    app.delete(one, callback=delete, scope="account")
    app.post(f"{one}/rotate", callback=rotate, scope="account", idempotent="yes")
    app.get(f"{one}/deliveries", callback=deliveries, scope="account")
    app.post(again, callback=redeliver, scope="account", idempotent="yes")


@operation(list_of("webhooks", WEBHOOK))
def index(db: Connection, caller: Caller) -> Json:
    """The account's webhooks, newest first."""
    page = webhooks.index(db, caller, read_page(str))
    return listed("webhooks", page, [public(each) for each in page.rows])


def _address_findings(env: Context, fields: Mapping[str, Any]) -> list[Finding]:
    return findings_of(webhooks.check_address, env, fields["url"]) if "url" in fields else []


@operation({201: NEW_WEBHOOK}, body=ADD, further=_address_findings, refuses="limit_reached")
def add(env: Context, db: Connection, caller: Caller, body: Json) -> Json:
    """Create a webhook. `secret` is shown only in this response."""
    webhook = webhooks.add(env, db, caller, body["url"], body.get("kinds"))
    return created(public(webhook) | {"secret": webhook.secret}, f"/v1/webhooks/{webhook.id}")


@operation(WEBHOOK)
def show(db: Connection, caller: Caller, webhook: str) -> Json:
    """One webhook."""
    return public(webhooks.get(db, caller, webhook))


@operation(WEBHOOK, body=CHANGE, further=_address_findings, matches=True)
def change(env: Context, db: Connection, caller: Caller, webhook: str, body: Json) -> Json:
    """Change the address or the kinds, or switch it on or off."""
    with db.write():
        found = webhooks.get(db, caller, webhook)
        require_match(lambda: public(found))
        return public(webhooks.change(env, db, caller, found, body))


@operation(matches=True)
def delete(db: Connection, caller: Caller, webhook: str) -> None:
    """Delete a webhook and its log."""
    with db.write():
        found = webhooks.get(db, caller, webhook)
        require_match(lambda: public(found))
        webhooks.delete(db, caller, found)


@operation(NEW_WEBHOOK, body=EMPTY)
def rotate(db: Connection, caller: Caller, webhook: str) -> Json:
    """Create a new secret; for a day deliveries are signed with both."""
    changed = webhooks.rotate(db, caller, webhook)
    return public(changed) | {"secret": changed.secret}


@operation(list_of("deliveries", DELIVERY))
def deliveries(db: Connection, caller: Caller, webhook: str) -> Json:
    """The deliveries of a webhook, newest first."""
    page = webhooks.deliveries(db, webhooks.get(db, caller, webhook), read_page(str))
    return listed("deliveries", page, [_delivery(each) for each in page.rows])


@operation(DELIVERY, body=EMPTY, refuses="invalid_state")
def redeliver(db: Connection, caller: Caller, webhook: str, delivery: str) -> Json:
    """Send a delivery again."""
    return _delivery(webhooks.redeliver(db, caller, webhook, delivery))


def public(webhook: Webhook) -> Json:
    return shown(WEBHOOK, webhook, old_secret_until=webhook.old_until)


def _delivery(delivery: Delivery) -> Json:
    due_at = delivery.due_at if delivery.state == "waiting" else None
    return shown(DELIVERY, delivery, due_at=due_at)

"""The signed-in account: name, password, sessions, API keys, signing keys, webhooks, mails, export, erasure."""

import json
from typing import Any

from bottle import HTTPResponse

from mosis import events, packages
from mosis.caller import SCOPES, Caller
from mosis.context import Context
from mosis.database import Connection
from mosis.database.pagination import PageRequest
from mosis.errors import NotFound
from mosis.notifications import webhooks
from mosis.people import accounts, api_keys, identities, personal_data, signing_keys
from mosis.people.api_keys import NewKey
from mosis.publishing import apps
from mosis.ui.apps import CHECKBOX
from mosis.ui.pages import PRIVATE, Page, Section
from mosis.validation import Schema
from mosis.web import account_recovery as api_recovery
from mosis.web import accounts as api_accounts
from mosis.web import keys as api_of_keys
from mosis.web import webhooks as api_webhooks
from mosis.web.plugins import Portal
from mosis.web.request import spend

LISTED = 100  # sessions, keys and webhooks on the page
PASSWORD_HERE: Schema = api_recovery.CHANGE
KEY_HERE: Schema = {name: api_of_keys.API_KEY[name] for name in ("name", "scopes", "apps")}
HOOK_HERE: Schema = {"url": api_webhooks.ADD["url"], "kinds": api_webhooks.ADD["kinds"]}
ERASE_HERE: Schema = {
    "password": api_accounts.ERASE["password"],
    "withdraw": CHECKBOX,
    "sure": CHECKBOX | {"required": True},
}
WEBHOOK_MOVES = ("delete", "rotate", "switch")
NAME_HERE: Schema = {"name": api_accounts.CHANGE["name"]}


def routes(app: Portal) -> None:
    pages = Section(app, "/console/account", scope="developer", again=show)
    pages.get("", show)
    pages.post("", change)
    pages.post("/password", change_password, lane="passwords")
    pages.post("/mail", choose_mail)
    pages.post("/sessions/<session>/end", end_session, again=None)
    pages.post("/keys", add_key)
    pages.post("/keys/<key>/revoke", revoke_key, again=None)
    pages.post("/signing-keys", add_signing_key)
    pages.post("/signing-keys/<key>/revoke", revoke_signing_key, again=None)
    pages.post("/webhooks", add_webhook)
    pages.get("/webhooks/<webhook>", show_webhook)
    pages.post("/webhooks/<webhook>/<move>", change_webhook, again=None)
    again = "/webhooks/<webhook>/deliveries/<delivery>/redeliver"
    pages.post(again, redeliver, again=None)
    pages.get("/export", export)
    pages.post("/erase", erase, lane="passwords")


def show(db: Connection, caller: Caller, page: Page) -> bytes:
    """Everything about the account on one page."""
    everything = PageRequest(LISTED)
    return page.render(
        "account.tpl",
        account=accounts.get(db, caller.account),
        providers=identities.providers_of(db, caller.account),
        sessions=accounts.sessions(db, caller, everything).rows,
        current=caller.session_id,
        keys=[(key, json.loads(key.scopes)) for key in api_keys.index(db, caller, everything).rows],
        scopes=SCOPES,
        apps=apps.index(db, caller, everything)[0].rows,
        signing_keys=signing_keys.index(db, caller.account, everything).rows,
        webhooks=webhooks.index(db, caller, everything).rows,
        mail=events.mail_choices(db, caller.account),
        kinds=[*events.KINDS],
    )


def change(env: Context, db: Connection, caller: Caller, page: Page) -> HTTPResponse:
    """Change the name."""
    form = page.form.checked(NAME_HERE, trimmed=("name",))
    spend(env, "names", caller.account)
    with db.write():
        accounts.change(db, caller, form)
    return page.see_other("/console/account", notice="name_changed")


def change_password(env: Context, db: Connection, caller: Caller, page: Page) -> Any:
    """Change the password; the account's other sessions end."""
    form = page.form.checked(PASSWORD_HERE)
    spend(env, "sign_in", f"{caller.account} {caller.network}")
    accounts.change_password(env, db, caller, form["current_password"], form["new_password"])
    return page.see_other("/console/account", notice="password_changed")


def choose_mail(db: Connection, caller: Caller, page: Page) -> HTTPResponse:
    """Choose which notifications are mailed."""
    wanted = {*page.form.all("kinds")}
    with db.write():
        accounts.choose_mail(db, caller.account, {kind: kind in wanted for kind in events.KINDS})
    return page.see_other("/console/account", notice="mail_chosen")


def end_session(db: Connection, caller: Caller, page: Page, session: str) -> HTTPResponse:
    """End one of the account's sessions."""
    accounts.revoke_session(db, caller, session)
    return page.see_other("/console/account", notice="session_ended")


def add_key(db: Connection, caller: Caller, page: Page) -> bytes:
    """Make an API key, and show it this once."""
    form = page.form.checked(KEY_HERE, trimmed=("name",), lists=("scopes", "apps"))
    key, secret = api_keys.add(db, caller, NewKey(**form))
    return page.render("secret.tpl", kind="key", name=key.name, secret=secret)


def revoke_key(db: Connection, caller: Caller, page: Page, key: str) -> HTTPResponse:
    """Revoke an API key."""
    with db.write():
        api_keys.revoke(db, caller, key)
    return page.see_other("/console/account", notice="key_revoked")


def add_signing_key(db: Connection, caller: Caller, page: Page) -> HTTPResponse:
    """Register a signing key."""
    form = page.form.checked(api_of_keys.SIGNING_KEY, trimmed=("name", "public_key"))
    packages.parse_public_key(form["public_key"])
    signing_keys.add(db, caller, **form)
    return page.see_other("/console/account", notice="signing_key_added")


def revoke_signing_key(db: Connection, caller: Caller, page: Page, key: str) -> HTTPResponse:
    """Revoke a signing key."""
    with db.write():
        signing_keys.revoke(db, caller, key)
    return page.see_other("/console/account", notice="signing_key_revoked")


def add_webhook(env: Context, db: Connection, caller: Caller, page: Page) -> bytes:
    """Have events sent to an address, and show the secret this once."""
    form = page.form.checked(HOOK_HERE, trimmed=("url",), lists=("kinds",))
    webhooks.check_address(env, form["url"])
    webhook = webhooks.add(env, db, caller, form["url"], form.get("kinds"))
    return page.render("secret.tpl", kind="webhook", name=webhook.url, secret=webhook.secret)


def show_webhook(db: Connection, caller: Caller, page: Page, webhook: str) -> bytes:
    """A webhook and the log of its deliveries."""
    found = webhooks.get(db, caller, webhook)
    deliveries = webhooks.deliveries(db, found, page.request(str))
    return page.render(
        "webhook.tpl",
        webhook=found,
        kinds=found.kinds and json.loads(found.kinds),
        deliveries=[(each, events.find(db, each.event_id)) for each in deliveries.rows],
        next_cursor=deliveries.next_cursor,
    )


def change_webhook(
    env: Context, db: Connection, caller: Caller, page: Page, webhook: str, move: str
) -> Any:
    """Delete a webhook, switch it on or off, or make a new secret, which is shown this once."""
    if move not in WEBHOOK_MOVES:
        raise NotFound("page")
    if move == "rotate":
        made = webhooks.rotate(db, caller, webhook)
        return page.render("secret.tpl", kind="webhook", name=made.url, secret=made.secret)
    with db.write():
        found = webhooks.get(db, caller, webhook)
        if move == "delete":
            webhooks.delete(db, caller, found)
            return page.see_other("/console/account", notice="webhook_deleted")
        webhooks.change(env, db, caller, found, {"enabled": not found.enabled})
    return page.see_other(f"/console/account/webhooks/{webhook}", notice="webhook_switched")


def redeliver(
    db: Connection, caller: Caller, page: Page, webhook: str, delivery: str
) -> HTTPResponse:
    """Send an event again."""
    webhooks.redeliver(db, caller, webhook, delivery)
    return page.see_other(f"/console/account/webhooks/{webhook}", notice="redelivered")


def export(env: Context, db: Connection, caller: Caller) -> HTTPResponse:
    """Everything stored about the account, as a file."""
    document = personal_data.export(env, db, caller)
    body = json.dumps(document, ensure_ascii=False, indent=2).encode()
    headers = {
        "Content-Type": "application/json",
        "Content-Disposition": 'attachment; filename="account.json"',
    }
    return HTTPResponse(body, 200, headers | PRIVATE)


def erase(env: Context, db: Connection, caller: Caller, page: Page) -> HTTPResponse:
    """Erase the account."""
    form = page.form.checked(ERASE_HERE)
    spend(env, "sign_in", f"{caller.account} {caller.network}")
    personal_data.erase(env, db, caller, form.get("password"), withdraw_apps="withdraw" in form)
    page.forget()
    return page.see_other("/console/sign-in", notice="erased")

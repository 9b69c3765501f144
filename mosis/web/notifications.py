"""Notifications over HTTP."""

from typing import Any

import bottle

from mosis import notifications
from mosis.callers import Caller
from mosis.db import Connection
from mosis.events import Event
from mosis.web.request import listed, read_choice, read_page


def routes(app: bottle.Bottle) -> None:
    app.get("/notifications", callback=index, scope="account")
    app.post("/notifications/read-all", callback=read_all, scope="account")
    app.post("/notifications/<event>/read", callback=read, scope="account")


def index(db: Connection, caller: Caller) -> dict[str, Any]:
    unread = read_choice("unread", "true", "false", default="false") == "true"
    page = notifications.index(db, caller, read_page(int), unread=unread)
    return listed("notifications", page, [public(each) for each in page.rows], unread=notifications.unread_count(db, caller))


def read(db: Connection, caller: Caller, event: str) -> dict[str, Any]:
    return public(notifications.read(db, caller, event))


def read_all(db: Connection, caller: Caller) -> dict[str, Any]:
    return {"read": notifications.read_all(db, caller)}


def public(event: Event) -> dict[str, Any]:
    return {
        "id": event.id, "kind": event.kind, "created_at": event.created_at,
        "app": {"package_id": event.package_id} if event.package_id else None, "version": event.version, "data": event.facts,
        "text": notifications.text(event), "read_at": event.read_at,
    }

"""Notifications over HTTP."""

import bottle

from mosis.caller import Caller
from mosis.database import Connection
from mosis.events import Event
from mosis.notifications import feed
from mosis.validation import Json, Schema
from mosis.web.request import listed, read_page, read_switch
from mosis.web.schemas import list_of, operation, shape

NOTIFICATION = shape(
    "Notification",
    "id kind created_at app? version? data:dict text read_at?",
    app=shape("", "package_id"),
)
READ = shape("ReadAll", "read:int")
UNREAD: Schema = {"unread": {"type": "boolean", "meta": "`true`: only those."}}


def routes(app: bottle.Bottle) -> None:
    app.get("/notifications", callback=index, scope="account")
    app.post("/notifications/read-all", callback=read_all, scope="account")
    app.post("/notifications/<event>/read", callback=read, scope="account")


@operation(list_of("notifications", NOTIFICATION, "unread:int"), query=UNREAD)
def index(db: Connection, caller: Caller) -> Json:
    """The caller's notifications, newest first."""
    unread = read_switch("unread")
    page = feed.index(db, caller, read_page(int), unread=unread)
    return listed(
        "notifications",
        page,
        [public(each) for each in page.rows],
        unread=feed.unread_count(db, caller),
    )


@operation(NOTIFICATION)
def read(db: Connection, caller: Caller, event: str) -> Json:
    """Mark one notification as read."""
    return public(feed.read(db, caller, event))


@operation(READ)
def read_all(db: Connection, caller: Caller) -> Json:
    """Mark all notifications as read."""
    return {"read": feed.read_all(db, caller)}


def public(event: Event) -> Json:
    return feed.shown(event)

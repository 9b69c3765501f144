"""The first pages of the console: the caller's apps with their next steps, and the notifications."""

from bottle import HTTPResponse

from mosis.caller import Caller
from mosis.context import Context
from mosis.database import Connection
from mosis.database.pagination import PageRequest
from mosis.notifications import feed, mails
from mosis.people import accounts
from mosis.publishing import apps, versions
from mosis.publishing.apps import App
from mosis.publishing.versions import Version
from mosis.telemetry import crashes
from mosis.ui.apps import next_step
from mosis.ui.pages import Page, Section
from mosis.ui.rendering import message
from mosis.web.plugins import Portal


def routes(app: Portal) -> None:
    pages = Section(app, "/console", scope="developer")
    pages.get("", moved, scope="visitor")
    pages.get("/", overview)
    pages.get("/notifications", notifications)
    pages.post("/notifications/read-all", read_all)


def moved(page: Page) -> HTTPResponse:
    """Redirect to the console's address with a slash at its end."""
    return page.see_other("/console/")


def overview(env: Context, db: Connection, caller: Caller, page: Page) -> bytes:
    """The caller's apps with their state, and what to do next."""
    found, total = apps.index(db, caller, page.request(str))
    return page.render(
        "overview.tpl",
        account=accounts.get(db, caller.account),
        apps=[(app, *_standing(db, app), _open_crashes(env, app)) for app in found.rows],
        total=total,
        next_cursor=found.next_cursor,
        unread=feed.unread_count(db, caller),
    )


def notifications(db: Connection, caller: Caller, page: Page) -> bytes:
    """The caller's notifications, newest first."""
    found = feed.index(db, caller, page.request(int))
    return page.render(
        "notifications.tpl",
        events=[(event, mails.text(event)) for event in found.rows],
        next_cursor=found.next_cursor,
        unread=feed.unread_count(db, caller),
    )


def read_all(db: Connection, caller: Caller, page: Page) -> HTTPResponse:
    """Mark all notifications as read."""
    feed.read_all(db, caller)
    return page.see_other("/console/notifications")


def _standing(db: Connection, app: App) -> tuple[Version | None, str]:
    """The app's newest version, and its next step."""
    newest = versions.index(db, app, PageRequest(1)).rows
    if not newest:
        return None, message("overview.no_version")
    return newest[0], next_step(db, app, newest[0])


def _open_crashes(env: Context, app: App) -> int:
    """How many groups of crashes are open, up to a hundred."""
    telemetry = env.telemetry.connection()
    return len(crashes.index(telemetry, app.id, PageRequest(100), "open").rows)

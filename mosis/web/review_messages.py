"""The conversation about a version over HTTP, from its developer's side and from the review desk."""

import bottle

from mosis.caller import Caller
from mosis.database import Connection
from mosis.publishing import apps, review_messages, reviews, versions
from mosis.publishing.review_messages import Message
from mosis.validation import Json, Schema, required_text
from mosis.web.request import listed, read_page
from mosis.web.schemas import list_of, one_of, operation, shape, shown

SAY: Schema = {"text": required_text(5000)}
SAY_AS_REVIEWER: Schema = SAY | {"internal": {"type": "boolean"}}

MESSAGE = shape(
    "Message",
    "id sender author_id? internal:bool text created_at",
    sender=one_of("developer", "reviewer"),
)


def routes(app: bottle.Bottle) -> None:
    own, at_desk = "/apps/<app>/versions/<version>/messages", "/reviews/<review>/messages"
    app.get(own, callback=index, scope="apps:read")
    app.post(own, callback=say, scope="versions:upload", idempotent="yes")
    app.get(at_desk, callback=index_for_reviewer, scope="reviewer")
    app.post(at_desk, callback=say_as_reviewer, scope="reviewer", idempotent="yes")


@operation(list_of("messages", MESSAGE))
def index(db: Connection, caller: Caller, app: str, version: str) -> Json:
    """The conversation with the reviewers about a version, oldest message first."""
    found = versions.get(db, apps.with_role(db, caller, app, "viewer"), version)
    page = review_messages.index(db, found, read_page(str), internal=False)
    return listed("messages", page, [public(message, to_reviewer=False) for message in page.rows])


@operation({201: MESSAGE}, body=SAY)
def say(db: Connection, caller: Caller, app: str, version: str, body: Json) -> Json:
    """Send a message to the reviewers."""
    found = versions.get(db, apps.with_role(db, caller, app, "publisher"), version)
    return made(
        review_messages.add(db, caller, found, "developer", body["text"]), to_reviewer=False
    )


@operation(list_of("messages", MESSAGE))
def index_for_reviewer(db: Connection, caller: Caller, review: str) -> Json:
    """The conversation about a version including internal messages, oldest first."""
    found = reviews.version_of(db, reviews.for_reviewer(db, caller, review))
    page = review_messages.index(db, found, read_page(str), internal=True)
    return listed("messages", page, [public(message, to_reviewer=True) for message in page.rows])


@operation({201: MESSAGE}, body=SAY_AS_REVIEWER)
def say_as_reviewer(db: Connection, caller: Caller, review: str, body: Json) -> Json:
    """Send a message to the developer, or an internal message that only reviewers see."""
    found = reviews.version_of(db, reviews.for_reviewer(db, caller, review))
    return made(
        review_messages.add(
            db, caller, found, "reviewer", body["text"], internal=body.get("internal", False)
        ),
        to_reviewer=True,
    )


def made(message: Message, *, to_reviewer: bool) -> Json:
    bottle.response.status = 201
    return public(message, to_reviewer=to_reviewer)


def public(message: Message, *, to_reviewer: bool) -> Json:
    """A message without the reviewer's name, which developers do not see."""
    author = message.author_id if to_reviewer or message.sender == "developer" else None
    return shown(MESSAGE, message, author_id=author)

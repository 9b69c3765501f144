"""Webhooks: events sent to an address of the account, signed as Standard Webhooks requires
(https://www.standardwebhooks.com).

A delivery is a row, written in the transaction of its event. A failed one is retried with growing
delays for 24 hours. A failing webhook pauses for a while, so that a receiver that hangs costs one
wait at a time, however many deliveries it has.
"""

import base64
import hashlib
import hmac
import json
import random
import secrets
import time
from typing import Any
from urllib.parse import urlsplit

from mosis import audit, events
from mosis.caller import PORTAL, Caller
from mosis.clock import CORRECTED_SECONDS, seconds, text
from mosis.context import Context
from mosis.database import Connection, Record, new_id
from mosis.database.pagination import Page, PageRequest, newest_first
from mosis.errors import Conflict, Invalid, InvalidState
from mosis.events import LONGEST_REST_SECONDS
from mosis.jobs import Again
from mosis.notifications import feed
from mosis.outbound import http
from mosis.records import dataclass

MOST = 10  # per account
# seconds before each further attempt; together just under a day
DELAYS = (5, 30, 300, 1800, 7200, 14_400, 28_800, 33_600)
GIVEN_UP_SECONDS = 24 * 3600
SWITCHED_OFF_SECONDS = 7 * 24 * 3600
OLD_SECRET_SECONDS = 24 * 3600
LEASE_SECONDS = 60  # a delivery claimed by a process that was killed is retried after this
TURN_SECONDS = 1.0  # a job that has sent for this long ends, so that others get their turn
RETENTION_SECONDS = 7 * 24 * 3600  # of the delivery log
MOST_LOGGED = 1000  # finished deliveries of one webhook in the log
SECRET_PREFIX = "whsec_"


@dataclass(frozen=True)
class Webhook(Record, table="webhooks"):
    """A row of `webhooks`."""

    id: str
    developer_id: str
    url: str
    kinds: str | None
    secret: str
    old_secret: str | None
    old_until: str | None
    enabled: int
    failures: int
    failing_since: str | None
    rests_until: str | None
    created_at: str


@dataclass(frozen=True)
class Delivery(Record, table="webhook_deliveries"):
    """A row of `webhook_deliveries`: one event for one webhook."""

    id: str
    webhook_id: str
    event_id: str
    state: str
    attempts: int
    due_at: str
    status: int | None
    error: str | None
    attempted_at: str | None
    begun_at: str
    created_at: str
    finished_at: str | None


def index(db: Connection, caller: Caller, paging: PageRequest) -> Page[Webhook]:
    """The caller's webhooks, newest first."""
    return newest_first(db, Webhook, "developer_id = ?1", caller.account, paging=paging)


def get(db: Connection, caller: Caller, webhook_id: str) -> Webhook:
    """One of the caller's webhooks. Raises NotFound."""
    return db.get(Webhook, "id = ? AND developer_id = ?", webhook_id, caller.account)


def add(env: Context, db: Connection, caller: Caller, url: str, kinds: list[str] | None) -> Webhook:
    """Create a webhook with a new secret. Raises Invalid (the address), Conflict `limit_reached`."""
    check_address(env, url)
    with db.write():
        if db.value("SELECT count(*) FROM webhooks WHERE developer_id = ?", caller.account) >= MOST:
            detail = f"An account may have {MOST} webhooks; delete one first."
            raise Conflict("limit_reached", detail)
        webhook_id = new_id()
        db.insert(
            "webhooks",
            id=webhook_id,
            developer_id=caller.account,
            url=url,
            kinds=_listed(kinds),
            secret=_secret(),
            created_at=db.now,
        )
        audit.add(
            db,
            caller,
            "webhook.created",
            webhook_id,
            owner_id=caller.account,
            host=urlsplit(url).hostname,
        )
        return get(db, caller, webhook_id)


def change(
    env: Context, db: Connection, caller: Caller, webhook: Webhook, wanted: dict[str, Any]
) -> Webhook:
    """Change address, kinds or state, in the running transaction. Switching on resets the record of
    failures; switching off gives up the waiting deliveries. Raises Invalid."""
    if "url" in wanted:
        check_address(env, wanted["url"])
        db.update("webhooks", "id = ?", webhook.id, url=wanted["url"])
    if "kinds" in wanted:
        db.update("webhooks", "id = ?", webhook.id, kinds=_listed(wanted["kinds"]))
    if wanted.get("enabled") is True:
        sql = "UPDATE webhooks SET enabled = 1, failures = 0, failing_since = NULL, rests_until = NULL WHERE id = ?"
        db.change(sql, webhook.id)
    if wanted.get("enabled") is False:
        _switch_off(db, webhook)
    audit.add(
        db,
        caller,
        "webhook.changed",
        webhook.id,
        owner_id=webhook.developer_id,
        fields=sorted(wanted),
    )
    return get(db, caller, webhook.id)


def rotate(db: Connection, caller: Caller, webhook_id: str) -> Webhook:
    """Set a new secret; for a day every delivery is signed with both. Raises NotFound."""
    with db.write():
        webhook = get(db, caller, webhook_id)
        sql = "UPDATE webhooks SET old_secret = secret, old_until = ?, secret = ? WHERE id = ?"
        db.change(sql, db.clock.now(OLD_SECRET_SECONDS), _secret(), webhook.id)
        audit.add(db, caller, "webhook.rotated", webhook.id, owner_id=webhook.developer_id)
        return get(db, caller, webhook_id)


def delete(db: Connection, caller: Caller, webhook: Webhook) -> None:
    """Delete a webhook with its log, in the running transaction."""
    db.change("DELETE FROM webhooks WHERE id = ?", webhook.id)
    audit.add(db, caller, "webhook.deleted", webhook.id, owner_id=webhook.developer_id)


def deliveries(db: Connection, webhook: Webhook, paging: PageRequest) -> Page[Delivery]:
    """Deliveries, sent and waiting, newest first."""
    return newest_first(db, Delivery, "webhook_id = ?1", webhook.id, paging=paging)


def redeliver(db: Connection, caller: Caller, webhook_id: str, delivery_id: str) -> Delivery:
    """Send a finished delivery again, as a new one. Raises NotFound, Conflict `invalid_state`."""
    with db.write():
        webhook = get(db, caller, webhook_id)
        delivery = _delivery(db, webhook, delivery_id)
        if not webhook.enabled:
            raise InvalidState("The webhook is switched off; switch it on first.", "disabled")
        if delivery.state == "waiting":
            raise InvalidState(
                "This delivery is still being attempted; wait until it has succeeded or failed.",
                delivery.state,
            )
        sql = (
            "UPDATE webhook_deliveries SET state = 'waiting', attempts = 0, due_at = ?, begun_at = ?, finished_at = NULL"
            " WHERE id = ?"
        )
        db.change(sql, db.now, db.now, delivery.id)
        events.queue_deliveries(db, webhook.developer_id, webhook.id, webhook.rests_until)
        return _delivery(db, webhook, delivery_id)


def deliver(env: Context, webhook_id: str) -> Again | None:
    """Job: send what is due to a webhook, in order, until a delivery fails or the job's time is up.
    Safe to run twice: each delivery is claimed before it is sent. It is scheduled again for the
    next one."""
    db, begun = env.db.connection(), time.monotonic()
    while (claimed := _claim(db, webhook_id)) and _send(env, db, *claimed):
        if time.monotonic() - begun > TURN_SECONDS:
            break
    webhook, now = _by_id(db, webhook_id), env.clock.now()
    sql = "SELECT min(due_at) FROM webhook_deliveries WHERE webhook_id = ? AND state = 'waiting'"
    due = db.value(sql, webhook_id)
    if webhook is None or due is None:
        return None
    return Again(
        seconds(max(_soon(db, due, DELAYS[-1]), _rests_until(db, webhook), now)) - seconds(now)
    )


def sweep(env: Context) -> None:
    """Job: delete log entries after a week, and of each webhook all but the newest MOST_LOGGED."""
    with env.db.write() as db:
        db.change(
            "DELETE FROM webhook_deliveries WHERE finished_at < ?", db.clock.now(-RETENTION_SECONDS)
        )
        sql = "SELECT webhook_id FROM webhook_deliveries GROUP BY webhook_id HAVING count(*) > ?"
        crowded = db.all(sql, MOST_LOGGED + events.MOST_WAITING)
        for (webhook_id,) in crowded:
            db.change(
                "DELETE FROM webhook_deliveries WHERE id IN (SELECT id FROM webhook_deliveries WHERE webhook_id = ?"
                " AND finished_at IS NOT NULL ORDER BY id DESC LIMIT -1 OFFSET ?)",
                webhook_id,
                MOST_LOGGED,
            )


def signed(
    webhook: Webhook, message_id: str, body: bytes, now: float, moment: str
) -> dict[str, str]:
    """The headers of a delivery: an HMAC-SHA256 over id, time and body for each valid secret."""
    stamp = str(int(now))
    keys = [webhook.secret]
    longest = text(now + OLD_SECRET_SECONDS + CORRECTED_SECONDS)
    if webhook.old_secret and webhook.old_until and moment < webhook.old_until <= longest:
        keys.append(webhook.old_secret)
    content = f"{message_id}.{stamp}.".encode() + body
    signatures = (
        hmac.new(
            base64.b64decode(key.removeprefix(SECRET_PREFIX)), content, hashlib.sha256
        ).digest()
        for key in keys
    )
    return {
        "Content-Type": "application/json",
        "webhook-id": message_id,
        "webhook-timestamp": stamp,
        "webhook-signature": " ".join(
            "v1," + base64.b64encode(each).decode() for each in signatures
        ),
    }


def _claim(db: Connection, webhook_id: str) -> tuple[Webhook, Delivery] | None:
    with db.write():
        sql = (
            "UPDATE webhook_deliveries SET state = 'failed', finished_at = ?, error = coalesce(error, 'not delivered in time')"
            " WHERE webhook_id = ? AND state = 'waiting' AND begun_at < ?"
        )
        db.change(sql, db.now, webhook_id, db.clock.now(-GIVEN_UP_SECONDS))
        webhook = _by_id(db, webhook_id)
        if webhook is None or not webhook.enabled or _rests_until(db, webhook) > db.now:
            return None
        where = (
            "webhook_id = ? AND state = 'waiting' AND (due_at <= ? OR due_at > ?) ORDER BY due_at, id"
            " LIMIT 1"
        )
        delivery = db.find(Delivery, where, webhook_id, db.now, db.clock.latest(DELAYS[-1]))
        if delivery is None:
            return None
        sql = "UPDATE webhook_deliveries SET attempts = attempts + 1, due_at = ?, attempted_at = ? WHERE id = ?"
        db.change(sql, db.clock.now(LEASE_SECONDS), db.now, delivery.id)
        return webhook, _delivery(db, webhook, delivery.id)


def _send(env: Context, db: Connection, webhook: Webhook, delivery: Delivery) -> bool:
    """Make one attempt, outside transactions, and record it; whether the next may follow."""
    event = events.find(db, delivery.event_id)
    if event is None:
        return True
    shown = {name: value for name, value in feed.shown(event).items() if name != "read_at"}
    body = json.dumps(
        {"type": event.kind, "timestamp": event.created_at, "data": shown}, ensure_ascii=False
    ).encode()
    headers, status, error = (
        signed(webhook, event.id, body, env.clock.time(), env.clock.now()),
        None,
        None,
    )
    try:
        status = http.post(
            webhook.url, body, headers, private=env.config.webhooks_private == "allow"
        )
        if not 200 <= status < 300:
            error = f"answered {status}" + (
                ", and redirects are not followed" if 300 <= status < 400 else ""
            )
    except http.Unreachable as reason:
        error = str(reason)
    with db.write():
        if error is None:
            _delivered(db, webhook, delivery, status)
        else:
            _failed(db, webhook, delivery, status, error)
    return error is None


def _delivered(db: Connection, webhook: Webhook, delivery: Delivery, status: int | None) -> None:
    sql = "UPDATE webhook_deliveries SET state = 'delivered', status = ?, error = NULL, finished_at = ? WHERE id = ?"
    db.change(sql, status, db.now, delivery.id)
    db.update("webhooks", "id = ?", webhook.id, failures=0, failing_since=None, rests_until=None)


def _failed(
    db: Connection, webhook: Webhook, delivery: Delivery, status: int | None, error: str
) -> None:
    over = delivery.attempts > len(DELAYS)
    delay = 0 if over else DELAYS[delivery.attempts - 1] * random.uniform(0.9, 1)  # noqa: S311  (jitter, not a secret)
    db.change(
        "UPDATE webhook_deliveries SET state = ?, status = ?, error = ?, due_at = ?, finished_at = ?"
        " WHERE id = ? AND state = 'waiting'",
        "failed" if over else "waiting",
        status,
        error,
        db.clock.now(delay),
        db.now if over else None,
        delivery.id,
    )
    rest = min(2 ** min(webhook.failures + 1, 10), LONGEST_REST_SECONDS)
    sql = "UPDATE webhooks SET failures = failures + 1, failing_since = coalesce(failing_since, ?), rests_until = ? WHERE id = ?"
    db.change(sql, db.now, db.clock.now(rest), webhook.id)
    week = (
        webhook.failing_since
        and seconds(db.now) - seconds(webhook.failing_since) >= SWITCHED_OFF_SECONDS
    )
    if not week and status != 410:
        return
    why = (
        "the receiver answered 410 (Gone)"
        if status == 410
        else "every delivery of the last week failed"
    )
    _switch_off(db, webhook)
    audit.add(
        db, PORTAL, "webhook.switched_off", webhook.id, owner_id=webhook.developer_id, why=why
    )
    host = urlsplit(webhook.url).hostname
    events.add(
        db, webhook.developer_id, "webhook.switched_off", webhook_id=webhook.id, host=host, why=why
    )


def _switch_off(db: Connection, webhook: Webhook) -> None:
    db.update("webhooks", "id = ?", webhook.id, enabled=0)
    sql = (
        "UPDATE webhook_deliveries SET state = 'failed', error = coalesce(error, 'switched off'), finished_at = ?"
        " WHERE webhook_id = ? AND state = 'waiting'"
    )
    db.change(sql, db.now, webhook.id)


def _soon(db: Connection, stamp: str, longest_seconds: float) -> str:
    """`stamp`, or now if it is further ahead than possible: the clock was wrong when it was set."""
    clock = db.clock
    return stamp if stamp <= clock.latest(longest_seconds) else clock.now()


def _rests_until(db: Connection, webhook: Webhook) -> str:
    return _soon(db, webhook.rests_until or "", LONGEST_REST_SECONDS)


def _by_id(db: Connection, webhook_id: str) -> Webhook | None:
    return db.find(Webhook, "id = ?", webhook_id)


def _delivery(db: Connection, webhook: Webhook, delivery_id: str) -> Delivery:
    return db.get(Delivery, "id = ? AND webhook_id = ?", delivery_id, webhook.id)


def check_address(env: Context, url: str) -> None:
    """Raises Invalid for an address to which nothing is sent."""
    if wrong := http.complaint(url, private=env.config.webhooks_private == "allow"):
        raise Invalid([{"pointer": "/url", "code": "wrong_format", "detail": wrong}])


def _secret() -> str:
    return SECRET_PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()


def _listed(kinds: list[str] | None) -> str | None:
    return None if kinds is None else json.dumps(sorted(set(kinds)))

"""Ended is ended: whatever lets a change happen is asked again at the moment of the change."""

import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any
from urllib.parse import quote

import pytest

from mosis.caller import SCOPES
from mosis.database import Database
from mosis.people import revocation
from mosis.publishing.versions import MOVES
from mosis.web.openapi import operation_id
from mosis.web.openapi_examples import body_of
from tests import described
from tests.client import PASSWORD, Account, Answer, Client
from tests.conftest import FakeClock, developer_with_an_app
from tests.web.test_conventions import World, prepare, settings, world  # noqa: F401

NOTES = "com.acme.notes"
# These write to telemetry.db, whose transactions do not check the credential again, only the role.
IN_TELEMETRY = {"PATCH /apps/<app>/crashes/<group>", "PATCH /apps/<app>/telemetry"}
CHANGES = [
    route
    for route in sorted(described.calls(), key=lambda each: (each.rule, each.method))
    if route.method != "GET"
    and route.config["scope"] != "public"
    and f"{route.method} {route.rule}" not in IN_TELEMETRY
]
ENDINGS = {  # what is ended -> (statement, what is answered)
    "session": ("UPDATE sessions SET ended_at = created_at, end_reason = 'logout'", 401),
    "account": ("UPDATE developers SET suspended = 1", 401),
    "role": ("UPDATE developers SET role = 'developer'", 403),
    "key": ("UPDATE api_keys SET revoked_at = created_at", 401),
    "scope": ("UPDATE api_keys SET scopes = '[\"telemetry:read\"]'", 403),
    "end": ("UPDATE api_keys SET expires_at = created_at", 401),
}


@pytest.fixture
def alice(client: Client) -> Account:
    return developer_with_an_app(client)  # `prepare` is for the tests with a world here


@contextmanager
def begun(database: Database) -> Iterator[threading.Event]:
    """Set when a transaction begins, before it waits for the write lock."""
    found, fence = threading.Event(), database.fence

    def passed() -> None:
        fence()
        found.set()

    database.fence = passed
    try:
        yield found
    finally:
        database.fence = fence


def overtaken(client: Client, statement: str, call: Callable[[], Answer]) -> tuple[Answer, bool]:
    """What a request is answered that was authenticated before this statement was committed and would
    change something after it; and whether it came as far as that."""
    answers: list[Answer] = []
    thread = threading.Thread(target=lambda: answers.append(call()))
    db = client.env.db.connection()
    with db.write():
        db.change(statement)
        with begun(client.env.db) as waits:
            thread.start()
            deadline = time.monotonic() + 60
            while thread.is_alive() and not waits.wait(0.001):
                assert time.monotonic() < deadline
    thread.join(60)
    return answers[0], waits.is_set()


def dump(client: Client) -> list[str]:
    """Everything in the database but what triggers derive for the store."""
    lines = client.env.db.connection()._raw.iterdump()
    derived = ("listing", "store_state", "store_changes", "app_revisions")
    return [line for line in lines if not any(name in line for name in derived)]


def request(there: World, route: Any, credential: Any) -> Answer:
    """A request that this route would do something for."""
    names = there.names | (
        {"key": there.names["signing_key"]} if route.rule.startswith("/signing-keys") else {}
    )
    path = re.sub(r"<(\w+)(?::\w+)?>", lambda found: quote(names[found[1]]), route.rule)
    operation = route.callback.operation.body or {}
    if route.config.get("body") == "package":
        package = there.client.package(there.root, NOTES, "9.0.0", 9)
        return there.client.call(route.method, path, package, as_=credential)
    body: Any = body_of(operation_id(route), operation)
    if "password" in operation or "current_password" in operation:
        body |= {name: PASSWORD for name in ("password", "current_password") if name in operation}
    body |= {"user_code": names["user_code"]} if "user_code" in operation else {}
    return there.client.call(
        route.method,
        path,
        None if route.method == "DELETE" and not operation else body,
        as_=credential,
    )


@pytest.mark.parametrize("ended", ENDINGS)
def test_no_change_is_made_with_what_has_ended_meanwhile(world: World, ended: str) -> None:  # noqa: F811
    """Every route that changes something, with a session and with an API key."""
    client, db = world.client, world.client.env.db.connection()
    client.env.limits.on = False
    key = client.post("/v1/keys", {"name": "all", "scopes": list(SCOPES)}, as_=world.root).expect(
        201
    )["key"]
    with_key = ended in ("key", "scope", "end")
    statement, status = ENDINGS[ended]
    table = statement.split()[1]
    rows, reached = db.dicts(f"SELECT * FROM {table}"), set()

    def undo() -> None:
        with db.write():
            for row in rows:
                columns = ", ".join(f"{name} = ?" for name in row)
                db.change(f"UPDATE {table} SET {columns} WHERE id = ?", *row.values(), row["id"])

    with db.write():
        db.change(statement)
    nothing_changed = dump(client)
    undo()
    for route in CHANGES:
        if with_key and route.config["scope"] not in SCOPES:
            continue
        staff = client.desk if route.rule.startswith("/reviews/") else world.root
        holder = key if with_key else staff
        answer, came_far = overtaken(client, statement, partial(request, world, route, holder))
        if came_far:
            name = f"{route.method} {route.rule}"
            reached.add(name)
            assert answer.status == status, (name, answer.status, answer.body)
            assert dump(client) == nothing_changed, name
        undo()
    asked = {
        f"{route.method} {route.rule}"
        for route in CHANGES
        if not with_key or route.config["scope"] in SCOPES
    }
    assert reached == asked


@pytest.mark.parametrize("ended", ["member", "role"])
def test_no_change_is_made_to_an_app_by_who_was_removed_meanwhile(
    world: World,  # noqa: F811
    ended: str,
) -> None:
    """Every route that changes an app, with the session of an owner who is removed or made a viewer
    while the request runs: in the middle of an upload, too."""
    client, db = world.client, world.client.env.db.connection()
    client.env.limits.on = False
    statement, status = {
        "member": ("DELETE FROM app_members WHERE role = 'owner'", 404),
        "role": ("UPDATE app_members SET role = 'viewer'", 403),
    }[ended]
    rows = db.dicts("SELECT * FROM app_members")

    def undo() -> None:
        with db.write():
            db.change("DELETE FROM app_members")
            for row in rows:
                db.insert("app_members", **row)

    with db.write():
        db.change(statement)
    nothing_changed = dump(client)
    undo()
    tried = [route for route in CHANGES if route.rule.startswith("/apps/<app>")]
    for route in tried:
        name = f"{route.method} {route.rule}"
        answer, came_far = overtaken(client, statement, partial(request, world, route, world.root))
        assert came_far, name
        assert answer.status == status, (name, answer.status, answer.body)
        assert dump(client) == nothing_changed, name
        undo()
    assert len(tried) > 15


@pytest.mark.parametrize("ended", ["member", "role"])
def test_no_telemetry_is_changed_by_who_was_removed_meanwhile(
    world: World,  # noqa: F811
    ended: str,
) -> None:
    """The same for routes that write to telemetry.db, which another write holds."""
    client, db = world.client, world.client.env.db.connection()
    telemetry = client.env.telemetry.connection()
    statement, status = {
        "member": ("DELETE FROM app_members WHERE role = 'owner'", 404),
        "role": ("UPDATE app_members SET role = 'viewer'", 403),
    }[ended]
    rows, before = db.dicts("SELECT * FROM app_members"), list(telemetry._raw.iterdump())
    tried = [route for route in described.calls() if f"{route.method} {route.rule}" in IN_TELEMETRY]
    for route in tried:
        answers: list[Answer] = []
        call = partial(request, world, route, world.root)
        thread = threading.Thread(target=lambda call=call, into=answers: into.append(call()))
        with telemetry.write(), begun(client.env.telemetry) as waits:
            thread.start()
            assert waits.wait(60)
            with db.write():
                db.change(statement)
        thread.join(60)
        assert answers[0].status == status, (route, answers[0].body)
        assert list(telemetry._raw.iterdump()) == before
        with db.write():
            db.change("DELETE FROM app_members")
            for row in rows:
                db.insert("app_members", **row)
    assert len(tried) == len(IN_TELEMETRY)


@pytest.mark.parametrize(
    "what", ["signing key", "API key", "report", "session", "account", "erasure"]
)
def test_an_upload_ends_with_what_it_was_made_with(
    client: Client, alice: Account, what: str
) -> None:
    """While the package is inspected. An erasure brings nothing back afterwards."""
    client.published(alice, NOTES)
    signing_key = client.get("/v1/signing-keys", as_=alice)["signing_keys"][0]["id"]
    body = {"name": "ci", "scopes": ["versions:upload", "keys:manage"]}
    made = client.post("/v1/keys", body, as_=alice).expect(201)
    package = client.package(alice, NOTES, "2.0.0", 2)
    credential: Any = made["key"] if what in ("API key", "report") else alice
    statements = {
        "signing key": f"UPDATE signing_keys SET state = 'revoked', revoked_at = 'x' WHERE id = '{signing_key}'",
        "API key": f"UPDATE api_keys SET revoked_at = 'x' WHERE id = '{made['id']}'",
        "report": f"UPDATE api_keys SET revoked_at = 'x' WHERE id = '{made['id']}'",
        "session": "UPDATE sessions SET ended_at = 'x'",
        "account": f"UPDATE developers SET suspended = 1 WHERE id = '{alice.id}'",
        "erasure": f"UPDATE developers SET erased_at = 'x' WHERE id = '{alice.id}'",
    }

    def upload() -> Answer:
        return client.upload(NOTES, package, as_=credential)

    answer, reached = overtaken(client, statements[what], upload)
    assert reached
    if what == "signing key":
        assert [each["code"] for each in answer.expect(422, "package_rejected")["errors"]] == [
            "signature_invalid"
        ]
    else:
        answer.expect(401, "invalid_token")
    db = client.env.db.connection()
    assert db.value("SELECT count(*) FROM versions") == 1
    assert [path.name for path in client.env.files.incoming.iterdir()] == []


STATES = sorted({state for before, after in MOVES.values() for state in (*before, after)})


def brought_to(client: Client, alice: Account, state: str) -> str:
    """The id of a second version of an app of which one is published, in this state."""
    client.published(alice, NOTES)
    submit = "" if state in ("checking", "failed", "ready") else "?submit=true&publish=true"
    package = client.package(alice, NOTES, "2.0.0", 2)
    made = client.upload(NOTES, package, as_=alice, query=submit).expect(201)
    db = client.env.db.connection()
    if state != "checking":
        client.work()
    if state not in ("checking", "ready", "in_review"):
        stamp = "published_at" if state in ("published", "halted", "yanked") else "decided_at"
        released = int(stamp == "published_at")
        with db.write():
            db.change(
                f"UPDATE versions SET state = ?, {stamp} = ?, released = ? WHERE id = ?",
                state,
                db.now,
                released,
                made["id"],
            )
            if state == "approved":
                db.change(
                    "UPDATE versions SET publish_at = ? WHERE id = ?",
                    db.clock.now(60),
                    made["id"],
                )
    assert db.value("SELECT state FROM versions WHERE id = ?", made["id"]) == state
    return str(made["id"])


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("end", ["erasure", "suspension"])
def test_no_version_is_released_after_its_account_has_ended(
    client: Client, alice: Account, clock: FakeClock, state: str, end: str
) -> None:
    """In every state of MOVES: what devices were never offered never will be."""
    version = brought_to(client, alice, state)
    db = client.env.db.connection()
    released = db.value("SELECT released FROM versions WHERE id = ?", version)
    if end == "erasure":
        client.delete("/v1/auth/me", {"password": PASSWORD}, as_=alice).expect(204)
    else:
        root = client.admin()
        at = f"/v1/admin/developers/{alice.id}"
        client.patch(at, {"suspended": True}, as_=root).expect(200)
    for _ in range(3):
        clock.advance(120)
        client.work()
    now = db.one("SELECT state, released FROM versions WHERE id = ?", version)
    if released:
        assert now == (state, 1)
    elif end == "erasure":
        assert now is None
    else:
        ended = state if state in ("failed", "rejected", "withdrawn") else "withdrawn"
        assert now == (ended, 0)
    assert db.value("SELECT count(*) FROM jobs WHERE state = 'dead'") == 0
    if not released:
        assert db.value("SELECT count(*) FROM versions WHERE released = 1") == 1


@pytest.mark.parametrize("step", ["checking", "ready", "in_review", "approved"])
def test_a_revoked_signing_key_releases_nothing_for_the_first_time(
    client: Client, alice: Account, clock: FakeClock, step: str
) -> None:
    """Neither by a request nor by a job; what was published before goes on."""
    version = brought_to(client, alice, step)
    key = client.get("/v1/signing-keys", as_=alice)["signing_keys"][0]["id"]
    client.delete(f"/v1/signing-keys/{key}", as_=alice).expect(204)
    for _ in range(3):
        clock.advance(120)
        client.work()
    at = f"/v1/apps/{NOTES}/versions/"
    if step == "in_review":
        review = client.get(at + "2.0.0", as_=alice)["review"]["id"]
        client.post(f"/v1/reviews/{review}/approve", as_=client.desk).expect(200)
        client.work()
    call = "submit" if step in ("checking", "ready") else "publish"
    client.post(f"{at}2.0.0/{call}", as_=alice).expect(409, "signing_key_revoked")
    shown = client.get(at + "2.0.0", as_=alice)
    assert "signing key was revoked" in shown["next_step"]
    db = client.env.db.connection()
    assert db.value("SELECT released FROM versions WHERE id = ?", version) == 0
    client.post(at + "1.0.0/halt", as_=alice).expect(200)
    client.post(at + "1.0.0/publish", as_=alice).expect(200)


def test_the_list_of_what_ends_knows_every_table_of_an_account(client: Client) -> None:
    opens_nothing = {"apps", "events"}
    db = client.env.db.connection()
    tables = {
        name
        for (name,) in db.all(
            "SELECT m.name FROM sqlite_schema m, pragma_table_info(m.name) c"
            " WHERE m.type = 'table' AND c.name = 'developer_id'"
        )
        if not name.startswith("listing")
    }
    assert tables - opens_nothing == set(revocation.ENDINGS)

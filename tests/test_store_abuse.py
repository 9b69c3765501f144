"""What strangers can do to the store: nothing that makes it slow or wrong for others."""

import random
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mosis.cache import RevisionCache
from mosis.context import ROOMS
from mosis.database import Connection
from mosis.database.pagination import PageRequest
from mosis.rate_limits import TokenBuckets
from mosis.store import revisions, search
from mosis.store.revisions import Revisions
from mosis.store.search import Query
from tests.catalogue import add_app, add_developer, add_listed, add_version
from tests.client import Account, Client
from tests.conftest import FakeClock
from tests.web.test_ready import ready, status

NAMES = ("a.b", "a.c")


@pytest.fixture
def acme(client: Client) -> str:
    """A developer with two listed apps."""
    db = client.env.db.connection()
    with db.write():
        developer = add_developer(db)
        for package_id in NAMES:
            add_listed(db, developer, package_id, f"App {package_id}", tags='["c++"]')
    return developer


def change(client: Client, sql: str, *values: Any) -> None:
    with client.env.db.connection().write() as db:
        db.change(sql, *values)


class TestRooms:
    def test_what_was_asked_for_twice_stays(self) -> None:
        stored = RevisionCache(100_000)
        for key in range(20):
            stored.put(key, 1, key, 1000)
            assert stored.get(key, 1) == key
        for key in range(1000, 3000):
            stored.put(key, 1, key, 1000)
        assert [stored.get(key, 1) for key in range(20)] == list(range(20))
        for key in range(20):
            stored.put(key, 2, -key, 1000)  # made again, and still asked for by many
        for key in range(3000, 5000):
            stored.put(key, 1, key, 1000)
        assert [stored.get(key, 2) for key in range(20)] == [-key for key in range(20)]
        assert stored.get(0, 1) is None

    def test_rooms_do_not_displace_each_other(self) -> None:
        stored = RevisionCache(100_000, {"a": 0.5, "b": 0.5})
        stored.put("x", 1, "x", 1000, room="a")
        for key in range(1000):
            stored.put(key, 1, key, 1000, room="b")
            stored.get(key, 1, room="b")
        assert stored.get("x", 1, room="a") == "x"
        assert stored.size_bytes <= 100_000
        assert round(sum(ROOMS.values()), 6) == 1

    @settings(derandomize=True, max_examples=50, deadline=None)
    @given(st.integers(0, 1 << 30))
    def test_sizes_are_right_and_bounded_whatever_comes(self, seed: int) -> None:
        rng, stored = random.Random(seed), RevisionCache(20_000, {"a": 0.3, "b": 0.7})
        for _ in range(300):
            room, key, revision = rng.choice("ab"), rng.randrange(30), rng.randrange(3)
            if rng.random() < 0.5:
                stored.put(key, revision, (key, revision), rng.randrange(3000), room=room)
            else:
                assert stored.get(key, revision, room=room) in (None, (key, revision))
            for name, place in stored._rooms.items():
                proven = sum(entry[1] for entry in place.proven.values())
                new = sum(entry[1] for entry in place.new.values())
                assert (proven, proven + new) == (place.proven_bytes, place.size_bytes)
                assert place.size_bytes <= 20_000 * place.share, name
                assert not place.proven.keys() & place.new.keys()


def add_beta(db: Connection, acme: str, app: str) -> None:
    add_version(db, acme, app, 2, channel="beta")


CHANGES: dict[str, Callable[[Connection, str, str], object]] = {
    "name": lambda db, acme, app: db.change("UPDATE apps SET name = 'x' WHERE id = ?", app),
    "suspended": lambda db, acme, app: db.change("UPDATE apps SET suspended = 1 WHERE id = ?", app),
    "halted": lambda db, acme, app: db.change(
        "UPDATE versions SET state = 'halted' WHERE app_id = ?", app
    ),
    "share": lambda db, acme, app: db.change(
        "UPDATE versions SET rollout_percent = 5 WHERE app_id = ?", app
    ),
    "beta": add_beta,
    "newer": lambda db, acme, app: add_version(db, acme, app, 3),
    "downloads": lambda db, acme, app: db.change(
        "INSERT INTO downloads (version_id, day, count) SELECT id, '2027-01-01', 5 FROM versions"
        " WHERE app_id = ?",
        app,
    ),
    "version deleted": lambda db, acme, app: db.change(
        "DELETE FROM versions WHERE app_id = ?", app
    ),
    "app deleted": lambda db, acme, app: (
        db.change("DELETE FROM versions WHERE app_id = ?", app),
        db.change("DELETE FROM apps WHERE id = ?", app),
    ),
    "developer renamed": lambda db, acme, app: db.change("UPDATE developers SET name = 'New'"),
    "developer suspended": lambda db, acme, app: db.change("UPDATE developers SET suspended = 1"),
}


@pytest.mark.parametrize("what", CHANGES)
def test_an_answer_about_an_app_is_right_at_once_and_cached_while_others_change(
    client: Client, acme: str, what: str
) -> None:
    db = client.env.db.connection()
    paths = [
        f"/v1/store/apps/a.b{rest}" for rest in ("", "/versions", "/download?channel=beta&device=d")
    ]
    check = "/v1/store/updates?pkgs=a.b:0&channel=beta&device=d"

    def shown() -> list[tuple[int, bytes, str | None]]:
        answers = [client.get(path) for path in [*paths, check]]
        return [
            (each.status, each.body if each.status == 200 else b"", each.headers.get("location"))
            for each in answers
        ]

    shown()
    stored = [ready(client, path) for path in paths[:2]]
    assert [status(each) for each in stored] == ["200 OK"] * 2
    client.env.state(Revisions).listings = TokenBuckets(1e-9, 0)  # lists have had their share
    change(client, "UPDATE apps SET name = name || '!' WHERE package_id = 'a.c'")
    assert [ready(client, path)[2] for path in paths[:2]] == [each[2] for each in stored]  # type: ignore[index]
    app = db.value("SELECT id FROM apps WHERE package_id = 'a.b'")
    with db.write():
        CHANGES[what](db, acme, app)
    after = shown()
    client.env.cache.__init__(rooms=ROOMS)  # type: ignore[misc]
    assert after == shown(), "as it is without a cache"
    client.env.states.pop(Revisions)
    assert after == shown()


def test_many_changes_are_noticed_too(
    client: Client, acme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mosis.store.revisions.MOST_CHANGED", 3)
    rng = random.Random(1)
    names = {package_id: client.get(f"/v1/store/apps/{package_id}")["name"] for package_id in NAMES}
    for number in range(40):
        for package_id in rng.choices(NAMES, k=rng.randrange(6)):
            names[package_id] = f"Name {number}"
            change(
                client,
                "UPDATE apps SET name = ? WHERE package_id = ?",
                f"Name {number}",
                package_id,
            )
        for package_id in NAMES:
            assert client.get(f"/v1/store/apps/{package_id}")["name"] == names[package_id]


def test_lists_are_made_anew_once_a_second_at_most(
    client: Client, acme: str, clock: FakeClock
) -> None:
    path = "/v1/store/apps?limit=5"
    client.get(path).expect(200)
    client.env.state(Revisions).listings = TokenBuckets(1.0, 3, lambda: clock.at)
    made = 0
    for number in range(100):  # ten seconds of an account that changes its app all the time
        change(client, "UPDATE apps SET summary = ?", str(number))
        made += ready(client, path) is None
        client.get(path).expect(200)
        clock.advance(0.1)
    assert made <= 3 + 10
    clock.advance(1)
    assert client.get(path)["apps"][0]["summary"] == "99"
    clock.advance(10)
    change(client, "UPDATE apps SET summary = 'quiet'")
    assert client.get(path)["apps"][0]["summary"] == "quiet", "after a while of quiet at once"


PARTS = st.sampled_from([
    "limit=1", "limit=20", "sort=name", "q=app", "tag=c%2B%2B", "category=other", "x=1", "x=2", "utm_source=mail", "%71=zzz",
    "%6Cimit=1", "li%6dit=1", "q", "=", "page=2", "l+imit=1", "limit=", "cursor=", "q=app;limit=1", "Q=zzz", "q=zzz", "",
])  # fmt: skip


@pytest.mark.parametrize(
    "path",
    ["/v1/store/apps", "/v1/store/categories", "/v1/store/apps/a.b", "/store/apps/a.b/versions"],
)
def test_no_query_gets_the_answer_to_another(client: Client, acme: str, path: str) -> None:
    """Whatever is left out of the key of a cached response, it is that of a portal without a cache."""

    @settings(derandomize=True, max_examples=60, deadline=None)
    @given(st.lists(PARTS, max_size=4))
    def ask(parts: list[str]) -> None:
        address = f"{path}?{'&'.join(parts)}"
        got = raw(client, address)
        rooms = client.env.cache
        fresh = RevisionCache(rooms=ROOMS)
        object.__setattr__(client.env, "cache", fresh)
        try:
            assert raw(client, address) == got, address
        finally:
            object.__setattr__(client.env, "cache", rooms)

    ask()


def raw(client: Client, address: str) -> tuple[Any, ...]:
    """An answer, without the check that every parameter is one that is described."""
    from tests import described

    check = described.check
    described.check = lambda *_: None
    try:
        answer = client.get(address)
    finally:
        described.check = check
    body = answer.body if answer.status == 200 else answer.json["code"]
    return answer.status, body, answer.headers.get("link"), answer.headers.get("etag")


def test_random_parameters_make_no_answers_of_their_own(client: Client, acme: str) -> None:
    for path in ("/v1/store/apps", "/v1/store/categories", "/v1/store/apps/a.b", "/healthz"):
        raw(client, path)
        raw(client, f"{path}?limit=1")
        entries = sum(len(room.new) + len(room.proven) for room in client.env.cache._rooms.values())
        for number in range(50):
            raw(client, f"{path}?x={number}")
            raw(client, f"{path}?y{number}=1&limit=1")
        after = sum(len(room.new) + len(room.proven) for room in client.env.cache._rooms.values())
        assert after == entries, path


def test_links_do_not_carry_what_the_first_caller_made_up(client: Client, acme: str) -> None:
    first = raw(client, "/v1/store/apps?limit=1&tracker=alice")
    assert "tracker" not in first[2]
    assert raw(client, "/v1/store/apps?tracker=bob&limit=1") == first


def test_apps_that_do_not_exist_cost_one_query_and_are_not_cached(
    client: Client, acme: str
) -> None:
    client.post("/v1/store/updates", {"pkgs": dict.fromkeys(NAMES, 0)}).expect(200)
    size, found = client.env.cache.size_bytes, list[str]()
    connection = client.env.db.connection()._raw
    connection.set_trace_callback(found.append)
    try:
        pkgs = {f"com.made.up{number}": 0 for number in range(498)} | dict.fromkeys(NAMES, 0)
        answer = client.post("/v1/store/updates", {"pkgs": pkgs}).expect(200)
    finally:
        connection.set_trace_callback(None)
    assert len(answer["updates"]) == 2
    assert client.env.cache.size_bytes == size
    assert len(found) <= 3


class TestLimits:
    @pytest.fixture
    def settings(self) -> dict[str, str]:
        return {"RATE_LIMITS": "on"}

    def test_an_account_changes_its_listings_some_times_a_minute(
        self, client: Client, clock: FakeClock
    ) -> None:
        alice = client.register()
        draft, out = client.app_of(alice, "com.acme.draft"), client.out(alice)

        def change(app: str, number: int) -> int:
            return client.patch(f"/v1/apps/{app}", {"summary": str(number)}, as_=alice).status

        assert [change(out, number) for number in range(21)] == [200] * 20 + [429]
        assert change(draft, 1) == 200
        clock.advance(3)
        assert [change(out, 99), change(out, 100)] == [200, 429]
        pending = client.get(f"/v1/apps/{out}", as_=alice)["pending"]
        assert (pending["fields"], pending["revision"]) == ({"summary": "99"}, 21)


class TestSearch:
    def names(self, client: Client, text: str) -> list[str]:
        page = search.index(client.env.db.connection(), PageRequest(100), Query(text))
        return sorted(listing.name for listing in page.rows)

    @pytest.fixture
    def found(self, client: Client) -> Client:
        db = client.env.db.connection()
        with db.write():
            acme = add_developer(db)
            for number, name in enumerate(("Alpha notes", "A notes", "Notes", "天气", "c++ notes")):
                add_listed(db, acme, f"z.y{number}", name)
        return client

    @pytest.mark.parametrize(("text", "names"), [
        ("n", ["A notes", "Alpha notes", "Notes", "c++ notes"]), ("a notes", ["A notes"]), ("notes a", ["A notes"]),
        ("al notes", ["Alpha notes"]), ("天", ["天气"]), ("天气", ["天气"]), ("气 天", ["天气"]), ("c++ not", ["c++ notes"]),
        ("q w e r t y u i", []),
    ])  # fmt: skip
    def test_a_letter_beside_other_words_is_a_word(
        self, found: Client, text: str, names: list[str]
    ) -> None:
        assert self.names(found, text) == names

    def test_a_search_ends_with_what_it_has(
        self, found: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("mosis.store.search.BUDGET_SECONDS", -1.0)
        for text in ("notes", "a notes", "n"):
            for sort in ("", "&sort=name"):
                found.get(f"/v1/store/apps?q={quote(text)}{sort}").expect(200)
        assert found.get("/v1/store/apps").expect(200)["apps"], "what is no search has no budget"

    def test_a_query_ends_at_its_deadline(self, found: Client) -> None:
        db = found.env.db.connection()
        endless = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n"
        rows = db.all_until(time.monotonic() + 0.05, endless)
        assert rows[:2] == [(1,), (2,)]
        assert db.all("SELECT count(*) FROM apps") == [(5,)], "the next one has no deadline"
        with pytest.raises(Exception, match="no such table"):
            db.all_until(time.monotonic() + 1, "SELECT 1 FROM nowhere")


def test_an_app_that_is_added_to_a_draft_row_is_seen(client: Client, acme: str) -> None:
    """The first version of an app: 404 before, found at once after it."""
    db = client.env.db.connection()
    with db.write():
        app = add_app(db, acme, "a.new", "New")
    client.get("/v1/store/apps/a.new").expect(404)
    with db.write():
        add_version(db, acme, app)
    client.get("/v1/store/apps/a.new").expect(200)


def test_a_draft_changes_no_revision(client: Client, acme: str) -> None:
    account: Account = client.register()
    client.get("/v1/store/apps/a.b").expect(200)
    before = revisions.app_revision(client.env, "a.b"), revisions.revision(client.env)
    client.app_of(account)
    assert (revisions.app_revision(client.env, "a.b"), revisions.revision(client.env)) == before

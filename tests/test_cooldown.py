"""A cooldown (`min_age_days`): nothing young in updates, lists, the index and downloads, but security releases. And what a mirror
follows: /store/changes."""

import random
from typing import Any

import pytest

from mosis.context import Context
from mosis.store.signed_index import AGES, Indexes
from mosis.store.updates import LONGEST_AGE_DAYS
from tests.catalogue import add_app, add_developer, add_version
from tests.client import Client
from tests.conftest import FakeClock

DAY = 86_400
A = "com.acme.notes"


@pytest.fixture
def acme(env: Context) -> str:
    """A developer with an app; its id."""
    with env.db.connection().write() as db:
        developer = add_developer(db)
        add_app(db, developer, A, "Notes")
    return developer


def out(env: Context, developer: str, code: int, package_id: str = A, **more: Any) -> str:
    """A version that is published now; its id."""
    with env.db.connection().write() as db:
        app = db.value("SELECT id FROM apps WHERE package_id = ?", package_id)
        return add_version(db, developer, app, code, published_at=db.now, **more)


def asked(client: Client, days: int, installed: int = 0) -> dict[str, str | None]:
    """The version code that each way of asking gives with this cooldown; None for nothing."""
    age = f"min_age_days={days}"
    found: dict[str, Any] = {}
    got = client.get(f"/v1/store/updates?pkgs={A}:{installed}&{age}").expect(200)["updates"]
    found["updates"] = got[0]["version"] if got else None
    sent = client.post("/v1/store/updates", {"pkgs": {A: installed}, "min_age_days": days})
    assert sent.expect(200)["updates"] == got
    for name, query in (("list", ""), ("search", "q=notes&"), ("sorted", "q=notes&sort=updated&")):
        rows = client.get(f"/v1/store/apps?{query}{age}").expect(200)["apps"]
        found[name] = rows[0]["version"] if rows else None
    one = client.get(f"/v1/store/apps/{A}?{age}")
    found["show"] = one["version"] if one.status == 200 else None
    way = client.get(f"/v1/store/apps/{A}/download?{age}")
    found["download"] = way.headers["location"].split("/")[-2] if way.status == 302 else None
    if days in AGES:
        index = client.get(f"/v1/store/index.json?{age}").expect(200)
        assert index["min_age_days"] == days
        found["index"] = index["apps"][0]["version"] if index["apps"] else None
    return found


def everywhere(version: str | None, found: dict[str, str | None]) -> bool:
    assert set(found.values()) == {version}, found
    return True


def test_what_is_young_is_nowhere(client: Client, acme: str, clock: FakeClock) -> None:
    out(client.env, acme, 1)
    assert everywhere("1.1.0", asked(client, 0))
    assert everywhere(None, asked(client, 7))
    clock.advance(7 * DAY - 1)
    assert everywhere(None, asked(client, 7))
    clock.advance(3601)  # an index with a cooldown is up to an hour behind
    assert everywhere("1.1.0", asked(client, 7))
    out(client.env, acme, 2)
    assert everywhere("1.2.0", asked(client, 0))
    assert everywhere("1.1.0", asked(client, 7))
    assert everywhere("1.1.0", asked(client, 1))
    clock.advance(DAY + 3601)
    assert everywhere("1.2.0", asked(client, 1))
    assert everywhere("1.1.0", asked(client, 7))
    [update] = client.get(f"/v1/store/updates?pkgs={A}:1").expect(200)["updates"]
    assert update["version"] == "1.2.0"
    assert client.get(f"/v1/store/updates?pkgs={A}:1&min_age_days=7")["updates"] == []


def test_a_cached_list_with_a_cooldown_does_not_outlive_a_minute(
    client: Client, acme: str, clock: FakeClock
) -> None:
    out(client.env, acme, 1)
    paths = [
        f"/v1/store/apps/{A}?min_age_days=1",
        "/v1/store/apps?min_age_days=1",
        "/v1/store/apps?min%5Fage_days=1",
        f"/v1/store/apps/{A}?min%5fage%5fdays=1",
    ]
    clock.advance(DAY - 30)
    before = [client.get(path).status for path in paths]
    assert before == [404, 200, 200, 404]
    assert [client.get(path)["apps"] for path in paths[1:3]] == [[], []]
    clock.advance(91)
    assert [client.get(path).status for path in paths] == [200] * 4
    assert [len(client.get(path)["apps"]) for path in paths[1:3]] == [1, 1]


def test_a_security_release_has_no_cooldown(client: Client, acme: str, clock: FakeClock) -> None:
    out(client.env, acme, 1)
    clock.advance(40 * DAY)
    out(client.env, acme, 2, security=1)
    assert everywhere("1.2.0", asked(client, 30))
    out(client.env, acme, 3)
    assert everywhere("1.2.0", asked(client, 30))
    [update] = client.get(f"/v1/store/updates?pkgs={A}:1&min_age_days=30")["updates"]
    assert update["security"] is True


def test_halted_partial_and_beta_versions_follow_their_own_rules(
    client: Client, acme: str, clock: FakeClock
) -> None:
    out(client.env, acme, 1)
    out(client.env, acme, 2, rollout_percent=0.1)
    out(client.env, acme, 3, channel="beta")
    out(client.env, acme, 4, state="halted")
    clock.advance(10 * DAY)
    out(client.env, acme, 5)
    assert everywhere("1.1.0", asked(client, 7))
    beta = f"/v1/store/updates?pkgs={A}:1&channel=beta&min_age_days=7"
    assert client.get(beta)["updates"][0]["version"] == "1.3.0"


def test_random_histories_agree_everywhere(client: Client, acme: str, clock: FakeClock) -> None:
    rng = random.Random(11)
    published: list[tuple[int, float, bool]] = []
    for code in range(1, 25):
        clock.advance(rng.choice([0.2, 1, 3, 9]) * DAY)
        security = rng.random() < 0.15
        out(client.env, acme, code, security=int(security))
        published.append((code, clock.at, security))
        days = rng.choice([1, 3, 7, 14, 30])
        fits = [c for c, at, safe in published if safe or at <= clock.at - days * DAY]
        client.env.state(Indexes).by_age.pop(days, None)  # made again, not up to an hour old
        assert everywhere(f"1.{max(fits)}.0" if fits else None, asked(client, days))


def test_pages_of_a_list_with_a_cooldown_are_whole(
    client: Client, acme: str, clock: FakeClock
) -> None:
    with client.env.db.connection().write() as db:
        for number in range(12):
            add_app(db, acme, f"com.acme.n{number}", f"Notes {number:02}")
    for number in range(12):
        out(client.env, acme, 1, f"com.acme.n{number}")
    clock.advance(8 * DAY)
    for number in range(0, 12, 2):
        out(client.env, acme, 2, f"com.acme.n{number}")
    with client.env.db.connection().write() as db:
        add_app(db, acme, "com.acme.young", "Notes young")
    out(client.env, acme, 1, "com.acme.young")
    for query in ("", "q=notes&", "q=notes&sort=name&", "sort=updated&", "category=other&"):
        found, cursor = [], ""
        while True:
            page = client.get(f"/v1/store/apps?{query}min_age_days=7&limit=5{cursor}").expect(200)
            found += [(app["package_id"], app["version"]) for app in page["apps"]]
            if page["next_cursor"] is None:
                break
            cursor = f"&cursor={page['next_cursor']}"
        assert sorted(found) == sorted((f"com.acme.n{number}", "1.1.0") for number in range(12))


def test_each_index_has_its_own_sequence_and_is_found_by_it(
    client: Client, acme: str, clock: FakeClock
) -> None:
    out(client.env, acme, 1)
    clock.advance(2 * DAY)
    out(client.env, acme, 2)
    whole = client.get("/v1/store/index.json").expect(200)
    aged = client.get("/v1/store/index.json.sig?min_age_days=1").expect(200)
    assert "min_age_days" not in whole.json
    assert aged["sequence"] != whole["sequence"]
    numbered = client.get(aged["index_url"]).expect(200)
    assert (numbered["min_age_days"], numbered["apps"][0]["version"]) == (1, "1.1.0")
    again = client.get("/v1/store/index.json.sig").expect(200)
    assert again["sequence"] == whole["sequence"], "one variant does not displace another"
    assert client.get(again["index_url"]).expect(200)["apps"][0]["version"] == "1.2.0"


@pytest.mark.parametrize("wrong", ["-1", "91", "x", "1.5", "00000000000000000000001"])
def test_other_cooldowns_are_refused(client: Client, acme: str, wrong: str) -> None:
    for path in (
        "updates?pkgs=a.b:1&",
        "apps?",
        f"apps/{A}?",
        f"apps/{A}/download?",
        "index.json?",
    ):
        refused = client.get(f"/v1/store/{path}min_age_days={wrong}")
        refused.expect(400, code="malformed_request")
    client.get("/v1/store/index.json?min_age_days=2").expect(400, code="malformed_request")
    body = {"pkgs": {}, "min_age_days": LONGEST_AGE_DAYS + 1}
    client.post("/v1/store/updates", body).expect(422, code="invalid")


def test_reviewers_mark_security_releases(client: Client) -> None:
    alice = client.register("alice")
    app = client.app_of(alice)
    client.upload(app, client.package(alice), as_=alice, query="?submit=true").expect(201)
    client.work()
    at = f"/v1/apps/{app}/versions/1.0.0"
    review = "/v1/reviews/" + client.get(at, as_=alice)["review"]["id"]
    rita = client.reviewer()
    client.patch(review, {"security": True}, as_=rita).expect(409, code="invalid_state")
    assert client.get(at, as_=alice)["security"] is False
    client.post(review + "/approve", {"security": True}, as_=alice).expect(403)
    approved = client.post(review + "/approve", {"security": True}, as_=rita).expect(200)
    assert approved["security"] is True
    assert client.get(at, as_=alice)["security"] is True
    client.post(at + "/publish", as_=alice).expect(200)
    assert len(client.get("/v1/store/apps?min_age_days=30")["apps"]) == 1
    client.patch(review, {"security": False}, as_=alice).expect(403)
    assert client.patch(review, {"security": False}, as_=rita).expect(200)["security"] is False
    assert client.get("/v1/store/apps?min_age_days=30")["apps"] == []
    trail = client.get("/v1/auth/me/audit?limit=100", as_=alice)["entries"]
    marks = [line["details"]["security"] for line in trail if line["action"] == "version.security"]
    assert marks == [False, True]


class Mirror:
    """Follows the changes, and knows what is in the store by them alone."""

    def __init__(self, client: Client) -> None:
        self.client, self.after = client, 0
        self.known: dict[str, str] = {}

    def follow(self, limit: int = 2) -> list[tuple[str, str]]:
        answer, cursor = [], ""
        while True:
            page = self.client.get(
                f"/v1/store/changes?after={self.after}&limit={limit}{cursor}"
            ).expect(200)
            for each in page["changes"]:
                answer.append((each["change"], each["package_id"]))
                if each["change"] == "removed":
                    self.known.pop(each["package_id"], None)
                    assert each["version"] is None
                else:
                    assert (each["package_id"] in self.known) == (each["change"] == "updated")
                    self.known[each["package_id"]] = each["version"]
            if page["next_cursor"] is None:
                self.after = page["last"]
                return answer
            cursor = f"&cursor={page['next_cursor']}"

    def agrees(self) -> bool:
        rows = self.client.env.db.connection().all("SELECT package_id, version FROM listings")
        return self.known == dict(rows)


def test_a_mirror_that_follows_the_changes_has_the_store(
    client: Client, acme: str, clock: FakeClock
) -> None:
    env, rng = client.env, random.Random(2)
    with env.db.connection().write() as db:
        for number in range(6):
            add_app(db, acme, f"com.acme.n{number}", f"Notes {number}")
    often, seldom = Mirror(client), Mirror(client)
    for code in range(1, 60):
        package_id = f"com.acme.n{rng.randrange(6)}"
        what = rng.choice(["publish", "publish", "suspend", "lift", "rename", "count"])
        with env.db.connection().write() as db:
            app = db.value("SELECT id FROM apps WHERE package_id = ?", package_id)
            if what == "publish":
                add_version(db, acme, app, code, published_at=db.now)
            elif what == "rename":
                db.change("UPDATE apps SET summary = ? WHERE id = ?", str(code), app)
            elif what != "count":
                db.change("UPDATE apps SET suspended = ? WHERE id = ?", what == "suspend", app)
            else:
                version = db.value("SELECT id FROM versions WHERE app_id = ?", app)
                if version:
                    db.change(
                        "INSERT INTO downloads VALUES (?, '2027-01-01', 1)"
                        " ON CONFLICT DO UPDATE SET count = count + 1",
                        version,
                    )
        clock.advance(10)
        changed = often.follow()
        assert len(changed) <= 1
        assert not (what == "count" and changed)
        if rng.random() < 0.1:
            seldom.follow()
            assert seldom.agrees()
    assert often.agrees()
    assert often.follow() == []
    numbers = [each["number"] for each in client.get("/v1/store/changes?limit=100")["changes"]]
    assert numbers == sorted(set(numbers))


def test_a_mirror_learns_that_the_store_is_an_older_one(client: Client, acme: str) -> None:
    out(client.env, acme, 1)
    assert client.get("/v1/store/changes?after=1").expect(200)["changes"] == []
    client.get("/v1/store/changes?after=2").expect(400, code="bad_cursor")
    client.get("/v1/store/changes?after=-1").expect(400, code="malformed_request")

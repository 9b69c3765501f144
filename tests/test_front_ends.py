"""Store front ends: the same responses as the primary, from a copy that is checked, whatever happens to
the programs that bring it."""

import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import portal
from bench import front_end_kills
from mosis.commands.front_end import check
from mosis.commands.process import check_preconditions, refuse_folder_of_front_end
from mosis.config import Config, ConfigError
from mosis.context import Context
from mosis.operations import front_end, heartbeat
from mosis.store import download_batches, downloads, front_index, index_keys, signed_index
from mosis.web import store_only
from tests.campaign import seeded, short_and_full
from tests.catalogue import add_developer, add_listed, add_version
from tests.client import Account, Client
from tests.conftest import FakeClock
from tests.front_ends import SECRET, Pair, ask, paired, quoted
from tests.server import command, free_port, wait_until

pytestmark = pytest.mark.slow


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, str]:
    return {
        "BACKUPS_DIR": str(tmp_path / "backups"),
        "LISTEN_ADDR": "127.0.0.1:0",
        "BASE_URL": "https://apps.example.net/shop",
        "FRONT_END_SECRET": SECRET,
        "TRUSTED_PROXY": "127.0.0.1",
    }


@pytest.fixture
def listed(env: Context) -> None:
    """A store of rows without packages, filled before anything follows it."""
    db = env.db.connection()
    with db.write():
        acme = add_developer(db, "Acme")
        add_listed(db, add_developer(db, "Alice"), "com.alice.rows", "Rows")
        for number in range(30):
            more = {"category": ("games", "tools")[number % 2], "tags": '["fast"]'}
            add_listed(db, acme, f"com.acme.app{number:02}", f"Über {number}", **more)
        db.change(
            "UPDATE versions SET state = 'yanked', yank_reason = 'broken' WHERE app_id ="
            " (SELECT id FROM apps WHERE package_id = 'com.acme.app07')"
        )
        app = db.value("SELECT id FROM apps WHERE package_id = 'com.acme.app03'")
        add_version(db, acme, app, 2, channel="beta")
        add_version(db, acme, app, 3, rollout_percent=30)


@pytest.fixture
def shop(client: Client, alice: Account) -> str:
    """An app with packages, published before anything follows it; its id."""
    client.published(alice, "com.acme.notes")
    client.published(alice, "com.acme.notes", "1.1.0", 2)
    db = client.env.db.connection()
    return str(db.value("SELECT id FROM apps WHERE package_id = 'com.acme.notes'"))


@pytest.fixture
def pair(
    request: pytest.FixtureRequest, env: Context, listed: None, tmp_path: Path, clock: FakeClock
) -> Iterator[Pair]:
    if "shop" in request.fixturenames:
        request.getfixturevalue("shop")
    with paired(env, tmp_path / "front", clock) as made:
        yield made


def rename(pair: Pair, name: str) -> None:
    """A change that the store shows of all apps of a developer."""
    with pair.primary.db.connection().write() as db:
        db.change("UPDATE developers SET name = ? WHERE name = 'Alice' OR name LIKE 'A. %'", name)


def names_shown(port: int) -> set[str]:
    """The developers in the list of apps."""
    status, _, body = ask(port, "/v1/store/apps?limit=100")
    assert status == 200, body
    return {app["developer"]["name"] for app in json.loads(body)["apps"]}


def random_request(chance: random.Random, pair: Pair, tags: list[str]) -> dict[str, Any]:
    """Arguments of `Pair.both`: a request that a device, a mirror or a stranger could send."""
    pick, db = chance.choice, pair.primary.db.connection()
    app, developer = pick(db.all("SELECT id, developer_id FROM apps"))
    package = pick(
        ["com.acme.notes", f"com.acme.app{chance.randrange(32):02}", "com.acme.none", "x"]
    )
    words = ["", "über", "notes", "ü", "app", '"', "fast tools", "5", "\u202e", "a" * 300]
    query = "&".join(
        chance.sample(
            [
                f"q={quoted(pick(words))}",
                f"category={pick(['games', 'tools', 'none'])}",
                f"tag={pick(['fast', 'slow'])}",
                f"sort={pick(['name', 'updated', 'downloads', 'relevance', 'up'])}",
                f"limit={pick([1, 7, 100, 0, 'x'])}",
                f"min_age_days={pick([0, 1, 30, 91])}",
                f"device=d{chance.randrange(1000)}",
                f"channel={pick(['stable', 'beta', 'nightly'])}",
                f"mosis_version={pick(['1.0.0', '0.9.0', 'one'])}",
                f"pkgs={package}:{chance.randrange(4)}",
                f"after={chance.randrange(50)}",
                f"v={pick(['x', '1'])}",
                "page=2",
            ],
            chance.randrange(4),
        )
    )
    path = pick(
        [
            "/v1/store/apps",
            f"/v1/store/apps/{package}",
            f"/store/apps/{package}/versions",
            f"/v1/store/apps/{package}/download",
            "/v1/store/categories",
            f"/shop/v1/store/updates?pkgs=com.acme.notes:1,{package}:0",
            "/v1/store/changes",
            "/v1/store/index.json",
            "/v1/store/index.json.sig",
            f"/v1/store/index/{pick([1, signed_index.current_index(pair.primary, db).sequence])}.json",
            "/.well-known/mosis-store-key",
            f"/packages/{developer}/{app}/{pick(['1.0.0', '1.1.0', '1.2.0'])}/package.mosis",
            f"/assets/{app}/icon-{pick([32, 64, 128, 5])}.png",
            f"/assets/{app}/screenshot-{pick([0, 1, 100])}",
            f"/v1/store/{pick(['', 'apps/', 'nothing', '%2e%2e', 'apps//x'])}",
            "/v1/auth/me",
        ]
    )
    headers = {}
    if chance.random() < 0.3:
        headers["Accept-Encoding"] = "gzip"
    if chance.random() < 0.2 and tags:
        headers[pick(["If-None-Match", "If-Match"])] = pick(tags)
    if chance.random() < 0.2:
        headers["Range"] = pick(["bytes=0-9", "bytes=-5", "bytes=99999999-", "lines=1"])
    if chance.random() < 0.1:
        body = {"pkgs": {package: chance.randrange(4)}, "device": f"d{chance.randrange(1000)}"}
        return {
            "path": "/v1/store/updates",
            "method": "POST",
            "body": json.dumps(body).encode() if chance.random() < 0.8 else b"{",
            "headers": headers | {"Content-Type": "application/json"},
        }
    joined = "&" if "?" in path else "?"
    return {
        "path": f"{path}{joined}{query}" if query else path,
        "method": pick(["GET"] * 8 + ["HEAD", "OPTIONS"]),
        "headers": headers,
    }


def count_this_network(pair: Pair, app: str) -> None:
    """Download an app's package from the primary: it is not counted again today, which would change
    lists in the middle of a comparison."""
    db = pair.primary.db.connection()
    owner = db.value("SELECT developer_id FROM apps WHERE id = ?", app)
    assert ask(pair.primary_port, f"/packages/{owner}/{app}/1.1.0/package.mosis")[0] == 200
    pair.taken_over()
    wait_until(
        lambda: downloads.flush_downloads(pair.primary) or downloads_of(pair), "it is counted"
    )
    counts = db.value("SELECT counts FROM store_state")
    pair.clock.advance(front_end.COUNTS_SECONDS + 1)
    heartbeat.beat(pair.primary)
    front = pair.front.db.connection()
    wait_until(lambda: front.value("SELECT counts FROM store_state") == counts, "it is shown")
    pair.taken_over()


@pytest.mark.parametrize("number", short_and_full(400, 10_000))
def test_random_requests_get_the_responses_of_the_primary(
    pair: Pair, shop: str, number: int
) -> None:
    chance, seed = seeded()
    count_this_network(pair, shop)
    tags: list[str] = []
    statuses: dict[int, int] = {}
    for _ in range(number):
        request = random_request(chance, pair, tags)
        of_primary, of_front = pair.both(**request)
        assert of_front == of_primary, (request, f"SEED={seed}")
        statuses[of_front[0]] = statuses.get(of_front[0], 0) + 1
        tags += [of_front[1]["etag"]] if "etag" in of_front[1] else []
    assert statuses.keys() >= {200, 304, 206, 400, 404}, statuses


def test_every_public_read_of_the_store_is_served_and_nothing_else(env: Context) -> None:
    whole, front = portal.build(env), store_only
    served = {(route.method, route.rule) for route in whole.routes if front.serves(route)}
    assert served == {
        (route.method, route.rule)
        for route in whole.routes
        if route.config["scope"] == "public"
        and route.method == "GET"
        and (
            route.rule.startswith(("/store/", "/packages/", "/assets/"))
            or route.rule in ("/healthz", "/livez", "/readyz", "/metrics")
            or route.rule == "/.well-known/mosis-store-key"
        )
    } | {("POST", "/store/updates")}


def test_everything_else_leads_to_the_primary(pair: Pair) -> None:
    primary = pair.settings["PRIMARY_URL"]
    for method, path, there in [
        ("GET", "/", "/"),
        ("GET", "/app/com.acme.notes?x=1", "/app/com.acme.notes?x=1"),
        ("GET", "/shop/console/apps", "/console/apps"),
        ("POST", "/v1/auth/login", "/v1/auth/login"),
        ("DELETE", "/v1/store/apps", "/v1/store/apps"),
        ("PUT", "//evil.example/%0d%0aX: y", "/evil.example/%0D%0AX:%20y"),
        ("GET", "/v1/store/index/123.json", "/v1/store/index/123.json"),
        (
            "GET",
            "/v1/store/index.json.sig?min_age_days=7",
            "/v1/store/index.json.sig?min_age_days=7",
        ),
    ]:
        status, headers, body = ask(pair.port, path.replace(" ", "%20"), method)
        assert (status, headers["location"], body) == (307, primary + there, b"")
        assert headers["cache-control"] == "no-store"


def test_nothing_is_written_and_no_secret_is_made(pair: Pair) -> None:
    pair.taken_over()
    with pytest.raises(Exception, match="only reads"), pair.front.db.connection().write():
        pass
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        pair.front.db.connection().change("DELETE FROM apps")
    folder = pair.front.config.data_dir
    assert {path.name for path in folder.iterdir()} <= {
        "front-end",
        "store-index",
        "litestream.yml",
        "counts",
    }


def test_the_index_is_that_of_the_primary_without_its_key(pair: Pair) -> None:
    pair.taken_over()
    of_primary, of_front = pair.both("/v1/store/index.json.sig")
    assert of_front == of_primary
    assert ask(pair.port, "/v1/store/index.json")[0] == 200
    first = json.loads(of_front[2])["sequence"]
    index_keys.rotate(pair.primary)
    pair.clock.advance(6)
    pair.taken_over()
    for path in ("/.well-known/mosis-store-key", "/v1/store/index.json.sig"):
        of_primary, of_front = pair.both(path)
        assert of_front == of_primary
    signed = json.loads(of_front[2])
    assert signed["sequence"] > first
    assert len(signed["signatures"]) == 2
    assert ask(pair.port, f"/v1/store/index/{first}.json")[0] == 200, "for ten minutes"


def test_an_index_that_the_copy_cannot_make_is_fetched(pair: Pair) -> None:
    pair.taken_over()
    rename(pair, "A. in the index")
    before = signed_index.current_index(pair.front, pair.front.db.connection()).sequence
    pair.clock.advance(6)
    made = signed_index.current_index(pair.primary, pair.primary.db.connection())  # and stored
    rename(pair, "A. later than the index")
    wanted = pair.primary.db.connection().value("SELECT catalogue FROM store_state")
    wait_until(
        lambda: pair.front.db.connection().value("SELECT catalogue FROM store_state") == wanted,
        "the copy has the change",
    )
    assert before < made.sequence
    front_index.refresh(pair.front)
    of_front = signed_index.current_index(pair.front, pair.front.db.connection())
    assert (of_front.sequence, of_front.path.read_bytes()) == (
        made.sequence,
        made.path.read_bytes(),
    )


def test_a_heartbeat_changes_no_response_and_takes_no_copy(pair: Pair) -> None:
    pair.taken_over()
    tag = ask(pair.port, "/v1/store/apps")[1]["etag"]
    copies, size = pair.front_end.copies, pair.primary.config.database_path.stat().st_size
    misses = pair.primary.cache.misses
    ask(pair.primary_port, "/v1/store/apps")
    for _ in range(3):
        pair.clock.advance(5)
        heartbeat.beat(pair.primary)
        wanted = int(pair.clock.at)
        wait_until(
            lambda wanted=wanted: pair.front_end.state.behind_seconds == 0, "it has the heartbeat"
        )
        assert wanted == int(pair.clock.at)
        assert ask(pair.primary_port, "/v1/store/apps", headers={"If-None-Match": tag})[0] == 304
        assert ask(pair.port, "/v1/store/apps", headers={"If-None-Match": tag})[0] == 304
    assert pair.front_end.copies == copies
    rename(pair, "A. once")
    pair.clock.advance(6)
    pair.taken_over()  # with an index that was signed after the change
    assert pair.front_end.copies == copies + 1
    assert pair.primary.cache.misses <= misses + 1
    assert pair.primary.config.database_path.stat().st_size == size


def test_an_old_heartbeat_is_503_and_then_the_database_is_fetched_again(pair: Pair) -> None:
    pair.taken_over()
    assert ask(pair.port, "/readyz")[0] == 200
    pair.clock.advance(61)
    status, _, body = ask(pair.port, "/readyz")
    assert (status, json.loads(body)["errors"][0]["code"]) == (503, "store_behind")
    assert ask(pair.port, "/livez")[0] == ask(pair.port, "/v1/store/apps")[0] == 200
    before = pair.front_end.follow.restores
    pair.clock.advance(60)
    wait_until(lambda: pair.front_end.follow.restores > before, "it is fetched again")
    assert names_shown(pair.port) == {"Alice", "Acme"}, "it serves the last copy meanwhile"
    heartbeat.beat(pair.primary)
    wait_until(lambda: ask(pair.port, "/readyz")[0] == 200, "it is ready again")


def test_a_follower_that_is_killed_or_stopped_is_replaced(pair: Pair) -> None:
    pair.taken_over()
    first = pair.front_end.follow.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    rename(pair, "A. after the kill")
    pair.taken_over()
    assert "A. after the kill" in names_shown(pair.port)
    second = pair.front_end.follow.pid
    assert second not in (None, first)
    os.kill(second, signal.SIGSTOP)  # type: ignore[arg-type]  # it lives, and does nothing
    rename(pair, "A. while it stands")
    pair.clock.advance(121)
    heartbeat.beat(pair.primary)
    pair.taken_over()
    assert "A. while it stands" in names_shown(pair.port)
    assert pair.front_end.follow.pid not in (None, first, second)


@pytest.mark.parametrize("torn", ["half", "zeros", "other page"])
def test_a_torn_copy_is_not_shown(pair: Pair, torn: str) -> None:
    pair.taken_over()
    before = names_shown(pair.port)
    follower = pair.front_end.follow.pid
    assert follower is not None
    os.kill(follower, signal.SIGSTOP)
    path, restores = pair.front_end.follow.path, pair.front_end.follow.restores
    with closing(sqlite3.connect(path, isolation_level=None)) as raw:  # what calls for a copy
        raw.execute("PRAGMA journal_mode = DELETE")
        raw.execute("UPDATE store_state SET catalogue = catalogue + 1")
    size = path.stat().st_size
    with open(path, "r+b") as file:
        if torn == "half":
            file.truncate(size // 2 // 4096 * 4096)
        else:
            content = bytes(size // 2) if torn == "zeros" else b"x" * 4096 * 3
            file.seek(4096 * 4)
            file.write(content)
    number = path.with_name(path.name + "-txid")
    assert pair.front_end.follow.state() is None, "written after the number: being applied"
    number.write_text(f"{int(number.read_text(), 16) + 1:016x}\n")  # as if it had been applied
    wait_until(lambda: pair.front_end.follow.restores > restores, "the damage is found")
    assert names_shown(pair.port) == before
    rename(pair, "A. afterwards")
    pair.taken_over()
    assert names_shown(pair.port) == {"A. afterwards", "Acme"}


def test_nothing_is_read_while_litestream_applies(pair: Pair) -> None:
    pair.taken_over()
    follow = pair.front_end.follow
    script = (
        "import fcntl, sys\nfile = open(sys.argv[1], 'r+b')\n"
        "fcntl.lockf(file, fcntl.LOCK_EX, 510, (1 << 30) + 2)\nprint('held', flush=True)\ninput()"
    )
    holder = subprocess.Popen(
        ["python3", "-c", script, str(follow.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        assert follow.read(lambda path: True) is None
    finally:
        holder.communicate(b"\n", timeout=60)
    wait_until(lambda: follow.read(lambda path: True), "it can be read again")


def test_another_schema_is_refused_and_the_last_copy_stays(pair: Pair) -> None:
    pair.taken_over()
    copies = sorted(pair.front_end.folder.glob("copy-*.db"))
    pair.close()
    pair.open(schema=int(pair.front_end.schema) - 1)  # an older program
    wait_until(lambda: pair.front_end.state.refused is not None, "it is refused")
    status, _, body = ask(pair.port, "/readyz")
    codes = {each["code"] for each in json.loads(body)["errors"]}
    assert (status, codes) == (503, {"store_missing", "schema_differs"})
    assert ask(pair.port, "/v1/store/apps")[0] == 503
    assert len(copies) == 1
    pair.close()
    pair.open()
    pair.taken_over()
    with sqlite3.connect(pair.primary.config.database_path) as raw:
        raw.execute(f"PRAGMA user_version = {pair.front_end.schema + 1}")  # a newer primary
    rename(pair, "A. newer")
    wait_until(lambda: pair.front_end.state.refused is not None, "it is refused")
    assert ask(pair.port, "/v1/store/apps")[0] == 200
    assert json.loads(ask(pair.port, "/readyz")[2])["errors"][-1]["code"] == "schema_differs"


def test_other_settings_are_refused(pair: Pair) -> None:
    pair.taken_over()
    pair.close()
    shutil.rmtree(pair.front_end.folder)
    pair.settings["BASE_URL"] = "https://other.example.net"
    pair.open()
    wait_until(lambda: pair.front_end.state.refused is not None, "it is refused")
    error = json.loads(ask(pair.port, "/readyz")[2])["errors"][-1]
    assert error["code"] == "settings_differ"
    assert "BASE_URL is https://other.example.net here" in error["detail"]


def test_a_restarted_front_end_serves_its_last_copy_without_the_replica(pair: Pair) -> None:
    pair.taken_over()
    shown = names_shown(pair.port)
    pair.close()
    pair.settings["BACKUPS_DIR"] = str(pair.folder / "nowhere")
    pair.open()
    assert names_shown(pair.port) == shown
    assert not pair.front_end.follow.path.with_name("other").exists()


def test_numbers_that_start_again_are_not_taken_for_old_ones(pair: Pair) -> None:
    """The primary goes back to an earlier database, and the same revisions mean something else."""
    pair.taken_over()
    assert "Alice" in names_shown(pair.port)
    epoch = pair.front.db.epoch
    state = "SELECT catalogue, counts FROM store_state"
    before = pair.primary.db.connection().one(state)
    pair.primary.states.pop(heartbeat._Start)  # as in the next process
    with pair.primary.db.connection().write() as db:
        db.change("UPDATE developers SET name = 'A. restored' WHERE name = 'Alice'")
        db.change("UPDATE store_state SET catalogue = ?, counts = ?", *before)
        db.change("DELETE FROM app_revisions WHERE package_id = 'com.acme.notes'")
        db.change("UPDATE store_changes SET number = number + 1000")
    heartbeat.beat(pair.primary)
    wait_until(lambda: pair.front.db.epoch > epoch, "the new start is seen")
    wait_until(lambda: "A. restored" in names_shown(pair.port), "the new name is shown")


def downloads_of(pair: Pair) -> int:
    return int(pair.primary.db.connection().value("SELECT coalesce(sum(count), 0) FROM downloads"))


def fetch_package(pair: Pair, app: str, network: int) -> None:
    db = pair.primary.db.connection()
    developer = db.value("SELECT developer_id FROM apps WHERE id = ?", app)
    status, _, body = ask(
        pair.port,
        f"/packages/{developer}/{app}/1.1.0/package.mosis",
        headers={"X-Forwarded-For": f"192.0.2.{network}"},
    )
    assert (status, body[:2]) == (200, b"PK")


def test_downloads_are_reported_once(pair: Pair, shop: str, clock: FakeClock) -> None:
    pair.taken_over()
    counts = pair.front.config.data_dir / "counts"
    for network in range(3):
        fetch_package(pair, shop, network)
    fetch_package(pair, shop, 0)  # the same network, the same day
    wait_until(lambda: sum(pair.front.downloads._counter.values()) == 3, "they are counted")
    download_batches.keep_counts(pair.front)
    assert [path.name for path in counts.iterdir()] == [f"open-{pair.front.clock.now()[:10]}.json"]
    primary_url = pair.settings["PRIMARY_URL"]
    object.__setattr__(pair.front.config, "primary_url", f"http://127.0.0.1:{free_port()}")
    download_batches.report(pair.front)  # sealed, not sent
    sealed = [path for path in counts.iterdir() if path.name.startswith("sealed-")]
    assert len(sealed) == 1
    again = sealed[0].read_bytes()
    fetch_package(pair, shop, 9)
    wait_until(lambda: sum(pair.front.downloads._counter.values()) == 1, "it is counted")
    object.__setattr__(pair.front.config, "primary_url", primary_url)
    download_batches.report(pair.front)
    assert downloads_of(pair) == 4
    assert list(counts.iterdir()) == []
    sealed[0].write_bytes(again)  # killed before the file was removed
    download_batches.report(pair.front)
    assert downloads_of(pair) == 4
    clock.advance(download_batches.EVERY_SECONDS + 31 * 86_400)
    download_batches.sweep(pair.primary)
    assert not pair.primary.db.connection().all("SELECT id FROM download_batches")


def test_counts_that_nobody_takes_are_dropped_after_a_week(pair: Pair, clock: FakeClock) -> None:
    pair.taken_over()
    counts = download_batches.keep_counts(pair.front)
    (counts / "open-2026-01-01.json").write_text('{"x": 1}')
    (counts / "sealed-2026-01-01-00000000-0000-0000-0000-000000000000.json").write_text("{}")
    (counts / f"open-{pair.front.clock.now()[:10]}.json").write_text("not JSON")
    (counts / "half.part").write_text("{")
    download_batches.report(pair.front)
    assert list(counts.iterdir()) == []
    assert downloads_of(pair) == 0


def test_only_who_has_the_secret_reports_downloads(client: Client, alice: Account) -> None:
    body = {"batch": "0" * 36, "day": "2027-01-15", "counts": {"none": 1}}
    path = "/v1/front-ends/downloads"
    for authorization in ("", "Bearer wrong", f"Basic {SECRET}", f"Bearer {alice.token}"):
        headers = {"Authorization": authorization} if authorization else {}
        client.post(path, body, headers=headers).expect(401, code="invalid_token")
    good = {"Authorization": f"Bearer {SECRET}"}
    assert client.post(path, body, headers=good).expect(200).json == {"added": True}
    assert client.post(path, body, headers=good).expect(200).json == {"added": False}
    for wrong in ({"batch": "x"}, {"day": "today"}, {"counts": {"v": 0}}, {"counts": {"v": "1"}}):
        client.post(path, body | wrong, headers=good).expect(422)
    object.__setattr__(client.env.config, "front_end_secret", None)
    client.post(path, body, headers=good).expect(404)


def test_it_does_not_start_beside_a_portal_that_writes(tmp_path: Path) -> None:
    settings = {
        "PRIMARY_URL": "http://primary.example.net",
        "FRONT_END_SECRET": SECRET,
        "BACKUPS_DIR": str(tmp_path / "backups"),
        "DATABASE_PATH": str(tmp_path / "data/portal.db"),
    }
    check(Config.read(settings))
    for missing in ("PRIMARY_URL", "FRONT_END_SECRET", "BACKUPS_DIR"):
        with pytest.raises(ConfigError, match=missing):
            check(Config.read(settings | {missing: ""}))
    with pytest.raises(ConfigError, match="redirects never end"):
        check(Config.read(settings | {"BASE_URL": "http://primary.example.net"}))
    assert not (tmp_path / "data").exists()
    for name in ("portal.db", *front_end.OF_PRIMARY):
        folder = tmp_path / name / "data"
        folder.mkdir(parents=True)
        (folder / name).touch()
        with pytest.raises(ConfigError, match="belongs to a portal that writes"):
            check(Config.read(settings | {"DATABASE_PATH": str(folder / "portal.db")}))
    there = {"DATABASE_PATH": str(tmp_path / "jwt_secret/data/portal.db")}
    refused = command(tmp_path, "serve", "--store", settings=settings | there)
    assert (refused.returncode, "belongs to a portal that writes" in refused.stderr) == (78, True)


def test_a_portal_does_not_start_as_a_second_primary(tmp_path: Path) -> None:
    database = str(tmp_path / "data/portal.db")
    with pytest.raises(ConfigError, match="serve --store"):
        refuse_folder_of_front_end(
            Config.read({"PRIMARY_URL": "http://a.example.net", "DATABASE_PATH": database})
        )
    (tmp_path / "data/front-end").mkdir(parents=True)
    for name in ("migrate", "restore", "backup", "admin", "demo"):
        with pytest.raises(ConfigError, match="belongs to a store front end"):
            check_preconditions(name, Config.read({"DATABASE_PATH": database}))
    refused = command(tmp_path, "serve")
    assert (refused.returncode, "belongs to a store front end" in refused.stderr) == (78, True)
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["front-end"]


def test_two_front_ends_do_not_share_a_folder(pair: Pair) -> None:
    settings = {name: str(value) for name, value in pair.settings.items()}
    settings["LISTEN_ADDR"] = f"127.0.0.1:{free_port()}"
    refused = command(pair.folder, "serve", "--store", settings=settings)
    assert (refused.returncode, "another store front end" in refused.stderr) == (1, True)


@pytest.mark.parametrize("kills", short_and_full(4, 200))
def test_after_kills_no_response_is_one_that_the_primary_never_gave(
    tmp_path: Path, kills: int
) -> None:
    assert front_end_kills.campaign(tmp_path, kills, seeded()[0], plant=False) == 0


def test_the_campaign_of_kills_notices_a_wrong_response(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert front_end_kills.campaign(tmp_path, 1, random.Random(1), plant=True) == 1
    assert "a torn list" in capsys.readouterr().out

"""The store over HTTP, as devices use it."""

import json
import shutil
from typing import Any
from urllib.parse import quote

import pytest

from mosis.database.pagination import cursor
from mosis.errors import Unavailable
from mosis.packages.build import png, zipped
from mosis.store import downloads
from mosis.store.downloads import Fetched
from tests.catalogue import add_app, add_developer, add_listed, add_version
from tests.client import Account, Answer, Client
from tests.conftest import FakeClock

NOTES = "com.acme.notes"
AT = f"/v1/apps/{NOTES}/versions"


def updates(client: Client, pkgs: str = f"{NOTES}:0", **more: Any) -> dict[str, str]:
    """{package_id: version} that are offered."""
    query = "".join(f"&{name}={value}" for name, value in more.items())
    answer = client.get(f"/v1/store/updates?pkgs={pkgs}{query}").expect(200)
    return {each["package_id"]: each["version"] for each in answer["updates"]}


def test_a_store_app_shows_all_its_fields(client: Client, alice: Account) -> None:
    client.published(alice, NOTES)
    shown = client.get(f"/v1/store/apps/{NOTES}").expect(200)
    assert set(shown.json) == {
        "package_id", "name", "summary", "description", "category", "tags", "homepage", "developer", "icon_url", "screenshots",
        "version", "version_code", "size_bytes", "sha256", "permissions", "min_mosis_version", "release_notes", "download_url",
        "downloads", "published_at", "updated_at",
    }  # fmt: skip
    assert client.get("/v1/store/apps").json["apps"] == [shown.json]
    assert client.get("/store/apps?q=not")["apps"] == [shown.json]
    assert client.get("/store/apps?q=nought")["apps"] == []
    assert (
        shown.headers["cache-control"]
        == "public, max-age=60, stale-while-revalidate=30, stale-if-error=300"
    )


@pytest.mark.parametrize("prefix", ["/v1", ""])
def test_links_keep_words_beyond_ascii_and_the_address_that_was_asked(
    client: Client, alice: Account, prefix: str
) -> None:
    for name in ("todo", "maps"):
        client.patch(
            f"/v1/apps/{client.app_of(alice, f'com.acme.{name}')}",
            {"name": f"Grüße {name}"},
            as_=alice,
        ).expect(200)
        client.published(alice, f"com.acme.{name}")
    for _ in range(3):  # once made, then cached
        page = client.get(f"{prefix}/store/apps?limit=1&q=Gr%C3%BC%C3%9Fe").expect(200)
    link = page.headers["link"].partition(">")[0][1:]
    assert link.startswith(f"{prefix}/store/apps?limit=1&q=Gr%C3%BC%C3%9Fe&cursor=")
    assert [app["name"] for app in page["apps"] + client.get(link).expect(200)["apps"]] == [
        "Grüße maps",
        "Grüße todo",
    ]


def test_lists_page_by_link_and_refuse_what_is_not_theirs(client: Client, alice: Account) -> None:
    for name in ("todo", "maps"):
        client.app_of(alice, f"com.acme.{name}")
        client.published(alice, f"com.acme.{name}")
    client.published(alice, NOTES)
    found, path = [], "/v1/store/apps?limit=1&sort=name&category=other"
    while path:
        page = client.get(path).expect(200)
        found += [app["name"] for app in page["apps"]]
        path = page.headers["link"].partition(">")[0][1:] if page["next_cursor"] else ""
    assert found == ["Maps", "Notes", "Todo"]
    for name in ("todo", "maps"):
        changed = client.patch(
            f"/v1/apps/com.acme.{name}", {"description": "Für unterwegs"}, as_=alice
        ).expect(200)
        client.approve_listing(changed["pending"])
    first = client.get("/v1/store/apps?limit=1&q=f%C3%BCr").expect(200)
    assert "q=f%C3%BCr" in first.headers["link"]  # the next page is of the same search
    cursor = client.get("/v1/store/apps?limit=1&sort=name")["next_cursor"]
    client.get(f"/v1/store/apps?sort=updated&cursor={cursor}").expect(400, code="bad_cursor")
    client.get("/v1/store/apps?cursor=x").expect(400, code="bad_cursor")
    client.get("/v1/store/apps?sort=size").expect(400, code="malformed_request")
    client.get("/v1/store/apps?q=%ff%00%22&category=%ff&tag=%ff").expect(200)


def test_the_link_to_the_next_page_asks_for_the_same(client: Client) -> None:
    db = client.env.db.connection()
    with db.write():
        acme = add_developer(db)
        for number in range(3):
            add_listed(db, acme, f"a.b{number}", f"天气 {number}", tags='["c++ é"]')
    found, path = [], "/v1/store/apps?limit=1&q=" + quote("天气") + "&tag=" + quote("c++ é")
    while path:
        page = client.get(path).expect(200)
        found += [app["name"] for app in page["apps"]]
        path = page.headers.get("link", "").partition(">")[0][1:]
        assert path.startswith("/v1/store/apps?") or not path
        assert path.count("cursor=") == bool(path)
    assert found == ["天气 2", "天气 1", "天气 0"]


def test_a_cursor_with_half_a_character_is_refused(client: Client) -> None:
    client.get("/v1/store/apps?cursor=" + cursor(("name", "\ud800", 5))).expect(
        400, code="bad_cursor"
    )


def test_a_database_that_is_not_there_is_reported(client: Client) -> None:
    for file in client.env.config.data_dir.glob("portal.db*"):
        file.unlink()
    for path in ("/v1/store/apps", "/v1/store/updates?pkgs=a.b:1", "/v1/store/index.json"):
        client.get(path).expect(503, code="database_unavailable")


def test_updates_are_what_is_newer(client: Client, alice: Account) -> None:
    client.published(alice, NOTES)
    client.published(alice, NOTES, "1.1.0", 2)
    answer = client.get(f"/v1/store/updates?pkgs={NOTES}:1,com.none.such:7").expect(200)
    (update,) = answer["updates"]
    assert set(update) == {
        "package_id", "version", "version_code", "download_url", "sha256", "size_bytes", "min_mosis_version", "permissions",
        "published_at", "security", "release_notes",
    }  # fmt: skip
    assert (update["version"], update["permissions"]) == ("1.1.0", ["storage"])
    again = client.get(
        f"/v1/store/updates?pkgs={NOTES}:1,com.none.such:7",
        headers={"If-None-Match": answer.headers["etag"]},
    )
    assert (again.expect(304).body, again.headers["etag"]) == (b"", answer.headers["etag"])
    asked = {
        "pkgs": {NOTES: 1, "com.none.such": 7},
        "channel": "stable",
        "device": "d",
        "mosis_version": "1.0.0",
    }
    assert client.post("/v1/store/updates", asked).expect(200).json == answer.json
    assert updates(client, f"{NOTES}:2") == {}
    assert updates(client, mosis_version="0.9.0") == {}
    assert client.get("/v1/store/updates").expect(200).json == {"updates": []}


@pytest.mark.parametrize("query", [
    "pkgs=com.acme.notes", "pkgs=com.acme.notes:x", "pkgs=a:-1", "pkgs=a:" + "9" * 6000, "pkgs=a:1&channel=nightly",
    "pkgs=a:1&device=" + "d" * 129, "pkgs=a:1&mosis_version=1", "pkgs=" + ",".join(f"a.b{number}:1" for number in range(501)),
])  # fmt: skip
def test_an_update_check_that_cannot_be_read_is_reported(client: Client, query: str) -> None:
    client.get(f"/v1/store/updates?{query}").expect(400, code="malformed_request")


@pytest.mark.parametrize(("body", "pointer"), [
    ({}, "/pkgs"), ({"pkgs": {"a": "1"}}, "/pkgs/a"), ({"pkgs": {"a": -1}}, "/pkgs/a"), ({"pkgs": {"a": True}}, "/pkgs/a"),
    ({"pkgs": {"a/b~": 2**31}}, "/pkgs/a~1b~0"),
    ({"pkgs": {f"a.b{number}": 1 for number in range(501)}}, "/pkgs"), ({"pkgs": [], "device": 5}, "/device"),
])  # fmt: skip
def test_a_posted_update_check_is_validated(
    client: Client, body: dict[str, Any], pointer: str
) -> None:
    assert client.post("/v1/store/updates", body).expect(422, code="invalid").finding(pointer)


def test_five_hundred_apps_in_one_call(client: Client, alice: Account) -> None:
    client.published(alice, NOTES)
    pkgs = {f"com.side.app{number}": 1 for number in range(499)} | {NOTES: 0}
    assert (
        len(
            client.post("/v1/store/updates", {"pkgs": pkgs, "device": "\u00fc"}).expect(200)[
                "updates"
            ]
        )
        == 1
    )


def test_a_download_leads_to_what_the_device_is_offered(client: Client, alice: Account) -> None:
    client.published(alice, NOTES)
    at = client.approved(alice, NOTES, "1.1.0-rc.1", 2)
    client.post(at + "/publish", as_=alice).expect(200)
    assert (
        client.get(f"/v1/store/apps/{NOTES}/download")
        .expect(302)
        .headers["location"]
        .endswith("/1.0.0/package.mosis")
    )
    beta = (
        client.get(f"/v1/store/apps/{NOTES}/download?channel=beta&device=x")
        .expect(302)
        .headers["location"]
    )
    client.get(beta.removeprefix(client.env.config.base_url)).expect(200)
    client.call("HEAD", f"/v1/store/apps/{NOTES}/download").expect(302)
    assert "beta channel" in client.get(at, as_=alice)["next_step"]
    client.get(f"/v1/store/apps/{NOTES}/download?mosis_version=0.1.0").expect(404)
    client.get("/v1/store/apps/com.none.such/download").expect(404)
    downloads.flush_downloads(client.env)
    assert client.get(f"/v1/store/apps/{NOTES}")["downloads"] == 1, "one package was fetched"


def fetched(client: Client, address: str = "198.51.100.7", **headers: str) -> Answer:
    """A device fetches the package of the app, or a part of it."""
    at = client.get(f"/v1/store/apps/{NOTES}/download", address=address).expect(302)
    path = at.headers["location"].removeprefix(client.env.config.base_url)
    return client.get(path, address=address, headers=headers)


def counted(client: Client) -> int:
    downloads.flush_downloads(client.env)
    return int(client.env.db.connection().value("SELECT coalesce(sum(count), 0) FROM downloads"))


def test_one_download_counts_for_each_network_app_and_day(
    client: Client, alice: Account, clock: FakeClock
) -> None:
    client.published(alice, NOTES)
    for _ in range(5):
        fetched(client).expect(200)
    assert counted(client) == 1
    client.published(alice, NOTES, "1.1.0", 2)
    fetched(client).expect(200)
    assert counted(client) == 1, "another version of the same app"
    homes = ("192.0.2.1", "192.0.2.2", "2001:db8:1:2::1", "2001:db8:1:2:ffff::9", "2001:db8:1:3::1")
    for address in homes * 2:
        fetched(client, address).expect(200)
    assert counted(client) == 1 + 4
    clock.advance(86400)
    fetched(client).expect(200)
    assert counted(client) == 6
    everything = str(client.env.state(Fetched).__dict__)
    assert not any(address in everything for address in homes)


def test_only_what_went_out_to_the_end_is_a_download(client: Client, alice: Account) -> None:
    client.published(alice, NOTES)
    size = client.get(f"/v1/store/apps/{NOTES}")["size_bytes"]
    client.get(f"/v1/store/apps/{NOTES}/download").expect(302)
    assert counted(client) == 0, "to ask for the way is none"
    tag = fetched(client, "192.0.2.99").headers["etag"]
    assert counted(client) == 1
    fetched(client, **{"If-None-Match": tag}).expect(304)
    path = client.get(f"/v1/store/apps/{NOTES}")["download_url"]
    client.call("HEAD", path.removeprefix(client.env.config.base_url)).expect(200)
    fetched(client, Range=f"bytes={size}-").expect(416)
    fetched(client, Range="bytes=-1").expect(206)
    fetched(client, Range=f"bytes=0-{size - 2}").expect(206)
    assert counted(client) == 2, "all of it, in parts"
    parts = (
        [(0, 99), (100, size - 1)],
        [(500, size - 1), (0, 499)],
        [(0, size - 1)],
        [(0, 0), (0, size - 1)],
    )
    for number, each in enumerate(parts):
        for first, last in each:
            before = counted(client)
            assert before == 2 + number
            fetched(client, f"192.0.2.{number}", Range=f"bytes={first}-{last}").expect(206)
    for _ in range(3):
        fetched(client, "192.0.2.77", Range="bytes=-10").expect(206)
        fetched(client, "192.0.2.78", Range="bytes=0-10").expect(206)
    assert counted(client) == 2 + len(parts)


def test_the_memory_of_counted_downloads_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mosis.store.downloads.MOST_KEYS", 50)
    had = Fetched()
    for number in range(500):
        assert not had.sent(0, f"h{number}", "a", "v", 1, 10, ended=True)
        assert had.sent(0, f"H{number}", "a", "v", 10, 10, ended=True)
    assert (len(had._parts), len(had._counted)) == (50, 50)


def test_an_app_is_listed_once_a_version_is_for_everybody(client: Client) -> None:
    db = client.env.db.connection()
    with db.write():
        acme = add_developer(db)
        for package_id, more in (
            ("a.beta", {"channel": "beta"}),
            ("a.share", {"rollout_percent": 99.9}),
        ):
            add_version(db, acme, add_app(db, acme, package_id, package_id), **more)
    for package_id in ("a.beta", "a.share"):
        client.get(f"/v1/store/apps/{package_id}").expect(404)
        assert len(client.get(f"/v1/store/apps/{package_id}/versions").expect(200)["versions"]) == 1
        way = f"/v1/store/apps/{package_id}/download?channel=beta&device="
        assert 302 in [client.get(way + device).status for device in "xyz"]
    assert client.get("/v1/store/apps")["apps"] == client.get("/v1/store/apps?q=a.")["apps"] == []
    with db.write():
        db.change("UPDATE versions SET rollout_percent = 100")
    assert [app["package_id"] for app in client.get("/v1/store/apps")["apps"]] == ["a.share"]


def test_downloads_are_counted_once_whatever_the_disk_says(
    client: Client, alice: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.published(alice, NOTES)
    fetched(client).expect(200)
    db, failed = (
        client.env.db.connection(),
        Unavailable("database_unavailable", "The disk did not take it."),
    )

    def refuse(*_: Any) -> None:
        raise failed

    with monkeypatch.context() as trouble:
        trouble.setattr(client.env.db, "flush", refuse)
        with pytest.raises(Unavailable):
            downloads.flush_downloads(client.env)
    downloads.flush_downloads(client.env)
    assert client.get(f"/v1/store/apps/{NOTES}")["downloads"] == 1
    fetched(client, "192.0.2.1").expect(200)
    with monkeypatch.context() as trouble:
        trouble.setattr(db, "change", refuse)
        with pytest.raises(Unavailable):
            downloads.flush_downloads(client.env)
    assert client.get(f"/v1/store/apps/{NOTES}")["downloads"] == 1
    downloads.flush_downloads(client.env)
    assert client.get(f"/v1/store/apps/{NOTES}")["downloads"] == 2


def test_rolling_back_offers_the_older_version_and_halts_the_newer_ones(
    client: Client, alice: Account
) -> None:
    for code in (1, 2, 3):
        client.published(alice, NOTES, f"1.{code}.0", code)
    client.post(f"{AT}/1.3.0/rollback", {"reason": "x"}, as_=alice).expect(
        409, code="invalid_state"
    )
    back = client.post(
        f"{AT}/1.1.0/rollback", {"reason": "1.2 and 1.3 lose notes."}, as_=alice
    ).expect(200)
    assert (back["version"], back["state"]) == ("1.1.0", "published")
    assert [client.get(f"{AT}/1.{code}.0", as_=alice)["state"] for code in (2, 3)] == [
        "halted",
        "halted",
    ]
    assert (updates(client), updates(client, f"{NOTES}:3")) == ({NOTES: "1.1.0"}, {})
    assert client.get(f"/v1/store/apps/{NOTES}")["version"] == "1.1.0"
    db = client.env.db.connection()
    owner, details = db.one("SELECT owner_id, details FROM audit WHERE action = 'version.rollback'")
    assert (owner, json.loads(details)) == (
        alice.id,
        {"version": "1.1.0", "halted": ["1.3.0", "1.2.0"], "reason": "1.2 and 1.3 lose notes."},
    )
    client.post(f"{AT}/1.3.0/publish", as_=alice).expect(200)
    assert updates(client) == {NOTES: "1.3.0"}
    client.post(f"{AT}/1.2.0/rollback", {"reason": "Again."}, as_=alice).expect(200)
    assert updates(client) == {NOTES: "1.2.0"}, (
        "a halted version is offered again when it is the one rolled back to"
    )
    client.post(f"{AT}/1.2.0/yank", {"reason": "r"}, as_=alice).expect(200)
    client.post(f"{AT}/1.2.0/rollback", {"reason": "r"}, as_=alice).expect(
        409, code="invalid_state"
    )


def test_a_cached_response_is_right_after_every_change(client: Client, alice: Account) -> None:
    client.published(alice, NOTES)
    path = f"/v1/store/apps/{NOTES}"
    first, stored = client.get(path).expect(200), client.get(path).expect(200)
    ours = {"x-request-id": ""}
    assert (stored.body, stored.headers | ours) == (first.body, first.headers | ours)
    assert (
        client.get(path, headers={"If-None-Match": first.headers["etag"]}).expect(304).body == b""
    )
    assert client.call("HEAD", path).expect(200).body == b""
    pending = client.patch(f"/v1/apps/{NOTES}", {"name": "Notes 2"}, as_=alice)["pending"]
    client.approve_listing(pending)
    assert (
        client.get(path, headers={"If-None-Match": first.headers["etag"]}).expect(200)["name"]
        == "Notes 2"
    )
    client.patch("/v1/auth/me", {"name": "Alice B."}, as_=alice).expect(200)
    assert client.get(path)["developer"]["name"] == "Alice B."
    fetched(client).expect(200)
    downloads.flush_downloads(client.env)
    assert client.get(path)["downloads"] == 1
    client.post(f"{AT}/1.0.0/halt", as_=alice).expect(200)
    client.get(path).expect(404)


def test_stored_entries_are_bounded(client: Client, alice: Account) -> None:
    client.published(alice, NOTES)
    client.env.cache.limit_bytes = 20_000
    for number in range(100):
        client.get(f"/v1/store/apps?q=notes&limit={number + 1}").expect(200)
        assert 0 < client.env.cache.size_bytes <= 20_000


def test_a_bad_token_changes_nothing_about_a_public_response(
    client: Client, alice: Account
) -> None:
    plain = client.get("/v1/store/apps").expect(200)
    assert client.get("/v1/store/apps", as_="nonsense").expect(200).body == plain.body


def test_shared_caches_keep_what_may_be_taken_back_for_a_short_time(
    client: Client, alice: Account
) -> None:
    """Packages and pictures, in every form of the answer, with the app's id as the name to purge."""
    shots = {"assets/one.png": png(10)}
    client.published(alice, NOTES, files=shots, manifest={"screenshots": list(shots)})
    shown = client.get(f"/v1/store/apps/{NOTES}").expect(200)
    number = client.get(f"/v1/apps/{NOTES}", as_=alice)["id"]
    named = [shown["download_url"], shown["icon_url"], *shown["screenshots"]]
    for url in [*named, shown["icon_url"].partition("?")[0]]:
        path = url.removeprefix(client.env.config.base_url)
        whole = client.get(path).expect(200)
        tag = {"If-None-Match": whole.headers["etag"]}
        for answer in (
            whole,
            client.get(path, headers=tag).expect(304),
            client.get(path, headers={"Range": "bytes=0-1"}).expect(206),
            client.call("HEAD", path).expect(200),
        ):
            assert "s-maxage=300" in answer.headers["cache-control"], path
            assert answer.headers["surrogate-key"] == answer.headers["cache-tag"] == number


def test_pictures_are_kept_for_ever_under_the_address_of_their_version(
    client: Client, alice: Account
) -> None:
    shots = {"assets/one.png": png(10), "assets/two.PNG": png(20)}
    client.published(alice, NOTES, files=shots, manifest={"screenshots": list(shots)})
    shown = client.get(f"/v1/store/apps/{NOTES}").expect(200)
    base = client.env.config.base_url
    icon = client.get(shown["icon_url"].removeprefix(base)).expect(200)
    assert (icon.body, icon.headers["content-type"]) == (png(128), "image/png")
    assert icon.headers["cache-control"] == "public, max-age=31536000, s-maxage=300, immutable"
    first, second = (client.get(url.removeprefix(base)).expect(200) for url in shown["screenshots"])
    assert (first.body, first.headers["content-type"]) == (png(10), "image/png")
    assert (second.body, second.headers["content-type"]) == (png(20), "image/png")
    plain = shown["icon_url"].removeprefix(base).partition("?")[0]
    newest = client.get(plain, headers={"If-None-Match": icon.headers["etag"]}).expect(304)
    assert newest.headers["cache-control"] == "public, max-age=3600, s-maxage=300"
    for path in (
        plain.replace("128", "48"),
        plain.replace("128", "-1"),
        plain.replace("icon-128.png", "screenshot-2"),
    ):
        client.get(path).expect(404)
    client.get(plain.replace("icon-128.png", "screenshot--1")).expect(404)
    client.published(alice, NOTES, "1.1.0", 2)
    assert client.get(f"/v1/store/apps/{NOTES}")["screenshots"] == []
    assert downloads.sweep_pictures(client.env) == 1
    assert client.get(f"/v1/store/apps/{NOTES}")["icon_url"] != shown["icon_url"]
    client.get(plain).expect(200)


def test_a_picture_is_what_was_uploaded_whatever_becomes_of_the_copy(
    client: Client, alice: Account
) -> None:
    client.published(alice, NOTES)
    address = client.get(f"/v1/store/apps/{NOTES}")["icon_url"].removeprefix(
        client.env.config.base_url
    )
    assets = client.env.config.assets_dir
    assert client.get(address).expect(200).body == png(128)
    copy = next(assets.glob("*/*/icon-128.png"))
    for damage in (b"", b"junk", png(128)[:-1] + b"x"):
        copy.write_bytes(damage)
        assert client.get(address).expect(200).body == png(128)
        assert copy.read_bytes() == png(128), "it was taken out anew"
    shutil.rmtree(assets)
    assets.touch()  # where nothing can be written, pictures are shown all the same
    assert client.get(address, headers={"Range": "bytes=1-3"}).expect(206).body == png(128)[1:4]
    assets.unlink()
    package = next(client.env.config.packages_dir.glob("*/*/1.0.0/package.mosis"))
    package.write_bytes(zipped({"icons/icon-128.png": png(128)[:-1] + b"x"}))
    client.get(address).expect(503, code="package_unavailable")
    package.unlink()
    client.get(address).expect(503, code="package_unavailable")
    client.get(f"/v1/store/apps/{NOTES}").expect(200)

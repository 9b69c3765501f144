"""The files of a version under review: the tree against the last published version, and one file's content."""

import hashlib
from typing import Any
from urllib.parse import quote

import pytest

from mosis.packages.build import png
from mosis.publishing import line_diff
from tests.client import Account, Answer, Client

NOTES = "com.acme.notes"
HTML = b"<html><script>alert(document.domain)</script></html>\n"
SECRET = "../../../../data/portal.db"


def review_of(client: Client, account: Account, version: str, code: int, **more: Any) -> str:
    """The address of the review of a new version."""
    package = client.package(account, version=version, code=code, **more)
    client.upload(NOTES, package, as_=account, query="?submit=true").expect(201)
    client.work()
    shown = client.get(f"/v1/apps/{NOTES}/versions/{version}", as_=account).expect(200)
    return f"/v1/reviews/{shown['review']['id']}"


def states(client: Client, review: str, rita: Account) -> dict[str, str]:
    found = client.get(review + "/files?limit=100", as_=rita).expect(200)
    return {file["path"]: file["state"] for file in found["files"]}


def content(client: Client, review: str, path: str, rita: Account, query: str = "") -> Answer:
    return client.get(f"{review}/files/{quote(path)}{query}", as_=rita)


def test_the_tree_says_what_differs_from_the_last_published_version(
    client: Client, alice: Account, rita: Account
) -> None:
    old = {"assets/old.txt": b"gone soon\n", "assets/same.txt": b"same\n"}
    first = review_of(client, alice, "1.0.0", 1, files=old)
    assert set(states(client, first, rita).values()) == {"added"}
    client.post(first + "/approve", as_=rita).expect(200)
    client.post(f"/v1/apps/{NOTES}/versions/1.0.0/publish", as_=alice).expect(200)
    lua = b"return 2\n"
    new = {"assets/same.txt": b"same\n", "assets/main.lua": lua, "assets/new.txt": b"new\n"}
    second = review_of(client, alice, "1.1.0", 2, files=new)
    found = states(client, second, rita)
    changed = {path: state for path, state in found.items() if state != "same"}
    assert changed == {
        "assets/main.lua": "changed",
        "assets/new.txt": "added",
        "assets/old.txt": "removed",
        "manifest.json": "changed",
    }
    assert found["assets/same.txt"] == "same"
    assert not any(path.startswith("META-INF") for path in found)
    whole = client.get(second + "/files?limit=100", as_=rita)
    assert whole["since"] == "1.0.0"
    main = next(file for file in whole["files"] if file["path"] == "assets/main.lua")
    assert (main["size_bytes"], main["sha256"]) == (len(lua), hashlib.sha256(lua).hexdigest())
    assert main["sha256_before"] not in (None, main["sha256"])
    assert content(client, second, "assets/main.lua", rita).body == lua
    before = content(client, second, "assets/main.lua", rita, "?side=before").expect(200)
    assert b"mosis.storage" in before.body
    content(client, second, "assets/old.txt", rita).expect(404, "not_found")
    assert content(client, second, "assets/old.txt", rita, "?side=before").body == b"gone soon\n"
    content(client, second, "assets/new.txt", rita, "?side=before").expect(404, "not_found")
    content(client, second, "assets/new.txt", rita, "?side=both").expect(400, "malformed_request")


def test_nothing_of_a_package_is_sent_as_what_a_browser_would_run(
    client: Client, alice: Account, rita: Account
) -> None:
    names = ["assets/page.rml", "assets/page.txt", "assets/Ärger und Söhne.md", "assets/x.LUA",
             "assets/font.ttf", "assets/sound.mp3", "assets/picture.tga", "screens/1.png", "screens/1.jpg",
             "screens/1.webp"]  # fmt: skip
    files = {name: png(64) if name == "screens/1.png" else HTML for name in names}
    client.upload(NOTES, client.package(alice, files=files), as_=alice).expect(201)
    with client.env.db.connection().write() as db:  # before the checks, which refuse most of this
        (version,) = db.one("SELECT id FROM versions")
        db.insert("reviews", id=version, version_id=version, submitted_at=db.now, because="[]")
    review = f"/v1/reviews/{version}"
    found = client.get(review + "/files?limit=100", as_=rita).expect(200)["files"]
    assert {*names} <= {file["path"] for file in found}
    for file in found:
        answer = content(client, review, file["path"], rita).expect(200)
        kind = answer.headers["content-type"]
        assert kind in ("text/plain; charset=utf-8", "application/octet-stream") or (
            kind.startswith("image/") and "svg" not in kind
        ), file
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "sandbox" in answer.headers["content-security-policy"]
        assert answer.headers["cache-control"] == "no-store"
        attached = answer.headers.get("content-disposition") == "attachment"
        assert attached == (kind == "application/octet-stream")
        assert hashlib.sha256(answer.body).hexdigest() == file["sha256"]


NOT_IN_THE_TREE = [
    SECRET, "..", ".", "/etc/passwd", "assets/../manifest.json", "assets//main.lua", "assets/main.lua/", "assets",
    "META-INF/MANIFEST.MF", "META-INF/CERT.PEM", "ASSETS/MAIN.LUA", "assets/main.lua\0", "assets\\main.lua", "%2e%2e/x",
    "a" * 300, "assets/main.lua?side=before", "\u202eaul.niam", "package.mosis", "'; DROP TABLE versions; --",
]  # fmt: skip


def test_only_names_of_the_tree_lead_anywhere(
    client: Client, alice: Account, rita: Account
) -> None:
    review = review_of(client, alice, "1.0.0", 1)
    for path in NOT_IN_THE_TREE:
        for side in ("", "?side=before"):
            answer = client.get(f"{review}/files/{quote(path, safe='/')}{side}", as_=rita)
            assert (answer.status, answer["code"]) == (404, "not_found"), (path, answer.body)


def test_only_reviewers_see_files_and_not_those_of_an_app_of_their_own(
    client: Client, alice: Account, rita: Account
) -> None:
    review = review_of(client, alice, "1.0.0", 1)
    for rest in ("/files", "/files/assets/main.lua"):
        client.get(review + rest).expect(401, "unauthenticated")
        client.get(review + rest, as_=client.register(f"bob{len(rest)}")).expect(403, "forbidden")
        client.get("/v1/reviews/nothing" + rest, as_=rita).expect(404, "not_found")
    client.role_of(alice, "reviewer")
    for rest in ("/files", "/files/assets/main.lua"):
        client.get(review + rest, as_=alice).expect(403, "forbidden")


def test_a_damaged_or_missing_package_is_never_other_bytes(
    client: Client, alice: Account, rita: Account
) -> None:
    review = review_of(client, alice, "1.0.0", 1)
    (path,) = client.env.config.packages_dir.glob("*/*/1.0.0/package.mosis")
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    content(client, review, "assets/main.lua", rita).expect(503, "package_unavailable")
    path.unlink()
    content(client, review, "assets/main.lua", rita).expect(503, "package_unavailable")


def rebuilt(diff: line_diff.Diff, kinds: tuple[str, ...]) -> list[str]:
    return [line.text for line in diff.lines if line.kind in kinds]


@pytest.mark.parametrize(("before", "after"), [
    ("a\nb\nc\n", "a\nx\nc\n"), ("", "a\n"), ("a\n", ""), ("a", "a\n"), ("\n" * 20, "\n" * 30), ("a\r\n", "a\n"),
    ("x\n" * 50 + "y\n", "y\n" + "x\n" * 49), ("a\u2028b\n", "a\u2028c\n"),
])  # fmt: skip
def test_a_diff_has_every_changed_line_and_both_sides_can_be_rebuilt(
    before: str, after: str
) -> None:
    everything = range(1, 200)
    diff = line_diff.diff(before.encode(), after.encode(), everything)
    assert diff.exact
    old = line_diff._lines(before.encode())
    new = line_diff._lines(after.encode())
    assert rebuilt(diff, ("same", "removed")) == old
    assert rebuilt(diff, ("same", "added")) == new
    assert (before == after) == all(line.kind == "same" for line in diff.lines)


def test_a_diff_of_any_content_within_the_limits_ends_soon() -> None:
    """The worst case of difflib, equal lines in many places: counted in steps, not in seconds."""
    lines = line_diff.MOST_LINES // 2
    before, after = b"a\nb\n" * (lines // 2), b"b\nc\na\n" * (lines // 3)
    diff = line_diff.diff(before, after)
    assert not diff.exact
    assert len(diff.lines) <= 2 * line_diff.MOST_LINES
    assert not line_diff.is_comparable(b"\n" * line_diff.MOST_LINES)
    assert not line_diff.is_comparable(b"a" * (line_diff.MOST_BYTES + 1))
    assert not line_diff.is_comparable(b"\0")


def test_what_cannot_be_seen_is_shown_and_far_lines_are_left_out_but_for_wanted_ones() -> None:
    assert line_diff.shown("a\u202eb\u200b\r\x1b[2J\tc") == (
        "a<U+202E>b<U+200B><U+000D><U+001B>[2J\tc",
        0,
    )
    assert line_diff.shown("é中" + "x" * 5_000)[1] == 5_002 - line_diff.LONGEST_LINE
    before = "".join(f"{number}\n" for number in range(1, 101)).encode()
    after = before.replace(b"50\n", b"fifty\n")
    shown = line_diff.diff(before, after, {90}).lines
    assert [line.left_out for line in shown if line.kind == "gap"] == [46, 33, 7]
    assert {line.after for line in shown if line.kind == "same"} == {
        *range(47, 50), *range(51, 54), *range(87, 94),
    }  # fmt: skip

"""The review desk with a browser: queue, diff, conversation, decision, and what developers try against reviewers."""

import re
from typing import Any
from urllib.parse import quote

import pytest

from tests.browser import Browser, forms_of, text_of
from tests.client import Account, Client
from tests.ui.test_security import SCRIPT

NOTES = "com.acme.notes"


@pytest.fixture
def browser(client: Client, rita: Account) -> Browser:
    found = Browser(client)
    found.sign_in(rita.email)
    return found


def submitted(
    client: Client, account: Account, version: str = "1.0.0", code: int = 1, **more: Any
) -> str:
    """The path of the page of a new version's review."""
    package = client.package(account, version=version, code=code, **more)
    client.upload(NOTES, package, as_=account, query="?submit=true").expect(201)
    client.work()
    shown = client.get(f"/v1/apps/{NOTES}/versions/{version}", as_=account).expect(200)
    return f"/console/reviews/{shown['review']['id']}"


def second(client: Client, account: Account, rita: Account, **more: Any) -> str:
    """The path of the review of 1.1.0, after 1.0.0 was published."""
    first = submitted(client, account)
    client.post(first.replace("/console", "/v1") + "/approve", as_=rita).expect(200)
    client.post(f"/v1/apps/{NOTES}/versions/1.0.0/publish", as_=account).expect(200)
    return submitted(client, account, "1.1.0", 2, **more)


def test_a_reviewer_finds_a_version_reads_the_diff_and_approves(
    client: Client, alice: Account, rita: Account, browser: Browser
) -> None:
    lua = b'local notes = mosis.storage.get("notes")\nmosis.network.get("https://x.example")\nreturn notes\n'
    files = {"assets/main.lua": lua, "assets/new.txt": b"hello\n"}
    manifest = {"permissions": ["storage", "network", "microphone"]}
    path = second(client, alice, rita, files=files, manifest=manifest)
    queue = browser.open("/console/reviews")
    output = text_of(queue)
    assert "Notes 1.1.0" in output.replace("  ", " ")
    assert "new permissions" in output or "everything is reviewed here" in output
    assert path in queue.body.decode()
    page = browser.open(path + "?file=assets/main.lua")
    body = page.body.decode()
    assert re.search(
        r'class="added"><td class="number"></td><td class="number" id=line-2>2</td>', body
    )
    assert "mosis.network.get(&quot;https://x.example&quot;)" in body
    assert re.search(r"<code>microphone</code>\s*<strong class=\"tag added\">new", body)
    assert "assets/new.txt" in body
    assert "1 unchanged lines" not in body  # near a change: shown
    page = browser.send(page, path + "/claim")
    assert "The review is yours" in text_of(page)
    assert "claimed by Rita" in text_of(page)
    queue = browser.open("/console/reviews?state=claimed")
    assert "claimed by Rita" in text_of(queue)
    page = browser.send(browser.open(path), path + "/messages", text="Why\nthe microphone?")
    assert "Why\nthe microphone?" in page.body.decode()
    page = browser.send(page, path + "/messages", text="looks odd", internal="yes")
    assert "The internal note is saved." in text_of(page)
    found = client.get(f"/v1/apps/{NOTES}/versions/1.1.0/messages", as_=alice)["messages"]
    assert [message["text"] for message in found] == ["Why\nthe microphone?"]
    page = browser.send(browser.open(path), path + "/approve", comment="Nice.", security="yes")
    assert "The version is approved." in text_of(page)
    shown = client.get(f"/v1/apps/{NOTES}/versions/1.1.0", as_=alice)
    assert (shown["state"], shown["review"]["comment"]) == ("approved", "Nice.")
    row = client.env.db.connection().one("SELECT security FROM versions WHERE version = '1.1.0'")
    assert row == (1,)
    decided = browser.open(path)
    assert not [form for form in forms_of(decided) if form.action.endswith(("approve", "reject"))]


def test_a_rejection_needs_reasons_and_a_comment_and_keeps_what_was_typed(
    client: Client, alice: Account, browser: Browser
) -> None:
    path = submitted(client, alice)
    page = browser.send(browser.open(path), path + "/reject", comment="Too many permissions.")
    assert page.status == 422
    assert "Too many permissions.</textarea>" in page.body.decode()
    page = browser.send(page, path + "/reject", comment="", reasons="permissions")
    assert page.status == 422
    assert re.search(r'value="permissions" checked', page.body.decode())
    page = browser.send(page, path + "/reject", comment="No.", reasons="permissions")
    assert "The version is rejected" in text_of(page)
    review = client.get(f"/v1/apps/{NOTES}/versions/1.0.0", as_=alice)["review"]
    assert (review["state"], review["reasons"], review["comment"]) == (
        "rejected",
        ["permissions"],
        "No.",
    )
    again = browser.post(
        path + "/approve", dict(forms_of(browser.open("/console/"))[0].fields), follow=False
    )
    assert (again.status, "Another reviewer has decided" in text_of(again)) == (409, True)


def test_findings_lead_to_their_line_and_far_lines_are_shown_for_them(
    client: Client, alice: Account, rita: Account, browser: Browser
) -> None:
    lines = [f"local a{number} = {number}" for number in range(1, 80)]
    path = second(client, alice, rita, files={"assets/main.lua": "\n".join(lines).encode() + b"\n"})
    with client.env.db.connection().write() as db:
        found = '[{"code": "odd", "path": "assets/main.lua", "line": 70, "severity": "warning", "detail": "Odd."}]'
        db.change("UPDATE versions SET findings = ? WHERE version = '1.1.0'", found)
    page = browser.open(path)
    body = page.body.decode()
    assert f'href="{path}?file=assets%2Fmain.lua#line-70"' in body
    assert "id=line-70" in body
    assert re.search(r'<tr class="note warning">.*?Odd\.', body, re.S)


def test_pictures_stand_side_by_side_and_other_files_can_be_fetched(
    client: Client, alice: Account, rita: Account, browser: Browser
) -> None:
    from mosis.packages.build import png

    path = second(client, alice, rita, files={"icons/icon-64.png": png(64, (255, 0, 0))})
    body = browser.open(path + "?file=icons/icon-64.png").body.decode()
    address = f"{path}/files/icons/icon-64.png"
    sides = [f"{address}?side=before", f"{address}?side=after"]
    assert all(f'<img src="{side}"' in body for side in sides)
    before, after = (browser.open(side) for side in sides)
    assert before.headers["content-type"] == after.headers["content-type"] == "image/png"
    assert before.body != after.body
    assert "sandbox" in after.headers["content-security-policy"]
    big = b"".join(b"-- %d\n" % number for number in range(90_000))
    page = browser.open(submitted(client, alice, "1.2.0", 3, files={"assets/big.txt": big})
                        + "?file=assets/big.txt")  # fmt: skip
    assert "too large to compare here" in text_of(page)


def test_a_long_diff_is_read_in_parts_and_none_is_hidden(
    client: Client, alice: Account, browser: Browser
) -> None:
    lines = [f"-- {number}" for number in range(4000)]
    path = submitted(client, alice, files={"assets/long.lua": "\n".join(lines).encode() + b"\n"})
    seen, query = [], "?file=assets%2Flong.lua"
    while query:
        body = browser.open(path + query).body.decode()
        seen += re.findall(r"</span>(-- \d+)</code>", body)
        found = re.search(r'href="[^"?]*(\?[^"#]*from=\d+)#file" rel="next"', body)
        query = found[1].replace("&amp;", "&") if found else ""
    assert seen == lines


def test_what_developers_write_is_text_on_the_desk(
    client: Client, alice: Account, rita: Account, browser: Browser
) -> None:
    lua = f"-- {SCRIPT}\n-- \u202ereversed\u202c </code></td></table><script>alert(2)</script>\n"
    files = {
        "assets/main.lua": lua.encode(),
        "assets/x onfocus.txt": b"<b>\n",
    }
    path = second(client, alice, rita, files=files)
    client.post(f"/v1/apps/{NOTES}/versions/1.1.0/messages", {"text": SCRIPT}, as_=alice).expect(
        201
    )
    with client.env.db.connection().write() as db:
        for statement, value in (
            ("UPDATE developers SET name = ?", SCRIPT),
            ("UPDATE apps SET name = ?", SCRIPT[:50]),
            ("UPDATE versions SET release_notes = ?", SCRIPT),
            ("UPDATE reviews SET comment = ?", SCRIPT),
        ):
            db.change(statement, value)
        finding = (
            '[{"code": "<b>", "path": "assets/main.lua", "line": 1, "severity": "error", "detail": "<script>"},'
            ' {"code": "x", "path": "\\"><b>", "line": null, "severity": "info", "detail": "<img src=x>"}]'
        )
        db.change("UPDATE versions SET findings = ?, permissions = ?", finding, '["<b>\\"onx=1"]')
        db.change("UPDATE reviews SET because = ?", '["<script>"]')
    for at in ("/console/reviews", "/console/reviews?state=decided", path, path + "?file=assets/main.lua",
               path + "?file=manifest.json", path + "?file=%3Cscript%3E", path + "?from=%3Cscript%3E"):  # fmt: skip
        body = browser.open(at).body.decode()
        scripts = re.findall(r"<script[^>]*>", body)
        assert all(
            re.fullmatch(r'<script type="module" src="/ui/[\w.?=]+">', each) for each in scripts
        ), at
        assert "<img src=x" not in body, at
        assert "<b>" not in body, at
        assert "\u202e" not in body, at
    assert "&lt;U+202E&gt;reversed" in browser.open(path + "?file=assets/main.lua").body.decode()


POSTS = ["claim", "release", "approve", "reject", "messages"]


@pytest.mark.parametrize("name", POSTS)
def test_only_a_reviewer_from_a_page_of_ours_decides(
    client: Client, alice: Account, rita: Account, browser: Browser, name: str
) -> None:
    path = submitted(client, alice)
    fields = {"comment": "x", "text": "x", "reasons": "spam"}
    before = list(client.env.db.connection()._raw.iterdump())
    token = dict(forms_of(browser.open(path))[0].fields)["form_token"]
    for headers in (
        {"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "null"},
        {},
    ):
        answer = browser.post(f"{path}/{name}", fields | {"form_token": token}, headers=headers)
        assert (answer.status, "cross_site" in text_of(answer)) == (403, True), headers
    answer = browser.post(f"{path}/{name}", fields | {"form_token": "0" * 64}, follow=False)
    assert (answer.status, "form_expired" in text_of(answer)) == (403, True)
    other = Browser(client)
    other.register("bob")
    own = dict(forms_of(other.open("/console/"))[0].fields)
    for somebody, status in ((other, 403), (Browser(client), 403)):
        answer = somebody.post(f"{path}/{name}", fields | own, follow=False)
        assert answer.status == status
        assert "mosis.storage" not in answer.body.decode()  # nor is the page shown again
        assert NOTES not in answer.body.decode()
    unknown = browser.post(
        "/console/reviews/nothing/" + name, fields | {"form_token": token}, follow=False
    )
    assert unknown.status == 404
    changed = [line for line in client.env.db.connection()._raw.iterdump() if line not in before]
    assert not [line for line in changed if re.match(r'INSERT INTO "?(reviews|messages|audit_log)\b', line)
                and "review." in line], changed  # fmt: skip


def test_developers_do_not_see_the_desk_and_reviewers_not_their_own_app(
    client: Client, alice: Account, rita: Account, browser: Browser
) -> None:
    path = submitted(client, alice)
    other = Browser(client)
    page = other.register("bob")
    assert "/console/reviews" not in page.body.decode()
    for at in ("/console/reviews", path, path + "/files/" + quote("assets/main.lua")):
        assert other.open(at).status == 403
        assert Browser(client).open(at, follow=False).status == 303  # to the sign-in
    client.role_of(alice, "reviewer")
    own = Browser(client)
    own.sign_in(alice.email)
    assert path not in own.open("/console/reviews").body.decode()
    for at in (path, path + "/files/assets/main.lua"):
        assert own.open(at).status == 403
    token = dict(forms_of(own.open("/console/"))[0].fields)
    for name in POSTS:
        fields = token | {"comment": "x", "text": "x", "reasons": "spam"}
        answer = own.post(f"{path}/{name}", fields, follow=False)
        assert (answer.status, "forbidden" in text_of(answer)) == (403, True), name
    assert client.get(f"/v1/apps/{NOTES}/versions/1.0.0", as_=alice)["state"] == "in_review"

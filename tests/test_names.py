"""Names, addresses and passwords as people of all scripts write them, and as those do who want to deceive."""

import re
import unicodedata
from typing import Any

import pytest

from mosis.context import Context
from mosis.credentials import passwords
from mosis.packages import manifest
from mosis.validation import SENTENCE, findings, names
from mosis.validation.fast_path import compiled
from mosis.validation.names import EMAIL_ADDRESS, WEB_ADDRESS, normal_web_address
from tests import described
from tests.client import PASSWORD, Client

GOOD = [
    "Notes",
    "O'Brien & Söhne (2)",
    "日本語アプリ",
    "한국어",
    "हिन्दी",
    "ไทย",
    "עברית",
    "محمد",
    "می\u200cخواهم",  # Persian ZWNJ
    "क्\u200dष",
    "\U0001f3c3\u200d\u2642\ufe0f Run",
    "\u2764\ufe0f",
    "1\ufe0f\u20e3 first",
    "\U0001f1e9\U0001f1ea",
    "\U0001f3f4\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f",
    "e\u0301",
    "\u200fעברית",
    "葛\U000e0100",
    "🎵",
    "½",
]
INVISIBLE = [
    "\u200b",
    "\u3164",
    "\u115f",
    "\u1160",
    "\uffa0",
    "\u2800",
    "\u00ad",
    "\u034f",
    "\u061c",
    "\u180e",
    "\u200c",
    "\u200d",
    "\u200e",
    "\u200f",
    "\u2060",
    "\u2063",
    "\u206a",
    "\ufe0f",
    "\ufeff",
    "\U000e0100",
    "\U000e0041",
    "\U000e0001",
    "\U0001d173",
    "\u0301",
    "\u00a0",
    "\u2003",
    "\u3000",
    "\ufff9",
    "\uffff",
]
BAD = [
    "",
    " ",
    "\t",
    *INVISIBLE,
    "".join(INVISIBLE),
    " \u200b ",
    "Notes\u200b",
    "No\u00adtes",
    "\u202egnp.exe",
    "a\u2066b\u2069",
    *(
        f"a{chr(each)}b"
        for each in (
            *range(0x20),
            *range(0x7F, 0xA0),
            *range(0x202A, 0x202F),
            *range(0x2066, 0x206A),
        )
    ),
    "a\u2028b",
    "Notes\u200d",
    "No\u200ctes",
    "N\ufe0fotes",
    "a\U000e0061b",
    "\U0001f3f4\U000e0067",
    "\ufeffNotes",
]


def fits(pattern: str, value: str) -> bool:
    """As both engines of schemas see it."""
    schema = {"x": {"type": "string", "regex": pattern}}
    found = not findings({"x": value}, schema)
    assert compiled(schema)({"x": value}) == found
    return found


@pytest.mark.parametrize("name", GOOD)
def test_names_of_all_scripts_are_possible(name: str) -> None:
    assert fits(names.NAME, name)
    assert fits(names.LINE, name)
    assert fits(SENTENCE, name)
    assert fits(names.TAG, re.sub(r"[\s,]", "", name))


@pytest.mark.parametrize("name", BAD)
def test_names_that_nobody_sees_or_that_turn_the_text_around_are_not(name: str) -> None:
    assert not fits(names.NAME, name)
    assert not fits(names.TAG, name)


def test_a_long_name_takes_no_time() -> None:
    """The alternatives of the pattern exclude each other: nothing is tried twice."""
    for name in (
        "a" * 100_000 + "\u200b",
        "\U0001f3f4" * 30_000 + "\n",
        "\u2764\ufe0f" * 50_000 + "\0",
    ):
        assert not re.match(names.NAME, name)


def fields_that_are_names(client: Client) -> list[tuple[str, str, dict[str, Any]]]:
    """(rule, field, its rules) of everything in a body that is called a name, or is a tag."""
    found = []
    for route in described.calls():
        for field, rules in (route.callback.operation.body or {}).items():
            if field == "tags":
                found.append((route.rule, field, rules["schema"]))
            elif field == "name" or field.endswith("_name"):
                found.append((route.rule, field, rules))
    return found


def test_every_name_that_can_be_sent_is_held_to_this(client: Client) -> None:
    found = fields_that_are_names(client)
    assert {field for _, field, _ in found} >= {"name", "client_name", "tags"}
    assert len(found) >= 8
    for rule, field, rules in found:
        for name in ("\u3164", "\u202egnp.exe", "\u2800", "a\u0085b"):
            assert not compiled({"x": rules})({"x": name}), (rule, field, ascii(name))
        for name in ("محمد", "می\u200cخواهم", "\U0001f3c3\u200d\u2642\ufe0f"):
            assert compiled({"x": rules})({"x": name}), (rule, field, name)


def test_the_names_in_a_manifest_too() -> None:
    for name in ("\u3164", "\u202egnp.exe", "\u200b"):
        found = manifest.check(
            {"name": name, "author": {"name": name, "email": "a@b.c"}}, "a.b", {}
        )
        at = {each.pointer for each in found if each.code == "wrong_format"}
        assert {"/name", "/author/name"} <= at


@pytest.mark.parametrize(
    "address",
    [
        "a@example.org",
        "a.b+c@sub.example.org",
        "A@EXAMPLE.ORG",
        "a@localhost",
        "a@xn--bcher-kva.example",
        "!#$%&'*+/=?^_`{|}~-@a.b",
        "a" * 64 + "@example.org",
    ],
)
def test_addresses_that_mail_servers_take(address: str) -> None:
    assert fits(EMAIL_ADDRESS, address)


@pytest.mark.parametrize(
    "address",
    [
        "a@example..org",
        "a@.example.org",
        "a@example.org.",
        ".a@example.org",
        "a.@example.org",
        "a..b@example.org",
        '"a b"@example.org',
        "a@-example.org",
        "a@example-.org",
        "a@[192.0.2.1]",
        "a@bücher.example",
        "ä@example.org",
        "a@b@example.org",
        "a",
        "@example.org",
        "a@",
        "a @example.org",
        "a@example.org\n",
        "a@exa_mple.org",
        "a" * 65 + "@example.org",
        "a@" + "b" * 64 + ".org",
        "a@" + "b." * 127 + "org",
        "<a@example.org>",
        "a(x)@example.org",
    ],
)
def test_addresses_that_they_do_not(address: str) -> None:
    assert not fits(EMAIL_ADDRESS, address)


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ("HTTPS://EXAMPLE.ORG", "https://example.org"),
        ("http://Example.org:8080/A?b=C#D", "http://example.org:8080/A?b=C#D"),
        ("https://[2001:DB8::1]:443/", "https://[2001:db8::1]:443/"),
        ("https://example.org/ä", "https://example.org/ä"),
        ("https://xn--bcher-kva.example/", "https://xn--bcher-kva.example/"),
        ("https://192.0.2.1/", "https://192.0.2.1/"),
        ("https://example.org?x", "https://example.org?x"),
    ],
)
def test_homepages_are_stored_in_their_normal_form(given: str, stored: str) -> None:
    assert fits(WEB_ADDRESS, given)
    assert normal_web_address(given) == stored
    assert normal_web_address(stored) == stored


@pytest.mark.parametrize(
    "address",
    [
        "https://bank.example@evil.example/",
        "https://user:pw@example.org/",
        "https://",
        "https:///x",
        "ftp://example.org",
        "//example.org",
        "javascript:alert(1)",
        "https://example.org:0/",
        "https://example.org:65536/",
        "https://example.org:x/",
        "https://example.org /",
        "https://exa mple.org/",
        "https://example.org/a b",
        "https://example.org/\\x",
        "https://example.org\\@evil.example",
        "https://example.org/\u202ex",
        "https://example.org/\u200bx",
        "https://example.org/\n",
        "https://example.org/\x85",
        "https://bücher.example/",
        "https://example..org/",
        "https://-example.org/",
        "https://[::1",
        "https://exa%6dple.org/",
        'https://example.org/"x',
        "https://example.org/<x>",
    ],
)
def test_homepages_that_deceive_or_break_a_page_are_refused(address: str) -> None:
    assert not fits(WEB_ADDRESS, address)


def test_apps_keep_each_tag_once_and_homepages_in_order(client: Client) -> None:
    alice = client.register()
    body = {
        "package_id": "com.acme.notes",
        "name": "Notes",
        "tags": ["b", "a", "B", "b"],
        "homepage": "HTTPS://EXAMPLE.ORG/X",
    }
    made = client.post("/v1/apps", body, as_=alice).expect(201)
    assert (made["tags"], made["homepage"]) == (["b", "a"], "https://example.org/X")
    refused = client.patch("/v1/apps/com.acme.notes", {"homepage": "https://[:::1]/"}, as_=alice)
    assert refused.expect(422).finding("/homepage") == "wrong_format"
    shown = client.patch("/v1/apps/com.acme.notes", {"name": "\u3164"}, as_=alice).expect(422)
    assert shown["errors"][0]["detail"] == names.WHAT_IS_WRONG[names.NAME]


COMPOSED = "pässwörter sind länger"
FORMS = [
    COMPOSED,
    unicodedata.normalize("NFD", COMPOSED),
    COMPOSED.replace(" ", "\u00a0"),
    COMPOSED.replace(" ", "\u3000"),
]


def test_a_password_is_the_same_from_every_keyboard(client: Client) -> None:
    for number, form in enumerate(FORMS):
        email = f"a{number}@example.org"
        client.post("/v1/auth/register", {"email": email, "password": form, "name": "A"}).expect(
            201
        )
        current = form
        for other in FORMS:
            client.post("/v1/auth/login", {"email": email, "password": other}).expect(200)
        signed_in = client.post("/v1/auth/login", {"email": email, "password": current}).expect(200)
        token = signed_in["access_token"]
        change = {"current_password": FORMS[number - 1], "new_password": FORMS[number - 2] + "!"}
        client.post("/v1/auth/password", change, as_=token).expect(204)
        client.delete("/v1/auth/me", {"password": FORMS[number - 3] + "!"}, as_=token).expect(204)
    assert len({passwords.prepare(form) for form in FORMS}) == 1


def test_a_hash_of_the_unprepared_form_still_fits_and_is_made_anew(
    client: Client, env: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice, raw = client.register(), FORMS[1]
    with monkeypatch.context() as patched:  # a hash as versions before made it
        patched.setattr(passwords, "prepare", lambda password: password)
        old = passwords.make_hash(raw, env.password_cost)
    db = env.db.connection()
    with db.write():
        db.change("UPDATE developers SET password_hash = ? WHERE id = ?", old, alice.id)
    for form, status in ((FORMS[0], 401), (raw, 200), (FORMS[0], 200), (PASSWORD, 401)):
        client.post("/v1/auth/login", {"email": alice.email, "password": form}).expect(status)

"""Neighbours of inputs that other systems' bug reports are about: times, addresses, names, hosts and packed bodies."""

import gzip
import io
import json

import pytest

from tests.client import Account, Client
from tests.package_builder import manifest_of

NOTES = "com.acme.notes"
DAY = "2027-02-01T00:00:00Z"


@pytest.mark.parametrize(
    "stamp",
    [
        DAY,
        "2027-02-01T00:00:00.000Z",
        "2027-02-01T00:00:00+00:00",
        "2027-02-01T02:00:00+02:00",
        "2027-01-31T19:30:00-04:30",
        "2027-02-01t00:00:00z",
        "2027-02-01T00:00:00.999999999Z",
    ],
)
def test_a_time_in_every_form_of_rfc_3339_is_one_time(
    client: Client, alice: Account, stamp: str
) -> None:
    body = {"name": "k", "scopes": ["apps:read"], "expires_at": stamp}
    assert client.post("/v1/keys", body, as_=alice).expect(201)["expires_at"] == DAY
    client.upload(NOTES, client.package(alice), as_=alice, query="?submit=true").expect(201)
    client.work()
    at = f"/v1/apps/{NOTES}/versions/1.0.0"
    review = client.get(at, as_=alice)["review"]["id"]
    client.post(f"/v1/reviews/{review}/approve", as_=client.reviewer()).expect(200)
    published = client.post(f"{at}/publish", {"publish_at": stamp}, as_=alice).expect(200)
    assert published["publish_at"] == DAY


NO_TIMES = [
    "2027-02-01 00:00:00Z",
    "2027-02-01T00:00:00",
    "2027-02-01",
    "2027-02-30T00:00:00Z",
    "2027-02-01T24:00:00Z",
    "2027-02-01T23:59:60Z",
    "1800000000",
    1_800_000_000,
    "Mon, 01 Feb 2027 00:00:00 GMT",
    "",
    "9999-12-31T23:59:59Z",
    "2100-01-01T00:00:00Z",
    "1999-01-01T00:00:00Z",
    "0001-01-01T00:00:00Z",
    "+12027-01-01T00:00:00Z",
    "2026-01-01T00:00:00Z",
    "2027-02-01T00:00:00+0200",
    "2027-02-01T00:00Z",
    "2027-W05-1T00:00:00Z",
    True,
    [DAY],
]


def test_a_time_that_is_none_is_refused(client: Client, alice: Account) -> None:
    for stamp in NO_TIMES:
        body = {"name": "k", "scopes": ["apps:read"], "expires_at": stamp}
        refused = client.post("/v1/keys", body, as_=alice)
        assert refused.status == 422, stamp
        assert [each["pointer"] for each in refused["errors"]] == ["/expires_at"], stamp


HOSTS = [
    ("example.org", True),
    ("EXAMPLE.org", True),
    ("example.org.", True),
    ("localhost", True),
    ("192.0.2.1", True),
    ("[2001:db8::1]", True),
    ("xn--bcher-kva.example", True),
    ("a.1b", True),
    ("1.example", True),
    ("0x.example", True),
    ("a" * 63 + ".example", True),
    ("192.0.2.1:8080", True),
    ("example.org:65535", True),
    ("1.2.3.4.5", False),
    ("999.1.1.1", False),
    ("192.0.2", False),
    ("2130706433", False),
    ("0x7f.1", False),
    ("0177.0.0.1", False),
    ("192.0.2.01", False),
    ("example.1", False),
    ("example.0x1f", False),
    ("1.2.3.4.", False),
    ("a" * 64 + ".example", False),
    ("a." * 130 + "org", False),
    ("[1.2.3.4]", False),
    ("[::g]", False),
    ("[fe80::1%25eth0]", False),
    ("example..org", False),
    (".example.org", False),
    ("-a.org", False),
    ("a-.org", False),
    ("a_b.org", False),
    ("ex%61mple.org", False),
    ("bücher.example", False),
    ("０.org", False),
    ("example.org:", False),
    ("example.org:0", False),
    ("example.org:65536", False),
    ("example.org:x", False),
    ("user@example.org", False),
    ("exa mple.org", False),
    ("", False),
]


def test_a_host_is_one_that_browsers_and_resolvers_read_alike(
    client: Client, alice: Account
) -> None:
    at = f"/v1/apps/{NOTES}"
    for host, good in HOSTS:
        for path in ("", "/", "/a?b=c#d", "?a", "#a"):
            answer = client.patch(at, {"homepage": f"https://{host}{path}"}, as_=alice)
            assert answer.status == (200 if good else 422), (host, path, answer.body)


MAIL_DOMAINS = [
    ("example.org", True),
    ("localhost", True),
    ("1.example", True),
    ("example.c", True),
    ("a.b.c.d.e", True),
    ("xn--bcher-kva.example", True),
    ("123.com", True),
    ("1.2.3.4", False),
    ("example.123", False),
    ("123", False),
    ("[192.0.2.1]", False),
    ("example.org.", False),
    ("example..org", False),
    ("-a.org", False),
    ("a_b.org", False),
    ("bücher.example", False),
    ("a" * 64 + ".org", False),
    ("example.org ", False),
    ("example.org\n", False),
    ("example.org,b@example.org", False),
]


def test_a_mail_domain_is_one_that_mail_servers_read(client: Client) -> None:
    for domain, good in MAIL_DOMAINS:
        body = {"email": f"bob@{domain}", "password": "correct horse battery", "name": "Bob"}
        answer = client.post("/v1/auth/register", body)
        assert answer.status == (201 if good else 422), domain


@pytest.mark.parametrize(
    ("name", "good"),
    [
        ("e\u0301", True),
        ("Vi\u1ec7\u0323t", True),
        ("ส\u0e39\u0e49", True),
        ("\u05e9\u05c1\u05b8\u05dc", True),
        ("\u0628\u0651\u064e", True),
        ("a\u0301\u0302\u0303\u0304", True),
        ("Z" + "\u0301" * 5, False),
        ("a" + "\u0316\u0300" * 20, False),
        ("ส" + "\u0e49" * 6, False),
        ("x" + "\u20dd" * 5, False),
        ("a\u0301\u0302\u0303\u0304\u0305b", False),
        ("\u20dd", False),
        ("\u0301\u0302", False),
        ("\ufe20", False),
    ],
)
def test_marks_do_not_spill_over_the_lines_around_a_name(
    client: Client, alice: Account, name: str, good: bool
) -> None:
    for body in ({"name": name}, {"tags": [name]}):
        answer = client.patch(f"/v1/apps/{NOTES}", body, as_=alice)
        assert answer.status == (200 if good else 422), ascii(name)
    package = client.package(alice, manifest={"name": name})
    assert client.upload(NOTES, package, as_=alice).status == (201 if good else 422)


@pytest.mark.parametrize("tag", ["a b", "a,b", "a\u00a0b", "", " a", "a\t"])
def test_a_tag_says_what_it_may_be(client: Client, alice: Account, tag: str) -> None:
    (found,) = client.patch(f"/v1/apps/{NOTES}", {"tags": [tag]}, as_=alice).expect(422)["errors"]
    assert "no spaces and commas" in found["detail"]


INTO_THE_NETWORK = [
    "http://localhost/",
    "http://LOCALHOST:80/",
    "http://localhost./",
    "http://a.localhost/",
    "http://127.0.0.1/",
    "http://[::1]/",
    "http://[::ffff:10.0.0.1]/",
    "http://2130706433/",
    "http://0x7f000001/",
    "http://0177.0.0.1/",
    "http://127.1/",
    "http://100.64.0.1/",
    "http://169.254.169.254/",
    "http://[fe80::1]/",
    "http://0/",
    "http://[::]/",
]


def test_a_webhook_leads_into_no_network_of_the_portal(client: Client, alice: Account) -> None:
    for url in INTO_THE_NETWORK:
        refused = client.post("/v1/webhooks", {"url": url}, as_=alice)
        assert refused.status == 422, url
        (found,) = refused["errors"]
        assert "public internet" in found["detail"], url


BATCH = json.dumps(
    {
        "app_id": NOTES,
        "app_version": "1.0.0",
        "mosis_version": "2.1.0",
        "device_id": "ab" * 32,
        "session_id": "s",
        "events": [{"type": "app_start", "timestamp": "2027-01-15T07:00:00Z"}],
    }
).encode()
PACKED = gzip.compress(BATCH)


def named() -> bytes:
    out = io.BytesIO()
    with gzip.GzipFile("batch.json", "wb", fileobj=out) as file:
        file.write(BATCH)
    return out.getvalue()


PACKED_FORMS = [
    (PACKED, "gzip", 202),
    (PACKED, "GZIP", 202),
    (PACKED, "x-gzip", 202),
    (PACKED, " gzip ", 202),
    (PACKED + bytes(100), "gzip", 202),
    (named(), "gzip", 202),
    (PACKED[:3] + b"\x04" + PACKED[4:10] + b"\x05\0hello" + PACKED[10:], "gzip", 202),
    (gzip.compress(b"") + PACKED, "gzip", 202),
    (PACKED + gzip.compress(b""), "gzip", 202),
    (gzip.compress(BATCH[:9]) + gzip.compress(BATCH[9:]) + bytes(3), "gzip", 202),
    (BATCH, "identity", 202),
    (BATCH, "", 202),
    (BATCH, " ", 202),
    (PACKED + b"junk", "gzip", 400),
    (PACKED + bytes(3) + b"x", "gzip", 400),
    (bytes(3) + PACKED, "gzip", 400),
    (PACKED[:-1], "gzip", 400),
    (PACKED[:-8] + bytes(8), "gzip", 400),
    (gzip.compress(PACKED), "gzip", 400),
    (PACKED, "", 400),
    (BATCH, "gzip", 400),
    (b"", "gzip", 400),
    (PACKED, "gzip, gzip", 415),
    (PACKED, "deflate", 415),
    (PACKED, "gzip;q=1", 415),
    (PACKED, "aws-chunked", 415),
    (gzip.compress(bytes(1 << 20)), "gzip", 413),
]


def test_packed_bodies_in_every_form(client: Client, alice: Account) -> None:
    for body, coding, status in PACKED_FORMS:
        headers = {"Content-Type": "application/json", "Content-Encoding": coding}
        answer = client.post("/v1/telemetry/events", body, headers=headers)
        assert answer.status == status, (body, coding, answer.body)
        if body in (PACKED, gzip.compress(PACKED)) and status == 400:
            assert "compress it at most once" in answer["detail"]


UPDATE_CHECKS = [
    ("com.acme.notes:0", 200),
    ("com.acme.notes%3A0", 200),
    ("com.acme.notes:00", 200),
    ("com.acme.notes:0,", 200),
    (",com.acme.notes:0", 200),
    ("COM.ACME.NOTES:0", 200),
    ("com.acme.notes:0,com.acme.todo:5", 200),
    ("", 200),
    ("com.acme.notes:0,com.acme.notes:5", 400),
    ("com.acme.notes:0,com.acme.notes:0", 400),
    ("com.acme.notes", 400),
    ("com.acme.notes:", 400),
    ("com.acme.notes:-1", 400),
    ("com.acme.notes:1.0", 400),
    ("com.acme.notes:1e3", 400),
    ("com.acme.notes:%201", 400),
    ("com.acme.notes:%D9%A3", 400),
    ("com.acme.notes:99999999999", 400),
    ("com.acme.notes;0", 400),
    ("com.acme.notes:%2B1", 400),
]


def test_an_update_check_names_each_app_once(client: Client, alice: Account) -> None:
    for pkgs, status in UPDATE_CHECKS:
        answer = client.get(f"/v1/store/updates?pkgs={pkgs}")
        assert answer.status == status, (pkgs, answer.body)


QUERIES = [
    ("q=%25", 200),
    ("q=%", 200),
    ("q=%zz", 200),
    ("q=%ff", 200),
    ("q=%00", 200),
    ("q=a%00b", 200),
    ("q=%22notes", 200),
    ("q=notes*", 200),
    ("q=NEAR(a%20b)", 200),
    ("q=-notes", 200),
    ("q=a:b", 200),
    ("q=%F0%9F%98%80", 200),
    ("q=x%26y", 200),
    ("q==x", 200),
    ("q", 200),
    ("sort=", 200),
    ("cursor=", 200),
    ("&&q=a&", 200),
    ("limit=%32%30", 200),
    ("limit=020", 200),
    ("q=a&q=b", 400),
    ("tag=x&tag=", 400),
    ("sort=NAME", 400),
    ("sort=name%00", 400),
    ("cursor=x", 400),
    ("cursor=%2B", 400),
    ("limit=0", 400),
    ("limit=101", 400),
    ("limit=%2B20", 400),
    ("limit=+20", 400),
    ("limit=20.0", 400),
    ("limit=1e1", 400),
    ("limit=-1", 400),
    ("limit=%EF%BC%92", 400),
    ("limit=1;cursor=x", 400),
    ("limit=5?", 400),
    ("page=2", 400),
    ("offset=0", 400),
]


def test_queries_in_every_form(client: Client) -> None:
    for query, status in QUERIES:
        answer = client.get(f"/v1/store/apps?{query}")
        assert answer.status == status, (query, answer.body)


@pytest.mark.parametrize(
    ("version", "good"),
    [
        ("1.0.0", True),
        ("0.0.0", True),
        ("1.0.0-beta", True),
        ("1.0.0-beta+exp.sha.5114f85", True),
        ("1.0.0+build", True),
        ("1.0.0--", True),
        ("1.0.0-0a", True),
        ("9" * 20 + ".0.0", True),
        ("1.0", False),
        ("1", False),
        ("v1.0.0", False),
        ("1.0.0.0", False),
        ("01.0.0", False),
        ("1.0.0-", False),
        ("1.0.0+", False),
        ("1.0.0-beta.01", False),
        ("1.0.0-rc_1", False),
        ("1.0.0 ", False),
        ("1.0.0\n", False),
        ("\uff11.0.0", False),
        ("1.0.0-\xfc", False),
        ("", False),
        ("1.0.0-" + "a" * 80, False),
        (1.0, False),
        (None, False),
        (["1.0.0"], False),
    ],
)
def test_versions_in_every_form(
    client: Client, alice: Account, version: object, good: bool
) -> None:
    manifest = json.dumps(manifest_of() | {"version": version}).encode()
    answer = client.upload(NOTES, client.package(alice, manifest=manifest), as_=alice)
    assert answer.status == (201 if good else 422)
    if good:
        at = answer.headers["location"]
        assert client.get(at, as_=alice).expect(200)["version"] == version
    else:
        assert [each["pointer"] for each in answer["errors"]] == ["/version"]


ICON = {size: f"icons/icon-{size}.png" for size in ("32", "64", "128")}


FIELDS = [
    ("version_code", 1.0, "/version_code"),
    ("version_code", "7", "/version_code"),
    ("version_code", True, "/version_code"),
    ("version_code", 0, "/version_code"),
    ("version_code", 2**31, "/version_code"),
    ("entry", "/assets/main.rml", "/entry"),
    ("entry", "./assets/main.rml", "/entry"),
    ("entry", "assets\\main.rml", "/entry"),
    ("entry", "ASSETS/main.rml", "/entry"),
    ("entry", "assets/../assets/main.rml", "/entry"),
    ("entry", "assets/main.lua", "/entry"),
    ("entry", ["assets/main.rml"], "/entry"),
    ("permissions", ["storage", "storage"], "/permissions/1"),
    ("permissions", "storage", "/permissions"),
    ("permissions", {}, "/permissions"),
    ("screenshots", ["x.png"], "/screenshots/0"),
    ("screenshots", "x.png", "/screenshots"),
    ("locales", {"default": "en_US"}, "/locales/default"),
    ("locales", {"default": "zh-hant"}, "/locales/default"),
    ("locales", {"supported": ["de", "de"]}, "/locales/supported/1"),
    ("locales", {"supported": ["de", 5]}, "/locales/supported/1"),
    ("author", "Alice", "/author"),
    ("author", {"name": "A", "email": "a@example.1"}, "/author/email"),
    ("author", {"name": "A", "email": "a@example.net", "url": "https://1.2.3"}, "/author/url"),
    ("icons", ["icons/icon-32.png"], "/icons"),
    ("icons", ICON | {"32": ICON["64"]}, "/icons/32"),
    ("icons", ICON | {"128": "icons/icon-12.png"}, "/icons/128"),
    ("category", "Tools", "/category"),
    ("category", "", "/category"),
    ("description", None, "/description"),
    ("min_mosis_version", ">=1.0.0", "/min_mosis_version"),
    ("$schema", 5, "/$schema"),
    ("id", "com.acme.Notes", "/id"),
]


def test_fields_of_a_manifest_beside_what_they_may_be(client: Client, alice: Account) -> None:
    for field, value, pointer in FIELDS:
        manifest = json.dumps(manifest_of() | {field: value}).encode()
        refused = client.upload(NOTES, client.package(alice, manifest=manifest), as_=alice)
        assert refused.status == 422, (field, value)
        assert [each["pointer"] for each in refused["errors"]] == [pointer], (field, value)
        assert len(refused["errors"][0]["detail"]) > 15

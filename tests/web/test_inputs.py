"""What real clients and proxies send: foreign credentials, repeated and blank parameters, forms of addresses."""

import ipaddress
import random
import re
from urllib.parse import quote

import bottle
import pytest

from mosis.caller import client_address, network_of, parse_address, truncated
from mosis.validation.names import one_line
from tests import described
from tests.client import Client

FOREIGN = (
    "Basic dXNlcjpwYXNz",
    'Digest username="a", realm="b", nonce="c", uri="/", response="d"',
    "Negotiate YII=",
    "basic",
    "Bearer",
    "Bearer ",
    "Bearer nonsense",
    "bearer  a.b.c",
    "Bearer mk_live_" + "0" * 42,
    "token abc",
    ",,;",
    "\xff\xfe",
    "x" * 4000,
)


def routes(client: Client, method: str, scope: str | None = None) -> list[bottle.Route]:
    return [
        route
        for route in described.calls()
        if route.method == method and scope in (None, route.config["scope"])
    ]


def path_of(route: bottle.Route) -> str:
    """An address of the route; what it names does not exist."""
    known = {"size": "32", "number": "0", "file": "none.js", "device_id": "ab" * 32}
    return re.sub(r"<(\w+)(?::[^>]*)?>", lambda found: known.get(found[1], "none"), str(route.rule))


def same(client: Client, path: str, headers: dict[str, str]) -> tuple[int, bytes | None]:
    answer = client.call("GET", path, headers=headers)
    page = answer.headers.get("content-type", "").startswith("text/html")  # has a nonce
    return answer.status, answer.body if answer.status < 300 and not page else None


def test_foreign_and_stale_credentials_on_a_public_read_are_nobody(client: Client) -> None:
    paths = [path_of(route) for route in routes(client, "GET", "public")]
    assert len(paths) > 20
    for path in paths:
        if path.startswith(("/auth/oauth", "/readyz", "/metrics")):
            continue  # these change from one request to the next
        expected = same(client, path, {})
        for value in FOREIGN:
            assert same(client, path, {"Authorization": value}) == expected, (path, value)
        for value in ("", "foreign", "mk_live_" + "0" * 42, "\xff"):
            assert same(client, path, {"X-API-Key": value}) == expected, (path, value)


def test_protected_reads_refuse_them(client: Client) -> None:
    for route in routes(client, "GET"):
        if route.config["scope"] == "public":
            continue
        for value in (*FOREIGN[:5], "Bearer mk_live_" + "0" * 42):
            refused = client.call("GET", path_of(route), headers={"Authorization": value})
            assert refused.status == 401, (route.rule, value)
            assert refused.headers["www-authenticate"].startswith("Bearer ")


def test_a_change_with_a_stale_token_is_refused_and_one_with_a_foreign_scheme_is_not(
    client: Client,
) -> None:
    body = {"client_name": "x", "scopes": ["apps:read"]}
    client.call(
        "POST", "/v1/auth/device", body, headers={"Authorization": "Basic dXNlcjpwYXNz"}
    ).expect(200)
    client.call("POST", "/v1/auth/device", body, headers={"X-API-Key": "a-gateways-own"}).expect(
        200
    )


def test_a_parameter_stands_once_on_every_route(client: Client) -> None:
    alice = client.register()
    client.role_of(alice, "admin")
    for route in routes(client, "GET"):
        path = path_of(route)
        for query in ("x=1&x=1", "x=1&x=2", "limit=1&limit=1", "x&x"):
            refused = client.get(f"{path}?{query}", as_=alice)
            assert (refused.status, refused["code"]) == (400, "malformed_request"), (path, query)
        for name in ("page", "offset", "per_page", "page_size"):
            refused = client.get(f"{path}?{name}=2", as_=alice)
            assert (refused.status, name in refused["detail"]) == (400, True), (path, name)


def test_a_blank_parameter_is_one_left_out(client: Client) -> None:
    alice = client.register()
    client.role_of(alice, "admin")
    for route in routes(client, "GET"):
        path, operation = path_of(route), route.callback.operation
        plain = client.get(path, as_=alice)
        for name in operation.query:
            blank = client.get(f"{path}?{name}=", as_=alice)
            assert blank.status == plain.status, (path, name)


def test_switches_in_a_query_are_true_or_false(client: Client) -> None:
    alice = client.register()
    for value, status in (("true", 200), ("false", 200), ("", 200), ("1", 400), ("True", 400)):
        client.get(f"/v1/notifications?unread={value}", as_=alice).expect(status)
    described = client.get("/openapi.json").json["paths"]
    found = [
        each["schema"]["type"]
        for path in described.values()
        for call in path.values()
        if isinstance(call, dict)
        for each in call.get("parameters", [])
        if each["name"] in ("unread", "submit", "publish")
    ]
    assert found
    assert set(found) == {"boolean"}


V4, V6 = "198.51.100.7", "2001:db8::7"
FORMS: list[tuple[str, str | None]] = [
    (V4, V4),
    (f" {V4}\t", V4),
    (f"{V4}:51234", V4),
    (f'"{V4}:51234"', V4),
    (V6, V6),
    (f"[{V6}]", V6),
    (f"[{V6}]:51234", V6),
    (f'"[{V6}]:51234"', V6),
    (V6.upper(), V6),
    ("2001:0db8:0:0:0:0:0:7", V6),
    (f"::ffff:{V4}", V4),
    (f"[::ffff:{V4}]:80", V4),
    ("fe80::1%eth0", "fe80::1"),
    ("[fe80::1%25eth0]:80", "fe80::1"),
    ("unknown", None),
    ("_hidden", None),
    ("unknown:80", None),
    ("", None),
    (f"{V4}:port", None),
    (f"{V4}:123456", None),
    (f"[{V6}", None),
    (f"{V6}]", None),
    ("198.51.100.07", None),
    ("198.51.100.7.1", None),
    ("198.51.100", None),
    ("example.org", None),
    ("٣.1.1.1", None),
]


@pytest.mark.parametrize(("form", "expected"), FORMS)
def test_every_form_of_an_address_is_the_same_address(form: str, expected: str | None) -> None:
    parsed = parse_address(form)
    assert (None if parsed is None else str(parsed)) == expected
    proxy = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1"))
    for peer in ("127.0.0.1", "::ffff:127.0.0.1", "::1"):
        found = client_address(proxy, peer, f"203.0.113.9, {form}")
        # an entry that is no address ends the search at the proxy; an empty one is none (RFC 9110, 5.6.1)
        own = str(parse_address(peer))
        assert found == (expected or (own if form.strip() else "203.0.113.9"))
        assert network_of(found)
        assert truncated(found)
    assert client_address((), "203.0.113.1", form) == "203.0.113.1"


def test_networks_of_all_forms_are_one() -> None:
    assert {network_of(form) for form, expected in FORMS if expected == V4} == {V4}
    assert {network_of(form) for form, expected in FORMS if expected == V6} == {"2001:db8::/64"}


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("3", 200),
        ("3.0", 200),
        ("3e0", 200),
        ("30E-1", 200),
        ("0.3e1", 200),
        ("-0.0", 200),
        ("1e3", 200),
        ("3.5", 422),
        ("1e300", 422),
        ("-1.0", 422),
        ('"3"', 422),
        ("true", 422),
        ("null", 422),
        ("9007199254740993.0", 422),
        ("2147483648.0", 422),
        ("[3.0]", 422),
    ],
)
def test_a_whole_number_is_an_integer_however_it_is_written(
    client: Client, code: str, status: int
) -> None:
    body = f'{{"pkgs": {{"com.acme.notes": {code}}}}}'.encode()
    json = {"Content-Type": "application/json"}
    client.post("/v1/store/updates", body, headers=json).expect(status)


@pytest.mark.parametrize(
    "kind",
    [
        "application/json",
        "application/json;charset=utf-8",
        'application/json; charset="UTF-8"',
        "application/json; charset=iso-8859-1",
        "Application/JSON ; x=y",
        "application/json;",
        "application/problem+json",
        "application/json; charset=utf-16",
    ],
)
def test_a_body_is_utf_8_whatever_its_content_type_says(client: Client, kind: str) -> None:
    alice = client.register()
    body = '{"package_id": "com.acme.notes", "name": "Nüsse"}'
    headers = {"Content-Type": kind}
    assert (
        client.post("/v1/apps", body.encode(), as_=alice, headers=headers).expect(201)["name"]
        == "Nüsse"
    )
    for coding in ("latin-1", "utf-16", "utf-16-le", "utf-32", "utf-8-sig"):
        sent = body.replace("notes", coding.replace("-", "")).encode(coding)
        client.post("/v1/apps", sent, as_=alice, headers=headers).expect(400, "malformed_json")


@pytest.mark.parametrize(
    ("stamp", "accepted"),
    [
        ("2027-01-15T07:00:00Z", 1),
        ("2027-01-15t07:00:00z", 1),
        ("2027-01-15T09:00:00+02:00", 1),
        ("2027-01-15T02:30:00-04:30", 1),
        ("2027-01-15T07:00:00-00:00", 1),
        ("2027-01-15T07:00:00.123456789Z", 1),
        ("2027-01-15T21:00:00+14:00", 1),
        ("2027-01-14T07:00:00-23:59", 1),
        ("2016-12-31T23:59:60Z", 1),
        ("2017-01-01T01:59:60+02:00", 1),
        ("2027-01-15 07:00:00Z", 0),
        ("2027-01-15T07:00:00", 0),
        ("2027-01-15T07:00:00+0200", 0),
        ("2027-01-15T07:00:00+02", 0),
        ("2027-01-15T07:00Z", 0),
        ("2027-01-15T24:00:00Z", 0),
        ("2027-01-15T07:00:00,5Z", 0),
        ("2027-01-15T07:00:00.Z", 0),
        ("2027-02-29T07:00:00Z", 0),
        ("2027-01-15T07:60:00Z", 0),
        ("2027-01-15T07:00:60Z", 0),
        ("2027-015T07:00:00Z", 0),
        ("20270115T070000Z", 0),
        ("2027-01-15T07:00:00+24:00", 0),
        ("2027-01-15T07:00:00+02:60", 0),
        (" 2027-01-15T07:00:00Z", 0),
        ("2027-01-15T07:00:00Z ", 0),
        ("٢027-01-15T07:00:00Z", 0),
        ("1800000000", 0),
        (1_800_000_000, 0),
        (1.8e12, 0),
        (None, 0),
        ("now", 0),
        ("", 0),
        ("0000-01-15T07:00:00Z", 0),
        ("+02027-01-15T07:00:00Z", 0),
        (["2027-01-15T07:00:00Z"], 0),
    ],
)
def test_timestamps_in_every_form(client: Client, stamp: object, accepted: int) -> None:
    client.out(client.register())
    batch = {
        "app_id": "com.acme.notes",
        "app_version": "1.0.0",
        "mosis_version": "2.1.0",
        "device_id": "ab" * 32,
        "session_id": "s",
        "events": [{"type": "app_start", "timestamp": stamp}],
    }
    answer = client.post("/v1/telemetry/events", batch).expect(202)
    assert (answer["accepted"], answer["rejected"]) == (accepted, 1 - accepted)
    assert [each["pointer"] for each in answer["errors"]] == ["/events/0/timestamp"] * (
        1 - accepted
    )


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Real-IP": "203.0.113.9"},
        {"Forwarded": "for=203.0.113.9"},
        {"X-Client-IP": "203.0.113.9"},
        {"CF-Connecting-IP": "203.0.113.9"},
        {"True-Client-IP": "203.0.113.9"},
        {"Via": "1.1 203.0.113.9"},
        {"X-Forwarded": "for=203.0.113.9"},
    ],
)
def test_only_x_forwarded_for_names_the_client(
    client: Client, headers: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    alice = client.register()
    object.__setattr__(client.env.config, "trusted_proxy", (ipaddress.ip_network("192.0.2.0/24"),))
    for more, network in (
        ({}, "192.0.2.0/24"),
        ({"X-Forwarded-For": "198.51.100.7"}, "198.51.100.0/24"),
    ):
        token = client.sign_in(alice, headers=headers | more, address="192.0.2.1")
        sessions = client.get("/v1/auth/sessions", as_=token)["sessions"]
        assert next(each["network"] for each in sessions if each["current"]) == network
    records = [each for each in caplog.records if "X-Real-IP is not read" in each.getMessage()]
    assert len(records) == ("X-Real-IP" in headers)


@pytest.mark.parametrize("header", ["If-Modified-Since", "If-Unmodified-Since"])
def test_a_date_that_is_none_is_ignored(client: Client, header: str) -> None:
    words = (
        "Mon,",
        "01",
        "Jan",
        "2027",
        "00:00:00",
        "GMT",
        "9" * 30,
        "+" + "9" * 20,
        "-2359",
        "0001",
        "9999",
    )
    rng = random.Random(7)
    dates = [f"Mon, 01 Jan {year} 00:00:00 {zone}" for year in words for zone in words]
    dates += [" ".join(rng.choices(words, k=rng.randint(1, 7))) for _ in range(300)]
    for date in dates:
        answer = client.get("/v1/store/index.json", headers={header: date})
        assert answer.status in (200, 304, 412), date


ENDS_OF_TIME = [
    f"{day}T{time}{offset}"
    for day in ("0001-01-01", "0000-12-31", "1970-01-01", "2099-12-31", "2100-06-30", "9999-12-31")
    for time in ("00:00:00", "23:59:59", "23:59:60", "00:00:60")
    for offset in ("Z", "+23:59", "-23:59")
]


def test_the_ends_of_time_are_times_or_refused(client: Client) -> None:
    alice = client.register()
    client.out(alice)
    sender = {
        "app_id": "com.acme.notes",
        "app_version": "1.0.0",
        "mosis_version": "1.0.0",
        "device_id": "ab" * 32,
    }
    batch = sender | {
        "session_id": "s",
        "events": [{"type": "app_start", "timestamp": each} for each in ENDS_OF_TIME],
    }
    taken = client.post("/v1/telemetry/events", batch).expect(202)
    assert taken["accepted"] + taken["rejected"] == len(ENDS_OF_TIME)
    for stamp in ENDS_OF_TIME:
        crash = {"type": "E", "message": "m", "stack_trace": ""}
        report = sender | {"timestamp": stamp, "crash": crash}
        assert client.post("/v1/telemetry/crashes", report).status in (202, 422), stamp
        key = {"name": "k", "scopes": ["apps:read"], "expires_at": stamp}
        assert client.post("/v1/keys", key, as_=alice).status in (201, 422), stamp
        for query in (
            f"from={quote(stamp)}&to={quote(stamp)}",
            f"to={quote(stamp)}",
            f"from={stamp[:10]}&to={stamp[:10]}",
        ):
            for what in ("analytics", "analytics?granularity=hour", "downloads"):
                path = f"/v1/apps/com.acme.notes/{what}"
                answer = client.get(f"{path}{'&' if '?' in path else '?'}{query}", as_=alice)
                assert answer.status in (200, 400), (path, query)


@pytest.mark.parametrize(
    "agent", ["\u2028Bcc: eve@example.net", "\x85x", "a\u202egnp.exe", "\x1fx", "😀", "\ud800"]
)
def test_the_owner_is_notified_whatever_a_user_agent_claims(client: Client, agent: str) -> None:
    alice = client.register()
    sent = {"User-Agent": agent.encode("utf-8", "surrogatepass").decode("latin-1")}
    client.sign_in(alice, headers=sent, address="192.0.2.1")
    client.work()
    (event,) = client.notifications(alice)
    assert event["kind"] == "security.signed_in_elsewhere"
    client_name = event["data"]["client"]
    assert one_line(client_name) == client_name
    subjects = [each.subject for each in client.env.mailer.written_to(alice.email)]
    assert any("Somebody signed in" in each for each in subjects), subjects

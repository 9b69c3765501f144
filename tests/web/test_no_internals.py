"""No answer to a broken request has words of Python, SQLite or a library in it, on any route."""

import gzip
import json
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import bottle
import pytest

from mosis.context import Context
from mosis.errors import Malformed
from mosis.validation.strict_json import load_json
from mosis.web.openapi_parameters import address
from tests import described
from tests.client import Client
from tests.web.test_inputs import path_of

INTERNALS = re.compile(
    r"Traceback|sqlite|SQLITE_|NoneType|object at 0x|Errno|codec|<class|[A-Z]\w+Error\b|Exception|zlib|invalid literal"
    r"|can't decode|Expecting|unconverted|dict_keys|\bNone\b|\bTrue\b|\bFalse\b|\blambda\b|isoformat|strptime"
    r"|base64\.b|bottle|cerberus"
    r"|waitress|site-packages|\.py\b|no such table|UNIQUE constraint|unsupported operand|positional argument|0x[0-9a-f]{6}"
)
VALUES: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    1.5,
    10**400,
    -(10**30),
    1e300,
    "",
    " ",
    "\x00",
    "\ud800",
    "\uffff",
    "'",
    "%s%n{0}",
    "9" * 400,
    "x" * 6000,
    "٣",
    "2027-02-30T00:00:00Z",
    "../..",
    "a@b",
    [],
    [[]],
    [None],
    [1, "x"],
    {},
    {"": {}},
    {"a": [{}]},
)
BODIES = (
    b"",
    b" ",
    b"\xff",
    b"\xfe\xff\x00{",
    b"\xef\xbb\xbf{}",
    b"{",
    b"{}x",
    b"[]",
    b"null",
    b"1",
    b'"x"',
    b"{'a': 1}",
    b'{"a": 1,}',
    b'{"a" 1}',
    b'{"a": }',
    b'{"a": tru}',
    b'{"a": NaN}',
    b'{"a": 1, "a": 2}',
    b'{"a": "\x01"}',
    b'{"a": "\\x"}',
    b'{"a": "\\ud800"}',
    b'{"a": 1e999}',
    b"{/**/}",
    b"[" * 200,
    b'{"a":' * 60,
    b'{"a": ' + b"9" * 5000 + b"}",
    b"\x00",
    b"--b\r\n",
    b"\x1f\x8b\x08",
    b"<xml/>",
    b'{"a": "',
    b'{"a": -}',
    b'{"a": 01}',
    b'{"a": .5}',
    b'{"a": "\\u12"}',
)
QUERY = (
    "%00",
    "%ff",
    "%F0%9F",
    "nan",
    "-1",
    "1e5",
    "9" * 400,
    "x" * 3000,
    "%27%22%3B--",
    "%E2%80%AE",
    "None",
    "٣",
    "2027-02-30",
    "%25s",
    "a%0d%0ab",
)
SEGMENTS = (
    "%00",
    "%ff",
    "..%2f",
    "x" * 500,
    "%27",
    "-1",
    "9" * 40,
    "None",
    "%F0%9F",
    "%0d%0aX",
    "٣",
)
KINDS = (
    "",
    "text/plain",
    "application/json",
    "application/json; charset=utf-16",
    "multipart/form-data",
    "x",
    ";",
    "\xff",
    "application/x-www-form-urlencoded",
)


def broken(answer: Any, at: str) -> None:
    assert answer.status < 500, (at, answer.body)
    if answer.status >= 400 and "json" in answer.headers.get("content-type", ""):
        found = INTERNALS.search(answer["detail"] + json.dumps(answer.json.get("errors", "")))
        assert not found, (at, found, answer.body)


def bodies_of(route: bottle.Route, seen: set[str]) -> Iterator[bytes]:
    """Bodies that are no JSON, and values of every kind for each field whose rules were not seen."""
    yield from BODIES
    schema = route.callback.operation.body or {}
    for name, rules in schema.items():
        if (field := f"{name} {rules}") in seen:
            continue
        seen.add(field)
        for value in VALUES:
            yield json.dumps({name: value}).encode()
    for value in VALUES:
        yield json.dumps(dict.fromkeys(schema, value)).encode()


def with_body() -> list[bottle.Route]:
    return [route for route in described.calls() if route.method not in ("GET", "HEAD", "DELETE")]


@pytest.fixture
def everywhere(client: Client) -> Client:
    """A portal with something of everything, whose `root` may do everything."""
    root = client.register("root")
    client.role_of(root, "admin")
    client.published(root, client.app_of(root))
    client.root = root  # type: ignore[attr-defined]
    return client


def filled(route: bottle.Route) -> str:
    return (
        path_of(route)
        .replace("/apps/none", "/apps/com.acme.notes")
        .replace("/versions/none", "/versions/1.0.0")
    )


def test_of_broken_bodies(everywhere: Client) -> None:
    client, seen = everywhere, set[str]()
    for route in with_body():
        kind = "application/json"
        for body in bodies_of(route, seen):
            if route.rule == "/auth/logout" and body in (b"", b"{}"):
                continue
            at = f"{route.method} {route.rule} {body[:80]!r}"
            broken(
                client.call(
                    route.method,
                    filled(route),
                    body,
                    as_=client.root,
                    headers={"Content-Type": kind},
                ),
                at,
            )  # type: ignore[attr-defined]
        for kind in KINDS:
            answer = client.call(
                route.method,
                filled(route),
                b"x=\xff&%",
                as_=client.root,
                headers={"Content-Type": kind},
            )  # type: ignore[attr-defined]
            broken(answer, f"{route.method} {route.rule} as {kind!r}")


def test_of_packed_bodies(everywhere: Client) -> None:
    good = gzip.compress(b'{"a": 1}')
    for path in ("/v1/telemetry/events", "/v1/telemetry/crashes", "/v1/auth/login"):
        for coding in ("gzip", "br", "deflate", "gzip, gzip", "\xff"):
            for body in (
                b"",
                good,
                good[:-3],
                good[:5],
                good + b"x",
                b"{}",
                gzip.compress(b"\xff"),
                good[:3] + b"\xff" + good[4:],
            ):
                headers = {"Content-Type": "application/json", "Content-Encoding": coding}
                broken(everywhere.post(path, body, headers=headers), f"{path} {coding} {body!r}")


def test_of_broken_queries_and_paths(everywhere: Client) -> None:
    client = everywhere
    for route in described.calls():
        if route.method != "GET":
            continue
        call = described.whole()["paths"][address(route.rule)[0]][route.method.lower()]
        for name in [each["name"] for each in call["parameters"] if each["in"] == "query"]:
            for value in QUERY:
                at = f"{filled(route)}?{name}={value}"
                if "wait" not in name:
                    broken(client.get(at, as_=client.root), at)  # type: ignore[attr-defined]
    for route in described.calls():
        for segment in SEGMENTS if "<" in route.rule else ():
            path = re.sub(r"<(\w+)(?::[^>]*)?>", lambda _, segment=segment: segment, route.rule)
            broken(client.call(route.method, path, as_=client.root), f"{route.method} {path}")  # type: ignore[attr-defined]


def test_of_broken_headers(everywhere: Client) -> None:
    client = everywhere
    names = (
        "If-Match",
        "If-None-Match",
        "If-Modified-Since",
        "If-Range",
        "Range",
        "Accept",
        "Accept-Encoding",
        "Authorization",
        "X-API-Key",
        "Cookie",
        "Idempotency-Key",
        "X-Request-Id",
        "Content-Digest",
        "Repr-Digest",
        "Digest",
        "X-Forwarded-For",
        "Content-Encoding",
        "Origin",
        "User-Agent",
    )
    values = (
        "",
        " ",
        ",",
        "\xff\xfe",
        '"',
        "W/",
        "bytes=",
        "bytes=-",
        "bytes=9-1",
        "bytes=0-0,1-1,x",
        "x" * 4000,
        "=",
        ";q=x",
        "None",
        "Bearer \xff",
        "Thu, 99 Foo",
    )
    for path in (
        "/v1/store/apps",
        "/v1/apps",
        "/healthz",
        "/docs",
        "/v1/store/index.json",
        "/v1/auth/me",
    ):
        for name in names:
            for value in values:
                broken(client.get(path, headers={name: value}), f"{path} {name}: {value!r}")
                broken(
                    client.post(path, {}, headers={name: value}), f"POST {path} {name}: {value!r}"
                )


@pytest.mark.parametrize("name", ["portal.db", "telemetry.db"])
def test_of_a_database_that_cannot_be_written(client: Client, env: Context, name: str) -> None:
    path = Path(env.config.database_path).parent / name
    path.rename(path.with_suffix(".away"))
    try:
        refused = client.get("/readyz").expect(503)
    finally:
        path.with_suffix(".away").rename(path)
    assert not INTERNALS.search(refused.body.decode().replace(name, ""))


@pytest.mark.parametrize("body", BODIES)
def test_of_a_text_that_is_no_json(body: bytes) -> None:
    with suppress(ValueError):
        json.loads(body)
        return
    with pytest.raises(Malformed) as refused:
        load_json(body)
    assert not INTERNALS.search(refused.value.detail)
    assert refused.value.detail.endswith(".")

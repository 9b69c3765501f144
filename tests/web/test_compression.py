"""Compressed responses: on every route, in both forms, by the application and by the server's loop."""

import gzip
import hashlib
import re
from base64 import b64encode

import pytest

from mosis.web.compression import TYPES
from mosis.web.content_coding import LEAST_BYTES, READS, least_bytes
from tests.client import Client, headers_of, parsed
from tests.web.test_conventions import GETS, ROUTES, World, prepare, settings, world  # noqa: F401

GZIP = {"Accept-Encoding": "gzip, deflate, br"}
ONLY_GZIP = {"Accept-Encoding": "gzip, identity;q=0"}
SECRETS = {
    "token", "access_token", "refresh_token", "id_token", "secret", "key", "password", "code_verifier", "user_code",
    "device_code", "recovery_codes", "form_token",
}  # fmt: skip
NEVER = ("/auth/", "/keys", "/signing-keys", "/webhooks", "/telemetry/", "/packages/", "/assets/")


@pytest.mark.parametrize(("header", "least"), [
    ("", None), ("gzip", LEAST_BYTES), ("x-gzip", LEAST_BYTES), ("GZIP;q=1.000", LEAST_BYTES),
    ("*", LEAST_BYTES), ("br, *;q=0.1", LEAST_BYTES), ("gzip;q=0", None), ("gzip;q=0, *", None),
    ("gzip;q=0.000", None), ("*;q=0", None), ("identity;q=0, gzip", 0), ("gzip, *;q=0", 0),
    ("identity;q=0", None), ("gzip;q=0.5, identity", None), ("gzip;q=0.5, identity;q=0.5", LEAST_BYTES),
    ("gzip;q=2", None), ("gzip;q=", None), ("gzip;x=1", None), ("gzip ; q=0.3", LEAST_BYTES), (",,gzip,", LEAST_BYTES),
    ("br, deflate", None), ("gzip," * 5000, None),
])  # fmt: skip
def test_accept_encoding_is_read_as_rfc_9110_says(header: str, least: int | None) -> None:
    assert least_bytes(header) == least


def test_every_route_has_two_forms_or_one(world: World) -> None:  # noqa: F811
    forms = set()
    for route in GETS:
        plain = world.call(route)
        other = world.call(route, headers=ONLY_GZIP)
        again = world.call(route, headers=GZIP)
        assert plain.status == other.status, route
        assert "content-encoding" not in plain.headers, route
        varies = "accept-encoding" in plain.headers.get("vary", "").lower()
        if "content-encoding" not in other.headers:
            assert plain.status != 200 or not varies, route
            continue
        forms.add(route.rule)
        if route.config["scope"] != "public" and "json" in other.headers["content-type"]:
            assert not SECRETS & set(re.findall(r'"(\w+)":', plain.body.decode())), route
        assert varies, route
        assert other.headers["vary"] == plain.headers["vary"], route
        assert not route.rule.startswith(NEVER), route
        if plain.status == 200 and "no-store" not in plain.headers.get("cache-control", ""):
            assert gzip.decompress(other.body) == world.call(route).body, route
        long = len(plain.body) >= LEAST_BYTES
        assert ("content-encoding" in again.headers) == long, route
        assert other.headers["content-length"] == str(len(other.body)), route
    assert {"/store/apps", "/store/index.json", "/openapi.json", "/docs/assets/<file>", "/docs/<name>",
            "/apps", "/apps/<app>/versions", "/metrics", "/docs", "/admin/apps"} <= forms  # fmt: skip


def test_each_form_has_its_tag_and_answers_preconditions_by_it(world: World) -> None:  # noqa: F811
    seen = 0
    for route in GETS:
        plain, packed = world.call(route), world.call(route, headers=ONLY_GZIP)
        if "content-encoding" not in packed.headers or "etag" not in plain.headers:
            continue
        if world.call(route).headers["etag"] != plain.headers["etag"]:
            continue  # it changes with every request
        seen += 1
        own, other = packed.headers["etag"], plain.headers["etag"]
        assert own == f'{other[:-1]}-gzip"', route
        for sent, tag, strange in (({}, other, own), (ONLY_GZIP, own, other)):
            known = world.call(route, headers=sent | {"If-None-Match": f'"x", W/{tag}'})
            assert (known.status, known.body, known.headers["etag"]) == (304, b"", tag), route
            assert "content-encoding" not in known.headers, route
            assert "Accept-Encoding" in known.headers["vary"], route
            assert world.call(route, headers=sent | {"If-None-Match": strange}).status == 200, route
            assert world.call(route, headers=sent | {"If-None-Match": "*"}).status == 304, route
            assert world.call(route, headers=sent | {"If-Match": f'"x",{tag}'}).status == 200, route
            world.call(route, headers=sent | {"If-Match": strange}).expect(412)
            if changed := plain.headers.get("last-modified"):
                unchanged = world.call(route, headers=sent | {"If-Modified-Since": changed})
                assert (unchanged.status, unchanged.headers["etag"]) == (304, tag), route
                both = {"If-Modified-Since": changed, "If-None-Match": strange}
                assert world.call(route, headers=sent | both).status == 200, route
    assert seen > 12


def test_head_says_what_get_sends(world: World) -> None:  # noqa: F811
    for route in GETS:
        for sent in ({}, GZIP, ONLY_GZIP):
            got = world.call(route, headers=sent)
            answer = world.call(route, headers=sent, method="HEAD")
            assert answer.body == b"", route
            assert answer.status == got.status, route
            assert answer.headers.get("content-encoding") == got.headers.get("content-encoding")
            if "etag" in got.headers and "/metrics" not in route.rule:
                assert answer.headers["etag"] == got.headers["etag"], route
                assert answer.headers["content-length"] == str(len(got.body)), route


def test_parts_are_parts_of_the_plain_form(world: World) -> None:  # noqa: F811
    for route in GETS:
        part = world.call(route, headers=GZIP | {"Range": "bytes=0-9"})
        if part.status == 206:
            assert "content-encoding" not in part.headers, route
            assert part.body == world.call(route).body[:10], route
            tag = world.call(route, headers=ONLY_GZIP).headers["etag"]
            resumed = world.call(route, headers=GZIP | {"Range": "bytes=5-9", "If-Range": tag})
            assert resumed.status == (206 if not tag.endswith('-gzip"') else 200), route


def test_the_signed_bytes_are_those_of_the_index(world: World) -> None:  # noqa: F811
    get = world.client.get
    signed = get("/v1/store/index.json.sig")
    for path in ("/v1/store/index.json", signed["index_url"]):
        answer = get(path, headers=ONLY_GZIP).expect(200)
        assert answer.headers["content-encoding"] == "gzip"
        assert hashlib.sha256(gzip.decompress(answer.body)).hexdigest() == signed["sha256"]
        digest = b64encode(hashlib.sha256(answer.body).digest()).decode()
        assert answer.headers["repr-digest"] == f"sha-256=:{digest}:"
    folder = world.client.env.config.data_dir / "store-index"
    for packed in folder.glob("*.gz"):
        packed.unlink()
    answer = get("/v1/store/index.json", headers=ONLY_GZIP).expect(200)
    assert "content-encoding" not in answer.headers
    assert hashlib.sha256(answer.body).hexdigest() == signed["sha256"]


def test_either_tag_of_an_app_fits_a_change(world: World) -> None:  # noqa: F811
    client, at = world.client, "/v1/apps/com.acme.notes"
    for sent in ({}, ONLY_GZIP):
        tag = client.get(at, as_=world.root, headers=sent).expect(200).headers["etag"]
        wrong = {"If-Match": tag.replace('"', '"x', 1)}
        client.patch(at, {"summary": "x"}, as_=world.root, headers=wrong).expect(412)
        change = {"summary": f"of {len(tag)}"}
        client.patch(at, change, as_=world.root, headers={"If-Match": tag}).expect(200)


def environ_of(address: str, **more: str) -> dict[str, str]:
    """A GET as the loop sees it."""
    path, _, query = address.partition("?")
    return {
        "REQUEST_METHOD": "GET", "SCRIPT_NAME": "", "PATH_INFO": path, "QUERY_STRING": query,
        "REMOTE_ADDR": "198.51.100.7", **more,
    }  # fmt: skip


def test_pages_for_everybody_have_two_forms_and_pages_with_a_form_token_one(
    world: World,  # noqa: F811
) -> None:
    html = {"Accept": "text/html"}
    style = re.search(
        r'"(/ui/[^"]+\.css\?v=[^"]+)"', world.client.get("/", headers=html).body.decode()
    )
    assert style
    seen = set()
    for path in ("/", "/?q=notes", "/app/com.acme.notes", "/feed.atom", style[1]):
        plain = world.client.get(path, headers=html).expect(200)
        packed = world.client.get(path, headers=html | ONLY_GZIP).expect(200)
        assert "content-encoding" not in plain.headers
        assert packed.headers["content-encoding"] == "gzip", path
        assert "accept-encoding" in plain.headers["vary"].lower(), path
        assert packed.headers["vary"] == plain.headers["vary"], path
        assert gzip.decompress(packed.body) == plain.body, path
        own, other = packed.headers["etag"], plain.headers["etag"]
        assert own == f'{other[:-1]}-gzip"', path
        for sent, tag, strange in ((html, other, own), (html | ONLY_GZIP, own, other)):
            known = world.client.get(path, headers=sent | {"If-None-Match": tag}).expect(304)
            assert known.headers["vary"] == plain.headers["vary"], path
            world.client.get(path, headers=sent | {"If-None-Match": strange}).expect(200)
        ready = world.client.ready(
            parsed(environ_of(path, HTTP_ACCEPT="text/html", HTTP_ACCEPT_ENCODING="gzip"))
        )
        if ready is not None:
            seen.add(path)
            assert headers_of(ready)["vary"] == plain.headers["vary"], path
    assert {"/", "/app/com.acme.notes"} <= seen
    for path in ("/console/sign-in", "/console/register", "/console/reset", "/console/nothing"):
        answer = world.client.get(path, headers=html | ONLY_GZIP)
        assert "content-encoding" not in answer.headers, path


def test_lists_with_one_body_and_two_next_pages_are_distinguished(client: Client) -> None:
    alice = client.register()
    for name in ("one", "two"):
        client.app_of(alice, f"com.acme.{name}")
        client.published(alice, f"com.acme.{name}")
    links = set()
    for query in ("?limit=1&sort=name", "?limit=01&sort=name"):
        path = f"/v1/store/apps{query}"
        plain = client.get(path).expect(200)
        packed = client.get(path, headers=ONLY_GZIP).expect(200)
        ready = client.ready(
            parsed(environ_of(path, HTTP_ACCEPT_ENCODING=ONLY_GZIP["Accept-Encoding"]))
        )
        assert ready is not None
        assert packed.headers["link"] == plain.headers["link"] == headers_of(ready)["link"]
        links.add(plain.headers["link"])
    assert len(links) == 2


@pytest.mark.parametrize("settings", [{}])
def test_the_loop_sends_what_the_application_has_compressed(client: Client) -> None:
    environ = {
        "REQUEST_METHOD": "GET", "SCRIPT_NAME": "", "PATH_INFO": "/v1/store/categories",
        "QUERY_STRING": "", "REMOTE_ADDR": "198.51.100.7",
    }  # fmt: skip
    path, packs = environ["PATH_INFO"], {"HTTP_ACCEPT_ENCODING": ONLY_GZIP["Accept-Encoding"]}
    plain = client.get(path).expect(200)
    assert client.ready(parsed(environ)) is not None
    assert client.ready(parsed(environ | packs)) is None, "the loop compresses nothing itself"
    packed = client.get(path, headers=ONLY_GZIP).expect(200)
    ready = client.ready(parsed(environ | packs))
    assert ready is not None
    assert gzip.decompress(ready[2]) == plain.body
    assert headers_of(ready)["etag"] == packed.headers["etag"]
    both = environ | packs | {"HTTP_IF_NONE_MATCH": packed.headers["etag"]}
    known = client.ready(parsed(both))
    assert known is not None
    assert known[0] == "304 Not Modified"
    assert "content-encoding" not in headers_of(known)
    # And through the client, which compares both.
    client.get(path, headers=ONLY_GZIP | {"If-None-Match": packed.headers["etag"]}).expect(304)
    client.get(path, headers=ONLY_GZIP | {"If-None-Match": plain.headers["etag"]}).expect(200)


def test_a_long_problem_is_compressed_on_every_route(client: Client) -> None:
    body = {"email": "x", "password": "y", "name": "z"} | {f"field{n}": 1 for n in range(60)}
    plain = client.post("/v1/auth/register", body).expect(422)
    packed = client.post("/v1/auth/register", body, headers=GZIP).expect(422)
    assert packed.headers["content-encoding"] == "gzip"
    assert packed.headers["vary"] == plain.headers["vary"] == "Accept-Encoding"
    assert packed["errors"] == plain["errors"]


class TestSwitchedOff:
    @pytest.fixture
    def settings(self) -> dict[str, str]:
        return {"COMPRESSION": "off"}

    def test_nothing_is_compressed_and_nothing_varies(self, client: Client) -> None:
        for path in (
            "/openapi.json",
            "/v1/store/index.json",
            "/docs/assets/start.js",
            "/v1/store/apps",
        ):
            answer = client.get(path, headers=ONLY_GZIP).expect(200)
            assert not {"content-encoding", "vary"} & set(answer.headers), path
        assert not list((client.env.config.data_dir / "store-index").glob("*.gz"))


def test_no_response_to_a_change_takes_part() -> None:
    assert "application/zip" not in TYPES
    assert not any(name.startswith(prefix) for name in READS for prefix in NEVER)
    assert {route.rule for route in ROUTES if route.method == "POST"} >= {"/store/updates"}

"""HTTP headers, on every address of the URL table: caching, CORS, methods, preconditions, and what a linter says."""

import re
import time
from collections.abc import Iterator
from email.utils import formatdate
from typing import Any

import pytest
from httplint import HttpRequestLinter, HttpResponseLinter
from httplint.note import levels
from waitress.adjustments import Adjustments

from mosis.server.request import Request
from mosis.web.answers import CROSS_ORIGIN
from tests.client import Answer, Client
from tests.web.test_conventions import GETS, ROUTES, World, prepare, settings, world  # noqa: F401

PUBLIC = [route for route in GETS if route.config["scope"] == "public"]
OF_ONE_CALLER = {"x-request-id", "ratelimit", "ratelimit-policy"}
OBSOLETE = ("%A, %d-%b-%y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y")  # RFC 850 and asctime

# Notes of the linter that are accepted, and why.
ACCEPTED = {
    "STORE_PUBLIC_UNNECESSARY": "tells operators, and our own code, that it is for everybody",
    "STATUS_BAD_REQUEST": "the address of a sign-in that nobody has begun",
}
IN_REFUSALS = ACCEPTED | {
    "REQUEST_HDR_IN_RESPONSE": "Accept of a 415 (RFC 9110, sections 12.5.1 and 15.5.16)",
}


def is_public(answer: Answer) -> bool:
    return "public" in answer.headers.get("cache-control", "")


def lint(path: str, method: str, sent: dict[str, str], answer: Answer, at: float) -> list[str]:
    """What the linter calls bad or worth a warning, in one answer."""
    request = HttpRequestLinter()
    request.process_request_topline(
        method.encode(), b"http://localhost:8080" + path.encode(), b"HTTP/1.1"
    )
    request.process_headers(
        [(b"Host", b"localhost:8080"), *((n.encode(), v.encode()) for n, v in sent.items())]
    )
    request.finish_content(True)
    linter = HttpResponseLinter(start_time=at, no_content=method == "HEAD")
    linter.request = request
    linter.process_response_topline(b"HTTP/1.1", str(answer.status).encode(), b"x")
    headers = {"date": formatdate(at, usegmt=True)} | answer.headers
    if method != "HEAD" and answer.status not in (204, 304):
        headers["content-length"] = str(len(answer.body))
    linter.process_headers(
        [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    )
    if method != "HEAD":
        linter.feed_content(answer.body)
    linter.finish_content(True)
    return [type(note).__name__ for note in linter.notes if note.level in (levels.BAD, levels.WARN)]


def forms_of(world: World, route: Any) -> Iterator[tuple[str, dict[str, str]]]:  # noqa: F811
    """Methods and headers by which a resource can be read, and in which this is refused."""
    yield from (("GET", {}), ("HEAD", {}))
    for sent in ({"Accept-Encoding": "gzip, identity;q=0"}, {"Accept-Encoding": "gzip"}):
        yield from (("GET", sent), ("HEAD", sent))
    yield from (("GET", {"Range": "bytes=0-9"}), ("GET", {"Range": "bytes=99999999-"}))
    yield from (("GET", {"If-Match": '"x"'}), ("HEAD", {"If-Match": '"x"'}))
    first = world.call(route)
    if tag := first.headers.get("etag"):
        yield from (("GET", {"If-None-Match": tag}), ("HEAD", {"If-None-Match": tag}))
    if changed := first.headers.get("last-modified"):
        yield ("GET", {"If-Modified-Since": changed})


def unexpected(found: dict[str, set[str]], accepted: dict[str, str]) -> str:
    """What the linter says beyond the accepted notes, or which of these it says no more."""
    lines = [f"{note}: {sorted(where)}" for note, where in found.items() if note not in accepted]
    lines += [f"{note} does not occur any more" for note in accepted if note not in found]
    return "\n".join(lines)


def test_the_linter_finds_nothing_in_any_form_of_any_address(world: World) -> None:  # noqa: F811
    found: dict[str, set[str]] = {}
    at = world.client.env.clock.time()
    for route in GETS:
        for method, sent in forms_of(world, route):
            answer = world.call(route, headers=sent, method=method)
            for note in lint("/x", method, sent, answer, at):
                found.setdefault(note, set()).add(f"{route.rule} {method} {sent} {answer.status}")
    assert unexpected(found, ACCEPTED) == ""


def test_the_linter_finds_nothing_in_refusals_of_any_address(world: World) -> None:  # noqa: F811
    """Addresses that do not exist (404), methods that they do not take (405), bodies of another kind (415), no credential (401),
    and for browsers too."""
    found: dict[str, set[str]] = {}
    seen: set[int] = set()
    at = world.client.env.clock.time()
    methods: dict[str, set[str]] = {}
    for route in ROUTES:
        methods.setdefault(route.rule, set()).add(route.method)
    for route in ROUTES:
        path = world.path(route)
        wrong = next(each for each in ("PUT", "PATCH", "GET") if each not in methods[route.rule])
        sent = {"Content-Type": "text/csv"}
        asked: list[tuple[str, str, dict[str, str], dict[str, Any]]] = [
            (wrong, path, {}, {"as_": world.root}),
            ("GET", path + "/nothing/there", {}, {}),
            ("HEAD", path + "/nothing/there", {}, {}),
            ("GET", path + "/nothing/there", {"Accept": "text/html"}, {}),
            (route.method, path, {}, {}),
        ]
        if route.method not in ("GET", "DELETE"):
            asked.append((route.method, path, sent, {"body": b"a,b", "as_": world.root}))
        for method, address, headers, more in asked:
            answer = world.client.call(method, address, headers=headers, **more)
            seen.add(answer.status)
            for note in lint("/x", method, headers, answer, at):
                found.setdefault(note, set()).add(f"{route.rule} {method} {answer.status}")
    assert unexpected(found, IN_REFUSALS) == ""
    assert all(each.endswith(" 415") for each in found["REQUEST_HDR_IN_RESPONSE"])
    assert {401, 404, 405, 415} <= seen


def test_an_unsupported_media_type_is_refused_with_the_supported_ones(world: World) -> None:  # noqa: F811
    """RFC 9110, section 15.5.16."""
    kinds: dict[str, set[str]] = {}
    for route in ROUTES:
        if route.method in ("GET", "DELETE") or route.config.get("body") == "package":
            continue
        path, more = world.path(route), {"as_": world.root}
        for sent in ({"Content-Type": "text/csv"}, {"Content-Encoding": "br"}):
            headers = {"Content-Type": "application/json"} | sent
            answer = world.client.call(route.method, path, b"{}", headers=headers, **more)
            if answer.status != 415:
                continue
            name = "accept" if "Content-Type" in sent else "accept-encoding"
            other = {"accept", "accept-encoding"} - {name}
            assert not other & set(answer.headers), route
            kinds.setdefault(answer.headers[name], set()).add(route.rule)
    assert "/auth/token" in kinds["application/json, application/x-www-form-urlencoded"]
    assert "/auth/login" in kinds["application/json"]
    assert "/telemetry/events" in kinds["gzip, identity"]
    assert "/auth/login" in kinds["identity"]
    page = world.client.call(
        "POST", "/console/sign-in", b"{}", headers={"Content-Type": "text/csv"}
    )
    assert page.status in (403, 415)
    assert sum(map(len, kinds.values())) > 40


def test_no_header_of_one_caller_is_in_what_shared_caches_may_store(world: World) -> None:  # noqa: F811
    seen = 0
    posts = [each for each in ROUTES if each.rule == "/store/updates" and each.method == "POST"]
    for route in [*GETS, *posts]:
        for sent in ({}, {"If-None-Match": "*"}):
            answer = world.call(route, headers={"X-Request-Id": "stranger.1"} | sent)
            if not is_public(answer):
                assert answer.headers["x-request-id"] == "stranger.1", route
                continue
            seen += 1
            assert route.method == "GET", f"{route} says public"
            assert not OF_ONE_CALLER & set(answer.headers), route
            assert "set-cookie" not in answer.headers, route
            assert "stranger" not in str(answer.headers), route
    assert seen > 20


def test_health_is_not_stored_and_varies_by_nothing(client: Client) -> None:
    for path in ("/healthz", "/livez", "/readyz"):
        answer = client.get(path).expect(200)
        assert answer.headers["cache-control"] == "no-store"
        assert "vary" not in answer.headers


def test_every_address_answers_options_with_its_methods(world: World) -> None:  # noqa: F811
    methods: dict[str, set[str]] = {}
    for route in ROUTES:
        methods.setdefault(route.rule, {"OPTIONS"}).add(route.method)
    for route in {each.rule: each for each in ROUTES}.values():
        wanted = methods[route.rule] | ({"HEAD"} if "GET" in methods[route.rule] else set())
        answer = world.options(route)
        assert (answer.status, answer.body) == (204, b""), route
        assert set(answer.headers["allow"].split(", ")) >= wanted, route
        opened = route.rule.startswith(CROSS_ORIGIN)
        assert answer.headers.get("access-control-allow-origin") == ("*" if opened else None), route
        assert ("access-control-allow-headers" in answer.headers) == opened, route


def test_pages_of_other_origins_may_read_what_is_public_and_nothing_else(world: World) -> None:  # noqa: F811
    for route in ROUTES:
        answer = world.call(route)
        opened = route.rule.startswith(CROSS_ORIGIN) and route.method == "GET"
        assert answer.headers.get("access-control-allow-origin") == ("*" if opened else None), route
        assert "access-control-allow-credentials" not in answer.headers, route


def test_options_of_the_server_itself_names_every_method(client: Client) -> None:
    request = Request(Adjustments())
    request.command, request.path = "OPTIONS", "*"
    answer = client.ready(request)
    assert answer is not None
    assert (answer[0], answer[2]) == ("204 No Content", b"")
    allowed = answer[1].decode().strip().removeprefix("Allow: ").split(", ")
    assert {"GET", "HEAD", "OPTIONS", "POST"} <= set(allowed)
    client.call("OPTIONS", "/v1/nothing").expect(404, "not_found")


@pytest.mark.parametrize("method", ["BREW", "PROPFIND", "M-SEARCH"])
@pytest.mark.parametrize("path", ["/v1/store/apps", "/v1/nothing", "/healthz"])
def test_an_unknown_method_is_not_implemented(client: Client, method: str, path: str) -> None:
    answer = client.call(method, path).expect(501, "not_implemented")
    assert "allow" not in answer.headers


def test_a_method_of_the_standard_that_no_address_takes_is_not_allowed(client: Client) -> None:
    for path in ("/v1/store/apps", "/healthz", "/console/sign-in"):
        answer = client.call("TRACE", path).expect(405)
        assert "GET" in answer.headers["allow"]
    client.call("TRACE", "/v1/nothing").expect(404, "not_found")


@pytest.mark.parametrize(("path", "to"), [
    ("/docs/", "/docs"), ("/v1/store/apps/", "/v1/store/apps"), ("/v1/store/apps/?q=a%26b", "/v1/store/apps?q=a%26b"),
    ("/docs/API//", "/docs/API"),
])  # fmt: skip
def test_a_slash_too_many_leads_to_the_address_without_it(
    client: Client, path: str, to: str
) -> None:
    answer = client.get(path).expect(308)
    assert answer.headers["location"] == to
    client.get(to).expect(200)
    client.post("/v1/apps/", {}).expect(404, "not_found")
    client.get("/v1/nothing/").expect(404, "not_found")


def test_every_get_honours_if_match(world: World) -> None:  # noqa: F811
    for route in GETS:
        first = world.call(route)
        if first.status == 200 and (tag := first.headers.get("etag")):
            world.call(route, headers={"If-Match": '"other"'}).expect(412, "precondition_failed")
            if first.body == world.call(route).body:
                world.call(route, headers={"If-Match": f'"x", {tag}'}).expect(200)


def test_last_modified_is_a_validator_in_every_form_of_a_date(world: World) -> None:  # noqa: F811
    seen = set()
    for route in PUBLIC:
        changed = world.call(route).headers.get("last-modified")
        if changed is None:
            continue
        seen.add(route.rule.split("/")[1])
        moment = time.strptime(changed, "%a, %d %b %Y %H:%M:%S GMT")
        for text in (changed, *(time.strftime(form, moment) for form in OBSOLETE)):
            assert world.call(route, headers={"If-Modified-Since": text}).status == 304, route
        earlier = "Sun, 06 Nov 1994 08:49:37 GMT"
        assert world.call(route, headers={"If-Modified-Since": earlier}).status == 200, route
    assert {"store", "packages", "assets", "docs", "openapi.json"} <= seen


def test_a_package_is_saved_under_its_name(world: World) -> None:  # noqa: F811
    (route,) = [each for each in PUBLIC if each.rule.startswith("/packages/")]
    headers = world.call(route).headers
    assert headers["content-disposition"] == 'attachment; filename="com.acme.notes-1.0.0.mosis"'


class TestFilesOfASite:
    @pytest.fixture
    def settings(self) -> dict[str, str]:
        return {}

    def test_browsers_and_crawlers_find_theirs(self, client: Client) -> None:
        icon = client.get("/favicon.ico").expect(200)
        assert icon.body.startswith(b"\x89PNG")
        assert b"Disallow: /v1/" in client.get("/robots.txt").expect(200).body
        client.get("/.well-known/security.txt").expect(404, "not_found")


class TestSecurityContact:
    @pytest.fixture
    def settings(self) -> dict[str, str]:
        return {"SECURITY_CONTACT": "mailto:security@example.net"}

    def test_it_is_named_and_expires(self, client: Client) -> None:
        text = client.get("/.well-known/security.txt").expect(200).body.decode()
        assert text.startswith("Contact: mailto:security@example.net\n")
        assert re.search(r"^Expires: \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$", text, re.MULTILINE)


def test_the_metadata_of_the_authorization_server_leads_to_its_endpoints(client: Client) -> None:
    answer = client.get("/.well-known/oauth-authorization-server").expect(200)
    base = client.env.config.base_url
    assert answer["issuer"] == base
    for name in ("token_endpoint", "device_authorization_endpoint"):
        path = answer[name].removeprefix(base)
        refused = client.post(path, {}, headers={"Content-Type": "application/json"})
        assert refused.status in (400, 415, 422), refused.body

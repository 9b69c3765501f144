"""The router against Bottle's own: the same target, values, status and Allow for every path."""

import itertools
import re
from typing import Any
from urllib.parse import unquote

import bottle
import pytest

import portal
from mosis.web.routing import SegmentRouter, elsewhere
from tests import described
from tests.client import Client
from tests.web.test_inputs import path_of

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "BREW")


def answer(router: bottle.Router, method: str, path: str) -> Any:
    try:
        target, values = router.match({"REQUEST_METHOD": method, "PATH_INFO": path})
    except bottle.HTTPError as error:
        return error.status_code, sorted(error.headers.get("Allow", "").split(","))
    return target.rule, target.method, values


def paths(rule: str) -> set[str]:
    """Paths that a rule has, nearly has and has not."""
    found = set()
    for value in (
        "x",
        "x/y.lua",
        "x//",
        "17",
        "-3",
        "0",
        "a.b",
        "caf\xe9",
        "a b",
        "<x>",
        "",
        "new",
        "1x",
    ):
        path = re.sub("<[^>]*>", value, rule)
        found |= {path, path + "/", path + "/x", path.rpartition("/")[0], path[:-1], path.upper()}
    return found | {"", "/", "//", "x"}


def test_every_path_has_the_route_that_bottle_finds() -> None:
    routes = portal.build(None).routes  # type: ignore[arg-type]  # the table alone touches nothing
    ours, theirs = SegmentRouter(), bottle.Router()
    for route, router in itertools.product(routes, (ours, theirs)):
        router.add(route.rule, route.method, route)
    tried = 0
    for path in sorted(set().union(*(paths(route.rule) for route in routes))):
        for method in METHODS:
            assert answer(ours, method, path) == answer(theirs, method, path), (method, path)
            tried += 1
    assert tried > 10_000


@pytest.mark.parametrize("rule", ["/a/<b:path>/c", "/a/x<b:path>", "/<a:re:x+>", "/:a", "/<a><b>"])
def test_a_rule_of_another_form_is_refused(rule: str) -> None:
    with pytest.raises(bottle.RouteSyntaxError):
        SegmentRouter().add(rule, "GET", None)


def test_the_portal_uses_it() -> None:
    assert isinstance(portal.build(None).router, SegmentRouter)  # type: ignore[arg-type]


def test_an_address_with_bytes_that_are_not_utf_8_is_no_other_one(client: Client) -> None:
    """Otherwise the server would admit the request as that of another address, in another lane."""
    for route in described.calls():
        segments = path_of(route).split("/")
        for at, segment in enumerate(segments):
            if segment in route.rule.split("/") and segment:
                path = "/".join([*segments[:at], f"{segment}%FF", *segments[at + 1 :]])
                body = None if route.method in ("GET", "DELETE") else {}
                assert client.call(route.method, path, body).status in (401, 404, 405), path


@pytest.mark.parametrize("name", ["%E6%97%A5", "%F0%9F%98%80", "a%20b", "%E6%97%A5%FF", "%22%3C"])
def test_addresses_in_every_script_are_redirected(client: Client, name: str) -> None:
    shown = name.replace("%FF", "%EF%BF%BD")
    for path in (f"/app/{name}", f"/v1/store/apps/{name}"):
        moved = client.get(path + "/")
        assert (moved.status, moved.headers["location"]) == (308, path.replace(name, shown))
    to = client.get(f"/console/apps/{name}", headers={"Accept": "text/html"})
    assert to.status == 303
    assert unquote(to.headers["location"]) == f"/console/sign-in?next=/console/apps/{shown}"
    environ = {"PATH_INFO": unquote(f"/app/{name}"), "QUERY_STRING": "a=b"}
    address = elsewhere("https://primary.example", environ)
    assert address.isascii()
    assert unquote(address) == f"https://primary.example{environ['PATH_INFO']}?a=b"

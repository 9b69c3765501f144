"""Holds every answer of the whole suite, and every request that was accepted, to the description of the API.

Stricter than the description itself: an answer may not have a field that is not described.
"""

import json
from functools import cache, lru_cache
from typing import Any
from urllib.parse import parse_qsl

import jsonschema

import portal
from mosis.problems import CONTENT_TYPE
from mosis.web.openapi import description
from mosis.web.openapi_parameters import address
from mosis.web.schemas import Operation
from tests import browser

NO_ROUTE = {
    "rate_limited",
    "not_found",
    "method_not_allowed",
    "malformed_request",
    "not_implemented",
}


@cache
def whole() -> dict[str, Any]:
    """The description of the portal."""
    return description(portal.build(None), "http://localhost:8080", portal.VERSION)  # type: ignore[arg-type]


@cache
def calls() -> list[Any]:
    """The lines of the URL table that are calls of the API, not pages."""
    table = portal.build(None).routes  # type: ignore[arg-type]  # the table alone touches nothing
    return [route for route in table if not route.config.get("page")]


@cache
def pages() -> list[Any]:
    """The lines of the URL table that are pages."""
    table = portal.build(None).routes  # type: ignore[arg-type]
    return [route for route in table if route.config.get("page")]


def is_page(route: Any, headers: dict[str, str]) -> bool:
    """Whether this is an answer for people: of a page, or an error that is shown as one."""
    if route is None:
        return headers.get("content-type", "").startswith("text/html")
    return bool(route.config.get("page"))


def check(
    route: Any, sent: tuple[str, str, str, bytes], status: int, headers: dict[str, str], body: bytes
) -> None:
    """Fail unless the answer to what was sent (method, query, content type, body) is one that the description speaks of."""
    method, query, kind, request_body = sent
    if status not in (204, 308) and is_page(route, headers):
        if method != "HEAD":
            browser.check_page(route, status, headers, body)
        return
    if status == 304 or method == "HEAD":
        return
    if route is None:
        assert body == b"" if status in (204, 308) else json.loads(body)["code"] in NO_ROUTE
        return
    path, _ = address(route.rule)
    call = whole()["paths"][path][route.method.lower()]
    at = f"{route.method} {path}"
    assert str(status) in call["responses"], (
        f"{at} answers {status}, which is not described, see its @operation: {body[:300]!r}"
    )
    answer = call["responses"][str(status)]
    answer = (
        whole()["components"]["responses"][answer["$ref"].rpartition("/")[2]]
        if "$ref" in answer
        else answer
    )
    content = answer.get("content", {})
    if status >= 400:
        document = json.loads(body)
        known = content[CONTENT_TYPE]["examples"]
        assert document["code"] in known, (
            f"{at} refuses with {document['code']}, which is not described: see refuses= of @operation"
        )
        _validator("#/components/schemas/Problem", strict=False).validate(document)
        return
    given = headers.get("content-type", "").partition(";")[0]
    assert bool(content) == bool(body), f"{at} answers {body[:100]!r}"
    if content:
        kinds = (given, given.partition("/")[0] + "/*", "*/*")
        media = next((content[kind] for kind in kinds if kind in content), None)
        assert media, f"{at} answers {given}, described is {list(content)}"
        if (
            status != 206
            and given == "application/json"
            and "contentMediaType" not in media["schema"]
        ):
            _validate(path, route.method.lower(), str(status), body)
    for name in {"etag", "location", "link", "retry-after"} & set(headers):
        assert name in map(str.lower, answer["headers"]), (
            f"{at} answers with {name}, which is not described"
        )
    _check_request(call, at, query, kind, request_body, route.callback.operation)


def _check_request(
    call: dict[str, Any], at: str, query: str, kind: str, body: bytes, operation: Operation
) -> None:
    """What was accepted is what may be sent."""
    known = {each["name"] for each in call["parameters"] if each["in"] == "query"}
    sent = dict(parse_qsl(query))  # a blank one is left out
    assert set(sent) <= known, (
        f"{at} takes {set(sent) - known} in the query, which is not described: see query= of @operation"
    )
    if (
        kind.partition(";")[0] == "application/json"
        and body
        and operation.body is not None
        and not at.startswith("POST /v1/telemetry/")
    ):
        media = call["requestBody"]["content"]["application/json"]["schema"]
        _plain(json.dumps(media)).validate(json.loads(body))


@lru_cache(500)
def _plain(schema: str) -> Any:
    return jsonschema.Draft202012Validator(json.loads(schema))


@lru_cache(2_000)
def _validate(path: str, method: str, status: str, body: bytes) -> None:
    _of(path, method, status).validate(json.loads(body))


@lru_cache(500)
def _of(path: str, method: str, status: str) -> Any:
    schema = whole()["paths"][path][method]["responses"][status]["content"]["application/json"][
        "schema"
    ]
    whole_schema = _strict(schema) | {"components": _components()}
    return jsonschema.Draft202012Validator(whole_schema, format_checker=jsonschema.FormatChecker())


@lru_cache(500)
def _validator(reference: str, *, strict: bool) -> Any:
    return jsonschema.Draft202012Validator({"$ref": reference, "components": _components(strict)})


@cache
def _components(strict: bool = True) -> dict[str, Any]:
    schemas = whole()["components"]["schemas"]
    return {
        "schemas": {name: _strict(schema) if strict else schema for name, schema in schemas.items()}
    }


def _strict(schema: Any) -> Any:
    """Nothing more than what is named."""
    if isinstance(schema, list):
        return [_strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    made = {
        key: {name: _strict(each) for name, each in part.items()}
        if key == "properties"
        else _strict(part)
        for key, part in schema.items()
    }
    return made | (
        {"additionalProperties": False}
        if "properties" in schema and "additionalProperties" not in schema
        else {}
    )

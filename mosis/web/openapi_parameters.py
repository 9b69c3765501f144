"""The parameters of operations in the OpenAPI document: path, query and headers."""

import re
from typing import Any

import bottle

from mosis.database import pagination
from mosis.web.openapi_examples import EXAMPLES, ID
from mosis.web.routing import API_PREFIX, UNVERSIONED
from mosis.web.schemas import TEXT, File, Operation, Shape, is_page, parameter_schema

TAGLESS = ("/docs", "/metrics")  # GETs without a tag: their content differs in every response

PARAMETERS = {
    "app": "The app's package_id or id.",
    "version": "The version string or the version's id.",
    "review": "The review's id.",
    "change": "The listing change's id.",
    "package_id": "The app's package_id.",
    "key": "The key's id.",
    "session": "The session's id.",
    "developer": "The developer's id.",
    "developer_id": "The developer's id.",
    "app_id": "The app's id.",
    "provider": "`github`, `google`, or the name that the operator gave the issuer.",
    "member": "The account id of the member.",
    "publisher": "The trusted publisher's id.",
    "invitation": "The invitation's id.",
    "token": "The token from the mail.",
    "group": "The crash group's id.",
    "device_id": "64 hexadecimal characters, as the device sends them.",
    "event": "The notification's id.",
    "job": "The job's id.",
    "user_code": "The code shown by the device.",
    "webhook": "The webhook's id.",
    "delivery": "The delivery's id.",
    "size": "Width and height in pixels.",
    "sequence": "The sequence number of the index, see `index_url` of the signatures.",
    "number": "The position of the screenshot, from 0.",
    "name": "The name of the document without `.md`.",
    "file": "The name of the file.",
    "path": "The file's path in the package, with its slashes.",
}
LONGEST_IN_PATH = 255  # characters; no id or name is longer
IN_PATH: dict[str, Shape] = {
    "device_id": {
        "type": "string",
        "pattern": "^[0-9a-fA-F]{64}$",
        "minLength": 64,
        "maxLength": 64,
    },
    "size": {"type": "integer", "enum": [32, 64, 128]},
    "number": {"type": "integer", "minimum": 0, "maximum": 99},
    "sequence": {"type": "integer", "minimum": 0, "maximum": 9_223_372_036_854_775_807},
}


def address(rule: str) -> tuple[str, list[dict[str, Any]]]:
    """A rule of the URL table as an OpenAPI path, and its parameters."""
    parameters = []
    for name in re.findall(r"<(\w+)", rule):
        schema = IN_PATH.get(name, {"type": "string", "minLength": 1, "maxLength": LONGEST_IN_PATH})
        found = {
            "name": name,
            "in": "path",
            "required": True,
            "schema": schema,
            "description": PARAMETERS[name],
        }
        wanted = ID if name in ("app_id", "developer_id") else EXAMPLES.get(name)
        parameters.append(
            found
            | ({"example": wanted} if wanted is not None and not rule.startswith("/docs/") else {})
        )
    path = re.sub(r"<(\w+)(:\w+)?>", r"{\1}", rule)
    return path if rule.startswith(UNVERSIONED) else API_PREFIX + path, parameters


def query_parameters(declared: Operation) -> list[dict[str, Any]]:
    """The query parameters; lists in pages have limit and cursor."""
    found = [
        {
            "name": name,
            "in": "query",
            "required": bool(rules.get("required")),
            "schema": parameter_schema(rules),
        }
        | ({"description": rules["meta"]} if "meta" in rules else {})
        for name, rules in declared.query.items()
    ]
    if any(is_page(answer) for answer in declared.answers.values()):
        default, most = pagination.DEFAULT, pagination.MOST
        limit = {"type": "integer", "minimum": 1, "maximum": most, "default": default}
        cursor = TEXT | {"maxLength": pagination.LONGEST}
        found += [
            _parameter("query", "limit", limit, "The maximum number of entries in the page."),
            _parameter("query", "cursor", cursor, "`next_cursor` of the previous page."),
        ]
    return found


def header_parameters(route: bottle.Route, declared: Operation) -> list[dict[str, Any]]:
    """Preconditions and ranges (RFC 9110) where they are supported, and the idempotency key."""
    answers, method = declared.answers, route.method
    in_parts = any(isinstance(answer, File) and answer.ranges for answer in answers.values())
    names = ["If-None-Match"] * (method == "GET" and 200 in answers and route.rule not in TAGLESS)
    names += ["If-Match"] * (method in ("PUT", "PATCH", "DELETE") or in_parts)
    found = [_parameter("header", name, TEXT, "Entity tags, or `*` (RFC 9110).") for name in names]
    if in_parts:
        found += [
            _parameter("header", "Range", TEXT, "One range of bytes (RFC 9110)."),
            _parameter("header", "If-Range", TEXT, "The tag for which Range is valid (RFC 9110)."),
        ]
    if "idempotent" in route.config:
        key = TEXT | {"minLength": 1, "maxLength": 255}
        text = "The same request with the same key within 24 hours gets the same response."
        found.append(_parameter("header", "Idempotency-Key", key, text))
    return found


def _parameter(place: str, name: str, schema: Shape, description: str) -> dict[str, Any]:
    return {"name": name, "in": place, "schema": schema, "description": description}

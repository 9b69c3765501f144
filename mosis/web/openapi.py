"""The OpenAPI 3.1 document: made from the URL table, what the handlers declare, and the table of error codes."""

import inspect
import json
import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import bottle

from mosis import problems
from mosis.caller import ROLES, SCOPES
from mosis.web.openapi_examples import ID, body_of, example_of
from mosis.web.openapi_parameters import TAGLESS, address, header_parameters, query_parameters
from mosis.web.routing import limit_of
from mosis.web.schemas import (
    COUNT,
    LINK,
    TEXT,
    File,
    Operation,
    Shape,
    array_schema,
    is_page,
    json_schema,
)

TITLE = "mosis-portal"
PROBLEM: Shape = {
    "title": "Problem",
    "type": "object",
    "description": "RFC 9457. `code` never changes its meaning; `errors` holds every finding of a 422.",
    "properties": {
        "type": TEXT,
        "title": TEXT,
        "status": COUNT,
        "detail": TEXT,
        "code": TEXT,
        "request_id": TEXT,
        "errors": {"type": "array", "items": {"type": "object"}},
    },
    "required": ["type", "title", "status", "detail", "code", "request_id"],
}
PACKAGE = {
    "type": "string",
    "format": "binary",
    "contentMediaType": "application/vnd.mosis.package+zip",
}

# Error codes of every operation, then those that depend on its line in the URL table.
ALWAYS = (
    "malformed_request", "too_large", "uri_too_long", "header_too_large", "busy",
    "database_unavailable",
)  # fmt: skip
WITH_BODY = (
    "digest_mismatch", "malformed_json", "unsupported_media_type", "request_timeout",
    "length_required", "no_space",
)  # fmt: skip
SIGNED_IN = ("unauthenticated", "forbidden")
ANY_CREDENTIAL = ("invalid_token", "suspended")  # a credential that is sent is checked

# Public, and does more with a credential.
EITHER_WAY = (
    "POST /auth/oauth/<provider>",
    "POST /auth/email/verify",
    "POST /telemetry/events",
    "POST /telemetry/crashes",
)

# Schemas with fields that are path parameters of other operations: parameter -> field.
LINKED: dict[str, dict[str, str]] = {
    "App": {"app": "package_id"}, "Version": {"app": "package_id", "version": "version"}, "SigningKey": {"key": "id"},
    "NewApiKey": {"key": "id"}, "NewWebhook": {"webhook": "id"},
}  # fmt: skip


def description(app: bottle.Bottle, base_url: str, version: str) -> dict[str, Any]:
    """The document of an application that clients reach at `base_url`."""
    made = _Made()
    calls = [route for route in app.routes if not route.config.get("page")]  # pages are for people
    for route in sorted(calls, key=lambda route: (route.rule, METHODS.index(route.method))):
        path, parameters = address(route.rule)
        made.paths.setdefault(path, {})[route.method.lower()] = made.operation(route, parameters)
    made.link()
    return {
        "openapi": "3.1.0",
        "info": {
            "title": TITLE,
            "version": version,
            "license": {"name": "MIT", "identifier": "MIT"},
            "description": ABOUT,
        },
        "servers": [{"url": base_url}],
        "tags": [{"name": tag, "x-displayName": shown} for tag, shown in TAGS.items()],
        "paths": made.paths,
        "components": {
            "schemas": dict(sorted(made.schemas.items())),
            "responses": dict(sorted(made.responses.items())),
            "headers": HEADERS,
            "securitySchemes": SECURITY,
        },
    }


METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
# Tags in their order, and how /docs shows them. Generated clients use the names.
TAGS = {
    "Auth": "Signing in",
    "Accounts": "Accounts",
    "Recovery": "Passwords and addresses",
    "Devices": "Device login",
    "Oauth": "Sign-in at a provider",
    "Keys": "Keys",
    "Apps": "Apps",
    "Members": "Members of apps",
    "Versions": "Versions",
    "Messages": "Messages",
    "Reviews": "Review desk",
    "Store": "Store",
    "Telemetry": "Telemetry",
    "Notifications": "Notifications",
    "Events": "Events",
    "Webhooks": "Webhooks",
    "Admin": "Administration",
    "Jobs": "Jobs",
    "Backups": "Backups",
    "Health": "Health",
    "Metrics": "Metrics",
    "Docs": "Documents",
    "Cli": "Command line",
}
MODULE_TAGS = {  # module of the handler: its tag, if it differs from the module's name
    "account_recovery": "Recovery",
    "device_login": "Devices",
    "second_factor": "Auth",
    "trusted_publishers": "Members",
    "listing_changes": "Reviews",
    "abuse_reports": "Reviews",
    "well_known": "Docs",
    "front_ends": "Admin",
    "review_messages": "Messages",
    "rollout_plans": "Versions",
    "store_changes": "Store",
}
ABOUT = """The contract of this API. The same [in words](docs/API); the meaning of [every error code](docs/errors).

Everything under `/v1` is also available without the prefix. Lists are paginated: follow `next_cursor` or the `Link` header. Every
response has `X-Request-Id`; every GET of a resource has a strong `ETag`."""
SECURITY = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "An access token from a sign-in, or an API key.",
    },
    "key": {
        "type": "apiKey",
        "in": "header",
        "name": "X-API-Key",
        "description": "An API key: `mk_live_...`.",
    },
}
_HEADERS = {
    "X-Request-Id": "The id of the request in the log and in every error.",
    "Idempotency-Replayed": "`true`: the response of an earlier request with the same key.",
    "ETag": "The strong entity tag of the resource.",
    "Location": "The address of the resource.",
    "Link": 'The next page: `<...>; rel="next"` (RFC 8288).',
    "RateLimit": "Remaining requests by policy (draft-ietf-httpapi-ratelimit-headers).",
    "RateLimit-Policy": "The policies: requests and window.",
    "Retry-After": "Seconds to wait before the next attempt.",
    "WWW-Authenticate": "The authentication scheme (RFC 6750).",
}
_NOT_TEXT = {"Location": LINK, "Retry-After": COUNT}
HEADERS = {
    name: {"description": text, "schema": _NOT_TEXT.get(name, TEXT)}
    for name, text in _HEADERS.items()
}


class _Made:
    """The document while it is made."""

    def __init__(self) -> None:
        self.paths: dict[str, dict[str, Any]] = {}
        self.responses: dict[str, Any] = {}
        self.schemas: dict[str, Any] = {}
        self._known: dict[str, Shape] = {}

    def operation(self, route: bottle.Route, parameters: list[dict[str, Any]]) -> dict[str, Any]:
        declared: Operation = getattr(
            route.callback, "operation", Operation({200: {"type": "object"}})
        )
        summary, _, more = (inspect.getdoc(route.callback) or route.callback.__name__).partition(
            "\n"
        )
        module = route.callback.__module__.rpartition(".")[2]
        tag = MODULE_TAGS.get(module, module.capitalize())
        made: dict[str, Any] = {
            "operationId": operation_id(route),
            "tags": [tag],
            "summary": summary.rstrip("."),
            "security": [{}, {"bearer": []}]
            if f"{route.method} {route.rule}" in EITHER_WAY
            else security(route.config["scope"]),
            "parameters": parameters
            + query_parameters(declared)
            + header_parameters(route, declared),
        }
        if more.strip():
            made["description"] = more.strip()
        if "deprecated" in route.config:
            made["deprecated"] = True
        content = self.body(route, declared)
        if content:
            made["requestBody"] = {
                "required": bool(declared.body) and not declared.optional,
                "content": content,
            }
        made["responses"] = self.answers(route, declared) | self.refusals(codes(route, declared))
        made = described(made, operation_id(route))
        return made

    def body(self, route: bottle.Route, declared: Operation) -> dict[str, Any]:
        if route.config.get("body") == "package":
            form = json_schema(declared.body or {})
            form["properties"] = {"package": PACKAGE} | form["properties"]
            return {
                "application/vnd.mosis.package+zip": {"schema": PACKAGE},
                "multipart/form-data": {"schema": form | {"required": ["package"]}},
            }
        if declared.body is None:
            return {}
        schema = json_schema(declared.body)
        if declared.array is not None:
            schema = {"oneOf": [schema, array_schema(declared.array)]}
        media = {"schema": schema, "example": body_of(operation_id(route), declared.body)}
        return {"application/json": media} | (
            {"application/x-www-form-urlencoded": media} if declared.form else {}
        )

    def answers(self, route: bottle.Route, declared: Operation) -> dict[str, Any]:
        headers = ["X-Request-Id"] + (
            [] if limit_of(route) == "none" else ["RateLimit", "RateLimit-Policy"]
        )
        found: dict[str, Any] = {}
        for status, answer in declared.answers.items():
            names = list(headers)
            if status in (201, 302, 303):
                names.append("Location")
            if "idempotent" in route.config:
                names.append("Idempotency-Replayed")
            if route.method == "GET" and status == 200 and route.rule not in TAGLESS:
                names.append("ETag")
                found["304"] = {
                    "description": "Not modified.",
                    "headers": _headers([*headers, "ETag"]),
                }
            made: dict[str, Any] = {"description": _meaning(status)}
            if isinstance(answer, File):
                bytes_of_it = {
                    "type": "string",
                    "format": "binary",
                    "contentMediaType": answer.media_type,
                }
                is_json = answer.media_type.endswith(("/json", "+json"))
                made["content"] = {
                    answer.media_type: {"schema": {"type": "object"} if is_json else bytes_of_it}
                }
                if answer.ranges:
                    found["206"] = made | {
                        "description": "Partial content: the requested range.",
                        "headers": _headers(names),
                    }
            elif answer is not None:
                if "next_cursor" in answer.get("properties", {}):
                    names.append("Link")
                made["content"] = {
                    "application/json": {
                        "schema": self.named(answer),
                        "example": example_of("", answer),
                    }
                }
                if declared.streams:
                    made["content"]["text/event-stream"] = {"schema": {"type": "string"}}
            found[str(status)] = made | {"headers": _headers(names)}
        return dict(sorted(found.items()))

    def refusals(self, by: Iterable[str]) -> dict[str, Any]:
        """The error responses by status. Each set of codes is described once."""
        grouped: dict[int, list[str]] = {}
        for code in sorted(set(by)):
            grouped.setdefault(problems.status(code), []).append(code)
        found = {}
        for status, together in sorted(grouped.items()):
            name = f"{status}_{'_or_'.join(together)}"
            headers = (
                ["X-Request-Id"]
                + ["WWW-Authenticate"] * (status == 401)
                + ["Retry-After"] * (status in (409, 429, 503, 507))
            )
            self.responses[name] = {
                "description": "; ".join(
                    f"`{code}`: {problems.PROBLEMS[code][1]}" for code in together
                ),
                "headers": _headers(headers),
                "content": {
                    problems.CONTENT_TYPE: {
                        "schema": self.named(PROBLEM),
                        "examples": {
                            code: {
                                "value": problems.document(
                                    code, problems.PROBLEMS[code][1] + ".", ID
                                )
                            }
                            for code in together
                        },
                    }
                },
            }
            found[str(status)] = {"$ref": f"#/components/responses/{name}"}
        return found

    def named(self, what: Shape) -> Shape:
        """The schema, in which everything with a title is a reference to the components."""
        if isinstance(what, list):
            return [self.named(part) for part in what]
        if not isinstance(what, dict):
            return what
        inside = {
            key: {name: self.named(field) for name, field in part.items()}
            if key == "properties"
            else self.named(part)
            for key, part in what.items()
        }
        if "title" not in what or what.get("type") != "object":
            return inside
        name = what["title"]
        if self._known.setdefault(name, what) != what:
            raise ValueError(f"there are two schemas with the name {name}")
        self.schemas[name] = described(inside, name)
        return {"$ref": f"#/components/schemas/{name}"}

    def link(self) -> None:
        """Links (OpenAPI) from operations that create a resource to those whose path it is part of."""
        calls = [(path, call) for path, calls in self.paths.items() for call in calls.values()]
        for path, call in calls:
            made = call["responses"].get("201", {}).get("content", {}).get("application/json", {})
            name = made.get("schema", {}).get("$ref", "").rpartition("/")[2]
            links = {}
            for other, linked in calls:
                asked = set(re.findall(r"{(\w+)}", other))
                if (
                    name in LINKED
                    and asked
                    and asked <= set(LINKED[name])
                    and (name not in KEYS or other.startswith(path))
                ):
                    links[linked["operationId"]] = {
                        "operationId": linked["operationId"],
                        "parameters": {
                            each: f"$response.body#/{LINKED[name][each]}" for each in sorted(asked)
                        },
                    }
            if links:
                call["responses"]["201"]["links"] = links


# both are {key}: each links only to addresses under its own list
KEYS = ("SigningKey", "NewApiKey")


# Where the words of the address would say the same twice, or too little.
OPERATION_IDS = {
    "POST /auth/register": "auth_register",
    "POST /apps/<app>/transfer": "apps_transfer",
    "GET /invitations/<token>": "received_invitations_get",
    "POST /invitations/<token>/accept": "received_invitations_accept",
    "GET /listing-changes": "listing_reviews_list",
    "GET /listing-changes/<change>": "listing_reviews_get",
    "POST /listing-changes/<change>/approve": "listing_reviews_approve",
    "POST /listing-changes/<change>/reject": "listing_reviews_reject",
    "POST /store/apps/<package_id>/reports": "store_apps_report",
    "GET /reports": "reported_apps_list",
    "GET /reports/<app>": "reports_list",
    "POST /admin/backups": "admin_backups_create",
    "GET /docs/<name>": "docs_document_get",
    "GET /store/apps/<package_id>/download": "store_apps_download",
    "GET /store/index/<sequence>.json": "store_index_numbered_get",
    "GET /telemetry/devices/<device_id>": "telemetry_devices_get",
    "GET /packages/<developer_id>/<app_id>/<version>/package.mosis": "packages_get",
}
_VERBS = {"GET": "get", "PUT": "put", "PATCH": "update", "DELETE": "delete"}


def operation_id(route: bottle.Route) -> str:
    """The operationId, from which generated clients make the names of functions: the nouns of the
    address and a verb (`signing_keys_list`, `analytics_get`, `versions_publish`)."""
    known = OPERATION_IDS.get(f"{route.method} {route.rule}")
    if known is not None:
        return known
    nouns = re.sub("^/keys(?![a-z])", "/api-keys", re.sub("^/apps/<app>/", "/", route.rule))
    words = re.findall("[a-z0-9]+", re.sub("<[^>]*>", "", nouns))
    declared: Operation = route.callback.operation
    if route.method == "POST":  # the last word is the verb, unless something is created
        return "_".join([*words, "create"] if 201 in declared.answers else words)
    is_list = any(is_page(answer) for answer in declared.answers.values())
    return "_".join([*words, "list" if is_list else _VERBS[route.method]])


def security(scope: str) -> list[dict[str, list[str]]]:
    """The security requirement of a scope: none, a session, or also an API key with this scope."""
    if scope == "public":
        return []
    if scope in ("account", "session"):
        return [{"bearer": []}]
    if scope == "any":
        return [{"bearer": []}, {"key": []}]
    return [{"bearer": [scope]}, {"key": [scope]}]


def codes(route: bottle.Route, declared: Operation) -> set[str]:
    """Every error code of an operation."""
    found = {*ALWAYS, *ANY_CREDENTIAL, *declared.refuses.split()}
    scope = route.config["scope"]
    if route.method in ("POST", "PATCH", "PUT", "DELETE"):
        found |= {*WITH_BODY}
    if declared.body is not None or declared.query:
        found |= {"invalid"}
    if scope != "public":
        found |= {*SIGNED_IN}
    if scope in SCOPES:
        found |= {"insufficient_scope"}
    if scope in ROLES or route.config.get("limited") == "refused":
        found |= {"limited_to_apps"}
    if scope in ("reviewer", "admin") or "<app>" in route.rule:
        found |= {"second_factor_missing"}
    if "<" in route.rule:
        found |= {"not_found"}
    if any(is_page(answer) for answer in declared.answers.values()):
        found |= {"bad_cursor"}
    tagged = route.method == "GET" and 200 in declared.answers and route.rule not in TAGLESS
    if tagged or route.method in ("PUT", "PATCH", "DELETE"):
        found |= {"precondition_failed"}
    if any(isinstance(answer, File) and answer.ranges for answer in declared.answers.values()):
        found |= {"range_not_satisfiable", "package_unavailable", "precondition_failed"}
    if "idempotent" in route.config:
        found |= {"idempotency_in_progress", "idempotency_key_reused"}
    if limit_of(route) != "none" or "rate_limited" in declared.refuses:
        found |= {"rate_limited"}
    assert scope in {"public", "any", "account", "session", *ROLES, *SCOPES}
    return found


def _headers(names: Iterable[str]) -> dict[str, Any]:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _meaning(status: int) -> str:
    """The description of a successful response."""
    return {
        200: "OK.",
        201: "Created.",
        202: "Accepted; processed in the background.",
        204: "No content.",
        302: "Redirect to the file.",
        303: "Redirect to the page that began the sign-in.",
    }.get(status, "OK.")


PAGE = "The rows of this page."


@cache
def properties() -> dict[str, str]:
    """The descriptions by name of the property, `Schema.name` or `operation.name`."""
    path = Path(__file__).with_name("properties.json")
    found: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))
    return found


def described(what: Any, within: str) -> Any:
    """A copy of a schema, or of what contains schemas, with a description of each property. `within`
    is the name of the schema or of the operation. Raises KeyError for a property without
    one."""
    if isinstance(what, list):
        return [described(each, within) for each in what]
    if not isinstance(what, dict):
        return what
    found = {
        key: part if key == "example" else described(part, within) for key, part in what.items()
    }
    fields = found.get("properties", {})
    for name, field in fields.items():
        rows = "next_cursor" in fields and field.get("type") == "array"
        text = properties().get(f"{within}.{name}") or (PAGE if rows else properties()[name])
        field.setdefault("description", text)
    return found

"""The OpenAPI 3.1 document, generated from the URL table, the declarations of the handlers, and the
table of codes."""

import inspect
import re
from collections.abc import Iterable
from typing import Any

import bottle

from mosis import problems
from mosis.caller import ROLES, SCOPES
from mosis.database import pagination
from mosis.validation import Schema
from mosis.web.openapi_examples import EXAMPLES, ID, body_of, example_of
from mosis.web.openapi_schemas import COUNT, TEXT, File, Operation, Shape, nullable, shape
from mosis.web.routing import API_PREFIX, UNVERSIONED, limit_of

TITLE = "mosis-portal"
FINDING = shape("Finding", pointer=TEXT, code=TEXT, detail=TEXT)
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

# Errors that every call can return, then those that depend on its line in the URL table.
ALWAYS = (
    "malformed_request",
    "too_large",
    "uri_too_long",
    "header_too_large",
    "busy",
    "database_unavailable",
)
WITH_BODY = (
    "digest_mismatch",
    "malformed_json",
    "unsupported_media_type",
    "request_timeout",
    "length_required",
    "no_space",
)
SIGNED_IN = ("unauthenticated", "forbidden")
ANY_CREDENTIAL = ("invalid_token", "suspended")  # a credential that is sent is checked

TAGLESS = (
    "/docs",
    "/metrics",
)  # GETs without a tag: a page that is built for each request, current figures
# Public, with more for signed-in callers.
EITHER_WAY = (
    "POST /auth/oauth/<provider>",
    "POST /auth/email/verify",
    "POST /telemetry/events",
    "POST /telemetry/crashes",
)

PARAMETERS = {
    "app": "The app's package_id or id.",
    "version": "The version string or the version's id.",
    "review": "The review's id.",
    "package_id": "The app's package_id.",
    "key": "The key's id.",
    "session": "The session's id.",
    "developer": "The developer's id.",
    "developer_id": "The developer's id.",
    "app_id": "The app's id.",
    "provider": "`github`, `google`, or the operator's name for the issuer.",
    "member": "The account id of the member.",
    "invitation": "The invitation's id.",
    "token": "The token of the mail.",
    "group": "The crash group's id.",
    "device_id": "64 hex characters, as the device sends them.",
    "event": "The notification's id.",
    "job": "The job's id.",
    "user_code": "The code shown by the device.",
    "webhook": "The webhook's id.",
    "delivery": "The delivery's id.",
    "size": "Pixels.",
    "sequence": "As in `index_url` of the signatures.",
    "number": "Counted from 0.",
    "name": "Without `.md`.",
    "file": "As in the page.",
    "path": "The file's path in the package, including slashes.",
}
LONGEST_IN_PATH = 255  # characters: nothing has a longer name
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
# Fields of responses that are parameters of other calls: parameter -> field.
LINKED: dict[str, dict[str, str]] = {
    "App": {"app": "package_id"}, "Version": {"app": "package_id", "version": "version"}, "SigningKey": {"key": "id"},
    "NewApiKey": {"key": "id"}, "NewWebhook": {"webhook": "id"},
}  # fmt: skip


def description(app: bottle.Bottle, base_url: str, version: str) -> dict[str, Any]:
    """The OpenAPI document of an application, with the address that clients use."""
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
# The tags in order of use; generated clients use their names.
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
    "well_known": "Docs",
    "review_messages": "Messages",
    "rollout_plans": "Versions",
    "store_changes": "Store",
}
ABOUT = """The contract for REST clients and curl scripts. See the same [as text](docs/API), and the meaning of [every error
code](docs/errors).

All paths under `/v1` also work without the prefix. Lists are paginated: follow `next_cursor` or the `Link` header. Every response
has `X-Request-Id`; every GET of a resource has a strong `ETag`."""
SECURITY = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "An access token of a session, or an API key.",
    },
    "key": {
        "type": "apiKey",
        "in": "header",
        "name": "X-API-Key",
        "description": "An API key: `mk_live_...`.",
    },
}
HEADERS: dict[str, Any] = {
    "X-Request-Id": {"description": "Also in the log and in every error.", "schema": TEXT},
    "Idempotency-Replayed": {
        "description": "`true`: this is the stored response to an earlier identical request.",
        "schema": TEXT,
    },
    "ETag": {"description": "The strong entity tag of the current representation.", "schema": TEXT},
    "Location": {
        "description": "The address of the resource.",
        "schema": {"type": "string", "format": "uri-reference"},
    },
    "Link": {"description": 'The next page: `<...>; rel="next"` (RFC 8288).', "schema": TEXT},
    "RateLimit": {
        "description": (
            "The remaining requests of the limits that apply "
            "(draft-ietf-httpapi-ratelimit-headers)."
        ),
        "schema": TEXT,
    },
    "RateLimit-Policy": {"description": "The limits that apply.", "schema": TEXT},
    "Retry-After": {
        "description": "Seconds until a retry may succeed.",
        "schema": COUNT,
    },
    "WWW-Authenticate": {"description": "The required authentication (RFC 6750).", "schema": TEXT},
}


class _Made:
    """What was generated so far."""

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
            made["requestBody"] = {"required": not declared.optional, "content": content}
        made["responses"] = self.answers(route, declared) | self.refusals(codes(route, declared))
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
        media = {
            "schema": json_schema(declared.body),
            "example": body_of(operation_id(route), declared.body),
        }
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
            made: dict[str, Any] = {"description": problems_title(status)}
            if isinstance(answer, File):
                bytes_of_it = {
                    "type": "string",
                    "format": "binary",
                    "contentMediaType": answer.media_type,
                }
                is_json = answer.media_type == "application/json"
                made["content"] = {
                    answer.media_type: {"schema": {"type": "object"} if is_json else bytes_of_it}
                }
                if answer.ranges:
                    found["206"] = made | {
                        "description": "The requested part.",
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
        """The errors by status. Equal sets of codes are described once."""
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
        """The schema, with named parts moved to the components and referenced."""
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
        self.schemas[name] = inside
        return {"$ref": f"#/components/schemas/{name}"}

    def link(self) -> None:
        """Links from a call that creates an object to the calls whose address contains its id."""
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


KEYS = (
    "SigningKey",
    "NewApiKey",
)  # both are {key}: each links only to addresses under its own list


def operation_id(route: bottle.Route) -> str:
    """The operation id: module and handler."""
    return f"{route.callback.__module__.rpartition('.')[2]}_{route.callback.__name__}"


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


def security(scope: str) -> list[dict[str, list[str]]]:
    """The security requirement: none, a session, or also a key with the scope."""
    if scope == "public":
        return []
    if scope in ("account", "session"):
        return [{"bearer": []}]
    if scope == "any":
        return [{"bearer": []}, {"key": []}]
    return [{"bearer": [scope]}, {"key": [scope]}]


def query_parameters(declared: Operation) -> list[dict[str, Any]]:
    """The query parameters; paginated lists have limit and cursor."""
    found = [
        {
            "name": name,
            "in": "query",
            "required": bool(rules.get("required")),
            "schema": _rule(rules),
        }
        | ({"description": rules["meta"]} if "meta" in rules else {})
        for name, rules in declared.query.items()
    ]
    if any(is_page(answer) for answer in declared.answers.values()):
        limit = {
            "type": "integer",
            "minimum": 1,
            "maximum": pagination.MOST,
            "default": pagination.DEFAULT,
        }
        cursor = TEXT | {"maxLength": pagination.LONGEST}
        found += [
            {
                "name": "limit",
                "in": "query",
                "schema": limit,
                "description": "Maximum number of items.",
            },
            {
                "name": "cursor",
                "in": "query",
                "schema": cursor,
                "description": "`next_cursor` of the previous page.",
            },
        ]
    return found


def header_parameters(route: bottle.Route, declared: Operation) -> list[dict[str, Any]]:
    """Headers for preconditions and ranges (RFC 9110) where they are supported, and the idempotency
    key."""
    method, in_parts = (
        route.method,
        any(isinstance(answer, File) and answer.ranges for answer in declared.answers.values()),
    )
    names = ["If-None-Match"] * (
        method == "GET" and 200 in declared.answers and route.rule not in TAGLESS
    )
    names += ["If-Match"] * (method in ("PUT", "PATCH", "DELETE") or in_parts)
    found = [
        {"name": name, "in": "header", "schema": TEXT, "description": "Entity tags, or `*`."}
        for name in names
    ]
    if in_parts:
        found.append(
            {
                "name": "Range",
                "in": "header",
                "schema": TEXT,
                "description": "One range of bytes (RFC 9110).",
            }
        )
        found.append(
            {
                "name": "If-Range",
                "in": "header",
                "schema": TEXT,
                "description": "Send the range only if the tag is still this one.",
            }
        )
    if "idempotent" in route.config:
        name = {
            "name": "Idempotency-Key",
            "in": "header",
            "schema": TEXT | {"minLength": 1, "maxLength": 255},
        }
        found.append(
            name
            | {"description": ("Retries with the same key within 24 hours get the same response.")}
        )
    return found


def codes(route: bottle.Route, declared: Operation) -> set[str]:
    """Every error code that a call can return."""
    found = {*ALWAYS, *ANY_CREDENTIAL, *declared.refuses}
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


def json_schema(schema: Schema) -> Shape:
    """A Cerberus schema as JSON Schema; unknown fields are not allowed."""
    found: Shape = {
        "type": "object",
        "properties": {name: _rule(rules) for name, rules in schema.items()},
        "additionalProperties": False,
    }
    required = [name for name, rules in schema.items() if rules.get("required")]
    return found | ({"required": required} if required else {})


_TYPES = {"dict": "object", "list": "array"}
_BOUNDS = {
    "string": ("minLength", "maxLength"),
    "array": ("minItems", "maxItems"),
    "object": ("minProperties", "maxProperties"),
}


def _rule(rules: dict[str, Any]) -> Shape:
    """The rules of one value."""
    types_of_rule = rules.get("type", [])
    types = [
        _TYPES.get(kind, kind)
        for kind in ([types_of_rule] if isinstance(types_of_rule, str) else types_of_rule)
    ]
    found: Shape = {}
    for kind in types:
        least, most = _BOUNDS.get(kind, ("", ""))
        found |= {
            name: rules[rule]
            for name, rule in ((least, "minlength"), (most, "maxlength"))
            if name and rule in rules
        }
    found |= {
        name: rules[rule]
        for name, rule in (("minimum", "min"), ("maximum", "max"))
        if rule in rules
    }
    if "regex" in rules:
        found["pattern"] = f"^(?:{rules['regex'].removesuffix(chr(92) + 'Z')})$"
    if "allowed" in rules:
        found["enum"] = list(rules["allowed"])
    if "schema" in rules and "array" in types:
        found["items"] = _rule(rules["schema"])
    elif "schema" in rules:
        found |= json_schema(rules["schema"])
    if "keysrules" in rules:
        found["propertyNames"] = _rule(rules["keysrules"])
    if "valuesrules" in rules:
        found["additionalProperties"] = _rule(rules["valuesrules"])
    if rules.get("nullable"):
        types, found = (
            [*types, "null"],
            found | ({"enum": [*found["enum"], None]} if "enum" in found else {}),
        )
    return found | {"type": types[0] if len(types) == 1 else types} if types else found


def is_page(answer: Any) -> bool:
    properties = answer.get("properties", {}) if isinstance(answer, dict) else {}
    return properties.get("next_cursor") == nullable(TEXT)


def _headers(names: Iterable[str]) -> dict[str, Any]:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def problems_title(status: int) -> str:
    """The description of a successful response."""
    return {
        200: "OK.",
        201: "Created.",
        202: "Accepted; processed in the background.",
        204: "No content.",
        302: "Redirect.",
        303: "Redirect to the page that started the sign-in.",
    }.get(status, "OK.")

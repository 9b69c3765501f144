"""Reading requests: body, query, and the requested page of a list."""

import hashlib
import zlib
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl

import bottle

from mosis.context import Context
from mosis.database import pagination
from mosis.database.pagination import Page, PageRequest
from mosis.errors import Conflict, Invalid, LimitReached, Malformed, MalformedRequest
from mosis.validation import MOST_FINDINGS, Finding, FurtherRules, Schema, check, finding, findings
from mosis.validation.choices import one_of
from mosis.validation.strict_json import dump_json as dump
from mosis.validation.strict_json import load_json
from mosis.web.digest_fields import check_digests
from mosis.web.schemas import ARRAY_ITEMS, Operation

JSON_LIMIT_BYTES = 1 << 20
FORM = "application/x-www-form-urlencoded"
_CURSOR = "`cursor` with the `next_cursor` of the previous response"
OTHER_PAGING = {"page": _CURSOR, "offset": _CURSOR, "per_page": "`limit`", "page_size": "`limit`"}
GZIP_MEMBERS = 100  # of a body; each costs some time, however short it is


def read_header(environ: Mapping[str, Any], variable: str) -> str:
    """A header by its name in the WSGI environment, empty if it is missing. As bottle.request.get_header,
    which takes ten times as long."""
    value: str = environ.get(variable, "")
    return value if value.isascii() else value.encode("latin-1").decode()


def read_declared(operation: Operation, further: FurtherRules | None) -> Any:
    """Read the body as the operation declares it: a JSON object, or one of the other forms that it
    allows (a form, compressed, an array of objects). Raises Malformed `malformed_json`,
    `malformed_request` or `unsupported_media_type`, LimitReached `too_large`, Invalid."""
    assert operation.body is not None
    if operation.gzip_limit_bytes:
        return _packed_json(operation.gzip_limit_bytes)
    if operation.form:
        return _form_or_json(operation.body, further=further)
    if operation.array is not None:
        return _array_or_object(operation.array, operation.body, further)
    return _json(operation.body, optional=operation.optional or not operation.body, further=further)


def _array_or_object(items: Schema, schema: Schema, further: FurtherRules | None) -> Any:
    """A list of objects whose known fields fit `items`, or one object as `_json` returns it."""
    body = read_body(JSON_LIMIT_BYTES)
    refuse_coding()
    bottle.request.environ["mosis.body"] = body  # for a signature of its bytes
    document = _document(body)
    if not isinstance(document, list):
        return check(_as_object(document), schema, further)
    if not 1 <= len(document) <= ARRAY_ITEMS:
        detail = f"The array must have 1 to {ARRAY_ITEMS} objects."
        raise Invalid([finding("", "too_long" if document else "too_short", detail)])
    found: list[Finding] = []
    for number, each in enumerate(document):
        if isinstance(each, dict):
            known = {name: value for name, value in each.items() if name in items}
            wrong = findings(known, items)
        else:
            wrong = [finding("", "wrong_type", "This must be of type object.")]
        found += [one | {"pointer": f"/{number}{one['pointer']}"} for one in wrong]
    if found:
        raise Invalid(found[:MOST_FINDINGS])
    return document


def _json(
    schema: Schema, *, optional: bool = False, further: FurtherRules | None = None
) -> dict[str, Any]:
    """The JSON object of the body, validated. With `optional`, a missing body is an empty object;
    `further` has the rules that no schema can express, see `validation.check`."""
    body = read_body(JSON_LIMIT_BYTES)
    if optional and not body:
        return check({}, schema, further)
    refuse_coding()
    return check(_object(body), schema, further)


def refuse_coding() -> None:
    """Raises `unsupported_media_type` for a compressed body: its size would not be bounded."""
    if _coding() != "identity":
        detail = "Send the body as it is, without Content-Encoding."
        raise Malformed("unsupported_media_type", detail, accept_encoding="identity")


def _form_or_json(schema: Schema, *, further: FurtherRules | None = None) -> dict[str, Any]:
    """As `_json`, or a form (application/x-www-form-urlencoded), which OAuth clients send."""
    if _media_type() != FORM:
        return _json(schema, further=further)
    pairs = read_form_pairs()
    fields = dict(pairs)
    if len(fields) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise MalformedRequest(f"The form has `{_shown(twice)}` more than once.")
    return check(fields, schema, further)


def read_form_pairs() -> list[tuple[str, str]]:
    """The fields of a form (application/x-www-form-urlencoded) in their order. Raises Malformed, LimitReached `too_large`."""
    if _media_type() != FORM:
        detail = f"Send a form, with the header `Content-Type: {FORM}`."
        raise Malformed("unsupported_media_type", detail, accept=FORM)
    refuse_coding()
    body = read_body(JSON_LIMIT_BYTES)
    try:
        text = body.decode("ascii")
        return parse_qsl(
            text,
            keep_blank_values=True,
            strict_parsing=bool(text),
            max_num_fields=50,
            errors="strict",
        )
    except ValueError:
        raise MalformedRequest(
            "The form cannot be read: send up to 50 fields as "
            "application/x-www-form-urlencoded, in UTF-8."
        ) from None


def _packed_json(limit_bytes: int) -> dict[str, Any]:
    """The JSON object of a body that may be compressed with gzip, not validated; compressed and
    decompressed size are limited to `limit_bytes`. Raises Malformed, LimitReached `too_large`."""
    body = read_body(limit_bytes)
    coding = _coding()
    if coding in ("gzip", "x-gzip"):
        body = _unpacked(body, limit_bytes)
    elif coding != "identity":
        detail = "Send the body as it is, or with Content-Encoding gzip."
        raise Malformed("unsupported_media_type", detail, accept_encoding="gzip, identity")
    return _object(body)


def read_body(limit_bytes: int) -> bytes:
    request = bottle.request
    body: bytes = b""
    if request.content_length <= limit_bytes and _has_body():
        body = request.environ["wsgi.input"].read(limit_bytes + 1)
    if max(request.content_length, len(body)) > limit_bytes:
        raise _too_large(limit_bytes)
    check_digests(request.get_header, body)
    return body


def _unpacked(body: bytes, limit_bytes: int) -> bytes:
    """Decompress gzip members (RFC 1952, 2.2), never more than the limit and one byte."""
    content = b""
    for _ in range(GZIP_MEMBERS):
        unpacker = zlib.decompressobj(wbits=31)
        try:
            content += unpacker.decompress(body, limit_bytes + 1 - len(content))
        except zlib.error:
            raise MalformedRequest(
                "The body is not gzip (RFC 1952) or is damaged: compress it again, or send it "
                "without Content-Encoding."
            ) from None
        if len(content) > limit_bytes:
            raise _too_large(limit_bytes)
        if not unpacker.eof:
            raise MalformedRequest("The gzip body is cut off.")
        body = unpacker.unused_data
        if not body.strip(b"\0"):  # zeros at the end are padding, as for gzip(1)
            return content
    raise MalformedRequest(f"A gzip body may have at most {GZIP_MEMBERS} members; send one.")


def _media_type() -> str:
    """The media type of the body, without parameters."""
    return str(bottle.request.content_type.partition(";")[0].strip().lower())


def _coding() -> str:
    """The content coding of the body; an empty header is none."""
    coding: str = bottle.request.get_header("Content-Encoding", "").strip().lower()
    return coding or "identity"


def _object(body: bytes) -> dict[str, Any]:
    return _as_object(_document(body))


def _document(body: bytes) -> Any:
    kind = _media_type()
    if kind != "application/json" and not kind.endswith("+json"):
        raise Malformed(
            "unsupported_media_type",
            "Send JSON, with the header `Content-Type: application/json`.",
            accept="application/json" + f", {FORM}" * bottle.request.route.callback.operation.form,
        )
    if body.startswith(b"\x1f\x8b"):
        detail = "The body is gzip, once more than its Content-Encoding says; send JSON, and compress it at most once."
        raise Malformed("malformed_json", detail)
    return load_json(body)


def _as_object(document: Any) -> dict[str, Any]:
    if not isinstance(document, dict):
        raise Malformed("malformed_json", "The body must be a JSON object.")
    return document


def _too_large(limit_bytes: int) -> LimitReached:
    detail = f"A JSON body may have at most {limit_bytes} bytes here."
    return LimitReached("too_large", detail, limit_bytes=limit_bytes)


def read_page(*types: type | tuple[type, ...]) -> PageRequest:
    """`limit` and `cursor` of the query, whose parts have these types. Raises Malformed."""
    query = bottle.request.query
    limit = query.get("limit", str(pagination.DEFAULT))
    if not (
        limit.isascii()
        and limit.isdigit()
        and len(limit) < 4
        and 1 <= int(limit) <= pagination.MOST
    ):
        raise MalformedRequest(f"limit must be a number from 1 to {pagination.MOST}.")
    cursor = query.get("cursor")
    return PageRequest(int(limit), pagination.position(cursor, *types) if cursor else None)


def read_choice(name: str, *choices: str, default: str | None = None) -> str | None:
    """A query parameter that is one of several words. Raises Malformed."""
    value = bottle.request.query.get(name)
    if value is None:
        return default
    if value not in choices:
        raise MalformedRequest(one_of(value, choices, name))
    return str(value)


def check_query(known: Schema) -> None:
    """Every parameter may occur once; an empty one counts as missing. Raises Malformed for a
    repeated one, and for the pagination parameters of other APIs."""
    query = bottle.request.query.dict
    for name, values in [*query.items()]:
        if len(values) > 1:
            raise MalformedRequest(f"The query has `{_shown(name)}` more than once.")
        if name in OTHER_PAGING and name not in known:
            raise MalformedRequest(f"There is no `{name}` here: send {OTHER_PAGING[name]}.")
        if values == [""]:
            del query[name]


def _shown(name: str) -> str:
    return "".join(filter(str.isprintable, name))[:50]


def read_number(name: str, most: int) -> int:
    """A whole number in the query; 0 if it is missing. Raises Malformed."""
    value = bottle.request.query.get(name, "0")
    if not (value.isascii() and value.isdigit() and len(value) < 20 and int(value) <= most):
        raise MalformedRequest(f"{name} must be a number from 0 to {most}.")
    return int(value)


def read_switch(name: str) -> bool:
    """A query parameter that is `true` or `false`; false if it is missing. Raises Malformed."""
    return read_choice(name, "true", "false", default="false") == "true"


def check_lengths(longest: dict[str, int]) -> None:
    """Raises Malformed if a parameter of the query is too long."""
    query = bottle.request.query
    for name, most in longest.items():
        if name in query.dict and len(query.getunicode(name) or "") > most:
            raise MalformedRequest(f"{name} may have at most {most} characters.")


def spend(env: Context, name: str, key: str) -> None:
    """Count the request for an additional limit, which is reported too. Raises LimitReached."""
    taken = env.limits.take(name, key)
    if taken is not None:
        environ = bottle.request.environ
        environ["mosis.taken"] = [*environ.get("mosis.taken", ()), taken]


def listed(name: str, page: Page[Any], shown: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    """A page as a response: an object with the next page's cursor, and a Link header (RFC 8288)."""
    if page.next_cursor:
        query = bottle.request.query
        route = bottle.request.environ.get("bottle.route")
        known = {"limit", *route.callback.operation.query} if route is not None else set()
        # unknown parameters are left out, because the response may be cached for others
        parts = [(key, value) for key, value in query.allitems() if key in known] + [
            ("cursor", page.next_cursor)
        ]
        # as decoded by Bottle
        address = bottle.request.fullpath + "?" + bottle.urlencode(parts, encoding="latin-1")
        bottle.response.set_header("Link", f'<{address}>; rel="next"')
    return {name: shown, "next_cursor": page.next_cursor, **more}


def created(document: dict[str, Any], location: str) -> dict[str, Any]:
    """201 with the address of the new object."""
    bottle.response.status = 201
    bottle.response.set_header(
        "Location", bottle.request.environ.get("mosis.prefix", "") + location
    )
    return document


def accepts_html(accept: str) -> bool:
    """Whether an Accept header allows a page: everything except programs that accept JSON only."""
    return "json" not in accept or "text/html" in accept


def etag(body: bytes) -> str:
    """A strong entity tag (RFC 9110, section 8.8.3): the hash of the response body."""
    return '"' + urlsafe_b64encode(hashlib.sha256(body).digest()[:15]).decode() + '"'


def gzip_tag(tag: str) -> str:
    """The strong entity tag of a response's gzip form: never shared by two forms (8.8.3)."""
    return f'{tag[:-1]}-gzip"'


def names_tag(header: str, tag: str, *, strong: bool = False) -> bool:
    """Whether If-None-Match, or with `strong` If-Match, contains this tag (RFC 9110, section 13.1)."""
    tags = (
        each.strip() if strong else each.strip().removeprefix("W/") for each in header.split(",")
    )
    return header.strip() == "*" or tag in tags


def require_tag(tag: str) -> None:
    """Raises `precondition_failed` if a GET's If-Match names another state (RFC 9110, 13.1.1)."""
    environ = bottle.request.environ
    if "HTTP_IF_MATCH" in environ and not names_tag(
        read_header(environ, "HTTP_IF_MATCH"), tag, strong=True
    ):
        detail = "The resource has changed since the tag in the request."
        raise Conflict("precondition_failed", detail)


def require_match(now: Callable[[], dict[str, Any]] | None) -> None:
    """Raises Conflict `precondition_failed` if If-Match names another state than the current one;
    None: no address returns a tag for this resource, so only `*` matches."""
    environ = bottle.request.environ
    header = read_header(environ, "HTTP_IF_MATCH")
    if "HTTP_IF_MATCH" not in environ or header.strip() == "*":
        return
    tag = etag(dump(now())) if now else ""
    # Both representations have the same state, and the client may have read either.
    if not tag or not any(names_tag(header, each, strong=True) for each in (tag, gzip_tag(tag))):
        raise Conflict(
            "precondition_failed",
            "The resource has changed since you read it; read it again and repeat the "
            "change if it still applies.",
        )


def _has_body() -> bool:
    environ = bottle.request.environ
    return environ.get("CONTENT_LENGTH", "") not in ("", "0") or environ.get(
        "wsgi.input_terminated", False
    )

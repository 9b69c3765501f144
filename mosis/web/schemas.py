"""Request and response schemas, declared on the handlers: `@operation({201: APP}, body=CREATE)`.
Short names for JSON Schema.

`openapi` generates the OpenAPI document from them. Schemas of responses are declared once, next to
the function that fills them (`shown`); the plugin `Inputs` validates a body and passes it to the
handler. The test suite compares every response, and every accepted request, with the document.
"""

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import field
from operator import attrgetter
from typing import Any, TypeVar

from mosis import clock
from mosis.context import Context
from mosis.records import dataclass
from mosis.validation import Finding, Schema
from mosis.validation.strict_json import load_stored

Shape = dict[str, Any]
Further = Callable[[Context, Mapping[str, Any]], Iterable[Finding]]
Handler = TypeVar("Handler", bound=Callable[..., Any])

TEXT: Shape = {"type": "string"}
LINK: Shape = {"type": "string", "format": "uri-reference"}
COUNT: Shape = {"type": "integer", "minimum": 0}
# The types of Python as schemas: an `int` is not negative, a `dict` is an object of any fields.
_OF_TYPES: dict[type, Shape] = {
    str: TEXT,
    int: COUNT,
    float: {"type": "number"},
    bool: {"type": "boolean"},
    dict: {"type": "object"},
}
_BY_WORD = {kind.__name__: schema for kind, schema in _OF_TYPES.items()} | {
    "id": {"type": "string", "format": "uuid"},
    "time": {"type": "string", "format": "date-time"},
    "date": {"type": "string", "format": "date"},
    "link": LINK,
}
_BY_ENDING = {"id": "id", "at": "time", "until": "time", "url": "link"}
_FIELD = re.compile(r"(\w+)(?::(\w+))?(\[\])?(\?)?")
ARRAY_ITEMS = 500  # at most, in a body that is an array
EMPTY: Schema = {}  # of a body without fields, which may be absent


@dataclass(frozen=True)
class File:
    """A response with bytes of a media type."""

    media_type: str
    ranges: bool = False  # whether ranges are supported


@dataclass(frozen=True)
class Operation:
    """Inputs and responses of a call, declared on its handler: a schema or a file with 200, nothing
    with 204, or a mapping by status."""

    answer: Any = None
    body: Schema | None = None
    further: Further | None = None  # rules for the body that its schema cannot express
    optional: bool = False  # whether the body may be absent; always so if it has no fields
    gzip_limit_bytes: int = 0  # of a body that may be compressed, and that the handler checks
    form: bool = False  # whether the body may be a form too
    array: Schema | None = None  # of the objects in it, if the body may be an array too
    query: Schema = field(default_factory=dict)
    matches: bool = False  # whether If-Match is honoured
    refuses: str = ""  # its own error codes; `openapi` adds those of every call
    streams: bool = False  # whether `Accept: text/event-stream` gets Server-Sent Events

    @property
    def answers(self) -> Mapping[int, Any]:
        """The schema, the file or nothing (None) by status."""
        by_status = isinstance(self.answer, dict) and all(
            isinstance(key, int) for key in self.answer
        )
        return self.answer if by_status else {204 if self.answer is None else 200: self.answer}

    def __call__(self, handler: Handler) -> Handler:
        handler.operation = self  # type: ignore[attr-defined]
        return handler


operation = Operation  # as a decorator


def shape(name: str, fields: str, /, **types: Shape | type) -> Shape:
    """An object with exactly these fields, all required; if named, it is described once and
    referenced.

    `fields` are words: `count:int` is an integer, `tags[]` a list, `notes?` may be null. Without
    a type, `id` and `app_id` are ids, `created_at` and `leased_until` times, `icon_url` is a link,
    and all others are text. Types that have no word stand in `types`.
    """
    return _object(name, _properties(fields, types))


def _object(name: str, properties: dict[str, Shape]) -> Shape:
    found: Shape = {"type": "object", "properties": properties, "required": list(properties)}
    return {"title": name} | found if name else found


def _properties(fields: str, types: Mapping[str, Shape | type]) -> dict[str, Shape]:
    found = {}
    for word in fields.split():
        match = _FIELD.fullmatch(word)
        assert match, word
        name, kind, in_list, or_null = match.groups()
        ending = "" if name == "package_id" else f"_{name}".rpartition("_")[2]
        what = types.get(name) or _BY_WORD[kind or _BY_ENDING.get(ending, "str")]
        what = many(what) if in_list else what
        found[name] = nullable(what) if or_null else _schema(what)
    assert types.keys() <= found.keys(), types.keys() - found.keys()
    return found


def _schema(what: Shape | type) -> Shape:
    return _OF_TYPES[what] if isinstance(what, type) else what


def shown(what: Shape, record: object, /, **more: Any) -> dict[str, Any]:
    """An object with this schema (a constant): the fields in `more`, and the others from the
    attributes of the record. If the schema says so, a number of the database becomes a boolean or a
    time, and stored JSON a list or an object."""
    key = (id(what), *more)
    known = _plans.get(key)
    if known is None:
        known = _plans[key] = _plan(what, more)
    _, names, read, conversions, empty = known
    found = empty.copy()  # has the order of the schema
    found.update(zip(names, read(record), strict=True))
    for name, convert in conversions:
        if (value := found[name]) is not None:
            found[name] = convert(value)
    found.update(more)
    return found


Conversion = Callable[[Any], Any]
# the schema (held, so that its id stays its own), the attributes to read, how, what to convert, all
# fields
Plan = tuple[
    Shape,
    tuple[str, ...],
    Callable[[object], tuple[Any, ...]],
    tuple[tuple[str, Conversion], ...],
    dict[str, Any],
]
_plans: dict[tuple[Any, ...], Plan] = {}  # by schema and the names in `more`


def _plan(what: Shape, more: Iterable[str]) -> Plan:
    """How `shown` reads a record: `attrgetter` reads many attributes at once."""
    given = frozenset(more)
    assert given <= what["properties"].keys(), given
    names = tuple(name for name in what["properties"] if name not in given)
    read: Callable[[object], Any] = attrgetter(*names) if names else lambda record: ()
    if len(names) == 1:
        only = read
        read = lambda record: (only(record),)  # noqa: E731
    found = ((name, _conversion(what["properties"][name])) for name in names)
    conversions = tuple((name, convert) for name, convert in found if convert is not None)
    return what, names, read, conversions, dict.fromkeys(what["properties"])


def _conversion(field: Shape) -> Conversion | None:
    kind = field.get("type", "")
    if "boolean" in kind:
        return bool
    if "array" in kind or "object" in kind:
        return lambda value: load_stored(value) if isinstance(value, str) else value
    if field.get("format") == "date-time":
        return lambda value: clock.text(value) if isinstance(value, int) else value
    return None


def extended_with(name: str, narrow: Shape, fields: str, /, **types: Shape | type) -> Shape:
    """An object with the fields of another and some more."""
    return _object(name, narrow["properties"] | _properties(fields, types))


def nullable(of: Shape | type) -> Shape:
    """The schema, or null."""
    what = _schema(of)
    if "type" in what and "title" not in what and isinstance(what["type"], str):
        return (
            what
            | {"type": [what["type"], "null"]}
            | ({"enum": [*what["enum"], None]} if "enum" in what else {})
        )
    return {"oneOf": [what, {"type": "null"}]}


def one_of(*words: str) -> Shape:
    """One of several words."""
    return {"type": "string", "enum": list(words)}


def many(what: Shape | type) -> Shape:
    """A list of this schema."""
    return {"type": "array", "items": _schema(what)}


def each(what: Shape | type) -> Shape:
    """An object with arbitrary names and values of this schema."""
    return {"type": "object", "additionalProperties": _schema(what)}


def list_of(name: str, what: Shape | type, fields: str = "", /) -> Shape:
    """A page of a list, as returned by request.listed(), with further fields."""
    return shape("", f"{name}[] next_cursor? {fields}", **{name: what})


def only(name: str, values: Collection[str]) -> Schema:
    """A query parameter that limits a list to rows with one of these values."""
    return {name: {"type": "string", "allowed": list(values), "meta": "Only these."}}


def is_page(answer: Any) -> bool:
    """Whether a response is a page of a list."""
    properties = answer.get("properties", {}) if isinstance(answer, dict) else {}
    return properties.get("next_cursor") == nullable(str)


def array_schema(schema: Schema) -> Shape:
    """The array form of a body: each object may have further fields."""
    items = json_schema(schema) | {"additionalProperties": True}
    return {"type": "array", "minItems": 1, "maxItems": ARRAY_ITEMS, "items": items}


def json_schema(schema: Schema) -> Shape:
    """A Cerberus schema as JSON Schema; other fields are not allowed."""
    found: Shape = {
        "type": "object",
        "properties": {name: parameter_schema(rules) for name, rules in schema.items()},
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


def parameter_schema(rules: dict[str, Any]) -> Shape:
    """The rules of one value as JSON Schema."""
    kinds = rules.get("type", [])
    types = [_TYPES.get(kind, kind) for kind in ([kinds] if isinstance(kinds, str) else kinds)]
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
        found["items"] = parameter_schema(rules["schema"])
    elif "schema" in rules:
        found |= json_schema(rules["schema"])
    if "keysrules" in rules:
        found["propertyNames"] = parameter_schema(rules["keysrules"])
    if "valuesrules" in rules:
        found["additionalProperties"] = parameter_schema(rules["valuesrules"])
    if rules.get("nullable"):
        types, found = (
            [*types, "null"],
            found | ({"enum": [*found["enum"], None]} if "enum" in found else {}),
        )
    return found | {"type": types[0] if len(types) == 1 else types} if types else found

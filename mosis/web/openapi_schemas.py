"""What calls take and answer, said on their handlers: `@says({201: APP}, body=CREATE)`. JSON Schema under short names.

description.py makes OpenAPI of it; the whole test suite holds every answer, and every request that was accepted, to it. Shapes
are declared once, beside the `public()` that makes them; bodies are the very schemas that read_json() checks against.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from mosis.validation import Schema

Shape = dict[str, Any]
Handler = TypeVar("Handler", bound=Callable[..., Any])

TEXT: Shape = {"type": "string"}
ID: Shape = {"type": "string", "format": "uuid"}
TIME: Shape = {"type": "string", "format": "date-time"}
DATE: Shape = {"type": "string", "format": "date"}
LINK: Shape = {"type": "string", "format": "uri-reference"}
YES: Shape = {"type": "boolean"}
COUNT: Shape = {"type": "integer", "minimum": 0}
NUMBER: Shape = {"type": "number"}
FREE: Shape = {"type": "object"}  # an object of any fields


@dataclass(frozen=True)
class File:
    """An answer that is bytes of a media type."""

    media_type: str
    ranges: bool = False  # whether a part of it can be asked for


@dataclass(frozen=True)
class Operation:
    """What a call takes and answers. `refuses` are the codes of its own; those of every call stand in description.py."""

    answers: Mapping[int, Shape | File | None] = field(default_factory=dict)
    body: Schema | None = None
    optional: bool = False  # whether the body may be absent
    form: bool = False  # whether the body may be a form too
    query: Schema = field(default_factory=dict)
    matches: bool = False  # whether If-Match is honoured
    refuses: tuple[str, ...] = ()
    streams: bool = False  # whether `Accept: text/event-stream` gets Server-Sent Events


def operation(
    answer: Shape | File | Mapping[int, Any] | None = None,
    *,
    body: Schema | None = None,
    optional: bool = False,
    form: bool = False,
    query: Schema | None = None,
    matches: bool = False,
    refuses: str = "",
    streams: bool = False,
) -> Callable[[Handler], Handler]:
    """Say what a handler takes and answers: a shape or a file with 200, nothing with 204, or a mapping by status."""
    if answer is None:
        answers: Mapping[int, Any] = {204: None}
    elif isinstance(answer, File) or any(isinstance(key, str) for key in answer):
        answers = {200: answer}
    else:
        answers = answer  # type: ignore[assignment]
    said = Operation(
        answers, body, optional, form, query or {}, matches, tuple(refuses.split()), streams
    )

    def mark(handler: Handler) -> Handler:
        handler.operation = said  # type: ignore[attr-defined]
        return handler

    return mark


def shape(name: str, /, **fields: Shape) -> Shape:
    """An object that always has all of these fields; with a name it is described once and referred to."""
    found: Shape = {"type": "object", "properties": fields, "required": list(fields)}
    return {"title": name} | found if name else found


def extended_with(name: str, narrow: Shape, /, **fields: Shape) -> Shape:
    """An object with the fields of another and some more."""
    return shape(name, **narrow["properties"], **fields)


def nullable(what: Shape) -> Shape:
    """That, or null."""
    if "type" in what and "title" not in what and isinstance(what["type"], str):
        return (
            what
            | {"type": [what["type"], "null"]}
            | ({"enum": [*what["enum"], None]} if "enum" in what else {})
        )
    return {"oneOf": [what, {"type": "null"}]}


def one_of(*words: str) -> Shape:
    """One of a few words."""
    return {"type": "string", "enum": list(words)}


def many(what: Shape) -> Shape:
    """A list of that."""
    return {"type": "array", "items": what}


def each(what: Shape) -> Shape:
    """An object with any names, and that behind each of them."""
    return {"type": "object", "additionalProperties": what}


def list_of(name: str, what: Shape, /, **more: Shape) -> Shape:
    """A list as request.listed() answers it, a page at a time."""
    return shape("", **{name: many(what), "next_cursor": nullable(TEXT)}, **more)

"""Validates input against declared schemas: `check` is the one way.

Cerberus validators are not thread-safe and cost about half a millisecond to build, so each thread
caches one per schema (https://docs.python-cerberus.org/). Regular expressions in schemas end in \\Z,
because `$` also matches before a newline.

At most MOST_FINDINGS are reported, and values that are too long are not examined further.
"""

import threading
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from typing import Any

from mosis.errors import Invalid
from mosis.validation import names, timestamps
from mosis.validation.choices import one_of
from mosis.validation.fast_path import Check, compiled

Json = dict[str, Any]  # an object, of a request or a response
Finding = Json
FurtherRules = Callable[[Mapping[str, Any]], Iterable[Finding]]
Schema = dict[str, dict[str, Any]]
# any number of lines, without other control characters
LINES = r"[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f]*\Z"
SENTENCE = rf"(?=[\s\S]*{names.VISIBLE})" + LINES  # the same, with at least one visible character
MOST_FINDINGS = 100


def text(maxlength: int, **rules: Any) -> dict[str, Any]:
    """The rules of a text with so many characters at most."""
    return {"type": "string", "maxlength": maxlength} | rules


def required_text(maxlength: int, regex: str = SENTENCE) -> dict[str, Any]:
    """The rules of a text that must be given and not be empty."""
    return text(maxlength, required=True, minlength=1, regex=regex)


def choice(values: Collection[str], **rules: Any) -> dict[str, Any]:
    """The rules of one of these values."""
    return {"type": "string", "allowed": list(values)} | rules


def some_of(values: Collection[str], **rules: Any) -> dict[str, Any]:
    """The rules of a list with one or more of these values."""
    most = len(values)
    return {"type": "list", "minlength": 1, "maxlength": most, "schema": choice(values)} | rules


_CODES = {
    "required": "required",
    "unknown": "unknown_field",
    "nullable": "null",
    "type": "wrong_type",
    "allowed": "not_allowed",
    "minlength": "too_short",
    "maxlength": "too_long",
    "min": "too_small",
    "max": "too_large",
    "regex": "wrong_format",
    "empty": "empty",
    "dependencies": "missing_dependency",
}
_SENTENCES = {
    "required": "This field is required.",
    "null": "This may not be null.",
    "wrong_type": "This must be of type {limit}.",
    "too_short": "This must be at least {limit} long.",
    "too_long": "This may be at most {limit} long.",
    "too_small": "This must be at least {limit}.",
    "too_large": "This may be at most {limit}.",
    "empty": "This may not be empty.",
}
_WRONG_FORMAT = {
    LINES: "This must not have control characters other than tabs and line ends.",
    SENTENCE: "This needs a visible character, and no control characters other than tabs and line ends.",
    timestamps.PATTERN: timestamps.FORM,
    **names.WHAT_IS_WRONG,
}
_thread_local = threading.local()
_compiled: dict[int, tuple[Schema, Check]] = {}
_EXACT = 1 << 53  # up to here every whole number has a float of its own


class _Enough(Exception):
    """The maximum number of findings is reached."""


def pattern(expression: str, sentence: str) -> str:
    """A regular expression for a schema; `sentence` is the error text for what does not match."""
    _WRONG_FORMAT[expression] = sentence
    return expression


def check(
    document: dict[str, Any], schema: Schema, further: FurtherRules | None = None
) -> dict[str, Any]:
    """Return the document if it fits the schema (a constant); nothing is added, and converted only
    numbers: where the schema asks for an integer, 1.0 and 1e3 are integers, as JSON Schema has it
    (2020-12, Validation, section 6.1.1).

    `further` checks rules that a schema cannot express. Raises Invalid with all `findings`. Cerberus
    is only asked about documents that do not fit.
    """
    known = _compiled.get(id(schema))
    if known is None:
        known = _compiled[id(schema)] = (schema, compiled(schema))
    if known[1](document) and not (further and any(True for _ in further(document))):
        return document
    document = _with_integers(document, schema)
    if found := findings(document, schema, further):
        raise Invalid(found)
    return document


def _with_integers(value: Any, rules: Mapping[str, Any]) -> Any:
    """The document, or a part of it, with each whole number written as a fraction as the integer that it is."""
    if not isinstance(value, dict):
        return value
    return {
        name: _integer(each, rules[name]) if name in rules else each for name, each in value.items()
    }


def _integer(value: Any, rules: Mapping[str, Any]) -> Any:
    if isinstance(value, float):
        exact = rules["type"] == "integer" and abs(value) <= _EXACT and value.is_integer()
        return int(value) if exact else value
    inner = rules.get("schema", {})
    if isinstance(value, list) and inner and rules["type"] == "list":
        return [_integer(each, inner) for each in value]
    if isinstance(value, dict) and "valuesrules" in rules:
        return {name: _integer(each, rules["valuesrules"]) for name, each in value.items()}
    return _with_integers(value, inner) if isinstance(value, dict) else value


def finding(pointer: str, code: str, detail: str) -> Finding:
    """One thing that is wrong; `pointer` is a JSON pointer."""
    return {"pointer": pointer, "code": code, "detail": detail}


def findings_of(rule: Callable[..., Any], *arguments: Any) -> list[Finding]:
    """The findings with which a rule refuses these arguments."""
    try:
        rule(*arguments)
    except Invalid as error:
        return error.errors
    return []


def _sound_fields(document: Mapping[str, Any], found: list[Finding]) -> dict[str, Any]:
    wrong = {each["pointer"].split("/")[1] for each in found if each["pointer"]}
    return {name: value for name, value in document.items() if escaped(name) not in wrong}


def escaped(name: str) -> str:
    """A step of a JSON pointer."""
    return name.replace("~", "~0").replace("/", "~1")


def findings(
    document: dict[str, Any], schema: Schema, further: FurtherRules | None = None
) -> list[Finding]:
    """Everything in which the document does not fit the schema, MOST_FINDINGS at most, and what
    `further` finds on the fields that fit: a finding {pointer, code, detail} for each error
    (pointer: RFC 6901)."""
    validator = _validator(schema)
    validator.found.clear()
    with suppress(_Enough):
        validator.validate(document, normalize=False)
    found = _findings(validator.found)
    if further is not None and len(found) < MOST_FINDINGS:
        found += further(_sound_fields(document, found))
    return sorted(found, key=lambda finding: (finding["pointer"], finding["code"]))


def _validator(schema: Schema) -> Any:
    validators = _thread_local.__dict__.setdefault("validators", {})
    found = validators.get(id(schema))
    if found is None:
        found = validators[id(schema)] = _validator_class()(
            schema, require_all=False, allow_unknown=False, found=[]
        )
    return found


def _validator_class() -> Any:
    """Cerberus with the types of JSON, built at first use: importing it costs 40 ms."""
    if not hasattr(_thread_local, "validator_class"):
        from cerberus import TypeDefinition, Validator, errors

        class JsonValidator(Validator):  # type: ignore[misc]
            priority_validations = (*Validator.priority_validations, "maxlength")
            types_mapping = Validator.types_mapping | {
                "integer": TypeDefinition(
                    "integer", (int,), (bool,)
                ),  # JSON's true is not the number 1
                "number": TypeDefinition("number", (int, float), (bool,)),
            }

            @property
            def found(self) -> list[Any]:
                """The errors so far, of nested parts too: their validators share this list."""
                found: list[Any] = self._config["found"]
                return found

            def _error(self, *args: Any) -> None:
                """Cerberus sorts all errors anew for each one: minutes for some thousands."""
                if len(args) > 1:  # the base class makes an error of these and calls this again
                    if args[1] is errors.UNKNOWN_FIELD:
                        args = (*args, *self.schema)  # the known fields
                    return super()._error(*args)  # type: ignore[no-any-return]
                self._errors.extend(args[0])
                self.found.extend(error for error in args[0] if not error.is_group_error)
                if len(self.found) >= MOST_FINDINGS:
                    raise _Enough

            def _validate_maxlength(self, most: int, field: str, value: Any) -> None:
                """{'type': 'integer'}"""
                super()._validate_maxlength(most, field, value)
                if isinstance(value, (list, dict)) and len(value) > most:
                    self._drop_remaining_rules()

        _thread_local.validator_class = JsonValidator
    return _thread_local.validator_class


def _findings(errors: list[Any]) -> list[dict[str, Any]]:
    found = []
    for error in errors:
        pointer = "".join("/" + escaped(str(step)) for step in error.document_path)
        code = _CODES.get(error.rule, "wrong_value")
        if error.code == 0x03:  # cerberus.errors.UNKNOWN_FIELD has no rule
            code = "unknown_field"
        if error.code == 0x02:
            code = "required"
        found.append({"pointer": pointer, "code": code, "detail": _sentence(code, error)})
    return found


def _sentence(code: str, error: Any) -> str:
    if code == "wrong_format":
        return _WRONG_FORMAT.get(error.constraint, "This does not have the form that is needed.")
    if code == "not_allowed":
        return one_of(error.value, error.constraint)
    if code == "unknown_field":
        return "There is no such field here. " + one_of(
            error.document_path[-1], error.info, "A field"
        )
    if code in _SENTENCES:
        limit = error.constraint
        limits = limit if isinstance(limit, (list, tuple)) else [limit]
        shown = ", ".join(
            f"{each:.15g}"
            if isinstance(each, float)
            else {"dict": "object", "list": "array"}.get(str(each), str(each))
            for each in limits
        )
        return _SENTENCES[code].format(limit=shown)
    return str(error.info[0]) if error.info else "This value is not allowed here."

"""Fast validation: the schemas of mosis.validation, compiled once to closures that return a boolean
within microseconds.

Cerberus is the reference: it finds and describes every error. `compiled` only decides whether there
is one; a test verifies that both agree. Frequent requests use `check`, which calls Cerberus only
for documents that do not fit.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

from mosis import validation
from mosis.validation import FurtherRules, Schema

Check = Callable[[Any], bool]

_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "float": (float, int),
    "boolean": (bool,),
    "list": (list,),
    "dict": (dict,),
}
_RULES = {
    "type",
    "required",
    "nullable",
    "allowed",
    "minlength",
    "maxlength",
    "min",
    "max",
    "regex",
    "schema",
    "keysrules",
    "valuesrules",
}


_EXACT = 1 << 53  # up to here every whole number has a float of its own
_known: dict[int, tuple[Schema, Check | None]] = {}


def check(
    document: dict[str, Any], schema: Schema, further: FurtherRules | None = None
) -> dict[str, Any]:
    """As `validation.check`, a hundred times faster for a document that fits. Schemas are constants;
    each is compiled once.

    Where a schema asks for an integer, 1.0 and 1e3 are integers, as JSON Schema has it (2020-12, Validation, section 6.1.1).
    Raises Invalid with every finding.
    """
    known = _known.get(id(schema))
    if known is None:
        try:
            known = _known[id(schema)] = (schema, compiled(schema))
        except ValueError:  # a rule that only Cerberus supports
            known = _known[id(schema)] = (schema, None)
    if known[1] is not None and known[1](document):
        found = [*further(document)] if further is not None else []
        if not found:
            return document
    return validation.check(_with_integers(document, schema), schema, further)


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


def compiled(schema: Schema) -> Check:
    """A check of a whole document: True if it fits. Raises ValueError for a schema with unsupported
    rules."""
    return _document(schema)


def _document(schema: Schema) -> Check:
    fields = {name: _value(rules) for name, rules in schema.items()}
    required = frozenset(name for name, rules in schema.items() if rules.get("required"))

    def fits(document: Any) -> bool:
        if type(document) is not dict or not required <= document.keys():
            return False
        for name, value in document.items():
            check = fields.get(name)
            if check is None or not check(value):
                return False
        return True

    return fits


def _value(rules: Mapping[str, Any]) -> Check:
    """The check of one value. Cheap rules come first; a value of a wrong type does not reach the
    others."""
    if unknown := set(rules) - _RULES - {"meta"}:  # meta describes the field and is not a rule
        raise ValueError(f"no compiled form of {', '.join(sorted(unknown))}")
    nullable = rules.get("nullable", False)
    types = _types(rules["type"])
    checks = tuple(_further(rules, types))
    only = checks[0] if len(checks) == 1 else None

    if not checks:

        def fits(value: Any) -> bool:
            return type(value) in types or (value is None and nullable)
    elif only is not None:

        def fits(value: Any) -> bool:
            if type(value) not in types:
                return value is None and nullable
            return only(value)
    else:

        def fits(value: Any) -> bool:
            if type(value) not in types:
                return value is None and nullable
            for check in checks:  # noqa: SIM110  (all() with a generator takes three times as long)
                if not check(value):
                    return False
            return True

    return fits


def _types(names: str | list[str]) -> frozenset[type]:
    """Exact types: values from JSON have no subclasses, except True, which is not a number here."""
    return frozenset(
        each for name in ([names] if isinstance(names, str) else names) for each in _TYPES[name]
    )


def _further(rules: Mapping[str, Any], types: frozenset[type]) -> list[Check]:
    checks: list[Check] = []
    if "allowed" in rules:
        checks.append(frozenset(rules["allowed"]).__contains__)
    if "minlength" in rules or "maxlength" in rules:
        checks.append(_length(rules.get("minlength", 0), rules.get("maxlength", 1 << 62), types))
    if "min" in rules or "max" in rules:
        checks.append(_range(rules.get("min"), rules.get("max")))
    if "regex" in rules:
        checks.append(_regex(rules["regex"], types))
    if "keysrules" in rules:
        checks.append(_each(_value(rules["keysrules"]), dict))
    if "valuesrules" in rules:
        checks.append(_values(_value(rules["valuesrules"])))
    if "schema" in rules:
        # in a list, the schema describes an item; in an object, its fields
        checks.append(
            _each(_value(rules["schema"]), list) if list in types else _document(rules["schema"])
        )
    return checks


def _length(least: int, most: int, types: frozenset[type]) -> Check:
    if types <= {str, list, dict}:
        return lambda value: least <= len(value) <= most
    return lambda value: type(value) not in (str, list, dict) or least <= len(value) <= most


def _range(least: float | None, most: float | None) -> Check:
    def within(value: Any) -> bool:
        if type(value) not in (int, float):
            return True
        # the comparison that Cerberus makes, so that NaN gives the same result
        return not (least is not None and value < least) and not (most is not None and value > most)

    return within


def _regex(pattern: str, types: frozenset[type]) -> Check:
    match = re.compile(pattern if pattern.endswith("$") else pattern + "$").match
    if types == {str}:
        return lambda value: match(value) is not None
    return lambda value: type(value) is not str or match(value) is not None


def _values(check: Check) -> Check:
    return lambda value: all(map(check, value.values()))


def _each(check: Check, kind: type[list[Any]] | type[dict[str, Any]]) -> Check:
    return lambda values: type(values) is not kind or all(map(check, values))

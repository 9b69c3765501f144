"""Fast validation: the schemas of mosis.validation, compiled once to closures that return a boolean
within microseconds.

Cerberus is the reference: it finds and describes every error. `compiled` only decides whether there
is one; a test verifies that both agree.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

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
    "type", "required", "nullable", "allowed", "minlength", "maxlength", "min", "max", "regex",
    "schema", "keysrules", "valuesrules",
}  # fmt: skip


def compiled(schema: Mapping[str, Any]) -> Check:
    """A check of a whole document: True if it fits. Raises ValueError for a schema with unsupported
    rules."""
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
            _each(_value(rules["schema"]), list) if list in types else compiled(rules["schema"])
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

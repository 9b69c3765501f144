"""Fast validation: the schemas of mosis.validation, compiled once to a Python function that returns
a boolean within microseconds.

Cerberus is the reference: it finds and describes every error. `compiled` only decides whether there
is one; a test verifies that both agree.
"""

import re
from collections.abc import Callable, Iterator, Mapping
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
_SIZED, _NUMBERS = frozenset([str, list, dict]), frozenset([int, float])
_RULES = {
    "type", "required", "nullable", "allowed", "minlength", "maxlength", "min", "max", "regex",
    "schema", "keysrules", "valuesrules",
}  # fmt: skip
_FAIL = "return False"


def compiled(schema: Mapping[str, Any]) -> Check:
    """Checks a whole document: True if it fits. Raises ValueError for unsupported rules."""
    code = _Code()
    lines = ["def fits(document):", *_indented(code.object("document", schema)), "    return True"]
    exec("\n".join(lines), code.constants)  # noqa: S102  (made of the program's own schemas)
    found: Check = code.constants["fits"]
    return found


class _Code:
    """Writes the lines of a check. What is no number stands in `constants`, and the code has its
    name. Each method has the lines that check a variable, and return False if it does not fit."""

    def __init__(self) -> None:
        self.constants: dict[str, Any] = {"missing": object()}
        self._variables = 0

    def object(self, name: str, schema: Mapping[str, Any]) -> Iterator[str]:
        """An object has the required fields, and no others than those of the schema."""
        yield f"if type({name}) is not dict: {_FAIL}"
        left, value = self._variable(), self._variable()
        yield f"{left} = len({name})"
        for field, rules in schema.items():
            yield f"{value} = {name}.get({self._constant(field)}, missing)"
            yield f"if {value} is not missing:"
            yield f"    {left} -= 1"
            yield from _indented(self._value(value, rules))
            if rules.get("required"):
                yield f"else: {_FAIL}"
        yield f"if {left}: {_FAIL}"

    def _value(self, name: str, rules: Mapping[str, Any]) -> Iterator[str]:
        """Cheap rules come first; a value of a wrong type does not reach the others."""
        if unknown := set(rules) - _RULES - {"meta"}:  # meta describes the field and is not a rule
            raise ValueError(f"no compiled form of {', '.join(sorted(unknown))}")
        types = _types(rules["type"])
        other = f"if {name} is not None: {_FAIL}" if rules.get("nullable") else _FAIL
        yield f"if {self._is_not(name, types)}:"
        yield f"    {other}"
        if lines := list(self._further(name, rules, types)):
            yield "else:"
            yield from _indented(lines)

    def _is_not(self, name: str, types: frozenset[type]) -> str:
        if len(types) == 1:
            return f"type({name}) is not {next(iter(types)).__name__}"
        return f"type({name}) not in {self._constant(types)}"

    def _further(
        self, name: str, rules: Mapping[str, Any], types: frozenset[type]
    ) -> Iterator[str]:
        """Each rule is about values of some types; others pass."""
        if "allowed" in rules:
            yield f"if {name} not in {self._constant(frozenset(rules['allowed']))}: {_FAIL}"
        least, most = rules.get("minlength", 0), rules.get("maxlength", 1 << 62)
        if "minlength" in rules or "maxlength" in rules:
            yield from self._of(name, types, _SIZED, f"{least} <= len({name}) <= {most}")
        # The comparisons that Cerberus makes, so that NaN gives the same result.
        for rule, sign in (("min", "<"), ("max", ">")):
            if rule in rules:
                bound = self._constant(rules[rule])
                yield from self._of(name, types, _NUMBERS, f"not {name} {sign} {bound}")
        if "regex" in rules:
            pattern = rules["regex"] if rules["regex"].endswith("$") else rules["regex"] + "$"
            match = self._constant(re.compile(pattern).match)
            yield from self._of(name, types, frozenset([str]), f"{match}({name}) is not None")
        if "keysrules" in rules:
            yield from self._each(name, dict, rules["keysrules"], name)
        if "valuesrules" in rules:
            yield from self._each(name, dict, rules["valuesrules"], f"{name}.values()")
        if "schema" in rules and list in types:  # it describes an item, in an object its fields
            yield from self._each(name, list, rules["schema"], name)
        elif "schema" in rules:
            yield from self.object(name, rules["schema"])

    def _of(
        self, name: str, types: frozenset[type], kinds: frozenset[type], condition: str
    ) -> Iterator[str]:
        """The condition holds if the value is of one of these kinds."""
        if types <= kinds:
            yield f"if not ({condition}): {_FAIL}"
        else:
            yield f"if type({name}) in {self._constant(kinds)} and not ({condition}): {_FAIL}"

    def _each(self, name: str, kind: type, rules: Mapping[str, Any], values: str) -> Iterator[str]:
        each = self._variable()
        yield f"if type({name}) is {kind.__name__}:"
        yield f"    for {each} in {values}:"
        yield from _indented(_indented(self._value(each, rules)))

    def _variable(self) -> str:
        self._variables += 1
        return f"v{self._variables}"

    def _constant(self, value: Any) -> str:
        name = f"c{len(self.constants)}"
        self.constants[name] = value
        return name


def _indented(lines: Any) -> Iterator[str]:
    return ("    " + line for line in lines)


def _types(names: str | list[str]) -> frozenset[type]:
    """Exact types: values from JSON have no subclasses, except True, which is not a number here."""
    return frozenset(
        each for name in ([names] if isinstance(names, str) else names) for each in _TYPES[name]
    )

"""The URL table as a tree of path segments.

Bottle's own router joins all rules of a method into one regular expression and compiles it again
with each added rule: a third of the time that the portal takes to start.
"""

import contextlib
import re
from collections.abc import Callable, Iterator
from typing import Any, Final

import bottle

_WILDCARD: Final = re.compile(r"([^<>:]*)<([a-z_]+)(:int)?>([^<>:]*)")


class SegmentRouter(bottle.Router):  # type: ignore[misc]
    """Bottle's router for rules whose segments have at most one wildcard, `<name>` or `<name:int>`,
    with or without text around it. Fixed text wins over a wildcard."""

    def __init__(self) -> None:
        super().__init__()
        self._root = _Node()

    def add(self, rule: str, method: str, target: Any, name: str | None = None) -> None:
        """Add a rule, or replace the target of the same rule and method. Raise RouteSyntaxError
        for wildcards of other forms."""
        node, names = self._root, []
        for segment in rule.split("/")[1:]:
            if wildcard := _WILDCARD.fullmatch(segment):
                before, field, kind, after = wildcard.groups()
                names.append(field)
                node = node.open.setdefault((before, kind, after), _Node(before, kind, after))
            elif {"<", ">", ":"} & set(segment):
                raise bottle.RouteSyntaxError(f"Not a rule of this router: {rule}")
            else:
                node = node.fixed.setdefault(segment, _Node())
        node.targets[method] = (target, names)

    def match(self, environ: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """The target and the values of its wildcards. Raise HTTPError: 404 where no rule has the
        path, 405 with `Allow` where rules have it for other methods only."""
        verb, path = environ["REQUEST_METHOD"].upper(), environ["PATH_INFO"] or "/"
        found = list(self._root.find(path.split("/"), 1, []))
        for method in ("PROXY", "HEAD", "GET", "ANY") if verb == "HEAD" else ("PROXY", verb, "ANY"):
            for node, values in found:
                if method in node.targets:
                    target, names = node.targets[method]
                    return target, dict(zip(names, values, strict=True))
        if allowed := {method for node, _ in found for method in node.targets}:
            raise bottle.HTTPError(405, "Method not allowed.", Allow=",".join(sorted(allowed)))
        raise bottle.HTTPError(404, "Not found: " + repr(path))


class _Node:
    """What may follow the segments so far, and the targets by method of the rules that end here."""

    __slots__ = ("affixes", "fixed", "open", "targets", "to_value")

    def __init__(self, before: str = "", kind: str | None = None, after: str = "") -> None:
        self.fixed: dict[str, _Node] = {}
        self.open: dict[tuple[str, str | None, str], _Node] = {}
        self.targets: dict[str, tuple[Any, list[str]]] = {}
        self.affixes = (before, after)
        self.to_value: Callable[[str], Any] = _integer if kind else str

    def find(
        self, segments: list[str], at: int, values: list[Any]
    ) -> Iterator[tuple["_Node", list[Any]]]:
        """The nodes that the segments from `at` on lead to, with the values on the way."""
        if at == len(segments):
            yield self, values
            return
        segment = segments[at]
        if segment in self.fixed:
            yield from self.fixed[segment].find(segments, at + 1, values)
        for child in self.open.values():
            before, after = child.affixes
            value = segment.removeprefix(before).removesuffix(after)
            if value and segment == before + value + after:
                with contextlib.suppress(ValueError):
                    yield from child.find(segments, at + 1, [*values, child.to_value(value)])


def _integer(text: str) -> int:
    """The number that `<name:int>` takes: ASCII digits, perhaps after a minus."""
    if not (text.isascii() and text.removeprefix("-").isdigit()):
        raise ValueError(text)
    return int(text)

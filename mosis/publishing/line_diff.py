"""A line diff of two texts for reviewers, bounded in time and size, with every hidden character shown.

difflib's SequenceMatcher takes cubic time in the worst case (many equal lines). Here its steps are counted before each
search, and what is left when the budget is used up counts as replaced: a valid diff, only a longer one.
"""

import difflib
import re
from collections.abc import Collection

from mosis.records import dataclass

MOST_BYTES = 512 * 1024  # of one side
MOST_LINES = 10_000  # of one side
STEPS = 2_000_000  # of the search, about half a second
CONTEXT = 3  # unchanged lines around a change
LONGEST_LINE = 2_000  # characters that are shown
NO_LINE_FEED = "\\ No line feed at the end of the file"  # as diff and git show it

# Control characters and those that change the direction or are not visible (Unicode's Cc, Cf, Zl, Zp, and fillers). See
# "Trojan Source", CVE-2021-42574: a reviewer must see the order in which the interpreter reads.
_HIDDEN = (
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e"
    "\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff9-\ufffb\U000e0000-\U000e0fff]"
)


@dataclass(frozen=True)
class Line:
    """A line of the diff. `kind` is "same", "added", "removed", or "gap" for `left_out` unchanged lines
    that are not shown. Line numbers count from 1."""

    kind: str
    before: int | None
    after: int | None
    text: str
    left_out: int = 0


@dataclass(frozen=True)
class Diff:
    """A diff; `exact` is false if the budget was used up, and it may be longer than necessary."""

    lines: list[Line]
    exact: bool


def is_comparable(content: bytes) -> bool:
    """Whether a side is within the limits and is text."""
    return len(content) <= MOST_BYTES and content.count(b"\n") < MOST_LINES and b"\0" not in content


def diff(before: bytes, after: bytes, wanted: Collection[int] = ()) -> Diff:
    """The diff of two comparable contents; lines `wanted` of `after` are always shown."""
    old, new = _lines(before), _lines(after)
    matcher = _BoundedMatcher(old, new)
    found: list[Line] = []
    for tag, old_from, old_to, new_from, new_to in matcher.get_opcodes():
        if tag == "equal":
            found += [
                Line("same", old_from + at + 1, new_from + at + 1, new[new_from + at])
                for at in range(new_to - new_from)
            ]
            continue
        found += [Line("removed", at + 1, None, old[at]) for at in range(old_from, old_to)]
        found += [Line("added", None, at + 1, new[at]) for at in range(new_from, new_to)]
    return Diff(_with_gaps(found, set(wanted)), matcher.exact)


def shown(text: str) -> tuple[str, int]:
    """A line with hidden characters as `<U+202E>`, and how many at its end are left out."""
    cut = text[:LONGEST_LINE]
    visible = re.sub(_HIDDEN, lambda found: f"<U+{ord(found[0]):04X}>", cut)
    return visible, len(text) - len(cut)


class _BoundedMatcher(difflib.SequenceMatcher[str]):
    """SequenceMatcher whose search stops when its steps are used up."""

    def __init__(self, old: list[str], new: list[str]) -> None:
        super().__init__(None, old, new, autojunk=False)
        self.exact = True
        self._old, self._new = old, new
        self._left = STEPS
        self._steps_to = [0]  # steps of a search over the lines of `old` before each one
        for line in old:
            self._steps_to.append(self._steps_to[-1] + len(self.b2j.get(line, ())) + 1)  # type: ignore[attr-defined]

    def find_longest_match(
        self, alo: int = 0, ahi: int | None = None, blo: int = 0, bhi: int | None = None
    ) -> difflib.Match:
        old, new = self._old, self._new
        ahi = len(old) if ahi is None else ahi
        bhi = len(new) if bhi is None else bhi
        head = 0
        while alo + head < ahi and blo + head < bhi and old[alo + head] == new[blo + head]:
            head += 1
        if head:  # a common beginning is a match without a search, and so is a common end
            return difflib.Match(alo, blo, head)
        tail = 0
        while ahi - tail > alo and bhi - tail > blo and old[ahi - tail - 1] == new[bhi - tail - 1]:
            tail += 1
        if tail:
            return difflib.Match(ahi - tail, bhi - tail, tail)
        self._left -= self._steps_to[ahi] - self._steps_to[alo]
        if self._left < 0:
            self.exact = False
            return difflib.Match(alo, blo, 0)
        return super().find_longest_match(alo, ahi, blo, bhi)


def _lines(content: bytes) -> list[str]:
    """The lines as interpreters count them, by line feeds alone."""
    lines = content.decode("utf-8", "backslashreplace").split("\n")
    if lines[-1] != "":
        return [*lines, NO_LINE_FEED]
    return lines[:-1]


def _with_gaps(lines: list[Line], wanted: set[int]) -> list[Line]:
    """The lines with what is far from any change or wanted line left out."""
    near = [False] * len(lines)
    for at, line in enumerate(lines):
        if line.kind != "same" or line.after in wanted:
            for place in range(max(0, at - CONTEXT), min(len(lines), at + CONTEXT + 1)):
                near[place] = True
    found: list[Line] = []
    for line, is_near in zip(lines, near, strict=True):
        if is_near:
            found.append(line)
        elif found and found[-1].kind == "gap":
            last = found[-1]
            found[-1] = Line("gap", last.before, last.after, "", last.left_out + 1)
        else:
            found.append(Line("gap", line.before, line.after, "", 1))
    return found

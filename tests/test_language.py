"""The texts of the repository use standard terms: phrases of a private dialect must not come back."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# Phrases that a reader has to learn, with the words to use instead.
PHRASES = {
    r"kept finished|finished answers?|kept answers?": "cached responses",
    r"put aside|puts aside": "renamed, moved",
    r"\b(is|are|was|were|be) told\b": "notified, informed",
    r"\btells? of\b|\btold of\b": "reports, notifies",
    r"what is said|as is said|unless (it is )?said|is said loudly": "default, documented, logged",
    r"\bat hand\b": "current, running",
    r"\blooked into\b|\blooks? into it\b": "checked, examined",
    r"\bmade anew\b|\bread anew\b|\bcounted anew\b": "again, created, reread",
    r"\btaken in\b|\btakes? in nothing\b": "accepted, received",
    r"\bunder way\b": "running, pending",
    r"\bgood (only )?once\b|\bgood no more\b|\bis good for\b": "valid",
    r"\b(one|none|error|page|form|key|token) of ours\b|\bof our own making\b": "the portal's",
    r"\bwhoever\b": "anybody who, the account that",
    r"\bin vain\b": "without result",
    r"\bas it comes\b": "unmodified",
    r"\bstands? (twice|beside|behind)\b": "is repeated, is next to, follows",
    r"\blies? (beside|behind)\b": "is next to, is behind",
    r"\bshared out\b": "shared among",
    r"\bgives? way\b|\bgave way\b": "is deleted, yields",
    r"\bset right\b|\bput right\b|\bputs right\b": "corrected",
    r"\bmend(s|ed|ing)?\b": "fix",
    r"\bdates of life\b": "deprecation",
    r"\bhouseholds?\b": "network",
    r"\bverdicts?\b": "decision",
    r"\bhow it went\b": "the result",
    r"\bwhat (is|was) never finished\b": "unfinished",
    r"\bnobody (knows|is there|listens)\b": "unknown, not signed in",
    r"\bby and by\b": "gradually",
    r"\bgo(es)? on where\b": "continues",
    r"\bdoes no harm\b": "is safe",
    r"\btwice does no harm\b": "is safe to repeat",
    r"\bAs asked\b|\bthere is nothing to say\b": "OK, No content",
    r"\bof the developer's\b": "the developer's",
    r"\bhas no(t)? yet come\b|\bhas come\b": "arrived, happened",
    r"\bbegins? anew\b|\bbegin again\b": "start again",
    r"\bis wanted of it\b|\bthat is asked for\b": "required, requested",
}
# Where such words mean something else: file -> phrases that it may use.
ALLOWED = {
    "CONTRIBUTING.md": {r"\bverdicts?\b"},
    "0000-the-stack.md": {r"\bhouseholds?\b"},  # the consumers of an electricity price
}
DOCUMENTS = sorted(
    [
        *ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("docs/decisions/*.md"),
        ROOT / ".env.example", ROOT / "Makefile", *ROOT.glob("compose*.yaml"),
        *ROOT.glob("mosis/ui/messages/*.json"), *ROOT.glob("mosis/ui/templates/*.tpl"),
    ]
)  # fmt: skip
# This file has the phrases themselves.
TESTS = sorted({*ROOT.glob("tests/**/*.py"), *ROOT.glob("bench/**/*.py")} - {Path(__file__)})
SOURCES = sorted(
    [ROOT / "portal.py", *ROOT.glob("mosis/**/*.py"), *ROOT.glob("image/*.py"), *TESTS]
)
# Names of variables, arguments and functions that leave open what they stand for.
NAMES = {
    "said": "body, output, answer, reason",
    "told": "notifications, records",
    "kept": "stored, cached",
    "hands": "clock",
    "dice": "rng",
    "person": "account",
}
_ANY = re.compile("|".join(f"(?:{phrase})" for phrase in PHRASES), re.IGNORECASE)


def texts(source: str) -> Iterator[str]:
    """Comments and strings of a module; adjacent comment lines and parts of a string are joined."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield " ".join(node.value.split())
    lines: list[str] = []
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            lines.append(token.string.removeprefix("#").strip())
        elif token.type not in (tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT):
            yield " ".join(lines)
            lines = []
    yield " ".join(lines)


def found_in(name: str, parts: Iterator[str]) -> list[str]:
    parts = (part for part in parts if _ANY.search(part))  # nearly all have none
    known = {
        re.compile(phrase, re.IGNORECASE): better
        for phrase, better in PHRASES.items()
        if phrase not in ALLOWED.get(name, ())
    }
    return [
        f"{match[0]!r} in {part[max(0, match.start() - 60) : match.end() + 60]!r}: {better}"
        for part in parts
        for phrase, better in known.items()
        for match in phrase.finditer(part)
    ]


def test_code_uses_standard_terms() -> None:
    wrong = {path: found_in(path.name, texts(path.read_text())) for path in SOURCES}
    assert {path: found for path, found in wrong.items() if found} == {}


def test_names_say_what_they_stand_for() -> None:
    wrong = []
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            name = getattr(node, "id", None) or getattr(node, "arg", None)
            if name in NAMES and isinstance(node, ast.Name | ast.arg):
                wrong.append(f"{path.relative_to(ROOT)}:{node.lineno}: {name}: {NAMES[name]}")
    for path in (ROOT / "mosis").rglob("*.py"):
        for name in re.findall(r"(\w+): PageRequest", path.read_text()):
            if name != "paging":
                wrong.append(f"{path.relative_to(ROOT)}: {name}: paging")
    assert wrong == []


def test_documents_use_standard_terms() -> None:
    wrong = {}
    for path in DOCUMENTS:
        paragraphs = re.split(r"\n\s*\n|\n(?=\|)", path.read_text())
        wrong[path] = found_in(path.name, (" ".join(each.split()) for each in paragraphs))
    assert {path: found for path, found in wrong.items() if found} == {}


@pytest.mark.parametrize(
    "text", ["The answer is kept finished.", "Each owner is told.", "# a line that is put\n# aside"]
)
def test_the_phrases_are_found(text: str) -> None:
    parts = texts(text) if text.startswith("#") else iter([text])
    assert found_in("x.py", parts)

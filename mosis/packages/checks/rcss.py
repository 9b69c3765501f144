"""RCSS: style sheets that a CSS parser (CSS Syntax Level 3, tinycss2) reads without an error."""

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from mosis.packages.checks.kinds import Contents, beside, error, warning
from mosis.packages.checks.parsers import tinycss2
from mosis.packages.findings import Finding

DEPTH = 8  # rules within rules: @media around @keyframes around a rule is three
_OF_RULES = ("media", "keyframes", "supports", "layer")
_NAME = re.compile(r'"((?:[^"\\]|\\.)*)"|([^\s,()"]+)')  # a string, or a word without quotes
# Kinds of tinycss2's errors, or the beginnings of its messages
_WORDS = {
    ")": "a closing ) has no opening one",
    "]": "a closing ] has no opening one",
    "}": "a closing } has no opening one",
    "bad-string": "a text in quotes has no end on its line",
    "bad-url": "an address in url() has a space, a quote or a bracket; put it into quotes",
    "EOF reached before {} block": "this is a } or a selector without a { } block",
    "Expected ':' after": "a declaration is `name: value;`, and here is no colon; rules cannot stand in rules",
    "Expected <ident>": "a declaration begins with the name of a property",
    "Expected declaration": "a declaration is `name: value;`",
}
_FILE = re.compile(r"(?![a-z][a-z0-9+.-]*:).*\.(?:png|jpe?g|tga|webp|ttf|otf|rcss)", re.IGNORECASE)


def check(path: str, content: bytes, contents: Contents, first_line: int = 1) -> Iterator[Finding]:
    """What is wrong with a style sheet. `first_line`: where it begins in its file."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as trouble:
        detail = f"It is not UTF-8 at byte {trouble.start}; save it as UTF-8."
        yield error("rcss_malformed", detail, path, content.count(b"\n", 0, trouble.start) + 1)
        return
    if tinycss2 is None:
        return
    text = "\n" * (first_line - 1) + text
    values = tinycss2.parse_component_value_list(text + "\n}", skip_comments=True)
    # a surplus brace is reported only if everything before it is closed
    if not values or values[-1].type != "error" or values[-1].kind != "}":
        detail = "A block, bracket, comment or text is not closed at the end."
        yield error("rcss_malformed", detail, path, text.count("\n") + 1)
        return
    try:
        sheet = tinycss2.parse_stylesheet(values[:-1], skip_comments=True, skip_whitespace=True)
        sprites = {beside(path, name) for name in _sprite_names(sheet, 0)}
        yield from _rules(path, sheet, replace(contents, names=contents.names | sprites), 0)
    except RecursionError:
        yield error("rcss_malformed", "Its brackets are nested too deep.", path)


def _rules(path: str, nodes: list[Any], contents: Contents, depth: int) -> Iterator[Finding]:
    for node in nodes:
        if node.type == "error":
            yield _wrong(path, node)
        elif node.type == "at-rule" and node.lower_at_keyword == "import":
            yield from _values(path, node.prelude, node, contents)
        elif node.type == "at-rule" and node.content is None:
            continue
        elif node.type == "at-rule" and node.lower_at_keyword in _OF_RULES:
            if depth >= DEPTH:
                yield error(
                    "rcss_malformed", f"More than {DEPTH} rules are nested.", path, node.source_line
                )
                return
            yield from _rules(
                path, tinycss2.parse_rule_list(node.content, True, True), contents, depth + 1
            )
        else:
            yield from _declarations(path, node, contents)


def _declarations(path: str, rule: Any, contents: Contents) -> Iterator[Finding]:
    if rule.type == "qualified-rule":
        yield from (_wrong(path, each) for each in _errors(rule.prelude))
        if not any(each.type != "whitespace" for each in rule.prelude):
            yield error(
                "rcss_malformed", "A block has no selector before it.", path, rule.source_line
            )
    if rule.type == "at-rule" and rule.lower_at_keyword == "spritesheet":
        yield from _sprites(path, rule, contents)
        return
    for node in tinycss2.parse_declaration_list(
        rule.content, skip_comments=True, skip_whitespace=True
    ):
        if node.type == "error":
            yield _wrong(path, node)
        elif node.type == "declaration":
            yield from _values(path, node.value, node, contents)


def _sprite_names(nodes: list[Any], depth: int) -> Iterator[str]:
    """The names of sprites of this sheet, which may look like file names."""
    for node in nodes:
        if node.type != "at-rule" or node.content is None or depth > DEPTH:
            continue
        if node.lower_at_keyword == "spritesheet":
            for tokens in _split(node.content, ";"):
                name, *values = _split(tokens, ":")
                if values and tinycss2.serialize(name).strip() not in ("src", "resolution"):
                    yield tinycss2.serialize(name).strip()
        elif node.lower_at_keyword in _OF_RULES:
            yield from _sprite_names(tinycss2.parse_rule_list(node.content, True, True), depth + 1)


def _sprites(path: str, rule: Any, contents: Contents) -> Iterator[Finding]:
    """The block of a @spritesheet, in which RmlUi accepts any name up to the colon."""
    for tokens in _split(rule.content, ";"):
        name, *values = _split(tokens, ":")
        written = tinycss2.serialize(name).strip()
        if not values or not written or "\n" in written or any(t.type == "{} block" for t in name):
            detail = (
                "Each line of a @spritesheet is `name: x y width height;`, with /* */ for comments."
            )
            yield error("rcss_malformed", detail, path, tokens[0].source_line)
            continue
        for each in values:
            yield from _values(path, each, tokens[0], contents)


def _split(tokens: list[Any], mark: str) -> Iterator[list[Any]]:
    """The non-empty parts of a list between these separators, without spaces and comments."""
    pieces: list[list[Any]] = [[]]
    for each in tokens:
        if each.type == "literal" and each.value == mark:
            pieces.append([])
        elif each.type != "comment" and (pieces[-1] or each.type != "whitespace"):
            pieces[-1].append(each)
    yield from (piece for piece in pieces if piece)


def _values(path: str, values: list[Any], node: Any, contents: Contents) -> Iterator[Finding]:
    """Errors in values, at any depth, and files that they name, quoted or not, that do not exist."""
    yield from (_wrong(path, each) for each in _errors(values))
    for found in _NAME.finditer(tinycss2.serialize(values)):
        name = found[1] or found[2]
        if name and _FILE.fullmatch(name) and beside(path, name) not in contents.names:
            detail = f"{beside(path, name)[:256]!r} is not in the package."
            yield warning("reference_missing", detail, path, node.source_line)


def _errors(values: list[Any]) -> Iterator[Any]:
    for each in values:
        if each.type == "error":
            yield each
        yield from _errors(getattr(each, "arguments", None) or getattr(each, "content", None) or [])


def _wrong(path: str, node: Any) -> Finding:
    problem = next(
        (words for mark, words in _WORDS.items() if mark in (node.kind, node.message[: len(mark)])),
        "this is not a rule or a declaration",
    )
    return error(
        "rcss_malformed", f"The style sheet cannot be read here: {problem}.", path, node.source_line
    )

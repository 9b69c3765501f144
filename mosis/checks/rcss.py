"""RCSS: style sheets that a real CSS parser (CSS Syntax Level 3, by tinycss2) reads to the end without an error."""

import re
from collections.abc import Iterator
from typing import Any

import tinycss2

from mosis.checks.kinds import Contents, beside, error, warning
from mosis.packages.findings import Finding

DEPTH = 8  # rules within rules: @media around @keyframes around a rule is three
_OF_RULES = ("media", "keyframes", "supports", "layer")
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*:|\?|#", re.IGNORECASE)


def check(path: str, content: bytes, contents: Contents) -> Iterator[Finding]:
    """What is wrong with a style sheet."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as trouble:
        yield error("rcss_malformed", f"It is not UTF-8 at byte {trouble.start}.", path)
        return
    values = tinycss2.parse_component_value_list(text + "\n}", skip_comments=True)
    # a brace too many is an error only when everything before it has been closed
    if not values or values[-1].type != "error" or values[-1].kind != "}":
        yield error("rcss_malformed", "A block, bracket, comment or text is not closed at the end.", path, text.count("\n") + 1)
        return
    yield from _rules(path, tinycss2.parse_stylesheet(values[:-1], skip_comments=True, skip_whitespace=True), contents, 0)


def _rules(path: str, nodes: list[Any], contents: Contents, depth: int) -> Iterator[Finding]:
    for node in nodes:
        if node.type == "error":
            yield _wrong(path, node)
        elif node.type == "at-rule" and node.lower_at_keyword == "import":
            yield from _references(path, node.prelude, contents)
        elif node.type == "at-rule" and node.content is None:
            continue
        elif node.type == "at-rule" and node.lower_at_keyword in _OF_RULES:
            if depth >= DEPTH:
                yield error("rcss_malformed", f"More than {DEPTH} rules are nested.", path, node.source_line)
                return
            yield from _rules(path, tinycss2.parse_rule_list(node.content, True, True), contents, depth + 1)
        else:
            yield from _declarations(path, node, contents)


def _declarations(path: str, rule: Any, contents: Contents) -> Iterator[Finding]:
    if rule.type == "qualified-rule":
        yield from (_wrong(path, each) for each in rule.prelude if each.type == "error")
        if not any(each.type != "whitespace" for each in rule.prelude):
            yield error("rcss_malformed", "A block has no selector before it.", path, rule.source_line)
    for node in tinycss2.parse_declaration_list(rule.content, skip_comments=True, skip_whitespace=True):
        if node.type == "error":
            yield _wrong(path, node)
        elif node.type == "declaration":
            yield from (_wrong(path, each) for each in node.value if each.type == "error")
            yield from _references(path, node.value, contents, node.lower_name == "src")


def _references(path: str, values: list[Any], contents: Contents, bare: bool = False) -> Iterator[Finding]:
    """url(...) and image(...) that name a file which is not there; a bare name counts only in `src`."""
    for value in values:
        named = None
        if value.type == "url" or (value.type == "string" and bare):
            named = value.value
        elif value.type == "function" and value.lower_name in ("url", "image") and value.arguments:
            named = next((each.value for each in value.arguments if each.type == "string"), None)
        if named and "." in named and not _ADDRESS.match(named) and beside(path, named) not in contents.names:
            detail = f"{beside(path, named)[:256]!r} is not in the package."
            yield warning("reference_missing", detail, path, value.source_line)


def _wrong(path: str, node: Any) -> Finding:
    said = node.message.partition(", got {")[0].rstrip(".")[:200]
    return error("rcss_malformed", f"The style sheet cannot be read here: {said}.", path, node.source_line)

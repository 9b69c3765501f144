"""RML as RmlUi reads it: what it reads, what it cannot read, and what XML tools could not."""

import random
import time

import pytest

from mosis.packages.checks import rml
from mosis.packages.checks.kinds import Contents
from mosis.packages.findings import Finding


def check(source: bytes) -> list[Finding]:
    return list(rml.check("assets/a.rml", source, Contents(frozenset(), {})))


def body(inside: bytes) -> bytes:
    return b"<rml><head/><body>\n" + inside + b"</body></rml>"


READ_BUT_NOT_XML = {
    b"<input autofocus/>": "'autofocus' a value", b"<p hidden>x</p>": "'hidden' a value", b"<p a b c='d'/>": "'a' a value",
    b"<input maxlength=9 />": "into quotes", b"<input maxlength=9/>": "into quotes", b"<p a=b>c</p>": "into quotes",
    b'<p data-if="a < 3"/>': "&lt;", b"<p data-if='a<b'/>": "&lt;", b'<p data-if="a && b"/>': "&amp;",
    b'<a href="b.rml?c=1&d=2"/>': "&amp;", b"a & b": "&amp;", b"a&nbsp;b": "&#160;", b"&copy; 2026": "&#169;", b"&foo;": "&foo;",
    b"<!-- a -- b -->": "--", b"<!-- a --->": "--", b"{{ a < b }}": "&lt;", b"{{ a && b }}": "&amp;", b"<P></p>": "capitals",
    b'<p a="1"b="2"/>': "space", b"<p a='1' a='2'/>": "twice", b"< p></p>": "&lt;", b"<p></ p>": "", b"<p/ >": "",
    b"<script>if a < b then c() end</script>": "file of its own",
    b"<style>a { b: c; } /* & */</style>": "file of its own", b"<script>x = '</b>' .. \"<!--\"</script>": "file of its own",
    b"<svg:path/>": "",
    b"<p a='1'' >x</p>": "", b"&#x110000;": "not a character", b"&#3;": "not a character", b"\x01": "",
}  # fmt: skip


@pytest.mark.parametrize(("inside", "hint"), READ_BUT_NOT_XML.items())
def test_what_only_rmlui_reads_is_one_warning_with_line_and_hint(inside: bytes, hint: str) -> None:
    if inside == b"<svg:path/>":  # a colon is a part of the name for both
        assert check(body(inside)) == []
        return
    (found,) = check(body(inside))
    assert (found.code, found.severity, found.tier, found.line) == ("rml_not_xml", "warning", 3, 2)
    assert hint in found.detail


@pytest.mark.parametrize("source", [
    b"<rml/>", b"<RML></RML>", b'<?xml version="1.0"?>\n<rml/>', b'\xef\xbb\xbf<?xml version="1.0"?><rml/>', b" \n<rml></rml>\n",
    body(b"&amp;&lt;&gt;&quot;&apos;&#160;&#xA0;"), body(b"<p a = 'b' c\t=\n'd'\n/>"), body(b"<!-- < & {{ <p> -->"),
    body(b"<![CDATA[a & b]]>"), body(b"<p>{{ a | format('}}') }} of {{ b }}</p>"), body("ÄÖ 😀".encode()), body(b"a ' b } c { d"),
    body(b"<script>x = 1</script><style/>"), body(b"<p a='b>c' d=\"e/>f\"/>"),
])  # fmt: skip
def test_what_both_read_is_fine(source: bytes) -> None:
    assert check(source) == []


@pytest.mark.parametrize(("inside", "line"), [
    (b"<p>", 2), (b"</p>", 2), (b"<p></q>", 2), (b"<p a='b>", 2), (b"<p a=>", 2), (b"<p =b>", 2), (b"<a href=b/c.rml>d</a>", 2),
    (b"a < b", 2), (b"<>", 2), (b"\n<!-- a", 3), (b"<![CDATA[ a", 2), (b"\n}}", 3), (b"{{ a", 2), (b"{{ a {{ b }} }}", 2),
    (b"{{ a } }}", 2), (b"<p>{{ a </p>", 2), (b"<script>", 2), (b"<style>a", 2), (b"<script></scrip>", 2), (b"<?php ?>", 2),
    (b"<!a>", 2), (b"\n<![CDATA[a <b]]>", 3), (b"<p", 2), (b"\0", 2), (b"\n\xff", 3), (b"{{ a 'b }}", 2),
])  # fmt: skip
def test_what_rmlui_cannot_read_is_an_error(inside: bytes, line: int) -> None:
    found = check(body(inside))[0]
    assert (found.code, found.severity, found.line) == ("rml_malformed", "error", line)


@pytest.mark.parametrize("source", [
    b"", b"text", b"</rml>", b"<!-- a -->", b"\xef\xbb\xbf", b"<template/>", b"<template><head></head></template>",
    b"<template><body></body><head></head></template>",
])  # fmt: skip
def test_whole_documents_that_rmlui_cannot_read(source: bytes) -> None:
    assert [each.code for each in check(source)] == ["rml_malformed"]


@pytest.mark.parametrize("source", [
    b"<!DOCTYPE rml><rml/>", b"<rml><!doctype a></rml>", b'<?xml > ?><!DOCTYPE a [<!ENTITY b "c">]><rml>&b;</rml>',
    b"< !DOCTYPE rml><rml/>", b'<rml/><!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]>',
])  # fmt: skip
def test_document_types_are_refused_wherever_they_stand(source: bytes) -> None:
    assert {each.code for each in check(source)} & {"rml_doctype", "rml_malformed"}


@pytest.mark.parametrize("source", [
    b"<" * 300_000, b"<rml>" + b"{{" * 300_000, b"<rml>" + b"{{'" * 300_000, b"<rml><script>" + b"</" * 300_000,
    b"<rml>" + b"<!--" * 300_000, b"<rml>" + b"<![CDATA[<" * 100_000, b"<rml " + b"a " * 300_000, b"<rml a='" + b"&#1;" * 200_000,
    b"<rml>" + b"<p/ " * 200_000, b"<rml>" + b"\n<p/>" * 50_000 + b"</rml>", b"<" + b" " * 300_000, b"<rml>" + b"a}" * 300_000,
    b"<rml>" + b"<![CDATA[" + b"<![CDATA[" * 50_000 + b"]]>" * 50_000 + b"</rml>", b"<template>" + b"<!--<head>-->" * 50_000,
    b"<rml><script>" + b"< " * 300_000, b"<rml>" + b"'" * 300_000 + b"{{" + b"'" * 300_001 + b"</rml>",
    b"<template>" + b"<head>" * 100_000, b"<rml>" + b"</p" * 100_000, b"<rml x" + b"=" * 300_000,
])  # fmt: skip
def test_the_time_is_linear_and_the_depth_is_bounded(source: bytes) -> None:
    begun = time.process_time()
    check(source)
    assert time.process_time() - begun < 5


def test_random_documents_have_clean_answers() -> None:
    """Whatever stands there: findings with a line, and no finding without a way out."""
    draw = random.Random(3)
    pieces = [
        b"<rml>", b"</rml>", b"<p ", b"/>", b">", b"<", b"a", b"=", b"'", b'"', b"{{", b"}}", b"<!--",
        b"-->", b"<![CDATA[", b"]]>", b"<script>",
        b"</script>", b"&", b";", b"&#x41;", b"\n", b" ", b"/", b"<?", b"<!", b"onclick='os.exit()'", b"<svg>", b"</svg>",
        b"<template>", b"<head>", b"<body>", b"\xc3\xa4", b"\r",
    ]  # fmt: skip
    for _ in range(3000):
        source = b"<rml>" + b"".join(draw.choices(pieces, k=draw.randrange(12))) + b"</rml>"
        for each in check(source):
            assert each.line, source
            assert each.detail.endswith("."), (source, each)

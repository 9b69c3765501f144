"""Lua scripts: compiled by Lua 5.4, never run; what they use is found from their tokens."""

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

from mosis.packages.checks.kinds import Contents, error, info, warning
from mosis.packages.checks.parsers import lua54
from mosis.packages.findings import Finding
from mosis.packages.manifest import PERMISSIONS

BYTECODE = b"\x1bLua"
DANGEROUS = frozenset(["os", "io", "debug", "load", "loadstring", "loadfile", "dofile", "package"])
INDIRECT = frozenset(["_ENV", "getfenv", "setfenv", "rawset"])
# Modules that the device provides, so `require` of them is expected.
BUILT_IN = frozenset(["mosis", "string", "table", "math", "utf8", "coroutine"])
# mosis.NAME that needs a permission of another name; the others need the permission of the same
# name.
_NEEDS = {
    "http": "network",
    "websocket": "network",
    "net": "network",
    "fetch": "network",
    "mic": "microphone",
    "notify": "notifications",
    "gps": "location",
    "files": "storage",
    "db": "storage",
}
# Tokens as Lua's own lexer (llex.c) reads them, with all line ends normalized to \n: a difference
# here could hide a use.
_WORD = re.compile(
    r"--\[(?P<c>=*)\[.*?\](?P=c)\]|--[^\n]*"  # comments
    r"|(?P<long>\[(?P<l>=*)\[.*?\](?P=l)\])"  # long texts
    r"|(?P<text>\"(?:[^\"\\\n]|\\(?>z[ \t\n\v\f]*|.))*\"|'(?:[^'\\\n]|\\(?>z[ \t\n\v\f]*|.))*')"
    r"|(?P<number>0[xX](?:[pP][+-]?|[0-9a-fA-F.])*|\.?[0-9](?:[eE][+-]?|[0-9a-fA-F.])*)"
    r"|(?P<name>[A-Za-z_][A-Za-z0-9_]*)|(?P<mark>\.\.\.|\.\.|::|[.:=(){},\[\]])|(?P<line>\n)",
    re.DOTALL,
)
# The text after a byte that Lua does not expect.
_BYTES = dict.fromkeys(("254", "255"), " (the file is UTF-16; save it as UTF-8)")
_BEYOND_ASCII = " (a character beyond ASCII outside of a text, such as a typographic quote or a non-breaking space)"
_FIRST_LINE = re.compile(rb"\A#[^\n]*")  # skipped by luaL_loadfilex, after a byte order mark
_LINE_END = re.compile(r"\r\n|\n\r|\r")
Word = tuple[str, str, int]  # kind, word, line


def check(path: str, content: bytes, contents: Contents, first_line: int = 1) -> Iterator[Finding]:
    """What is wrong with a script, or worth a look; `first_line`: where it begins in its file."""
    source = content.removeprefix(b"\xef\xbb\xbf")
    if source.startswith(b"#") and path.lower().endswith(".lua"):
        source = _FIRST_LINE.sub(b"", source, count=1)
    if source.lstrip(b"\n").startswith(BYTECODE):
        yield error("lua_bytecode", "This is compiled Lua; send the source text.", path)
        return
    if lua54 is not None:
        compiled, message = _compile()(b"\n" * (first_line - 1) + source, b"=lua")
        if not compiled:
            line, detail = _located(message, first_line)
            yield error("lua_syntax", f"Lua does not compile: {detail}", path, line)
            return
    yield from look(path, source.decode("utf-8", "replace"), contents, first_line)


def look(path: str, source: str, contents: Contents, first_line: int = 1) -> Iterator[Finding]:
    """What a script uses: a finding per name, at its first use; permissions go to `contents`."""
    words = [*_words(_LINE_END.sub("\n", source), first_line), *[("end", "", 0)] * 4]
    seen: set[str] = set()
    for number, (kind, _, _) in enumerate(words):
        if kind == "name" and not _is_own_name(words, number):
            for finding in _uses(path, words, number, contents):
                if finding.detail not in seen:
                    seen.add(finding.detail)
                    yield finding


def _words(source: str, first_line: int) -> Iterator[Word]:
    line = first_line
    for found in _WORD.finditer(source):
        kind = found.lastgroup
        if found["name"]:
            yield "name", found["name"], line
        elif found["mark"]:
            yield "mark", found["mark"], line
        elif found["text"]:
            yield "text", found["text"][1:-1], line
        elif found["long"]:
            yield "text", found["long"].strip("[]=")[:200], line
        elif found["number"]:
            yield "number", found["number"], line
        if kind != "name" and kind != "mark":
            line += found[0].count("\n")


def _is_own_name(words: list[Word], number: int) -> bool:
    """Whether a name is a field or defined here, not the global (as one after `_G.` is)."""
    before, after = words[number - 1][:2] if number else ("", ""), words[number + 1][:2]
    if before in (("mark", "."), ("mark", ":")):
        return number < 2 or words[number - 2][:2] != ("name", "_G")
    return before == ("name", "function") or (
        after == ("mark", "=") and before in (("mark", "{"), ("mark", ","))
    )


def _uses(path: str, words: list[Word], number: int, contents: Contents) -> Iterator[Finding]:
    """The remark about the use of a global at this place."""
    (_, word, line), (kind, after, _) = words[number], words[number + 1]
    if kind == "text":
        after = ""
    if word == "require":
        yield from _required(path, words, number, contents)
    elif word == "mosis" and (members := _members(words, number)):
        _permission(path, members, line, contents)
    elif word in DANGEROUS and after != "=":
        yield _dangerous(path, word, line)
    elif (
        word in INDIRECT
        or (word == "_G" and after not in (".", ":"))
        or (word == "mosis" and after not in ("=", "and", "then"))
    ):  # passed on, or its field is computed
        yield _indirect(path, word, line)


def _members(words: list[Word], number: int) -> list[str]:
    """The fields accessed of the name here, `.a.b` or `["a"]["b"]`: two at most, not computed."""
    members: list[str] = []
    at = number + 1
    while len(members) < 2:
        match [each[:2] for each in words[at : at + 3]]:
            case [("mark", "."), ("name", name), _]:
                at += 2
            case [("mark", "["), ("text", name), ("mark", "]")] if "\\" not in name:
                at += 3
            case _:
                break
        members.append(name)
    return members


def _permission(path: str, members: list[str], line: int, contents: Contents) -> None:
    """`mosis.storage.shared` needs storage.shared, `mosis.storage.get` storage."""
    whole = ".".join(members)
    needed = whole if whole in PERMISSIONS else _NEEDS.get(members[0], members[0])
    if needed in PERMISSIONS:
        contents.used.setdefault(needed, (path, line))


def _required(path: str, words: list[Word], number: int, contents: Contents) -> Iterator[Finding]:
    line = words[number][2]
    match [each[:2] for each in words[number + 1 : number + 4]]:
        case [("text", name), *_] | [("mark", "("), ("text", name), ("mark", ")")]:
            pass
        case _:
            detail = "It requires a module whose name is computed at run time."
            yield warning("require_missing", detail, path, line)
            return
    module, *members = name.split(".")
    if name in DANGEROUS:
        yield _dangerous(path, name, line)
    elif name == "_G" or (
        name == "mosis"
        and words[number - 2 : number] != [("name", "mosis", line), ("mark", "=", line)]
    ):
        yield _indirect(path, name, line)
    elif module == "mosis" and members:
        _permission(path, members[:2], line, contents)
    elif module not in BUILT_IN and not _is_in(contents, name):
        detail = f"It requires {name[:100]!r}, which is not in the package."
        yield warning("require_missing", detail, path, line)


def _is_in(contents: Contents, name: str) -> bool:
    """Whether the package has a file for this module."""
    file = name.removesuffix(".lua") if name.endswith(".lua") else name.replace(".", "/")
    return any(
        f"/{each}".endswith((f"/{file}.lua", f"/{file}/init.lua")) for each in contents.names
    )


def _dangerous(path: str, name: str, line: int) -> Finding:
    return warning("lua_dangerous", f"It uses {name}.", path, line)


def _indirect(path: str, name: str, line: int) -> Finding:
    detail = f"It reaches what it uses through {name}, so it cannot be determined what it uses."
    return info("lua_indirect", detail, path, line)


def _located(message: bytes, first_line: int) -> tuple[int, str]:
    """The line and the message of Lua's `lua:3: unexpected symbol near <eof>`."""
    text = message.decode("utf-8", "replace").split("\nstack traceback")[0]
    found = re.match(r"lua:(\d+): (.*)", text, re.DOTALL)
    if "C stack overflow" in text:
        text, found = "its expressions or blocks are nested too deep", None
    if byte := re.search(r"near '<\\(\d+)>'", text):
        text += _BYTES.get(byte[1], "" if int(byte[1]) < 128 else _BEYOND_ASCII)
        found = re.match(r"lua:(\d+): (.*)", text, re.DOTALL)
    return (int(found[1]), found[2][:300] + ".") if found else (first_line, text[:200] + ".")


@cache
def _compile() -> Any:
    """Lua's own `load`, for text only, without access to Python; the function is discarded."""
    runtime = lua54.LuaRuntime(
        register_eval=False, register_builtins=False, encoding=None, unpack_returned_tuples=True
    )
    return runtime.eval(
        b"function(source, name) local made, message = load(source, name, 't'); return made ~= nil, message end"
    )

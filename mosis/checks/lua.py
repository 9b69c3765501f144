"""Lua: compiled as source text by the real Lua 5.4, never run; what it uses is read off its words, for the reviewer."""

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import lupa.lua54 as lua54

from mosis.checks.kinds import Contents, error, info, warning
from mosis.packages.findings import Finding
from mosis.packages.manifest import PERMISSIONS

BYTECODE = b"\x1bLua"
DANGEROUS = frozenset(["os", "io", "debug", "load", "loadstring", "loadfile", "dofile", "package"])
INDIRECT = frozenset(["_ENV", "getfenv", "setfenv", "rawset"])
# What the device offers by itself, so that `require` of it is no riddle.
BUILT_IN = frozenset(["mosis", "string", "table", "math", "utf8", "coroutine"])
# mosis.NAME that needs the permission of another name; the others have the permission's own.
_NEEDS = {
    "http": "network", "websocket": "network", "net": "network", "fetch": "network", "mic": "microphone",
    "notify": "notifications", "gps": "location", "files": "storage", "db": "storage",
}
_WORD = re.compile(
    r"--\[(?P<c>=*)\[.*?\](?P=c)\]|--[^\n]*"                              # comments
    r"|(?P<long>\[(?P<l>=*)\[.*?\](?P=l)\])"                              # long texts
    r"|(?P<text>\"(?:[^\"\\\n]|\\.)*\"|'(?:[^'\\\n]|\\.)*')"              # texts
    r"|(?P<name>[A-Za-z_][A-Za-z0-9_]*)|(?P<mark>\.\.\.|\.\.|::|[.:=(){},\[\]])|(?P<line>\n)",
    re.DOTALL,
)


def check(path: str, content: bytes, contents: Contents, first_line: int = 1) -> Iterator[Finding]:
    """What is wrong with a script, and what in it a reviewer should look at. `first_line`: where it begins in its file."""
    if content.startswith(BYTECODE):
        yield error("lua_bytecode", "This is compiled Lua; send the source text.", path)
        return
    source = content.removeprefix(b"\xef\xbb\xbf")
    compiled, message = _compile()(b"\n" * (first_line - 1) + source, b"=lua")
    if not compiled:
        line, detail = _said(message)
        yield error("lua_syntax", f"Lua does not compile: {detail}", path, line)
        return
    yield from look(path, source.decode("utf-8", "replace"), contents, first_line)


def look(path: str, source: str, contents: Contents, first_line: int = 1) -> Iterator[Finding]:
    """What a script uses: one finding for each name, at the place where it stands first; permissions go into `contents`."""
    words = list(_words(source, first_line))
    found: set[str] = set()
    for number, (kind, word, line) in enumerate(words):
        if kind != "name":
            continue
        before = words[number - 1][1] if number else ""
        after = words[number + 1][1] if number + 1 < len(words) else ""
        if before in (".", ":", "function") or (after == "=" and before in ("{", ",")):
            continue  # a field or a name of its own, not the global
        if word == "mosis":
            _permission(path, [each[1] for each in words[number + 1: number + 5]], line, contents)
        elif word == "require" and word + _argument(words, number) not in found:
            found.add(word + _argument(words, number))
            yield from _required(path, words, number, contents)
        elif word in DANGEROUS and word not in found and after != "=":
            found.add(word)
            yield warning("lua_dangerous", f"It uses {word}.", path, line)
        elif (word in INDIRECT or (word == "_G" and after == "[")) and word not in found:
            found.add(word)
            yield info("lua_indirect", f"It reaches globals by way of {word}, so that what it uses cannot be read off.", path, line)


def _words(source: str, first_line: int) -> Iterator[tuple[str, str, int]]:
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
        if kind != "name" and kind != "mark":
            line += found[0].count("\n")


def _permission(path: str, following: list[str], line: int, contents: Contents) -> None:
    """`mosis.storage.shared` needs storage.shared, `mosis.storage.get` storage."""
    if following[:1] != ["."] or len(following) < 2:
        return
    first, whole = following[1], ".".join([following[1], *following[3:4]])
    needed = whole if following[2:3] == ["."] and whole in PERMISSIONS else _NEEDS.get(first, first)
    if needed in PERMISSIONS:
        contents.used.setdefault(needed, (path, line))


def _argument(words: list[tuple[str, str, int]], number: int) -> str:
    place = number + 2 if number + 1 < len(words) and words[number + 1][1] == "(" else number + 1
    return words[place][1] if place < len(words) and words[place][0] == "text" else ""


def _required(path: str, words: list[tuple[str, str, int]], number: int, contents: Contents) -> Iterator[Finding]:
    name, line = _argument(words, number), words[number][2]
    if not name:
        yield warning("require_missing", "It requires a module whose name is made up while it runs.", path, line)
        return
    file = name.replace(".", "/") if not name.endswith(".lua") else name.removesuffix(".lua")
    endings = (f"{file}.lua", f"{file}/init.lua")
    if name.partition(".")[0] not in BUILT_IN and not any(
        each == ending or each.endswith("/" + ending) for each in contents.names for ending in endings
    ):
        yield warning("require_missing", f"It requires {name[:100]!r}, which is not in the package.", path, line)


def _said(message: bytes) -> tuple[int | None, str]:
    """The line and the sentence of Lua's `lua:3: unexpected symbol near <eof>`."""
    text = message.decode("utf-8", "replace").split("\nstack traceback")[0]
    found = re.match(r"lua:(\d+): (.*)", text, re.DOTALL)
    return (int(found[1]), found[2][:200] + ".") if found else (None, text[:200] + ".")


@cache
def _compile() -> Any:
    """Lua's own `load`, for text only. Python is out of its reach, and what it makes is dropped at once."""
    runtime = lua54.LuaRuntime(register_eval=False, register_builtins=False, encoding=None, unpack_returned_tuples=True)
    return runtime.eval(b"function(source, name) local made, message = load(source, name, 't'); return made ~= nil, message end")

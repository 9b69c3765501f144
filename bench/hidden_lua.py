"""Tries to hide from the checks that a script uses `os`: random programs that Lua runs, which record access to `os`.

    python -m bench.hidden_lua --seconds 300 --seed 3

A program that reached it while it ran, and in which the checks found nothing, is a find. With --plant the checks believe that a
comment ends only at \\n (Lua ends it at \\r too): the campaign must find that.
"""

import argparse
import json
import random
import re
import sys
import time
from typing import Any

import lupa.lua54 as lua54

from mosis.packages.checks import lua
from mosis.packages.checks.kinds import Contents

SEEN = {"lua_dangerous", "lua_indirect"}
INSTRUCTIONS = 1000  # that a program may take
WORDS = [
    b"os", b"os.x()", b" os.x() ", b".", b"..", b"...", b":", b"::", b"=", b"==", b"(", b")", b"{", b"}", b"[", b"]", b"[[", b"]]",
    b"[=[", b"]=]", b"--", b"--[[", b"--[=[", b"\n", b"\r", b"\r\n", b" ", b"\t", b"\v", b'"', b"'", b"\\", b"\\z", b"\\n", b"\\x41",
    b"\\065", b"\\u{41}", b"\\\r", b"1", b"0x", b"1.", b".5", b"1e", b"p", b"+", b"-", b"x", b"x=", b"x = ", b"local ", b"f", b"f()",
    b"_G", b"_G.", b"_G ", b"function", b"function ", b" end ", b"do ", b"if x then ", b"return ", b",", b";", b"goto ", b"a", b"::a::",
    b"#", b"\0", b"\xe2\x80", b"<", b"~", b"/", b"//", b"nil", b"local os", b" in ",
]  # fmt: skip
FRAMES = [
    b'x = "%s"',
    b"x = '%s'",
    b"--%s\n",
    b"x = [[%s]]",
    b"--[[%s]]",
    b"x = %s",
    b"f(%s)",
    b"f%s",
    b"x = {%s}",
    b"local y = %s",
]
ENDINGS = [b"", b" os.x()", b"\nos.x()", b"os.x()", b"\ros.x()", b'"os.x()"']
# Runs a program with globals of its own for a moment; whether it compiles, and whether it reached `os`.
RUN = b"""function(source, instructions)
    local reached, env = false, {}
    local function nothing() end
    local found = setmetatable({}, {__index = function() return nothing end, __call = nothing})
    setmetatable(env, {__index = function(_, name)
        if name == 'os' then reached = true return found end
        if name == '_G' then return env end
        if name == 'f' then return function(...) return ... end end
    end})
    local made = load(source, '=program', 't', env)
    if not made then return false, false end
    local thread = coroutine.create(made)
    debug.sethook(thread, function() error('it takes too long') end, '', instructions)
    coroutine.resume(thread)
    return true, reached
end"""


def program(draw: random.Random, depth: int = 0) -> bytes:
    """Words and frames at random, frames within frames."""
    parts = []
    for _ in range(draw.choice((1, 1, 2, 2, 3, 4))):
        if depth < 3 and draw.random() < 0.45:
            parts.append(draw.choice(FRAMES).replace(b"%s", program(draw, depth + 1)))
        else:
            parts += [draw.choice(WORDS) for _ in range(draw.choice((1, 1, 2, 3)))]
        parts.append(draw.choice((b"", b"", b"", b"\n", b" ", b";", b"\r")))
    return b"".join(parts) + (draw.choice(ENDINGS) if depth == 0 else b"")


def campaign(seconds: float, seed: int, plant: bool = False) -> dict[str, Any]:
    """Run it; the figures, with every find."""
    runtime = lua54.LuaRuntime(
        register_eval=False, register_builtins=False, encoding=None, unpack_returned_tuples=True
    )
    run, draw = runtime.eval(RUN), random.Random(seed)
    figures: dict[str, Any] = {
        "seed": seed,
        "programs": 0,
        "compiled": 0,
        "reached": 0,
        "finds": [],
    }
    line_end = lua._LINE_END
    try:
        if plant:
            lua._LINE_END = re.compile(r"\r\n")
        until = time.monotonic() + seconds
        while time.monotonic() < until and len(figures["finds"]) < (1 if plant else 20):
            source = program(draw)
            compiled, reached = run(source, INSTRUCTIONS)
            figures["programs"] += 1
            figures["compiled"] += compiled
            figures["reached"] += reached
            if (
                reached
                and not {
                    each.code for each in lua.check("a.lua", source, Contents(frozenset(), {}))
                }
                & SEEN
            ):
                figures["finds"].append(repr(source))
    finally:
        lua._LINE_END = line_end
    return figures


def main() -> int:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--seconds", type=float, default=60)
    options.add_argument("--seed", type=int, default=int(time.time()))
    options.add_argument(
        "--plant",
        action="store_true",
        help="have the checks read line ends otherwise than Lua: it must be found",
    )
    given = options.parse_args()
    result = campaign(given.seconds, given.seed, given.plant)
    json.dump(result, sys.stdout, indent=1)
    print()
    return 1 if result["finds"] else 0


if __name__ == "__main__":
    sys.exit(main())

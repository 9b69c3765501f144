"""Parsers from other packages. The portal always has them; the command line runs without them and
names the checks that it skipped."""

from importlib import import_module
from typing import Any


def _imported(name: str) -> Any:
    """The module, or None where it is not installed."""
    try:
        return import_module(name)
    except ImportError:
        return None


lua54 = _imported("lupa.lua54")
tinycss2 = _imported("tinycss2")


def missing_parsers() -> dict[str, str]:
    """{package to install: the checks that need it}; empty if everything is checked."""
    missing = {}
    if lua54 is None:
        missing["lupa"] = "whether Lua scripts compile (lua_syntax)"
    if tinycss2 is None:
        missing["tinycss2"] = (
            "style sheets, and the files that they name (rcss_malformed, reference_missing)"
        )
    return missing

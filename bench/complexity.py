"""Counts lines, endpoints and branches: of the portal by its parts, and of the peers of the benchmark.

python -m bench.complexity

A line counts if it is neither empty nor a comment nor part of a docstring. Complexity is McCabe's (IEEE
Transactions on Software Engineering 2, 1976): one for the function, and one for each branch.
"""

import ast
import re
import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import portal
from tests import described

HERE = Path(__file__).parent
BRANCHES = (
    ast.If, ast.IfExp, ast.For, ast.AsyncFor, ast.While, ast.ExceptHandler, ast.comprehension, ast.match_case,
)  # fmt: skip
PARTS = ("web", "ui", "server", "people", "publishing", "packages", "store", "telemetry", "client")
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass(frozen=True)
class Count:
    """Lines of code, and the complexity of each function."""

    lines: int
    functions: list[int]

    def __str__(self) -> str:
        found = sorted(self.functions)
        ninetieth = found[len(found) * 9 // 10]
        return f"{self.lines:6,} | {len(found):5,} | {statistics.median(found):g} | {ninetieth} | {found[-1]}"


def complexity(function: ast.AST) -> int:
    """The number of independent paths through a function."""
    found = 1
    for node in ast.walk(function):
        found += isinstance(node, BRANCHES)
        found += len(node.values) - 1 if isinstance(node, ast.BoolOp) else 0
    return found


def counted(paths: Iterable[Path]) -> Count:
    """All of these Python files together."""
    lines, functions = 0, []
    for path in paths:
        text = path.read_text(encoding="utf-8")
        tree, documentation = ast.parse(text), set()
        for node in ast.walk(tree):
            if isinstance(node, (ast.Module, ast.ClassDef, *FUNCTIONS)) and ast.get_docstring(node):
                first = node.body[0]
                documentation |= set(range(first.lineno, (first.end_lineno or first.lineno) + 1))
        for number, line in enumerate(text.splitlines(), 1):
            lines += bool(line.strip()) and line.lstrip()[0] != "#" and number not in documentation
        functions += [complexity(node) for node in ast.walk(tree) if isinstance(node, FUNCTIONS)]
    return Count(lines, functions)


def main() -> None:
    mosis, endpoints = portal.HERE / "mosis", len(described.calls())
    whole = counted(mosis.rglob("*.py"))
    print(
        "| | lines | functions | complexity: median | 9 of 10 at most | highest |\n|---|---|---|---|---|---|"
    )
    print(f"| the portal, {endpoints} endpoints and {len(described.pages())} pages | {whole} |")
    for part in PARTS:
        print(f"| `mosis/{part}/` | {counted((mosis / part).rglob('*.py'))} |")
    print(
        f"| FastAPI, {routes(HERE / 'peers/fastapi_app.py')} endpoints | {counted([HERE / 'peers/fastapi_app.py'])} |"
    )
    for name in ("main.go", "node.mjs"):
        text = (HERE / "peers" / name).read_text(encoding="utf-8")
        lines = [line for line in text.splitlines() if line.strip() and line.lstrip()[:2] != "//"]
        print(f"| `{name}` | {len(lines):6,} | - | - | - | - |")
    print(f"\nlines for an endpoint: {whole.lines / endpoints:.0f}")


def routes(path: Path) -> int:
    """The endpoints of a peer on FastAPI."""
    return len(re.findall(r"^@app\.", path.read_text(encoding="utf-8"), re.MULTILINE))


if __name__ == "__main__":
    main()

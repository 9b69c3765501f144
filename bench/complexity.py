"""Compares how much code answers the endpoints of the comparison, in the portal and in its peers.

    python -m bench.complexity

Lines are those with code. Cyclomatic complexity is McCabe's (IEEE Transactions on Software
Engineering SE-2, 1976): one for each function, and one for each `if`, loop, `case`, `except`,
condition in a comprehension, `and` and `or`. Python is counted on its syntax tree, Go and
JavaScript by their keywords and operators, without comments and strings. Of the portal those
functions count that run when each endpoint is asked once; what libraries do counts nowhere.
"""

import ast
import io
import json
import re
import sys
import tempfile
import tokenize
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import portal
from bench.living import batch
from bench.peers import dataset, systems
from mosis.commands.process import open_migrated
from tests.package_builder import build_package

PEERS = portal.HERE / "bench/peers"
BRANCHES = (ast.If, ast.IfExp, ast.For, ast.AsyncFor, ast.While, ast.ExceptHandler, ast.match_case)
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
IN_GO = re.compile(r"\b(?:if|for|case)\b|&&|\|\|")
IN_JAVASCRIPT = re.compile(r"\b(?:if|for|while|case|catch)\b|&&|\|\||\?\?|\?(?![.?])")


@dataclass
class Size:
    """Of some functions."""

    lines: int = 0
    functions: int = 0
    complexity: int = 0

    def row(self, name: str) -> str:
        each = self.complexity / max(1, self.functions)
        return f"| {name} | {self.lines:,} | {self.functions} | {self.complexity} | {each:.1f} |"


def branches(tree: ast.AST) -> int:
    """The decisions in a syntax tree."""
    found = 0
    for node in ast.walk(tree):
        found += isinstance(node, BRANCHES)
        if isinstance(node, ast.BoolOp):
            found += len(node.values) - 1
        elif isinstance(node, ast.comprehension):
            found += 1 + len(node.ifs)
    return found


def lines_with_code(text: str) -> set[int]:
    """The numbers of the lines of a Python file with more than comments, docstrings and blanks."""
    ignored = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT)
    found: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in ignored and token.type != tokenize.ENDMARKER:
            found.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            found.difference_update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return found


def python_size(file: Path, wanted: Callable[[int], bool] = lambda line: True) -> Size:
    """Of the functions of a file whose first line is wanted; of all, its other lines count too."""
    text = file.read_text()
    code = lines_with_code(text)
    size, counted = Size(), set[int]()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, FUNCTIONS):
            decorators = [] if isinstance(node, ast.Lambda) else node.decorator_list
            first = min([node.lineno, *(each.lineno for each in decorators)])
            if wanted(first):
                size.functions += 1
                counted.update(range(first, (node.end_lineno or first) + 1))
                size.complexity += 1 + own_branches(node)
    size.lines = len(code if wanted(0) else code & counted)
    return size


def own_branches(node: ast.AST) -> int:
    """The decisions of a function without those of the functions inside it."""
    inner = [each for each in ast.walk(node) if isinstance(each, FUNCTIONS) and each is not node]
    outermost = [
        each for each in inner if not any(each in ast.walk(other) and each is not other for other in inner)
    ]  # fmt: skip
    return branches(node) - sum(branches(each) for each in outermost)


def other_size(file: Path, decisions: re.Pattern[str], function: str) -> Size:
    """Of a file in Go or JavaScript."""
    text = re.sub(r"//[^\n]*|/\*.*?\*/", "", file.read_text(), flags=re.DOTALL)
    lines = sum(bool(line.strip()) for line in text.split("\n"))
    bare = re.sub(r'"(?:\\.|[^"\\\n])*"|`[^`]*`', '""', text)
    functions = len(re.findall(function, bare))
    return Size(lines, functions, functions + len(decisions.findall(bare)))


def run_by(requests: Callable[[], None]) -> set[tuple[str, int]]:
    """(file, first line) of the portal's functions that run."""
    root = str(portal.HERE / "mosis")
    found: set[tuple[str, int]] = set()

    def called(frame: FrameType, event: str, _: Any) -> None:
        code: CodeType = frame.f_code
        if event == "call" and code.co_filename.startswith(root):
            found.add((code.co_filename, code.co_firstlineno))

    sys.setprofile(called)
    try:
        requests()
    finally:
        sys.setprofile(None)
    return found


def ask(app: Any, method: str, path: str, body: bytes = b"", token: str = "") -> dict[str, Any]:
    """One request to the application itself. Raises AssertionError unless it succeeds."""
    path, _, query = path.partition("?")
    environ = {
        "REQUEST_METHOD": method,
        "PATH_INFO": path,
        "QUERY_STRING": query,
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "127.0.0.1",
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(body),
        "CONTENT_LENGTH": str(len(body)),
        "CONTENT_TYPE": "application/octet-stream" if body[:2] == b"PK" else "application/json",
    }
    if token:
        environ["HTTP_AUTHORIZATION"] = f"Bearer {token}"
    status: list[str] = []
    answer = app(environ, lambda line, headers, exc_info=None: status.append(line))
    content = b"".join(answer)
    if hasattr(answer, "close"):
        answer.close()
    assert status[0][0] == "2", (path, status, content)
    return json.loads(content) if content[:1] == b"{" else {}


def ours() -> Size:
    """Of the functions of the portal that answer the endpoints of the comparison."""
    with tempfile.TemporaryDirectory() as name:
        system = systems.ours(Path(name) / "ours", dataset.Catalogue(20, 100))
        env = open_migrated(portal.Config.read(system.environment))
        app = portal.build(env)
        ids = dataset.package_ids(30)

        def requests() -> None:
            def send(path: str, document: Any, token: str = "") -> dict[str, Any]:
                return ask(app, "POST", path, json.dumps(document).encode(), token)

            account = {"email": "new@example.net", "password": dataset.PASSWORD, "name": "New"}
            send("/v1/auth/register", account)
            own = {"email": dataset.EMAIL, "password": dataset.PASSWORD}
            token = send("/v1/auth/login", own)["access_token"]
            for path in ("/healthz", "/v1/store/apps", f"/v1/store/apps/{ids[1]}"):
                ask(app, "GET", path)
            ask(app, "GET", "/v1/store/updates?pkgs=" + ",".join(f"{each}:4" for each in ids[:20]))
            ask(app, "GET", "/v1/apps", token=token)
            ask(app, "GET", f"/v1/apps/{ids[2]}", token=token)
            send("/v1/apps", {"package_id": "net.example.new", "name": "New", "tags": []}, token)
            package = build_package("net.example.new", key=dataset.KEY)
            ask(app, "POST", "/v1/apps/net.example.new/versions", package, token)
            send("/v1/telemetry/events", batch())
            ask(app, "GET", system.small_download(1))

        found = run_by(requests)
        env.close()
    return total(
        python_size(Path(file), {line for name, line in found if name == file}.__contains__)
        for file in {name for name, _ in found}
    )


def total(sizes: Iterable[Size]) -> Size:
    found = Size()
    for size in sizes:
        found.lines += size.lines
        found.functions += size.functions
        found.complexity += size.complexity
    return found


def main() -> None:
    """Print the table."""
    go = [other_size(PEERS / name, IN_GO, r"\bfunc\b") for name in ("main.go", "checks.go")]
    rows = {
        "the portal: functions that these endpoints run": ours(),
        "the portal: all of it": total(map(python_size, portal.HERE.glob("mosis/**/*.py"))),
        "Go with Chi": total(go),
        "Fastify, Hono and Express together": other_size(
            PEERS / "node.mjs", IN_JAVASCRIPT, r"=>|\bfunction\b"
        ),
        "FastAPI": python_size(PEERS / "fastapi_app.py"),
    }
    print("| | lines | functions | complexity | of a function |\n|---|---|---|---|---|")
    for name, size in rows.items():
        print(size.row(name))


if __name__ == "__main__":
    main()

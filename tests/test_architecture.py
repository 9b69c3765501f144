"""The house holds: who imports whom, and that importing does nothing."""

import ast
import io
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import portal
from mosis.web.cli import zipapp

MOSIS = portal.HERE / "mosis"
# Seven floors, from the ground up. A module imports from a lower floor, or from a room to its left.
FLOORS = {
    "ground": "records errors clock ids caller config problems cache metrics disk fair_queue",
    "storage": "validation database",
    "mechanisms": "litestream outbound credentials packages rate_limits audit jobs events"
    " idempotency",
    "context": "context",
    "domain": "publishing people store telemetry notifications operations",
    "background": "worker",
    "http": "server web ui commands client",
}
ORDER = {name: place for place, name in enumerate(" ".join(FLOORS.values()).split())}
ONLY_IN = {
    "bottle": ("web", "ui"),
    "waitress": ("server",),
    "sqlite3": ("database",),
    "cerberus": ("validation",),
    "jwt": ("credentials",),
    "nacl": ("credentials",),
    "multipart": ("web",),
    "lupa": ("packages",),
    "tinycss2": ("packages",),
    "smtplib": ("outbound",),
    "obstore": ("outbound",),
    "websockets": ("notifications",),
    "mistune": ("web",),
}
MODULES = sorted(MOSIS.rglob("*.py"))


def noun(path: Path) -> str:
    """The module or package directly under mosis/ that a file belongs to."""
    return path.relative_to(MOSIS).parts[0].removesuffix(".py")


def imports(path: Path) -> list[str]:
    """Every module that a file imports, at the top or inside a function; `from mosis import x` is mosis.x."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found += [f"{node.module}.{alias.name}" for alias in node.names]
    return found


def test_a_module_imports_only_what_stands_below_it() -> None:
    wrong = []
    for path in MODULES:
        if (own := noun(path)) == "__init__":
            continue
        for name in imports(path):
            first, *rest = name.split(".")
            if own not in ONLY_IN.get(first, (own,)):
                wrong.append(f"{path}: {first} belongs in {ONLY_IN[first]}")
            if (
                first == "mosis"
                and rest[0] not in (own, "VERSION")
                and ORDER[rest[0]] >= ORDER[own]
            ):
                wrong.append(f"{path}: imports {rest[0]}, which stands above it")
    assert wrong == []


def test_web_modules_share_only_plugins_request_and_the_shapes_of_others() -> None:
    bases = {
        "plugins",
        "request",
        "file_response",
        "compression",
        "content_coding",
        "routing",
        "answers",
        "idempotency",
        "package_upload",
        "multipart_form",
        "digest_fields",
        "long_poll",
        "openapi",
        "openapi_parameters",
        "schemas",
        "openapi_examples",
        "docs_pages",
        "docs_search",
    }
    allowed = bases | {
        "accounts",
        "apps",
        "auth",
        "notifications",
        "reviews",
        "rollout_plans",
    }  # faces, for what they show
    for path in [each for each in MODULES if each.stem != "application"]:
        for name in imports(path) if noun(path) == "web" else []:
            parts = name.split(".")
            if parts[:2] == ["mosis", "web"]:
                assert parts[2] in allowed, f"{path.name} imports the face {parts[2]}"


def test_every_module_has_its_place_and_none_is_a_drawer() -> None:
    nouns = {noun(path) for path in MODULES} - {"__init__"}
    assert nouns == set(ORDER) & nouns, f"without a place in the order: {nouns - set(ORDER)}"
    assert not nouns & {"utils", "helpers", "common", "core", "base", "manager"}


# Modules that write tables of others, and why. The statements of each would be torn apart otherwise.
WRITES_FOR_OTHERS = {
    "people/revocation.py": "which rows end on which occasion is one list, compared with the schema;"
    " one statement bounds the rows of an account in several tables",
    "people/personal_data.py": "erasure goes through every table with personal data",
    "people/browser_sessions.py": "the token of a browser is a column of its session",
    "database/connection.py": "`insert` and `update`, for the tables of its callers",
    "operations/clock_steps.py": "rows dated by a clock that was wrong",
    "events/__init__.py": "an event and its deliveries are inserted in one transaction",
    "publishing/members.py": "who leaves an app takes invitations and trusted publishers along; the"
    " account that it belongs to is one of its owners",
    "publishing/quotas.py": "which package is removed for another; `versions` imports it",
    "telemetry/retention.py": "old rows of all tables of telemetry, in slices",
    "telemetry/devices.py": "erasure of a device goes through every table that has its pseudonym",
}
WRITES = re.compile(
    r"\b(?:INSERT(?: OR \w+)? INTO|UPDATE(?: OR \w+)?|DELETE FROM|REPLACE INTO)\s+([a-z_]+|\x00)"
)


def statements(path: Path) -> list[str]:
    """The tables that a file writes; a NUL stands for a name that is put in."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.JoinedStr):
            parts = [each.value if isinstance(each, ast.Constant) else "\0" for each in node.values]
            found += WRITES.findall("".join(map(str, parts)))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found += WRITES.findall(node.value)
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") in ("insert", "update"):
            found += [str(each.value) for each in node.args if isinstance(each, ast.Constant)]
    return found


def test_each_table_is_written_by_one_module() -> None:
    tables = {
        name: set(re.findall(r"CREATE (?:VIRTUAL )?TABLE (\w+)", _text(file)))
        for name, file in (("portal", "schema.sql"), ("telemetry", "schema-telemetry.sql"))
    }
    writers: dict[tuple[str, str], set[str]] = {}
    unused = set(WRITES_FOR_OTHERS)
    for path in MODULES:
        name = str(path.relative_to(MOSIS))
        database = "telemetry" if noun(path) == "telemetry" else "portal"
        for table in statements(path):
            if name in WRITES_FOR_OTHERS:
                unused.discard(name)
            elif table in tables[database]:
                writers.setdefault((database, table), set()).add(name)
            else:
                assert table != "\0", f"{name} writes a table whose name is put in"
    several = {table: sorted(found) for table, found in writers.items() if len(found) > 1}
    assert not several, "call a function of the module to which the table belongs"
    assert not unused
    assert len(writers) > 40


def _text(name: str) -> str:
    return (portal.HERE / name).read_text(encoding="utf-8")


def test_words_that_had_several_meanings_have_one() -> None:
    defined: dict[str, list[Path]] = {}
    for path in MODULES:
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            names = [node.name] if isinstance(node, ast.ClassDef | ast.FunctionDef) else []
            if isinstance(node, ast.Assign):
                names = [each.id for each in node.targets if isinstance(each, ast.Name)]
            for name in names:
                defined.setdefault(name, []).append(path)
    for name in ("Answer", "Finished", "Request", "Unreachable", "Bucket", "Ticket"):
        assert len(defined.get(name, [])) <= 1, (name, defined[name])
    checks = [path for path in defined["check"] if noun(path) == "validation"]
    assert checks == [MOSIS / "validation/__init__.py"], "input is validated by one function"
    assert not {"remembered", "owned_by"} & set(defined)


def test_sizes_are_bounded() -> None:
    """At most 36 names under mosis/, 550 lines a file and 65 lines a function."""
    assert len({noun(path) for path in MODULES}) <= 36
    for path in [*MODULES, portal.HERE / "portal.py"]:
        text = path.read_text(encoding="utf-8")
        assert text.count("\n") <= 550, path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or 0) - node.lineno + 1
                assert lines <= 65, f"{path.name}: {node.name} has {lines} lines"


def test_importing_does_nothing_and_leaves_the_heavy_packages_alone(tmp_path: Path) -> None:
    script = (
        "import sys, threading, portal, mosis.worker, mosis.server\n"
        "from mosis.ui import console\n"
        "from mosis.web import accounts, apps, auth, keys, oauth, plugins, reviews, store, versions\n"
        "heavy = 'jwt cryptography nacl cerberus multipart asyncio lupa tinycss2 mistune'.split()\n"
        "heavy = set(heavy) & set(sys.modules)\n"
        "assert threading.active_count() == 1 and not heavy, heavy\n"
    )
    environment = {"PYTHONPATH": str(portal.HERE)}
    subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=environment, check=True, timeout=60
    )
    assert list(tmp_path.iterdir()) == []


def test_the_command_line_is_served_with_every_module_that_it_imports() -> None:
    archive = zipfile.ZipFile(io.BytesIO(zipapp("https://apps.example.net")))
    served = {name for name in archive.namelist() if name.startswith("mosis/")}
    for name in sorted(each for each in served if each.endswith(".py")):
        for imported in imports(portal.HERE / name):
            if imported.startswith("mosis."):
                assert module_file(imported) in served, f"{name} imports {imported}"


def module_file(name: str) -> str:
    """The file of `mosis.x.y`: of the module y, else of the module x that has y in it."""
    place = name.replace(".", "/")
    above = place.rpartition("/")[0]
    candidates = (f"{place}.py", f"{place}/__init__.py", f"{above}.py", f"{above}/__init__.py")
    return next(each for each in candidates if portal.HERE.joinpath(each).exists())

"""Commands and snippets of the documents: each is run by a test, or at least read by the program that it is for."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

import portal
from mosis.client import main as command_line
from mosis.commands import cli
from mosis.web.openapi import description
from tests.client import Account, Client
from tests.command_line.conftest import alice, settings, url  # noqa: F401  (fixtures)
from tests.command_line.driver import Mosis
from tests.server import command

HERE = portal.HERE
PAGES = {
    str(path.relative_to(HERE)): path.read_text(encoding="utf-8")
    for folder in (".", "docs", "docs/decisions", "bench")
    for path in sorted(HERE.joinpath(folder).glob("*.md"))
    if path.name != "CHANGELOG.md"
}
# Every fenced block of the pages: how many of a kind a page has, and which test runs them, word for word but for
# addresses. A test that takes all blocks of its kind runs a new one by itself; here it is counted in any case.
BLOCKS: dict[tuple[str, str], tuple[int, str]] = {
    ("CONTRIBUTING.md", ""): (1, "tests/test_documents.py::test_the_first_change"),
    ("CONTRIBUTING.md", "python"): (2, "tests/test_documents.py::test_the_first_change"),
    ("README.md", "ini"): (1, "tests/test_readme.py::test_the_preparation"),
    ("README.md", "sh"): (2, "tests/test_readme.py::test_"),
    ("README.md", "yaml"): (1, "tests/test_container.py::test_the_container"),
    ("docs/API.md", "json"): (2, "tests/test_documents.py::test_json_is_json"),
    ("docs/CACHING.md", "caddy"): (1, "tests/test_caching.py::test_caddy"),
    ("docs/CLI.md", "sh"): (2, "tests/test_documents.py::test_the_command_line"),
    ("docs/COOKBOOK.md", "sh"): (29, "tests/test_cookbook.py::test_the_cookbook"),
    ("docs/GETTING-STARTED.md", "sh"): (
        10,
        "tests/command_line/test_guides.py::test_getting_started",
    ),
    ("docs/OPERATIONS.md", "sh"): (2, "tests/test_documents.py::test_the_upgrade"),
    ("docs/PACKAGES.md", ""): (2, "tests/command_line/test_packages_page.py::test_"),
    ("docs/PACKAGES.md", "sh"): (6, "tests/command_line/test_packages_page.py::test_"),
    ("docs/PERMISSIONS.md", "json"): (1, "tests/test_documents.py::test_json_is_json"),
    ("docs/PROXIES.md", "caddy"): (1, "tests/test_proxies.py::test_everything"),
    ("docs/PROXIES.md", "nginx"): (1, "tests/test_proxies.py::test_everything"),
    ("docs/PROXIES.md", "yaml"): (1, "tests/test_proxies.py::test_everything"),
    ("docs/PUBLISHING.md", "sh"): (7, "tests/command_line/test_guides.py::test_publishing"),
    ("docs/SCALING.md", "ini"): (1, "tests/test_caching.py::test_the_settings_of_a_bucket"),
    ("docs/SCALING.md", "nginx"): (1, "tests/test_caching.py::test_the_upstream"),
}
DIAGRAMS = {
    "docs/API.md": 1,
    "docs/ARCHITECTURE.md": 1,
    "docs/PACKAGES.md": 1,
    "docs/PUBLISHING.md": 1,
}


def blocks(page: str, language: str = "") -> list[str]:
    return [
        text
        for kind, text in re.findall(r"^```(\w*)\n(.*?)^```", PAGES[page], re.DOTALL | re.MULTILINE)
        if kind == language
    ]


def spoken() -> Iterator[tuple[str, str]]:
    """Every command between backticks or in a block, with its page."""
    for page, text in PAGES.items():
        whole = re.sub(r"\\\n\s*", " ", text)
        for found in re.findall(
            r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", whole, flags=re.S | re.M)
        ):
            yield page, found
        for block in re.findall(r"^```\w*\n(.*?)^```", whole, re.DOTALL | re.MULTILINE):
            yield from ((page, line.strip()) for line in block.splitlines())


def test_every_block_is_run_by_a_test() -> None:
    found: dict[tuple[str, str], int] = {}
    for page, text in PAGES.items():
        kinds = re.findall(r"^```(\w*)\n.*?^```", text, re.DOTALL | re.MULTILINE)
        assert len(re.findall("^```", text, re.MULTILINE)) == 2 * len(kinds), page
        for kind in kinds:
            found[page, kind] = found.get((page, kind), 0) + 1
    for page, count in DIAGRAMS.items():
        found[page, ""] -= count
    counted = {place: count for place, (count, _) in BLOCKS.items()}
    assert {place: count for place, count in found.items() if count} == counted, (
        "have a test run the new block, and name it in BLOCKS"
    )
    for (page, _), (_, test) in BLOCKS.items():
        path, _, name = test.partition("::")
        source = (HERE / path).read_text(encoding="utf-8")
        assert f"def {name}" in source, test
        assert page.rpartition("/")[2] in source, f"{path} does not read {page}"


def test_json_is_json() -> None:
    found = 0
    for page in PAGES:
        for block in blocks(page, "json"):
            json.loads(block if block.lstrip()[0] in "{[" else "{" + block + "}")
            found += 1
    assert found >= 3


def accepted(parser: object, arguments: list[str]) -> bool:
    """Whether the parser has this command and these options. What stands for a value is left out."""
    options = [each.partition("=")[0] for each in arguments if each.startswith("--")]
    words = [each for each in arguments if re.fullmatch("[a-z][a-z-]*", each)]
    level, known = parser, set()
    for word in [*words, ""]:
        known |= {name for action in level._actions for name in action.option_strings}  # type: ignore[attr-defined]
        choices = [action.choices for action in level._actions if isinstance(action.choices, dict)]  # type: ignore[attr-defined]
        if not choices:
            break
        if word not in choices[0]:
            return word == "" and not options
        level = choices[0][word]
    return {*options} <= known


def test_every_command_of_the_portal_exists_with_its_options() -> None:
    tried = 0
    for page, line in spoken():
        found = re.match(r"(?:(?:docker|\S*python3?) .*?)?portal\.py ([a-z][\w =./:-]*)", line)
        if found:
            assert accepted(cli.parser(), found[1].split()), f"{page}: {line}"
            tried += 1
    assert tried > 40


def test_every_command_of_mosis_exists_with_its_options() -> None:
    tried = 0
    for page, line in spoken():
        found = re.match(r"(?:python3 mosis\.pyz|mosis) ([a-z][\w =./:@-]*)", line)
        if found:
            assert accepted(command_line.parser(), found[1].split()), f"{page}: {line}"
            tried += 1
    assert tried > 40


def test_every_address_that_a_guide_names_exists() -> None:
    """docs/API.md, which lists pages too, and the example of a new one have tests of their own."""
    known = [
        (method.upper(), re.compile(re.sub(r"\{[^}]+\}", "[^/]+", path) + "$"))
        for path, methods in description(portal.build(None), "http://x", "1")["paths"].items()
        for method in methods
    ]
    tried = 0
    for page, line in spoken():
        found = re.match(r"(GET|POST|PUT|PATCH|DELETE) (/[^\s?]*)", line)
        if found and page not in ("docs/API.md", "CONTRIBUTING.md"):
            method, path = found.groups()
            path = re.sub(r"\{[^}]+\}|\$?[A-Z]{2,}", "x", path)
            places = (path, f"/v1{path}")
            assert any(
                method == each and pattern.match(at) for each, pattern in known for at in places
            ), f"{page}: {line}"
            tried += 1
    assert tried > 20


def test_every_target_and_module_that_is_named_exists() -> None:
    makefile = (HERE / "Makefile").read_text(encoding="utf-8")
    for page, line in spoken():
        for target in re.findall(r"^make ([a-z-]+)", line):
            assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"{page}: {line}"
        for module in re.findall(r"python -m ((?:bench|tests|mosis)[\w.]*)", line):
            place = HERE / module.replace(".", "/")
            assert place.is_dir() or place.with_suffix(".py").exists(), f"{page}: {line}"
        for path in re.findall(r"pytest .*?(tests/[\w/]+\.py)", line):
            assert (HERE / path).exists(), f"{page}: {line}"


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_the_command_line_is_fetched_checked_and_used_as_its_page_says(
    tmp_path: Path,
    url: str,  # noqa: F811
    client: Client,
    alice: Account,  # noqa: F811
) -> None:
    mosis = Mosis(tmp_path / "home")
    folder = mosis.folder
    for name, program in (("python3", ""), ("mosis", f"{folder}/mosis.pyz")):
        folder.joinpath(name).write_text(f'#!/bin/sh\nexec {sys.executable} {program} "$@"\n')
        folder.joinpath(name).chmod(0o755)
    script = "".join(blocks("docs/CLI.md", "sh")).replace("https://apps.example.net", url)
    script = script.replace(f"mosis login {url}", f"mosis login {url} --email {alice.email}")
    done = subprocess.run(
        ["sh", "-eu", "-c", script],
        cwd=folder, env=mosis.environment | {"PATH": f"{folder}:{mosis.environment['PATH']}"},
        input="correct horse battery\n", capture_output=True, text=True, timeout=280, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "mosis.pyz: OK" in done.stdout
    assert "1.0.0: in_review" in done.stdout


def test_the_upgrade_in_the_container_names_what_the_image_and_the_compose_file_have() -> None:
    (script,) = (block for block in blocks("docs/OPERATIONS.md", "sh") if "docker" in block)
    compose = yaml.safe_load((HERE / "compose.yaml").read_bytes())
    name = compose["services"]["portal"]["container_name"]
    dockerfile = (HERE / "Dockerfile").read_text(encoding="utf-8")
    entry = json.loads(re.findall(r"^ENTRYPOINT (.*)$", dockerfile, re.MULTILINE)[0])
    assert script.splitlines() == [
        f"docker exec {name} {' '.join(entry)} backup",
        "docker compose build",
        "docker compose up -d",
    ]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_the_upgrade_from_python_keeps_the_data(tmp_path: Path) -> None:
    """`make run` is only asked what it would do: it installs from a package index."""
    (script,) = (block for block in blocks("docs/OPERATIONS.md", "sh") if ".venv" in block)
    command(tmp_path, "admin", "create", "a@example.net")
    names = "portal.py Makefile mosis migrations schema.sql schema-telemetry.sql setup.cfg pyproject.toml"
    for name in names.split():
        (tmp_path / name).symlink_to(HERE / name)
    python = tmp_path / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    (tmp_path / "backups").mkdir()
    environment = {
        "PATH": "/usr/local/bin:/usr/bin:/bin", "DATABASE_PATH": str(tmp_path / "data/portal.db"),
        "BACKUPS_DIR": str(tmp_path / "backups"), "PACKAGES_DIR": str(tmp_path / "packages"),
    }  # fmt: skip
    done = subprocess.run(
        ["sh", "-eu", "-c", script.replace("make run", "make --dry-run run")],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=280, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "portal.py  serve" in done.stdout
    assert not python.exists(), "the old environment is gone"
    assert (tmp_path / "data/portal.db").exists()
    assert list((tmp_path / "backups/copies").iterdir())


def test_the_workflow_runs_the_checks_and_builds_the_image_for_both_architectures() -> None:
    (path,) = HERE.glob(".github/workflows/*.yml")
    workflow = yaml.safe_load(path.read_bytes())
    assert workflow[True] == {"push": {"branches": ["main"]}, "pull_request": None}  # the key `on`
    assert workflow["permissions"] == {"contents": "read"}
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    assert all(job["runs-on"] and job["timeout-minutes"] <= 60 for job in workflow["jobs"].values())
    for step in steps:
        assert ("run" in step) != ("uses" in step)
        assert re.fullmatch(r"[\w-]+/[\w-]+@v\d+", step.get("uses", "a/b@v1"))
    runs = [step["run"] for step in steps if "run" in step]
    assert "bash .ci/run" in runs
    (build,) = (each for each in runs if "docker" in each)
    assert "--platform linux/amd64,linux/arm64 " in build
    target = re.findall(r"--target (\S+)", build)[0]
    assert f" AS {target}\n" in (HERE / "Dockerfile").read_text(encoding="utf-8")
    (python,) = (step["with"]["python-version"] for step in steps if "setup-python" in str(step))
    assert f"python_requires = >={python}" in (HERE / "setup.cfg").read_text(encoding="utf-8")


def test_the_forms_for_issues_are_complete() -> None:
    """The keys that https://docs.github.com/en/communities/using-templates asks for; Gitea reads the same."""
    forms = sorted(HERE.glob(".github/ISSUE_TEMPLATE/*.yml"))
    assert len(forms) >= 2
    for path in forms:
        form = yaml.safe_load(path.read_bytes())
        assert {"name", "description", "body"} <= set(form)
        fields = [part for part in form["body"] if part["type"] != "markdown"]
        assert {part["type"] for part in fields} <= {"input", "textarea", "dropdown", "checkboxes"}
        assert all(part["attributes"]["label"] for part in fields)
        ids = [part["id"] for part in fields]
        assert len({*ids}) == len(ids)
    assert "SECURITY.md" in forms[0].read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_first_change_works_and_what_is_forgotten_is_reported(tmp_path: Path) -> None:
    route, handler = blocks("CONTRIBUTING.md", "python")
    (row,) = (block for block in blocks("CONTRIBUTING.md") if block.startswith("| `GET"))
    copy = tmp_path / "portal"
    left_out = shutil.ignore_patterns(
        ".git", ".cache", ".venv", ".*_cache", "build", "data", "__pycache__"
    )
    shutil.copytree(HERE, copy, ignore=left_out, symlinks=True)
    module, page = copy / "mosis/web/store.py", copy / "docs/API.md"
    begin = "def routes(app: bottle.Bottle) -> None:\n"
    text = module.read_text(encoding="utf-8")
    assert text.count(begin) == 1
    changed = text.replace(begin, begin + route) + "\n\n" + handler
    written = page.read_text(encoding="utf-8")
    first = re.findall(r"^\| `GET /store/apps` .*\n", written, re.MULTILINE)[0]

    def contract() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", "tests/test_contract.py", "-k", "every"],
            cwd=copy, capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip

    module.write_text(changed.replace('    """The name of the store."""\n', ""))
    forgotten = contract()
    assert "/store/name" in forgotten.stdout, "a row is missing"
    assert "mosis.web.store.name has no docstring" in forgotten.stdout
    module.write_text(changed)
    page.write_text(written.replace(first, first + row))
    assert contract().returncode == 0
    program = (
        "import portal;"
        "from mosis.web.openapi import description;"
        "d = description(portal.build(None), 'http://x', '1')['paths'];"
        "print(d['/v1/store/name']['get']['operationId'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=copy, capture_output=True, text=True, timeout=60, check=False
    )  # fmt: skip
    assert done.stdout == "store_name_get\n", done.stderr

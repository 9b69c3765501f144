"""What the documents promise is what the program has: addresses, scopes, codes, findings, settings, job kinds."""

import ast
import configparser
import inspect
import json
import re
from dataclasses import fields
from pathlib import Path

import jsonschema

import portal
from mosis import events, jobs
from mosis.caller import ROLES, SCOPES
from mosis.config import Config
from mosis.packages.findings import FINDINGS
from mosis.problems import PROBLEMS
from mosis.web.openapi import OPERATION_IDS, operation_id, properties
from mosis.web.openapi_examples import EXAMPLES
from mosis.web.schemas import is_page
from mosis.worker import HANDLERS
from tests import described

API = (portal.HERE / "docs/API.md").read_text(encoding="utf-8")
OPERATIONS = (portal.HERE / "docs/OPERATIONS.md").read_text(encoding="utf-8")
KINDS = {"PortalError", "Malformed", "Denied", "Conflict", "LimitReached", "Unavailable"}


def test_every_address_has_a_scope_and_a_row_that_names_both() -> None:
    rows = dict(
        re.findall(
            r"^\| `((?:GET|POST|PATCH|PUT|DELETE) [^`?]+)` \| ([a-z:]+) \|", API, re.MULTILINE
        )
    )
    routes = {}
    for route in portal.build(None).routes:  # type: ignore[arg-type]
        scope = route.config.get("scope")
        known = {"public", "visitor"} if route.config.get("page") else {"public", "any", "account"}
        assert scope in {*known, "session", *ROLES, *SCOPES}, (
            f"{route.method} {route.rule} has no scope"
        )
        path = re.sub(r"<(\w+)(:\w+)?>", r"{\1}", route.rule)
        routes[f"{route.method} {path}"] = scope
    assert rows == routes


def test_every_address_is_described_by_its_own_handler() -> None:
    """Every route is in the description and nothing else is; no handler goes without @operation and a first sentence."""
    described_calls = {
        f"{method.upper()} {path.removeprefix('/v1')}": call
        for path, calls in described.whole()["paths"].items()
        for method, call in calls.items()
    }
    for route in described.calls():
        path = re.sub(r"<(\w+)(:\w+)?>", r"{\1}", route.rule)
        assert hasattr(route.callback, "operation"), (
            f"{route.callback.__module__}.{route.callback.__name__} has no @operation(...)"
        )
        assert route.callback.__doc__, (
            f"{route.callback.__module__}.{route.callback.__name__} has no docstring"
        )
        call = described_calls.pop(f"{route.method} {path}")
        asked = {each["name"] for each in call["parameters"] if each["in"] == "path"}
        assert asked == set(re.findall(r"{(\w+)}", path))
    assert described_calls == {}


def test_what_is_declared_is_what_the_handler_does() -> None:
    """Who takes a body declares it; who reads a page declares one, and so does who honours If-Match."""
    for route in described.calls():
        names, declared = route.callback.__code__.co_names, route.callback.operation
        is_package = route.config.get("body") == "package"
        takes_body = "body" in inspect.signature(route.callback).parameters
        assert takes_body == (bool(declared.body) and not is_package), route
        assert ("require_match" in names) == declared.matches, route
        paged = any(
            isinstance(answer, dict) and is_page(answer) for answer in declared.answers.values()
        )
        assert ("read_page" in names) == paged, route


def test_the_examples_fit_what_they_are_examples_of() -> None:
    components = {"components": described.whole()["components"]}
    examples = 0
    for calls in described.whole()["paths"].values():
        for call in calls.values():
            for part in (call.get("requestBody", {}), *call["responses"].values()):
                for media in part.get("content", {}).values():
                    if "example" in media:
                        jsonschema.Draft202012Validator(media["schema"] | components).validate(
                            media["example"]
                        )
                        examples += 1
    assert examples > 100


def test_every_parameter_is_explained_and_bounded_and_every_example_is_one() -> None:
    for path, calls in described.whole()["paths"].items():
        for method, call in calls.items():
            for each in call["parameters"]:
                at = f"{method} {path} {each['name']}"
                assert each.get("description"), at
                schema, bounds = (
                    each["schema"],
                    {
                        "string": {"maxLength", "enum"},
                        "integer": {"maximum", "enum"},
                        "boolean": {"type"},
                    },
                )
                assert each["in"] == "header" or bounds[schema["type"]] & set(schema), (
                    at
                )  # a head has 32 KiB at most
                if "example" in each:
                    jsonschema.Draft202012Validator(schema).validate(each["example"])
            parts = [call.get("requestBody", {}), *call["responses"].values()]
            for media in [media for part in parts for media in part.get("content", {}).values()]:
                shown = json.dumps(media.get("example"))
                assert '"text"' not in shown.replace('"text":', "").replace(
                    '["notes", "text"]', ""
                ), f"{method} {path}: {shown}"
                assert "[{}]" not in shown, f"{method} {path}: {shown}"


def test_names_for_generated_clients_are_unique_and_say_what_the_call_does() -> None:
    table = {f"{route.method} {route.rule}": operation_id(route) for route in described.calls()}
    assert len(set(table.values())) == len(table)
    assert set(OPERATION_IDS) <= set(table), "an address has gone"
    assert all(re.fullmatch("[a-z][a-z0-9_]+", name) for name in table.values())
    assert table["GET /signing-keys"] == "signing_keys_list"
    assert table["GET /keys"] == "api_keys_list"
    assert table["GET /apps/<app>/analytics"] == "analytics_get"
    assert table["POST /apps"] == "apps_create"
    assert table["POST /apps/<app>/versions/<version>/publish"] == "versions_publish"
    named = {name.partition(".")[0] for name in EXAMPLES if "." in name}
    schemas = described.whole()["components"]["schemas"]
    assert named <= set(table.values()) | set(schemas), "an example belongs to nothing"


def test_every_property_is_described_and_every_description_used() -> None:
    used = set()

    def visit(what: object, within: str) -> None:
        if isinstance(what, dict):
            for name, field in what.get("properties", {}).items():
                assert field.get("description", "").endswith("."), f"{within}.{name}"
                used.update({name, f"{within}.{name}"})
            for key, part in what.items():
                if key != "example":
                    visit(part, within)
        elif isinstance(what, list):
            for part in what:
                visit(part, within)

    for name, schema in described.whole()["components"]["schemas"].items():
        visit(schema, name)
    for calls in described.whole()["paths"].values():
        for call in calls.values():
            visit(call, call["operationId"])
    assert len(used) > 500
    assert set(properties()) <= used


def test_every_tag_is_declared_and_used() -> None:
    used = {
        tag
        for calls in described.whole()["paths"].values()
        for call in calls.values()
        for tag in call["tags"]
    }
    assert used == {tag["name"] for tag in described.whole()["tags"]}


def test_every_code_that_is_raised_stands_in_the_table_and_on_the_page() -> None:
    raised = set()
    for path in [*Path(portal.HERE / "mosis").rglob("*.py"), portal.HERE / "portal.py"]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Name)
                and node.func.id in KINDS
                and node.args
            ):
                first = node.args[0]
                if isinstance(first, ast.Constant):
                    raised.add(first.value)
    assert len(raised) > 20
    assert raised <= set(PROBLEMS)
    rows = dict(re.findall(r"^\| `(\w+)` \| (\d{3}) \|", API, re.MULTILINE))
    assert rows == {code: str(status) for code, (status, _) in PROBLEMS.items()}


def test_every_finding_stands_on_the_page() -> None:
    described = API.partition("## Findings in packages")[2]
    assert set(re.findall(r"^\| `(\w+)` \|", described, re.MULTILINE)) == set(FINDINGS)


def test_every_setting_stands_on_the_page_and_in_the_example() -> None:
    settings = {field.name.upper() for field in fields(Config)}
    chapter = OPERATIONS.partition("## Settings")[2].partition("\n## ")[0]
    assert set(re.findall(r"^\| `([A-Z_]+)` \|", chapter, re.MULTILINE)) == settings
    example = (portal.HERE / ".env.example").read_text(encoding="utf-8")
    assert set(re.findall(r"^([A-Z_]+)=", example, re.MULTILINE)) == settings


def test_the_example_settings_are_the_defaults() -> None:
    example = (portal.HERE / ".env.example").read_text(encoding="utf-8")
    assert Config.read(dict(re.findall(r"^([A-Z_]+)=(.*)$", example, re.MULTILINE))) == Config()


def test_every_kind_of_job_has_a_handler_and_a_row() -> None:
    chapter = OPERATIONS.partition("## Jobs")[2].partition("\n## ")[0]
    every = {None: "", 3600: "every hour", 24 * 3600: "every day", 7 * 24 * 3600: "every week"}
    rows = [
        (name, kind.lane, every[kind.every_seconds] + " " * bool(kind.every_seconds))
        for name, kind in jobs.KINDS.items()
    ]
    assert re.findall(r"^\| `(\w+)` \| `(\w+)` \| ([^|]*)\|", chapter, re.MULTILINE) == rows
    assert set(jobs.KINDS) == set(HANDLERS)
    assert {kind.lane for kind in jobs.KINDS.values()} == set(jobs.LANES)
    queued = set()
    for path in Path(portal.HERE / "mosis").rglob("*.py"):
        queued |= set(re.findall(r'jobs\.add\(\s*db,\s*"(\w+)"', path.read_text(encoding="utf-8")))
    assert queued <= set(HANDLERS)
    assert len(queued) > 10


def test_every_kind_of_event_has_its_row() -> None:
    chapter = API.partition("\n## Notifications")[2].partition("\n## ")[0]
    rows = []
    for name, kind in events.KINDS.items():
        mailed = "failures" if kind.failure else "yes" if kind.mailed else "no"
        data = "".join(f"`{fact}` " for fact in kind.data.split())
        rows.append(f"| `{name}` | {kind.recipients} | {data}| {mailed} |")
    assert re.findall(r"^\| `[a-z_]+\.[a-z_]+` \|.*", chapter, re.MULTILINE) == rows


def test_links_between_the_documents_lead_somewhere() -> None:
    for path in [*portal.HERE.glob("*.md"), *(portal.HERE / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8")):
            assert (path.parent / target).exists(), f"{path.name} links to {target}"


def test_every_module_stands_in_the_plan() -> None:
    plan = (
        (portal.HERE / "docs/ARCHITECTURE.md")
        .read_text(encoding="utf-8")
        .partition("```")[2]
        .partition("```")[0]
    )
    words = set(re.findall(r"[a-z_]+", plan))
    modules = {
        path.stem
        for path in (portal.HERE / "mosis").iterdir()
        if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    assert modules - {"__init__"} <= words


def test_decisions_are_numbered_once() -> None:
    pages = sorted((portal.HERE / "docs/decisions").glob("[0-9]*.md"))
    numbers = [int(path.name[:4]) for path in pages]
    assert len(numbers) == len(set(numbers))
    index = (portal.HERE / "docs/decisions/README.md").read_text(encoding="utf-8")
    for path in pages:
        title = path.read_text(encoding="utf-8").splitlines()[0]
        number = int(path.name[:4])
        assert title.startswith(f"# {number}. "), path.name
        row = f"| [{number}]({path.name}) | {title.partition('. ')[2]} | "
        assert row in index, f"docs/decisions/README.md lacks {row}"


def test_the_version_stands_in_two_places_and_is_the_same() -> None:
    setup = configparser.ConfigParser()
    setup.read(portal.HERE / "setup.cfg")
    assert setup["metadata"]["version"] == portal.VERSION

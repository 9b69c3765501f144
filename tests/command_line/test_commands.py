"""Every other command against a portal that runs: reviewers, releases, crashes, events, keys, tokens, watching, build servers."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import IO, Any

import pytest
import yaml

from mosis.clock import text
from mosis.context import Context
from mosis.telemetry import downloads
from tests.client import Account, Client
from tests.command_line.driver import Mosis, approve_all, ended
from tests.conftest import START, FakeClock
from tests.providers import Issuer, signed
from tests.server import wait_until

APP = "app.alice.notes"


@pytest.fixture
def reviewer(mosis: Mosis, rita: Account) -> Mosis:
    """`mosis` of a reviewer."""
    made = Mosis(mosis.folder / "rita", mosis.url)
    made.sign_in(rita)
    return made


def write(mosis: Mosis, name: str, content: str) -> None:
    mosis.folder.joinpath("notes", name).write_text(content)


def release(mosis: Mosis, client: Client, rita: Account, *arguments: str) -> None:
    """A published version; the first one makes the app."""
    if not mosis.folder.joinpath("notes").exists():
        mosis("init", "notes").expect(0)
    mosis("publish", "notes", *arguments).expect(0)
    assert approve_all(client, rita) == [APP]
    mosis("publish", "notes", *arguments).expect(0)


def states(mosis: Mosis) -> dict[str, str]:
    """{version: state}"""
    rows = mosis("status", APP, "--json").expect(0).json["versions"]
    return {row["version"]: row["state"] for row in rows}


def test_a_reviewer_sees_the_queue_and_what_has_changed(
    mosis: Mosis, reviewer: Mosis, client: Client, rita: Account
) -> None:
    release(mosis, client, rita)
    write(mosis, "assets/scripts/main.lua", "-- new\nreturn {}\n")
    write(mosis, "assets/more.txt", "A line\nand another\n")
    icons = mosis.folder / "notes/icons"
    icons.joinpath("icon-32.png").rename(icons / "small.png")
    manifest = mosis.manifest()
    manifest["icons"]["32"] = "icons/small.png"
    write(mosis, "manifest.json", json.dumps(manifest, indent=2) + "\n")
    notes = mosis.folder / "news.txt"
    notes.write_text("Faster.")
    mosis("publish", "notes", "--bump", "minor", "--notes", str(notes)).expect(0)
    (row,) = reviewer("review", "--json", "--state", "waiting").expect(0).json["reviews"]
    assert row["id"] in reviewer("review").expect(0).out
    shown = reviewer("review", row["id"]).expect(0).out
    for words in (
        f"{APP} 1.1.0: waiting", "permissions: none", "since 1.0.0:", "  added assets/more.txt",
        "  removed icons/icon-32.png", "  changed assets/scripts/main.lua", "Faster.",
    ):  # fmt: skip
        assert words in shown
    whole = reviewer("review", row["id"], "--diff")
    for words in (
        "--- 1.0.0/assets/scripts/main.lua", "+++ 1.1.0/assets/scripts/main.lua", "+-- new", "-local app = {}",
        "+A line", "removed: icons/icon-32.png (", '-  "version": "1.0.0",', '+  "version": "1.1.0",',
    ):  # fmt: skip
        assert words in whole.expect(0).out
    assert reviewer("review", row["id"], "--diff", "--json").expect(0).json["diff"]
    assert "reviewer" in mosis("review").expect(1).err
    reviewer("review", "no such").expect(1)


def test_the_first_version_is_compared_with_nothing(mosis: Mosis, reviewer: Mosis) -> None:
    mosis("init", "notes").expect(0)
    mosis("publish", "notes").expect(0)
    (row,) = reviewer("review", "--json").expect(0).json["reviews"]
    shown = reviewer("review", row["id"], "--diff").expect(0).out
    assert "the first version" in shown
    assert "--- nothing/assets/main.rml" in shown


def test_a_reviewer_decides_on_listing_changes_and_reports(
    mosis: Mosis, reviewer: Mosis, client: Client, alice: Account, rita: Account
) -> None:
    release(mosis, client, rita)
    client.patch(f"/v1/apps/{APP}", {"name": "Better notes"}, as_=alice).expect(200)
    assert "\nwaits for a reviewer: name\n" in mosis("status", APP).expect(0).out
    (row,) = reviewer("listings", "--json").expect(0).json["listing_changes"]
    assert row["id"] in reviewer("listings", "--state", "waiting").expect(0).out
    shown = reviewer("listings", row["id"]).expect(0).out
    assert f"\n+Better notes\ndecide: mosis approve {row['id']} --revision 1, or" in shown
    client.patch(f"/v1/apps/{APP}", {"name": "Best notes"}, as_=alice).expect(200)
    decided = ("approve", row["id"], "--yes", "--revision")
    assert "listing_edited" in reviewer(*decided, "1").expect(1).err
    assert reviewer(*decided, "2").expect(0).out == f"the listing of {APP}: approved\n"
    assert row["id"] in reviewer("listings", "--state", "decided").expect(0).out
    assert "reviewer" in mosis("listings").expect(1).err
    at = f"/v1/store/apps/{APP}/reports"
    client.post(at, {"reason": "malware", "text": "It\x1b[2J\nsends mail."}).expect(422)
    client.post(at, {"reason": "malware", "text": "It\nsends mail."}).expect(202)
    assert APP in reviewer("reports").expect(0).out
    shown = reviewer("reports", APP).expect(0).out
    assert " malware, without address\n  It\n  sends mail.\ndecide: " in shown
    (report,) = reviewer("reports", APP, "--json").expect(0).json["reports"]
    close = ("reports", APP, "--yes", "--close", "suspended", "--comment", "It does.")
    assert "--newest" in reviewer(*close).expect(2).err
    shown = reviewer(*close, "--newest", str(report["number"])).expect(0).out
    assert shown == f"{APP}: 1 closed, the app is suspended\n"
    assert "It does." not in reviewer("reports", APP, "--state", "closed").expect(0).out


def test_approve_and_reject(mosis: Mosis, reviewer: Mosis) -> None:
    mosis("init", "notes").expect(0)
    mosis("publish", "notes").expect(0)
    (row,) = reviewer("review", "--json").expect(0).json["reviews"]
    assert "--yes" in reviewer("approve", row["id"]).expect(2).err
    assert "--comment" in reviewer("reject", row["id"], "--reason", "quality").expect(2).err
    reviewer("reject", row["id"], "--reason", "taste", "--comment", "No.").expect(2)
    output = reviewer("approve", row["id"], "--comment", "Good.", "--yes").expect(0).out
    assert output == f"{APP} 1.0.0: approved\n"
    assert "already_decided" in reviewer("approve", row["id"], "--yes").expect(1).err
    assert mosis("approve", row["id"], "--yes").expect(1).err


def test_rollout_halt_rollback_and_yank(
    mosis: Mosis, client: Client, rita: Account, clock: FakeClock
) -> None:
    release(mosis, client, rita)
    mosis("publish", "notes", "--bump", "patch").expect(0)
    approve_all(client, rita)
    version = mosis("rollout", APP, "1.0.1", "10%", "--yes", "--json").expect(0).json
    assert (version["state"], version["rollout_percent"]) == ("published", 10)
    output = mosis("rollout", APP, "1.0.1", "50", "--yes").expect(0).out
    assert output.startswith(f"{APP} 1.0.1: published")
    assert mosis("rollout", APP, "1.0.1", "20", "--yes").expect(1).err
    for odd in ("0", "101", "-5", "many", "nan"):
        mosis("rollout", APP, "1.0.1", odd, "--yes").expect(2)
    assert mosis("halt", APP, "1.0.1", "--yes", "--json").expect(0).json["state"] == "halted"
    assert mosis("rollout", APP, "1.0.1", "60", "--yes", "--json").expect(0).json["state"] == (
        "published"
    )
    mosis("rollback", APP, "1.0.0", "--yes").expect(2)
    mosis("rollback", APP, "1.0.0", "--reason", "It crashes.", "--yes").expect(0)
    assert states(mosis) == {"1.0.1": "halted", "1.0.0": "published"}
    mosis("yank", APP, "1.0.1", "--reason", "It loses notes.", "--yes").expect(0)
    assert states(mosis)["1.0.1"] == "yanked"
    for name in ("halt", "rollback", "yank"):
        more = [] if name == "halt" else ["--reason", "x"]
        assert "not_found" in mosis(name, APP, "9.9.9", "--yes", *more).expect(1).err


def test_a_rollout_plan_and_the_default_one(mosis: Mosis, client: Client, rita: Account) -> None:
    release(mosis, client, rita)
    mosis("publish", "notes", "--bump", "patch").expect(0)
    approve_all(client, rita)
    assert "not_found" in mosis("rollout", APP, "1.0.1").expect(1).err
    plan = ("--plan", "1,5@24,100@72h", "--halt-below", "99.5%", "--sessions", "300")
    assert "--yes" in mosis("rollout", APP, "1.0.1", *plan).expect(2).err
    version = mosis("rollout", APP, "1.0.1", *plan, "--yes", "--json").expect(0).json
    assert (version["state"], version["rollout_percent"]) == ("published", 1)
    assert version["rollout_plan"]["halt_when"] == {
        "crash_free_below": 0.995, "sessions_at_least": 300, "compared_with": "previous",
    }  # fmt: skip
    shown = mosis("rollout", APP, "1.0.1").expect(0).out
    assert "1 % after 0 h, 5 % after 24 h, 100 % after 72 h" in shown
    assert "running: 1 of 3 steps, next at" in shown
    other = ("--plan", "2,60@1", "--halt-below", "99", "--compare", "bound", "--yes", "--json")
    changed = mosis("rollout", APP, "1.0.1", *other).expect(0).json["rollout_plan"]
    assert changed["halt_when"]["compared_with"] is None
    assert mosis("rollout", APP, "1.0.1", "--no-plan", "--yes", "--json").expect(0).json[
        "rollout_plan"
    ] is None  # fmt: skip
    assert "no rollout plan" in mosis("rollout", APP).expect(0).out
    default = mosis("rollout", APP, "--plan", "10,100@48", "--yes", "--json").expect(0).json
    assert len(default["rollout_plan"]["steps"]) == 2
    mosis("rollout", APP, "--no-plan", "--yes").expect(0)
    for wrong in (
        ["--plan", "5,1"], ["--plan", "x"], ["--plan", "5@-1"], ["--halt-below", "99"], ["--sessions", "5"],
        ["--plan", "5", "--no-plan"], ["--plan", "5", "--halt-below", "101"],
    ):  # fmt: skip
        mosis("rollout", APP, "1.0.1", *wrong, "--yes").expect(2)
    refused = mosis("rollout", APP, "1.0.1", "--plan", "5,5@1", "--yes").expect(1)
    assert "/steps/1/percent" in refused.err


def test_downloads(mosis: Mosis, client: Client, rita: Account) -> None:
    release(mosis, client, rita)
    version = client.env.db.connection().value("SELECT id FROM versions WHERE released = 1")
    for _ in range(3):
        client.env.downloads.add(version)
    downloads.flush(client.env)
    found = mosis("downloads", APP, "--by", "version,channel", "--json").expect(0).json
    assert found["downloads"] == [{"count": 3, "version": "1.0.0", "channel": "stable"}]
    shown = mosis("downloads", APP).expect(0).out
    assert "3 downloads" in shown
    assert client.env.clock.now()[:10] in shown
    mosis("downloads", APP, "--by", "week").expect(1)
    mosis("downloads", "com.none.such").expect(1)


def test_status_tells_of_versions_queue_and_downloads(
    mosis: Mosis, client: Client, rita: Account
) -> None:
    assert mosis("status").expect(0).out.startswith("APP")
    release(mosis, client, rita)
    mosis("publish", "notes", "--bump", "patch").expect(0)
    assert APP in mosis("status").expect(0).out
    shown = mosis("status", APP).expect(0).out
    assert re.search(r"1\.0\.1 +stable +in_review .* 1$", shown, re.MULTILINE), shown
    assert "downloads: 0" in shown
    assert "not_found" in mosis("status", "app.nobody.has").expect(1).err
    mosis("status", "--watch").expect(2)


@pytest.mark.slow
@pytest.mark.parametrize(("decision", "code"), [("approve", 0), ("reject", 3)])
def test_status_waits_for_the_decision(
    mosis: Mosis, reviewer: Mosis, client: Client, decision: str, code: int
) -> None:
    mosis("init", "notes").expect(0)
    mosis("publish", "notes").expect(0)
    (row,) = reviewer("review", "--json").expect(0).json["reviews"]
    with ended(mosis.start("status", APP, "--watch", "--json")) as process:
        more = ["--comment", "No.", "--reason", "spam"] if code else []
        reviewer(decision, row["id"], *more, "--yes").expect(0)
        out, _ = process.communicate(timeout=60)
    assert process.returncode == code
    assert json.loads(out)["state"] == ("rejected" if code else "approved")
    assert mosis("status", APP, "--watch").expect(code)


def crash(client: Client, device: int, message: str = "bad argument") -> None:
    trace = "stack traceback:\n\tscripts/main.lua:7: in function 'save'"
    client.post("/v1/telemetry/crashes", {
        "app_id": APP, "app_version": "1.0.0", "mosis_version": "2.1.0", "device_id": f"{device:064x}",
        "timestamp": text(START - 60),
        "crash": {"type": "LuaError", "message": message, "stack_trace": trace, "context": {}},
    }).expect(202)  # fmt: skip


def test_crashes(mosis: Mosis, client: Client, rita: Account) -> None:
    release(mosis, client, rita)
    assert len(mosis("crashes", APP).expect(0).out.splitlines()) == 1
    for device in range(3):
        crash(client, device, "bad argument \x1b[2J")
    (group,) = mosis("crashes", APP, "--json").expect(0).json["crashes"]
    shown = mosis("crashes", APP).expect(0).out
    assert re.search(rf"{group['id']} +3 +3 .*LuaError: bad argument", shown)
    one = mosis("crashes", APP, group["id"]).expect(0).out
    assert "3 reports, open" in one
    assert "scripts/main.lua:7: in function 'save'" in one
    assert "\x1b" not in shown + one
    assert mosis("crashes", APP, "--state", "resolved", "--json").expect(0).json == {"crashes": []}
    assert "not_found" in mosis("crashes", APP, "nothing").expect(1).err


@pytest.mark.slow
def test_events_are_followed_and_resumed(
    mosis: Mosis, client: Client, alice: Account, rita: Account
) -> None:
    mosis("init", "notes").expect(0)
    mosis("publish", "notes").expect(0)
    whole = [json.loads(line) for line in mosis("events", "--json").expect(0).out.splitlines()]
    assert [each["kind"] for each in whole][-1:] == ["version.submitted"]
    assert whole[-1]["text"] in mosis("events").expect(0).out
    after = mosis("events", "--after", whole[0]["id"], "--json").expect(0).out.splitlines()
    assert [json.loads(line)["id"] for line in after] == [each["id"] for each in whole[1:]]
    assert "bad_cursor" in mosis("events", "--after", "nonsense").expect(1).err
    assert mosis.url
    names = ("events", mosis.url, alice.id)
    seen: list[Any] = []

    def all_are_read(lines: IO[str]) -> bool:
        """Whether the last event that is noted was read; reads what is printed by then."""
        noted = (mosis.config.read_state(*names) or {}).get("after", "")
        while noted > seen[-1]["id"]:
            seen.append(json.loads(lines.readline()))
        return bool(noted == seen[-1]["id"])

    for step in range(2):  # followed, stopped, something happens, followed again
        with ended(mosis.start("events", "--follow", "--json")) as process:
            assert process.stdout is not None
            if step == 0:
                seen += [json.loads(process.stdout.readline()) for _ in whole]
                approve_all(client, rita)
            seen.append(json.loads(process.stdout.readline()))

            wait_until(partial(all_are_read, process.stdout), "it is noted")
            process.send_signal(signal.SIGINT)
            process.wait(60)
            assert process.returncode == 130
        if step == 0:
            mosis("publish", "notes").expect(0)
    kinds = [each["kind"] for each in seen]
    assert kinds[: len(whole)] == [each["kind"] for each in whole]
    assert kinds[len(whole) :][:1] == ["version.approved"]
    assert len({each["id"] for each in seen}) == len(seen)


def test_signing_keys(mosis: Mosis, tmp_path: Path) -> None:
    assert "no signing key" in mosis("keys", "export").expect(1).err
    assert "registered" in mosis("keys", "create").expect(0).out
    assert "already" in mosis("keys", "create").expect(1).err
    path = mosis.config.folder / "keys" / "default.pem"
    assert path.stat().st_mode & 0o777 == 0o600
    pem = mosis("keys", "export").expect(0).out
    assert pem == path.read_text()
    (row,) = mosis("keys", "--json").expect(0).json["signing_keys"]
    listed = mosis("keys").expect(0).out
    assert re.search(
        rf"{row['id']} .*{re.escape(row['fingerprint'])} .*active .*default$", listed, re.M
    )
    mosis("keys", "import", "copy", stdin=pem).expect(0)
    tmp_path.joinpath("odd.pem").write_text("-----BEGIN PRIVATE KEY-----\nAAAA\n")
    odd = str(tmp_path / "odd.pem")
    assert "not an Ed25519 private key" in mosis("keys", "import", "o", "--file", odd).expect(2).err
    mosis("keys", "import", "o", "--file", str(tmp_path / "nowhere.pem")).expect(2)
    mosis("keys", "import", "../o", stdin=pem).expect(2)
    assert "--yes" in mosis("keys", "revoke", row["id"]).expect(2).err
    mosis("keys", "revoke", row["id"], "--yes").expect(0)
    (row,) = mosis("keys", "--json").expect(0).json["signing_keys"]
    assert row["state"] == "revoked"
    mosis("init", "notes").expect(0)
    assert "mosis keys create" in mosis("publish", "notes").expect(1).err
    mosis("keys", "create", "second").expect(0)
    mosis("publish", "notes", "--key", "second").expect(0)
    mosis("keys", "revoke").expect(2)


def test_api_keys(mosis: Mosis) -> None:
    mosis("init", "notes").expect(0)
    mosis("publish", "notes").expect(0)
    made = mosis("tokens", "create", "ci", "--apps", APP, "--expires", "2027-06-01T00:00:00Z")
    key = made.expect(0).out.strip()
    assert key.startswith("mk_live_")
    assert "shown once" in made.err
    (row,) = mosis("tokens", "--json").expect(0).json["keys"]
    assert re.search(
        rf"{row['id']} .* ci +2027-06-01T00:00:00Z +apps:read,versions:upload +{APP}$",
        mosis("tokens").expect(0).out,
        re.M,
    )
    assert mosis("whoami", env={"MOSIS_TOKEN": key}).expect(0)
    assert "limited_to_apps" in mosis("keys", "create", "x", env={"MOSIS_TOKEN": key}).expect(1).err
    refused = mosis("tokens", "create", "x", "--scopes", "apps:fly").expect(1).err
    assert "/scopes/0: " in refused
    assert "apps:fly" in refused or "apps:read" in refused
    mosis("tokens", "create", "x", "--expires", "tomorrow").expect(1)
    mosis("tokens", "create").expect(2)
    mosis("tokens", "revoke").expect(2)
    mosis("tokens", "revoke", row["id"], "--yes").expect(0)
    assert mosis("whoami", env={"MOSIS_TOKEN": key}).expect(1).err


@pytest.mark.slow
def test_check_watches_a_folder(offline: Mosis) -> None:
    offline("init", "notes").expect(0)
    assert "folder" in offline("check", "nowhere", "--watch").expect(2).err
    with ended(offline.start("check", "notes", "--watch")) as process:
        assert process.stdout is not None
        assert "the checks pass" in process.stdout.readline()
        write(offline, "assets/scripts/main.lua", "local = 3\n")
        assert "main.lua:1: lua_syntax: " in process.stdout.readline()
        assert "1 error(s)" in process.stdout.readline()
        write(offline, "assets/scripts/main.lua", "return 3\n")
        assert "the checks pass" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()


def run_steps(workflow: Path, folder: Path, environment: dict[str, str], ref: str) -> list[str]:
    """Run the steps of a workflow as its runner would; their names. Actions are left out: the checkout is
    `folder`, and `python` is this one, which has the packages that `pip` would install."""
    document = yaml.safe_load(workflow.read_bytes())
    known = {"name", True, "permissions", "jobs"}  # YAML 1.1 reads `on` as true
    if ".gitea" in workflow.parts:  # Forgejo's key, which GitHub refuses
        known.add("enable-openid-connect")
        assert document["enable-openid-connect"] is True
    assert set(document) == known
    assert document[True] == {"push": {"branches": ["**"], "tags": ["v*"]}}
    assert document["permissions"] == {"contents": "read", "id-token": "write"}
    (job,) = document["jobs"].values()
    done = []
    for step in job["steps"]:
        if "uses" in step:
            assert re.fullmatch(r"actions/(checkout|setup-python)@v\d+", step["uses"])
            continue
        if "if" in step:
            assert step["if"] == "startsWith(github.ref, 'refs/tags/v')"
            if not ref.startswith("refs/tags/v"):
                continue
        variables = {
            name: re.sub(r"\$\{\{ secrets\.(\w+) \}\}", lambda found: environment[found[1]], value)
            for name, value in (job["env"] | step.get("env", {})).items()
        }
        ran = subprocess.run(
            ["bash", "-e", "-o", "pipefail", "-c", step["run"]],
            cwd=folder, env=environment | variables, capture_output=True, text=True, timeout=280, check=False,
        )  # fmt: skip
        assert ran.returncode == 0, (step, ran.stdout, ran.stderr)
        done.append(step["name"])
    return done


@pytest.mark.slow
@pytest.mark.skipif(
    any(shutil.which(tool) is None for tool in ("bash", "curl", "sha256sum")), reason="needs curl"
)
@pytest.mark.parametrize(("kind", "place"), [("github", "the app's $(folder)"), ("gitea", ".")])
def test_the_workflow_of_a_build_server_runs(
    mosis: Mosis,
    client: Client,
    alice: Account,
    env: Context,
    clock: FakeClock,
    kind: str,
    place: str,
) -> None:
    """It signs in with the ID token of its build, as GitHub and Forgejo give it to a job that may ask."""
    checkout = mosis.folder / "checkout"
    checkout.joinpath(".git").mkdir(parents=True)
    folder = str(checkout / place)
    mosis("init", folder, "--id", APP, "--ci", kind).expect(0)
    workflow = checkout / f".{kind}" / "workflows" / "mosis.yml"
    assert "already" in mosis("init", folder).expect(1).err
    assert "already" in mosis("init", folder, "--ci", kind).expect(1).err
    mosis("publish", folder).expect(0)
    key = mosis("keys", "export").expect(0).out
    assert "id-token: write" in workflow.read_text()
    programs = mosis.folder / "bin"
    programs.mkdir()
    python = programs / "python"
    python.write_text(f'#!/bin/sh\n[ "$2" = pip ] || exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    names = ("MOSIS_", "GITHUB_")
    environment = {name: each for name, each in os.environ.items() if not name.startswith(names)}
    environment |= {
        "PATH": f"{programs}:{os.environ['PATH']}", "CI": "true", "MOSIS_SIGNING_KEY": key,
        "MOSIS_CONFIG_DIR": str(mosis.folder / "runner"), "NO_PROXY": "127.0.0.1",
    }  # fmt: skip
    secrets = {name: environment.pop(name) for name in ("MOSIS_SIGNING_KEY",)}

    def steps(ref: str) -> list[str]:
        class Secrets(dict[str, str]):  # seen by a step that names them, and by no other
            def __missing__(self, name: str) -> str:
                return secrets.get(name, "")  # as a secret that is not set

        return run_steps(workflow, checkout, Secrets(environment), ref)

    assert steps("refs/heads/main") == ["Fetch mosis", "Check"]
    manifest = Path(folder, "manifest.json")
    document = json.loads(manifest.read_bytes())
    manifest.write_text(json.dumps(document | {"version": "1.1.0", "version_code": 2}))
    with Runner(lambda: clock.at, env.config.base_url) as runner:
        environment |= {
            "ACTIONS_ID_TOKEN_REQUEST_URL": f"{runner.url}/request?api-version=2.0",
            "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "of the job",
        }
        body = {
            "issuer": runner.url,
            "claims": {"repository_id": "74"},
            "scopes": ["apps:read", "versions:upload"],
        }
        client.post(f"/v1/apps/{APP}/publishers", body, as_=alice).expect(201)
        client.patch(f"/v1/apps/{APP}", {"publish_by": "trusted"}, as_=alice).expect(200)
        assert steps("refs/tags/v1.1.0") == ["Fetch mosis", "Check", "Publish"]
    assert states(mosis)["1.1.0"] in ("checking", "ready", "in_review")


class Runner(Issuer):
    """An issuer that gives a job its ID token."""

    def __init__(self, now: Callable[[], float], audience: str) -> None:
        super().__init__(now)
        self.audience = audience

    def answer(
        self, path: str, query: dict[str, str], form: dict[str, str], headers: Any
    ) -> tuple[int, dict[str, str], Any]:
        if path != "/request":
            return super().answer(path, query, form, headers)
        if headers["Authorization"] != "Bearer of the job" or query["audience"] != self.audience:
            return 401, {}, {"message": "no"}
        at = int(self.now())
        claims = {
            "iss": self.url,
            "aud": query["audience"],
            "sub": "repo:o/r",
            "repository_id": "74",
        }
        return (
            200,
            {},
            {"value": signed(claims | {"iat": at, "exp": at + 300, "jti": str(len(self.asked))})},
        )


def test_an_id_token_that_is_not_trusted_is_refused_in_words(
    mosis: Mosis, env: Context, clock: FakeClock
) -> None:
    mosis("init", "app", "--id", APP).expect(0)
    runner = {"MOSIS_CONFIG_DIR": str(mosis.folder / "runner"), "MOSIS_SIGNING_KEY": ""}
    pem = mosis("keys", "export").expect(0).out
    for token in ("nonsense", signed({"iss": "https://ci.example.org"})):
        refused = mosis(
            "publish", "app", env=runner | {"MOSIS_ID_TOKEN": token, "MOSIS_SIGNING_KEY": pem}
        )
        assert "ID token was refused" in refused.expect(1).err


def test_a_workflow_needs_a_package_id(offline: Mosis) -> None:
    offline("init", "notes").expect(0)
    for odd in (None, 7, "notes", "a.b\n- run: evil"):
        document = offline.manifest() | {"id": odd}
        write(offline, "manifest.json", json.dumps(document))
        assert "package id" in offline("init", "notes", "--ci", "github").expect(1).err

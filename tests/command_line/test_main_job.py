"""From nothing to an app on a device, with `mosis` alone."""

import hashlib
import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.client import PASSWORD, Account, Client
from tests.command_line.driver import Mosis, approve_all, ended, in_suite, pythons
from tests.conftest import FakeClock


def test_from_init_to_a_device(mosis: Mosis, client: Client, rita: Account, tmp_path: Path) -> None:
    mosis("init", "notes").expect(0)
    assert mosis.manifest()["id"] == "app.alice.notes"
    mosis("check", "notes").expect(0)
    answer = mosis("publish", "notes", "--json").expect(0).json
    assert (answer["state"], answer["package_id"]) == ("in_review", "app.alice.notes")
    assert approve_all(client, rita) == ["app.alice.notes"]
    assert mosis("publish", "notes", "--json").expect(0).json["state"] == "published"
    device = Mosis(tmp_path / "device", mosis.url)
    installed = device("install", "app.alice.notes", "--json").expect(0).json
    assert installed["signature"] == "verified"
    for name in ("manifest.json", "assets/main.rml", "icons/icon-64.png"):
        there = device.folder / "app.alice.notes" / name
        assert there.read_bytes() == (mosis.folder / "notes" / name).read_bytes()


def test_the_next_version(mosis: Mosis, client: Client, rita: Account, tmp_path: Path) -> None:
    mosis("init", "notes").expect(0)
    mosis("publish", "notes").expect(0)
    approve_all(client, rita)
    mosis("publish", "notes").expect(0)
    device = Mosis(tmp_path / "device", mosis.url)
    device("install", "app.alice.notes").expect(0)
    answer = mosis("publish", "notes", "--bump", "patch", "--json").expect(0).json
    assert (answer["version"], answer["version_code"], answer["state"]) == ("1.0.1", 2, "in_review")
    assert mosis.manifest()["version"] == "1.0.1"


def test_when_approved_publishes_by_itself(mosis: Mosis, client: Client, rita: Account) -> None:
    mosis("init", "notes").expect(0)
    with ended(mosis.start("publish", "notes", "--when-approved", "--json")) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "waiting for the review" in line:
                break
        assert approve_all(client, rita) == ["app.alice.notes"]
        out, _ = process.communicate(timeout=60)
        assert process.returncode == 0
        assert json.loads(out)["state"] == "published"


def test_a_rejection_has_an_exit_code_of_its_own(
    mosis: Mosis, client: Client, rita: Account
) -> None:
    mosis("init", "notes").expect(0)
    mosis("publish", "notes").expect(0)
    (review,) = client.get("/v1/reviews", as_=rita)["reviews"]
    reviewer = Mosis(mosis.folder / "rita", mosis.url)
    reviewer.sign_in(rita)
    reviewer(
        "reject", review["id"], "--reason", "quality", "--comment", "Too small.", "--yes"
    ).expect(0)
    again = mosis("publish", "notes").expect(3)
    assert "Too small." in again.err
    assert mosis("publish", "notes", "--again", "--json").expect(0).json["state"] == "in_review"


@pytest.mark.slow
def test_device_login(
    tmp_path: Path, url: str, client: Client, alice: Account, rita: Account
) -> None:
    mosis = Mosis(tmp_path / "home")
    with ended(mosis.start("login", url, "--no-browser")) as process:
        assert process.stderr is not None
        lines = iter(process.stderr)
        code = next(
            found[1] for line in lines if (found := re.search(r"code ([A-Z]{4}-[A-Z]{4})", line))
        )
        answer = {"user_code": code, "approve": True}
        client.post("/v1/auth/device/approve", answer, as_=alice).expect(200)
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "Signed in" in out
    assert "Alice" in out
    assert mosis.config.path.stat().st_mode & 0o777 == 0o600
    assert "apps:read" in mosis("whoami").expect(0).out
    mosis("init", "notes").expect(0)
    assert mosis("publish", "notes", "--json").expect(0).json["state"] == "in_review"
    mosis("logout").expect(0)
    assert "not signed in" in mosis("whoami").expect(1).err


def test_sign_in_by_password_and_by_token(tmp_path: Path, url: str, alice: Account) -> None:
    mosis = Mosis(tmp_path / "home")
    assert (
        "request"
        in mosis("login", url, "--email", alice.email, stdin="wrong words here\n").expect(1).err
    )
    mosis("login", url, "--email", alice.email, stdin=PASSWORD + "\n").expect(0)
    key = mosis("tokens", "create", "ci", "--scopes", "apps:read", "--json").expect(0).json["key"]
    other = Mosis(tmp_path / "other")
    other("login", url, "--with-token", stdin="mk_live_nonsense\n").expect(1)
    assert "portal" not in other.config.path.read_text().replace("portals", "")
    other("login", url, "--with-token", stdin=key + "\n").expect(0)
    assert other("whoami", "--json").expect(0).json["account"]["scopes"] == ["apps:read"]
    assert "needs that scope" in other("keys").expect(1).err


def test_a_token_that_expires_in_the_middle_is_replaced(mosis: Mosis, clock: FakeClock) -> None:
    mosis("init", "notes").expect(0)
    before = mosis.config.path.read_text()
    clock.advance(3600)
    mosis("publish", "notes").expect(0)
    assert mosis.config.path.read_text() != before


def test_two_processes_refresh_one_session(mosis: Mosis, clock: FakeClock) -> None:
    clock.advance(3600)
    results = []
    with ended(mosis.start("whoami")) as one, ended(mosis.start("status")) as other:
        for each in (one, other):
            each.communicate(timeout=60)
            results.append(each.returncode)
    assert results == [0, 0]
    mosis("whoami").expect(0)


def test_an_ended_session_says_what_to_do(mosis: Mosis, client: Client, alice: Account) -> None:
    client.post("/v1/auth/logout", as_=alice).expect(204)
    assert f"mosis login {mosis.url}" in mosis("status").expect(1).err


def test_a_build_server_needs_a_token_and_a_key_alone(
    mosis: Mosis, client: Client, alice: Account
) -> None:
    mosis("init", "notes").expect(0)
    mosis("publish", "notes").expect(0)
    key = mosis("keys", "export").expect(0).out
    token = (
        mosis("tokens", "create", "ci", "--apps", "app.alice.notes", "--json").expect(0).json["key"]
    )
    ci = Mosis(mosis.folder / "ci", mosis.url)
    secrets = {"MOSIS_TOKEN": token, "MOSIS_SIGNING_KEY": key, "CI": "true"}
    folder = str(mosis.folder / "notes")
    answer = (
        ci("publish", folder, "--bump", "minor", "--no-wait", "--json", env=secrets).expect(0).json
    )
    assert (answer["version"], answer["state"]) == ("1.1.0", "checking")
    assert not (ci.config.folder / "keys").exists()


def test_the_zipapp_is_the_same_each_time_and_for_caches(client: Client) -> None:
    first = client.get("/cli/mosis.pyz").expect(200)
    digest = client.get("/cli/mosis.pyz.sha256").expect(200).body.decode()
    assert digest == f"{hashlib.sha256(first.body).hexdigest()}  mosis.pyz\n"
    client.get("/cli/mosis.pyz", headers={"If-None-Match": first.headers["etag"]}).expect(304)
    from mosis.web.cli import zipapp

    zipapp.cache_clear()
    assert zipapp(client.env.config.base_url) == first.body
    assert zipapp("https://apps.example.net") != first.body


def pythons_and_options() -> list[Any]:
    """In the suite, the oldest Python with its packages and the newest without."""
    found = []
    for name, options in (("with packages", ["-I"]), ("alone", ["-I", "-S"])):
        of_suite = pythons()[0 if name == "with packages" else -1]
        for python in pythons():
            found.append(in_suite(python, of_suite, options, id=f"{python}-{name}"))
    return found


@pytest.mark.slow
@pytest.mark.parametrize(("python", "options"), pythons_and_options())
def test_the_whole_job_under_every_python(
    tmp_path: Path, url: str, client: Client, alice: Account, rita: Account, python: str, options: list[str]
) -> None:  # fmt: skip
    """The zipapp, with the packages of that Python (cryptography, lupa, tinycss2, if it has them) and without."""
    mosis = Mosis(tmp_path / "home")
    mosis.environment["PATH"] = os.environ["PATH"]
    path = mosis.folder / "mosis.pyz"
    path.write_bytes(client.get("/cli/mosis.pyz").expect(200).body)

    def run(*arguments: str, stdin: str = "") -> str:
        done = subprocess.run(
            [python, *options, str(path), *arguments],
            cwd=mosis.folder, env=mosis.environment, input=stdin, capture_output=True, text=True, timeout=280, check=False,
        )  # fmt: skip
        assert done.returncode == 0, (arguments, done.stdout, done.stderr)
        return done.stdout

    run("login", "--email", alice.email, stdin=PASSWORD + "\n")
    run("init", "notes")
    run("check", "notes")
    assert json.loads(run("publish", "notes", "--json"))["state"] == "in_review"
    assert approve_all(client, rita) == ["app.alice.notes"]
    assert json.loads(run("publish", "notes", "--json"))["state"] == "published"
    assert json.loads(run("install", "app.alice.notes", "--json"))["signature"] == "verified"
    assert mosis.folder.joinpath("app.alice.notes/assets/main.rml").is_file()

"""Runs `mosis` as its users do, against a portal that runs."""

import codecs
import contextlib
import io
import json
import os
import pty
import re
import select
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import portal
from mosis.client.config import Config, Credentials
from mosis.client.main import main
from tests.client import Account, Client

NAMES = (
    "MOSIS_",
    "CI",
    "NO_COLOR",
    "XDG_",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "http_proxy",
    "https_proxy",
)


@dataclass
class Result:
    """What a command has printed, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    def expect(self, code: int) -> "Result":
        assert self.code == code, (self.code, self.out, self.err)
        return self


class Mosis:
    """`mosis` with a configuration of its own, in a folder of its own."""

    def __init__(self, folder: Path, url: str | None = None) -> None:
        self.folder = folder
        self.folder.mkdir(parents=True, exist_ok=True)
        self.config = Config(folder / "config")
        self.url = url
        self.environment = {
            name: value for name, value in os.environ.items() if not name.startswith(NAMES)
        } | {"MOSIS_CONFIG_DIR": str(self.config.folder), "NO_PROXY": "127.0.0.1"}
        if url:
            self.environment["MOSIS_URL"] = url

    def sign_in(self, account: Account) -> None:
        """As after `mosis login`."""
        assert self.url
        self.config.store(self.url, Credentials(account.token, account.refresh_token))

    def __call__(
        self, *arguments: str, stdin: str = "", env: Mapping[str, str] | None = None
    ) -> Result:
        """One command, in this process."""
        out, err = io.StringIO(), io.StringIO()
        with pytest.MonkeyPatch.context() as patch:
            for name in set(os.environ) - set(self.environment):
                patch.delenv(name)
            for name, value in {**self.environment, **(env or {})}.items():
                patch.setenv(name, value)
            patch.chdir(self.folder)
            patch.setattr(sys, "stdin", io.StringIO(stdin))
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                try:
                    code = main(list(arguments))
                except SystemExit as end:
                    code = int(end.code or 0)
        return Result(code, out.getvalue(), err.getvalue())

    def start(
        self, *arguments: str, program: list[str] | None = None, **more: Any
    ) -> "subprocess.Popen[str]":
        """One command, as a process of its own; end it."""
        command = program or [sys.executable, "-m", "mosis.client.main"]
        return subprocess.Popen(
            [*command, *arguments],
            cwd=self.folder,
            env=self.environment | {"PYTHONPATH": str(portal.HERE)},
            text=True,
            stdin=more.pop("stdin", subprocess.DEVNULL),
            stdout=more.pop("stdout", subprocess.PIPE),
            stderr=more.pop("stderr", subprocess.PIPE),
            **more,
        )

    def manifest(self, name: str = "notes") -> dict[str, Any]:
        """The manifest of an app."""
        found: dict[str, Any] = json.loads(self.folder.joinpath(name, "manifest.json").read_bytes())
        return found


class Terminal:
    """`mosis` on a terminal of its own."""

    def __init__(self, mosis: Mosis, *arguments: str, program: list[str] | None = None) -> None:
        near, far = pty.openpty()
        self.near, self.shown = near, ""
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self.process = mosis.start(
            *arguments, program=program, stdin=far, stdout=far, stderr=far, start_new_session=True
        )
        os.close(far)

    def read(self, until: str = "", timeout_seconds: float = 60) -> str:
        """What is shown until these words come, or to the end."""
        deadline = time.monotonic() + timeout_seconds
        while not until or until not in self.shown:
            assert time.monotonic() < deadline, self.shown
            if select.select([self.near], [], [], 1)[0]:
                try:
                    data = os.read(self.near, 4096)
                except OSError:  # the other side is closed
                    data = b""
                if not data:
                    assert not until, self.shown
                    break
                self.shown += self._decoder.decode(data)
        return self.shown

    def type(self, text: str) -> None:
        os.write(self.near, text.encode())


@contextlib.contextmanager
def ended(process: "subprocess.Popen[str]") -> Iterator["subprocess.Popen[str]"]:
    """A process that is over at the end, whatever happens."""
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def approve_all(client: Client, rita: Account) -> list[str]:
    """Approve every version that waits; their package ids."""
    waiting = client.get("/v1/reviews?state=waiting", as_=rita)["reviews"]
    for each in waiting:
        client.post(f"/v1/reviews/{each['id']}/approve", {"comment": "Good."}, as_=rita).expect(200)
    return [each["package_id"] for each in waiting]


def pythons() -> list[str]:
    """Every Python of this machine from 3.11 on, the oldest first."""
    places = [Path(sys.executable), Path("/usr/bin/python3.11")]
    places += Path.home().glob(".pyenv/versions/3.1[1-9]*/bin/python")
    found: dict[tuple[int, int], str] = {}
    for place in places:
        if place.exists():
            found.setdefault(_version(place), str(place))  # of two, the one that runs the tests
    return [found[version] for version in sorted(found)]


def in_suite(python: str, of_suite: str, *more: Any, **named: Any) -> Any:
    """A value of a parameter for this Python: in the suite for one of them, otherwise in a campaign."""
    marks = () if python == of_suite else pytest.mark.campaign
    return pytest.param(python, *more, marks=marks, **named)


def _version(python: Path) -> tuple[int, int]:
    """Major and minor number, from the name of the program or of its folder."""
    numbers = re.search(r"(3)\.(\d+)[^/]*(?:/bin/python)?$", os.path.realpath(python))
    assert numbers is not None, python
    return int(numbers[1]), int(numbers[2])

"""The cookbook is run word for word against a started portal, twice in a row."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import portal
from tests.server import free_port, running

pytestmark = pytest.mark.slow

TOOLS = ("bash", "curl", "zip", "sha256sum", "openssl", "jq")


def commands(document: str) -> str:
    """The shell blocks of a document, in order, as one script that stops at the first failure."""
    text = (portal.HERE / "docs" / document).read_text(encoding="utf-8")
    return "set -euo pipefail\n" + "\n".join(re.findall(r"```sh\n(.*?)```", text, re.DOTALL))


@pytest.mark.skipif(
    any(shutil.which(tool) is None for tool in TOOLS), reason=f"needs {', '.join(TOOLS)}"
)
def test_the_cookbook_works_word_for_word_on_both_servers(tmp_path: Path) -> None:
    """The second run meets what the first one left."""
    events, hook, port = free_port(), free_port(), free_port()
    for run, name in enumerate(("waitress", "portal")):
        settings = {
            "SERVER": name,
            "EVENTS_ADDR": f"127.0.0.1:{events}",
            "WEBHOOKS_PRIVATE": "allow",
        }
        with running(tmp_path, settings, port) as server:
            environment = server.environment | {
                "PORTAL": server.url,
                "EVENTS": f"ws://127.0.0.1:{events}",
                "HOOK": f"http://127.0.0.1:{hook}",
                "PYTHON": sys.executable,
                "TMPDIR": str(tmp_path),
                "HOME": str(tmp_path / "home"),
                "PATH": os.environ["PATH"],
            }
            done = subprocess.run(
                ["bash", "--posix", "-c", commands("COOKBOOK.md")],
                cwd=portal.HERE,
                env=environment,
                capture_output=True,
                text=True,
                timeout=280,
                check=False,
            )
            assert server.stop() == 0
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        output = done.stdout
        assert "downloaded.mosis: OK" in output
        assert '"not_a_zip"' in output
        assert "changed assets/scripts/notes.lua" in output
        assert f"+-- Faster since 1.0.{4 * run + 2}" in output
        assert (
            output.count(f"com.acme.notes 1.0.{4 * run + 4} passed the checks.") == 2
        )  # by webhook and by WebSocket
    keys = list((tmp_path / "home/.config").iterdir())
    assert [(key.name, key.stat().st_mode & 0o777) for key in keys] == [
        ("mosis-signing-key.pem", 0o600)
    ]
    assert not list(tmp_path.glob("tmp.*")), "nothing stays but the key"

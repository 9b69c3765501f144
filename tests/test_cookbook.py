"""The cookbook is run word for word against a started portal."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import portal
from tests.server import running

pytestmark = pytest.mark.slow

TOOLS = ("curl", "zip", "sha256sum", "openssl", "jq")


def commands(document: str) -> str:
    """The shell blocks of a document, in order, as one script that stops at the first failure."""
    text = (portal.HERE / "docs" / document).read_text(encoding="utf-8")
    return "set -eu\n" + "\n".join(re.findall(r"```sh\n(.*?)```", text, re.DOTALL))


@pytest.mark.skipif(
    any(shutil.which(tool) is None for tool in TOOLS), reason=f"needs {', '.join(TOOLS)}"
)
@pytest.mark.parametrize("name", ["portal", "waitress"])
def test_the_cookbook_works_word_for_word_on_both_servers(tmp_path: Path, name: str) -> None:
    with running(tmp_path, {"SERVER": name}) as server:
        environment = server.environment | {
            "PORTAL": server.url,
            "PYTHON": sys.executable,
            "TMPDIR": str(tmp_path),
        }
        done = subprocess.run(
            ["sh", "-c", commands("COOKBOOK.md")],
            cwd=portal.HERE,
            env=environment | {"PATH": os.environ["PATH"]},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert "downloaded.mosis: OK" in done.stdout
        assert '"not_a_zip"' in done.stdout
        assert server.stop() == 0

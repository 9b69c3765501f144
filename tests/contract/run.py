"""The contract, tried from outside: generated requests against a portal that runs, and every answer held to /openapi.json.

python -m tests.contract.run            at least 20,000 cases, stateful ones included
python -m tests.contract.run --short    a few thousand in half a minute, for every change
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

from tests.package_builder import build_package, signing_key
from tests.server import Running, running

HERE = Path(__file__).parent
BIN = Path(sys.executable).parent
PASSWORD = "not the one of the examples"


def main() -> int:
    """The exit code: 0 when nothing was found."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--at-least", type=int)
    given = parser.parse_args()
    least = given.at_least or (2_000 if given.short else 20_000)
    with tempfile.TemporaryDirectory() as folder, running(Path(folder)) as server:
        prepare(server)
        described = save_description(server)
        check([BIN / "openapi-spec-validator", described])
        use_generated_client(server, described)
        begun = time.monotonic()
        code, cases = generate(server, short=given.short, seed=given.seed)
        print(f"{cases} cases in {time.monotonic() - begun:.0f} s")
        crashes = [
            line
            for line in server.log.read_text(errors="replace").splitlines()
            if '"trace"' in line
        ]
        print(f"{len(crashes)} crashes in the log", *crashes[:5], sep="\n")
    if cases < least:
        print(f"at least {least} cases were wanted")
    return int(bool(code or crashes or cases < least))


def generate(server: Running, *, short: bool, seed: int) -> tuple[int, int]:
    """Let Schemathesis try everything: (exit code, number of cases)."""
    phases = ["--phases=examples,coverage", "--max-examples=1"] if short else ["--max-examples=180"]
    environment = os.environ | {
        "CONTRACT_URL": server.url,
        "CONTRACT_PASSWORD": PASSWORD,
        "CONTRACT_PACKAGE": str(server.folder / "notes.mosis"),
        "SCHEMATHESIS_HOOKS": "tests.contract.hooks",
        "PYTHONPATH": str(HERE.parents[1]),
    }
    command = [  # one worker: two that parse Python at once trip over a fault of 3.11 (https://github.com/python/cpython/issues/106905)
        str(BIN / "schemathesis"),
        f"--config-file={HERE / 'schemathesis.toml'}",
        "run",
        server.url + "/openapi.json",
        f"--seed={seed}",
        "--workers=1",
        "--max-response-time=25",
        "--warnings=off",
        "--continue-on-failure",
        "--request-timeout=60",
        *phases,
    ]
    done = subprocess.run(
        command, env=environment, cwd=server.folder, stdout=subprocess.PIPE, text=True, check=False
    )
    print(done.stdout)
    found = re.search(r"(\d[\d,]*) generated", done.stdout)
    return done.returncode, int(found[1].replace(",", "")) if found else 0


def use_generated_client(server: Running, described: Path) -> None:
    """Generate a client from the description and let it do the main job."""
    made = server.folder / "generated" / "client"
    made.parent.mkdir()
    check(
        [
            BIN / "openapi-python-client",
            "generate",
            "--path",
            described,
            "--output-path",
            made,
            "--meta",
            "none",
            "--config",
            HERE / "client.yaml",
            "--fail-on-warning",
        ]
    )
    token = call(
        server, "POST", "/v1/auth/login", {"email": "root@example.net", "password": PASSWORD}
    )["access_token"]
    check(
        [sys.executable, "-m", "tests.contract.main_job", server.url, made.parent, token],
        cwd=HERE.parents[1],
    )


def prepare(server: Running) -> None:
    """An administrator with an app and a version of it, somebody who signs out, and a package that is good."""
    root, _ = (
        call(
            server,
            "POST",
            "/v1/auth/register",
            {"email": f"{name}@example.net", "password": PASSWORD, "name": name},
        )
        for name in ("root", "leaver")
    )
    portal = str(HERE.parents[1] / "portal.py")
    check(
        [sys.executable, portal, "admin", "promote", "root@example.net"],
        env=server.environment,
        cwd=server.folder,
    )
    key, token = signing_key(), root["access_token"]
    call(
        server,
        "POST",
        "/v1/signing-keys",
        {"name": "laptop", "public_key": key.public_base64},
        token,
    )
    call(server, "POST", "/v1/apps", {"package_id": "com.acme.notes", "name": "Notes"}, token)
    package = build_package(package_id="com.acme.notes", version="1.0.0", version_code=1, key=key)
    (server.folder / "notes.mosis").write_bytes(package)
    call(server, "POST", "/v1/apps/com.acme.notes/versions", package, token)


def call(server: Running, method: str, path: str, body: Any = None, token: str = "") -> Any:
    """One request that must succeed; the JSON of the answer."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {
        "Content-Type": "application/octet-stream"
        if isinstance(body, bytes)
        else "application/json"
    }
    authorization = {"Authorization": f"Bearer {token}"} if token else {}
    request = urllib.request.Request(server.url + path, raw, headers | authorization, method=method)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def save_description(server: Running) -> Path:
    path = server.folder / "openapi.json"
    with urllib.request.urlopen(server.url + "/openapi.json", timeout=60) as answer:
        path.write_bytes(answer.read())
    return path


def check(command: list[Any], **more: Any) -> None:
    subprocess.run([str(part) for part in command], check=True, timeout=280, **more)


if __name__ == "__main__":
    sys.exit(main())

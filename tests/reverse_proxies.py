"""nginx and other proxies in front of a portal, as processes of a test."""

import os
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.command_line.driver import ended
from tests.server import wait_until


def needs(program: str) -> None:
    """Skip the test where the program is not installed."""
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")


def nginx(folder: Path, servers: str) -> list[str]:
    """The command of an nginx with these servers and everything that it writes in `folder`."""
    temporary = "".join(
        f"{name}_temp_path {folder}/{name};\n"
        for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    path = folder / "nginx.conf"
    path.write_text(
        f"daemon off; master_process off; pid {folder}/nginx.pid; error_log {folder}/error.log;\n"
        f"events {{}}\nhttp {{ access_log off;\n{temporary}{servers}}}\n"
    )
    return ["nginx", "-c", str(path), "-p", str(folder), "-e", str(folder / "error.log")]


def caddy(folder: Path, site: str) -> list[str]:
    """The command of a Caddy with this site."""
    path = folder / "Caddyfile"
    path.write_text("{\n\tadmin off\n\tauto_https off\n}\n" + site)
    return ["caddy", "run", "--config", str(path), "--adapter", "caddyfile"]


@contextmanager
def proxy(command: list[str], folder: Path, port: int) -> Iterator[str]:
    """A proxy that runs and answers on this port; its address."""
    url = f"http://127.0.0.1:{port}"
    places = {name: str(folder) for name in ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "HOME")}
    with open(folder / "proxy.log", "wb") as log:
        process = subprocess.Popen(
            command, env=os.environ | places, stdout=log, stderr=log, stdin=subprocess.DEVNULL
        )

    def answers() -> bool:
        try:
            with urllib.request.urlopen(f"{url}/healthz", timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            return process.poll() is not None

    with ended(process):  # type: ignore[arg-type]
        wait_until(answers, "the proxy answers")
        assert process.poll() is None, (folder / "proxy.log").read_text()
        yield url
        process.terminate()
        process.wait(60)

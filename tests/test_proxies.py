"""The configurations of docs/PROXIES.md: sign-in, upload, a client's forged header and a WebSocket through nginx and Caddy."""

import json
import os
import random
import re
import shutil
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from websockets.sync.client import connect

import portal
from tests.client import PASSWORD
from tests.command_line.driver import Mosis, ended
from tests.server import free_port, running, wait_until

pytestmark = pytest.mark.slow
PAGE = portal.HERE.joinpath("docs/PROXIES.md").read_text(encoding="utf-8")


def configuration(language: str) -> str:
    found: list[str] = re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    assert len(found) == 1
    return found[0]


def replaced(text: str, **changes: str) -> str:
    for old, new in changes.items():
        assert old in text, old
        text = text.replace(old, new)
    return text


def nginx(folder: Path, port: int, upstream: int, events: int) -> list[str]:
    server = replaced(
        configuration("nginx"),
        **{
            "listen 443 ssl": f"listen 127.0.0.1:{port}",
            ":8080": f":{upstream}",
            ":8081": f":{events}",
        },
    )
    server = re.sub(r"    ssl_certificate.*\n", "", server)
    temporary = "".join(
        f"{name}_temp_path {folder}/{name};\n"
        for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    path = folder / "nginx.conf"
    path.write_text(
        f"daemon off; master_process off; pid {folder}/nginx.pid; error_log {folder}/error.log;\n"
        f"events {{}}\nhttp {{ access_log off;\n{temporary}{server}}}\n"
    )
    return ["nginx", "-c", str(path), "-p", str(folder), "-e", str(folder / "error.log")]


def caddy(folder: Path, port: int, upstream: int, events: int) -> list[str]:
    site = replaced(
        configuration("caddy"),
        **{
            "apps.example.net {": f"http://127.0.0.1:{port} {{",
            ":8080": f":{upstream}",
            ":8081": f":{events}",
        },
    )
    path = folder / "Caddyfile"
    path.write_text("{\n\tadmin off\n\tauto_https off\n}\n" + site)
    return ["caddy", "run", "--config", str(path), "--adapter", "caddyfile"]


@contextmanager
def proxied(name: str, folder: Path) -> Iterator[str]:
    """A portal behind this proxy; the proxy's address."""
    port, events = free_port(), free_port()
    url = f"http://127.0.0.1:{port}"
    settings = {
        "BASE_URL": url,
        "EVENTS_ADDR": f"127.0.0.1:{events}",
        "TRUSTED_PROXY": "127.0.0.1",
    }
    with running(folder, settings) as server:
        command = {"nginx": nginx, "caddy": caddy}[name](folder, port, server.port, events)
        with open(folder / "proxy.log", "wb") as log:
            places = {name: str(folder) for name in ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "HOME")}
            process = subprocess.Popen(
                command,
                env=os.environ | places,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
            )
        with ended(process):  # type: ignore[arg-type]
            wait_until(lambda: answers(url) or process.poll() is not None, "the proxy answers", 20)
            assert process.poll() is None, (folder / "proxy.log").read_text()
            yield url
            process.terminate()
            process.wait(20)


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/healthz", timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def ask(url: str, body: Any = None, token: str = "", **headers: str) -> Any:
    sent = {"Content-Type": "application/json", **headers}
    if token:
        sent["Authorization"] = f"Bearer {token}"
    data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data, sent), timeout=30) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as refusal:
        with refusal:
            return json.load(refusal)


@pytest.mark.parametrize("name", ["nginx", "caddy"])
def test_everything_goes_through_the_proxy(tmp_path: Path, name: str) -> None:
    if shutil.which(name) is None:
        pytest.skip(f"{name} is not installed")
    with proxied(name, tmp_path) as url:
        account = {"email": "alice@example.net", "password": PASSWORD, "name": "Alice"}
        forged = {"X-Forwarded-For": "203.0.113.9"}
        token = ask(f"{url}/v1/auth/register", account, **forged)["access_token"]
        sessions = ask(f"{url}/v1/auth/sessions", token=token)["sessions"]
        assert "203.0.113" not in json.dumps(sessions)
        mosis = Mosis(tmp_path / "home", url)
        mosis("login", "--email", account["email"], stdin=PASSWORD + "\n").expect(0)
        mosis("init", "notes").expect(0)
        chance = random.Random(1)  # more than the bound that nginx has by itself
        for number in range(8):
            lines = (chance.randbytes(30).hex() for _ in range(15_000))
            mosis.folder.joinpath(f"notes/assets/{number}.txt").write_text("\n".join(lines))
        with connect(
            f"ws{url[4:]}/v1/events", additional_headers={"Authorization": f"Bearer {token}"}
        ) as events:
            assert mosis("publish", "notes", "--json").expect(0).json["state"] == "in_review"
            assert json.loads(events.recv(30))["kind"].startswith("version.")
        plain = ask(f"{url}/v1/events", token=token)
        assert plain["events"][0]["kind"].startswith("version.")


def test_the_labels_for_traefik_are_yaml_for_both_ports() -> None:
    labels = yaml.safe_load(configuration("yaml"))["labels"]
    ports = {value for name, value in labels.items() if name.endswith("server.port")}
    assert ports == {"8080", "8081"}
    assert all(isinstance(value, str) for value in labels.values())

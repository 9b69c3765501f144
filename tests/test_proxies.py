"""The configurations of docs/PROXIES.md, and the one that a Synology makes of its form: sign-in, upload, a client's forged
header and a WebSocket through nginx, Caddy and Traefik."""

import http.client
import json
import os
import random
import re
import socket
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from websockets.sync.client import connect

import portal
from tests.client import PASSWORD
from tests.command_line.driver import Mosis
from tests.reverse_proxies import caddy, needs, nginx, proxy
from tests.server import free_port, running

pytestmark = pytest.mark.slow
TRAEFIK = Path(os.environ.get("TRAEFIK", Path(sys.executable).with_name("traefik")))
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


def nginx_of_the_page(folder: Path, port: int, upstream: int, events: int) -> list[str]:
    server = replaced(
        configuration("nginx"),
        **{
            "listen 443 ssl": f"listen 127.0.0.1:{port}",
            ":8080": f":{upstream}",
            ":8081": f":{events}",
        },
    )
    return nginx(folder, re.sub(r"    ssl_certificate.*\n", "", server))


def synology(folder: Path, port: int, upstream: int, events: int) -> list[str]:
    """What DSM 7 writes for one row of its reverse proxy
    (https://www.synoforum.com/resources/synology-reverse-proxy-under-the-hood.135/), without TLS."""
    location = """
        location / {{
            proxy_connect_timeout 60; proxy_read_timeout 60; proxy_send_timeout 60;
            proxy_intercept_errors off; proxy_http_version 1.1; {custom}
            proxy_set_header Host $http_host;
            proxy_set_header X-Real-IP $remote_addr;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_set_header X-Forwarded-Proto $scheme;
            proxy_pass http://localhost:{upstream};
        }}
        error_page 403 404 500 502 503 504 /dsm_error_page;
        location /dsm_error_page {{ internal; root {folder}; }}
    """
    websocket = (
        "proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $connection_upgrade;"
    )
    plain = location.format(custom="", upstream=upstream, folder=folder)
    upgraded = location.format(custom=websocket, upstream=events, folder=folder)
    return nginx(
        folder,
        "client_max_body_size 0; underscores_in_headers on;\n"
        "map $http_upgrade $connection_upgrade { default upgrade; '' close; }\n"
        f"server {{ listen 127.0.0.1:{port}; server_name 127.0.0.1; {plain} }}\n"
        f"server {{ listen 127.0.0.1:{port}; server_name events.localhost; {upgraded} }}\n",
    )


def caddy_of_the_page(folder: Path, port: int, upstream: int, events: int) -> list[str]:
    site = replaced(
        configuration("caddy"),
        **{
            "apps.example.net {": f"http://127.0.0.1:{port} {{",
            ":8080": f":{upstream}",
            ":8081": f":{events}",
        },
    )
    return caddy(folder, site)


def traefik(folder: Path, port: int, upstream: int, events: int) -> list[str]:
    """Traefik with its Docker provider, which reads the labels of the page from an engine that has one container."""
    changed = replaced(
        re.sub(r".*certresolver.*\n", "", configuration("yaml")),
        **{
            "apps.example.net": "127.0.0.1",
            '"8080"': f'"{upstream}"',
            '"8081"': f'"{events}"',
        },
    )
    engine = Engine(("127.0.0.1", 0), yaml.safe_load(changed)["labels"])
    threading.Thread(target=engine.serve_forever, daemon=True).start()
    return [
        str(TRAEFIK),
        f"--entrypoints.web.address=127.0.0.1:{port}",
        f"--providers.docker.endpoint=tcp://127.0.0.1:{engine.server_port}",
        "--providers.docker.exposedbydefault=false",
        "--global.checknewversion=false",
        "--global.sendanonymoususage=false",
    ]


class Engine(ThreadingHTTPServer):
    """As much of Docker's API (https://docs.docker.com/reference/api/engine/) as Traefik asks for: one container."""

    daemon_threads = True

    def __init__(self, address: tuple[str, int], labels: dict[str, str]) -> None:
        super().__init__(address, Asked)
        self.answers: dict[str, Any] = {
            "/version": {"ApiVersion": "1.45", "Version": "27.0.0"},
            "/containers/json": [{"Id": "portal", "Names": ["/mosis-portal"], "State": "running"}],
            "/containers/portal/json": {
                "Id": "portal",
                "Name": "/mosis-portal",
                "State": {"Status": "running", "Running": True},
                "Config": {"Labels": labels},
                "HostConfig": {"NetworkMode": "mosis_default"},
                "NetworkSettings": {"Networks": {"mosis_default": {"IPAddress": "127.0.0.1"}}},
            },
        }


class Asked(BaseHTTPRequestHandler):
    server: Engine

    def do_GET(self) -> None:
        path = re.sub(r"^/v[0-9.]+", "", self.path).partition("?")[0]
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Api-Version", "1.45")
        if path == "/events":  # nothing happens
            self.end_headers()
            self.rfile.read(1)
            return
        content = json.dumps(self.server.answers.get(path, {})).encode()
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_HEAD = do_GET

    def log_message(self, *arguments: object) -> None:
        pass


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
        made = {
            "nginx": nginx_of_the_page,
            "caddy": caddy_of_the_page,
            "synology": synology,
            "traefik": traefik,
        }[name]
        with proxy(made(folder, port, server.port, events), folder, port):
            yield url


def ask(url: str, body: Any = None, token: str = "", **headers: str) -> Any:
    sent = {"Content-Type": "application/json", **headers}
    if token:
        sent["Authorization"] = f"Bearer {token}"
    data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data, sent), timeout=60) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as refusal:
        with refusal:
            return json.load(refusal)


def register(url: str, **headers: str) -> str:
    """The access token of a new account, made from an address that no proxy has."""
    connection = http.client.HTTPConnection(
        url.removeprefix("http://"), timeout=60, source_address=("127.0.0.2", 0)
    )
    account = {"email": "alice@example.net", "password": PASSWORD, "name": "Alice"}
    connection.request(
        "POST",
        "/v1/auth/register",
        json.dumps(account),
        {"Content-Type": "application/json", **headers},
    )
    answer = json.load(connection.getresponse())
    connection.close()
    return str(answer["access_token"])


@pytest.mark.parametrize("name", ["nginx", "caddy", "synology", "traefik"])
def test_everything_goes_through_the_proxy(tmp_path: Path, name: str) -> None:
    program = {"synology": "nginx", "traefik": str(TRAEFIK)}.get(name, name)
    needs(program)
    with proxied(name, tmp_path) as url:
        token = register(url, **{"X-Forwarded-For": "203.0.113.9"})
        (session,) = ask(f"{url}/v1/auth/sessions", token=token)["sessions"]
        assert session["network"] == "127.0.0.0/24", "of the client, not what it forged"
        mosis = Mosis(tmp_path / "home", url)
        mosis("login", "--email", "alice@example.net", stdin=PASSWORD + "\n").expect(0)
        mosis("init", "notes").expect(0)
        chance = random.Random(1)  # more than the bound that nginx has by itself
        for number in range(3):
            lines = (chance.randbytes(30).hex() for _ in range(15_000))
            mosis.folder.joinpath(f"notes/assets/{number}.txt").write_text("\n".join(lines))
        headers = {"Authorization": f"Bearer {token}"}
        events_at = f"ws{url[4:]}/v1/events"
        if name == "synology":  # which chooses by host name alone
            events_at = events_at.replace("127.0.0.1", "events.localhost")
        address = ("127.0.0.1", int(url.rpartition(":")[2]))
        with (
            socket.create_connection(address) as raw,
            connect(events_at, sock=raw, additional_headers=headers) as events,
        ):
            assert mosis("publish", "notes", "--json").expect(0).json["state"] == "in_review"
            assert json.loads(events.recv(30))["kind"].startswith("version.")
        plain = ask(f"{url}/v1/events", token=token)
        assert plain["events"][0]["kind"].startswith("version.")

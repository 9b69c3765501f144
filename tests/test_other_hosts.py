"""Settings that follow from each other, and what the start says of those that do not fit."""

import contextlib
import errno
import logging
import socket
import urllib.request
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path

import pytest

from mosis.commands.process import binding
from mosis.config import Config, ConfigError, read_env_file
from mosis.operations import doctor
from mosis.operations.seen_requests import (
    HOST_FILE,
    PROXY_FILE,
    HostWatch,
    ProxyWatch,
    host_warning,
    proxy_warning,
)
from tests.client import Client
from tests.server import Running, command, free_port, running


@pytest.mark.parametrize(("listen", "url"), [
    (":8080", "http://localhost:8080"), (":9000", "http://localhost:9000"), (":80", "http://localhost"),
    ("0.0.0.0:9000", "http://localhost:9000"), ("[::]:9000", "http://localhost:9000"),
    ("127.0.0.1:9000", "http://127.0.0.1:9000"), ("[::1]:9000", "http://[::1]:9000"), ("NAS:9000", "http://nas:9000"),
    ("127.0.0.1:0", "http://localhost:8080"),
])  # fmt: skip
def test_base_url_follows_listen_addr(listen: str, url: str) -> None:
    assert Config.read({"LISTEN_ADDR": listen}).base_url == url
    assert Config.read({"LISTEN_ADDR": listen, "BASE_URL": "https://a.example"}).base_url == (
        "https://a.example"
    )


def test_an_env_file_is_read_as_docker_reads_it(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_text(
        "# comment\n\nSTORE_NAME=Our apps\nBASE_URL = https://a.example\nexport THREADS=8\n"
        'PUID=1000\nMAIL_FROM="portal@a.example"\nSMTP_URL=\nJWT_SECRET=a=b#c\n'
    )
    assert read_env_file(path) == {
        "STORE_NAME": "Our apps", "BASE_URL": "https://a.example", "THREADS": "8", "PUID": "1000",
        "MAIL_FROM": "portal@a.example", "SMTP_URL": "", "JWT_SECRET": "a=b#c",
    }  # fmt: skip
    path.write_text("BASE_URl=https://a.example\nnonsense\n")
    with pytest.raises(ConfigError) as wrong:
        read_env_file(path)
    assert len(wrong.value.complaints) == 2
    assert f"{path}:1: 'BASE_URl' is not a setting" in str(wrong.value)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_env_file(tmp_path / "nowhere")


def test_the_example_is_such_a_file() -> None:
    from portal import HERE

    assert {*read_env_file(HERE / ".env.example")} == {*Config.names()}


@pytest.mark.slow
def test_the_environment_comes_before_the_file(tmp_path: Path) -> None:
    port, other = free_port(), free_port()
    tmp_path.joinpath(".env").write_text(f"LISTEN_ADDR=127.0.0.1:{other}\nSTORE_NAME=Our apps\n")
    server = Running(tmp_path, port=port)
    server.command[2:2] = ["--env-file", ".env"]
    try:
        server.start()
        with urllib.request.urlopen(f"{server.url}/", timeout=60) as page:
            assert "Our apps" in page.read().decode()
    finally:
        server.kill()
    assert ".env is not read" not in server.log.read_text()
    bad = command(tmp_path, "--env-file", "nowhere", "version")
    assert bad.returncode == 78


def ask(server: Running, host: str) -> None:
    request = urllib.request.Request(f"{server.url}/docs/errors", headers={"Host": host})
    with urllib.request.urlopen(request, timeout=60) as answer:
        assert answer.status == 200


@pytest.mark.slow
def test_the_start_and_the_doctor_tell_of_requests_for_another_host(tmp_path: Path) -> None:
    tmp_path.joinpath(".env").write_text("")
    with running(tmp_path) as server:
        assert ".env is not read" in server.log.read_text()
        assert "requests arrive for" not in server.log.read_text()
        ask(server, "localhost:8080")
        ask(server, "apps.example.net:8443")
        ask(server, "other.example.net")
        output = server.log.read_text()
        assert output.count("requests arrive for apps.example.net") == 1
        assert "other.example.net" not in output
        config = Config.read(server.environment)
        lines = [line for line in doctor._address(config) if line.subject == "BASE_URL"]
        assert "requests arrive for apps.example.net" in lines[0].text
        assert lines[0].level == "warn"
        server.kill()
        server.log.unlink()
        server.start()
        assert f"Look: requests arrive for apps.example.net, but BASE_URL is {server.url}" in (
            server.log.read_text()
        )


def test_which_hosts_are_noted(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    config = client.env.config
    for host in (
        "",
        "localhost",
        "localhost:1",
        "127.0.0.1:80",
        "[::1]",
        "portal",
        "portal:8080",
        "x.localhost",
    ):
        HostWatch(config).see(host)
        assert host_warning(config) == "", host
    watch = HostWatch(config)
    with caplog.at_level(logging.WARNING):
        for number in range(50):
            watch.see(f"h{number}.example.net")
    assert "requests arrive for h0.example.net," in host_warning(config)
    assert len([each for each in caplog.records if "requests arrive" in each.message]) == 1
    for content in ("", "[]", "{}", '{"host": "x.example", "at": 0}', "\x00"):
        config.data_dir.joinpath(HOST_FILE).write_text(content)
        assert host_warning(config) == ""
    HostWatch(config).see("192.168.1.5:8080")
    assert "requests arrive for 192.168.1.5," in host_warning(config)


def test_a_proxy_that_nobody_trusts_is_noted_and_clients_that_invent_the_header_are_not(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    config, header = client.env.config, {"X-Forwarded-For": "203.0.113.9"}
    client.get("/v1/store/apps", headers=header, address="198.51.100.7").expect(200)
    client.get("/v1/store/apps", headers=header, address="93.184.216.34").expect(200)
    client.get("/v1/store/apps", address="10.0.0.5").expect(200)
    config.data_dir.joinpath(PROXY_FILE).unlink(missing_ok=True)
    watch = ProxyWatch(config)
    for address, sent in (("93.184.216.34", True), ("10.0.0.5", False), ("unix", True)):
        watch.see(
            {"REMOTE_ADDR": address} | ({"HTTP_X_FORWARDED_FOR": "203.0.113.9"} if sent else {})
        )
        assert proxy_warning(config) == "", address
    with caplog.at_level(logging.WARNING):
        for number in range(5, 50):
            watch.see({"REMOTE_ADDR": f"10.0.0.{number}", "HTTP_X_FORWARDED_FOR": "203.0.113.9"})
    assert "arrive from 10.0.0.5," in proxy_warning(config)
    assert len([each for each in caplog.records if "10.0.0.5 share" in each.message]) == 1
    trusting = replace(config, trusted_proxy=(ip_network("10.0.0.0/24"),))
    assert proxy_warning(trusting) == ""
    for content in (
        "",
        "[]",
        "{}",
        '{"address": "10.0.0.5", "at": 0}',
        '{"address": "x", "at": 1}',
    ):
        config.data_dir.joinpath(PROXY_FILE).write_text(content)
        assert proxy_warning(config) == ""


@pytest.mark.slow
@pytest.mark.parametrize("setting", ["LISTEN_ADDR", "EVENTS_ADDR"])
def test_a_port_in_use_says_how_to_choose_another(tmp_path: Path, setting: str) -> None:
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        answer = command(tmp_path, "serve", settings={setting: address})
    assert answer.returncode == 78
    assert f"another program listens on {address} already" in answer.stderr
    assert f"{setting}=:808" in answer.stderr
    assert answer.stderr.count("\n") == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("setting", "value", "reason"),
    [
        # an address for documentation (RFC 5737), which no machine has
        ("LISTEN_ADDR", "192.0.2.1:8080", "LISTEN_ADDR=192.0.2.1:8080: this machine has no such"),
        ("EVENTS_ADDR", "192.0.2.1:8080", "EVENTS_ADDR=192.0.2.1:8080: this machine has no such"),
        ("PACKAGES_DIR", "{file}", "{file}: a file is where a folder should be"),
        ("ASSETS_DIR", "{file}", "{file}: a file is where a folder should be"),
        ("DATABASE_PATH", "{file}/portal.db", "a file is where a folder should be"),
        ("DATABASE_PATH", "{file}/data/portal.db", "a file is where a folder should be"),
        ("DATABASE_PATH", "{folder}", "a folder is in the place of the database: {folder}"),
    ],
)
def test_what_cannot_be_used_is_said_in_one_line(
    tmp_path: Path, setting: str, value: str, reason: str
) -> None:
    file, folder = tmp_path / "file", tmp_path / "folder"
    file.touch()
    folder.mkdir()
    names = {"file": file, "folder": folder}
    answer = command(tmp_path, "serve", settings={setting: value.format(**names)})
    assert answer.returncode == 78
    assert reason.format(**names) in answer.stderr
    assert answer.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (PermissionError(errno.EACCES, "Permission denied"), "choose one from 1024 on"),
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "no such address"),
        (OSError(errno.EMFILE, "Too many open files"), "Too many open files"),
    ],
)
def test_each_reason_why_an_address_cannot_be_bound_is_named(error: OSError, reason: str) -> None:
    with pytest.raises(ConfigError) as raised, binding("LISTEN_ADDR", ":80"):
        raise error
    (complaint,) = raised.value.complaints
    assert complaint.startswith("LISTEN_ADDR=:80: ")
    assert reason in complaint
    with pytest.raises(PermissionError), binding("LISTEN_ADDR", ":80"):
        raise PermissionError(errno.EACCES, "Permission denied", "/packages/spool")

"""What `mosis` does without a portal: build, check, complete."""

import base64
import json
import os
import random
import shutil
import socket
import subprocess
import threading
import zipfile
from contextlib import suppress
from pathlib import Path

import pytest

from mosis.client.api import request, segment
from mosis.client.config import Config, Credentials, is_plain_text, normal_url
from mosis.client.output import Stop
from mosis.client.project import bump, next_version
from mosis.web.cli import zipapp
from tests.command_line.driver import Mosis, Terminal, ended, in_suite, pythons


def test_the_same_bytes_under_another_clock_locale_umask_and_order(offline: Mosis) -> None:
    offline("init", "notes").expect(0)
    offline("build", "notes", "-o", "first.mosis").expect(0)
    other = offline.folder / "other"
    names = [path for path in offline.folder.joinpath("notes").rglob("*") if path.is_file()]
    for path in sorted(names, reverse=True):
        place = other / path.relative_to(offline.folder / "notes")
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, place)
        os.utime(place, (1, 1))
        place.chmod(0o600)
    offline.environment |= {"LC_ALL": "C", "TZ": "Asia/Kolkata", "PYTHONHASHSEED": "7"}
    before = os.umask(0o077)
    try:
        with ended(offline.start("build", "other", "-o", "second.mosis")) as process:
            process.communicate(timeout=60)
    finally:
        os.umask(before)
    assert process.returncode == 0
    first, second = (offline.folder / f"{name}.mosis" for name in ("first", "second"))
    assert first.read_bytes() == second.read_bytes()


def test_findings_name_file_line_and_code(offline: Mosis) -> None:
    offline("init", "notes").expect(0)
    manifest = offline.manifest() | {"permissions": ["teleport"]}
    offline.folder.joinpath("notes/manifest.json").write_text(json.dumps(manifest, indent=2))
    output = offline("check", "notes").expect(1).out
    assert "notes/manifest.json:13: permission_unknown: " in output
    offline("build", "notes").expect(1)
    offline.folder.joinpath("notes/manifest.json").write_text(
        json.dumps(manifest | {"permissions": []}, indent=2)
    )
    offline.folder.joinpath("notes/assets/scripts/main.lua").write_text("local = 3\n")
    output = offline("check", "notes").expect(1).out
    assert "notes/assets/scripts/main.lua:1: lua_syntax: " in output


def test_what_mosisignore_leaves_out(offline: Mosis) -> None:
    offline("init", "notes").expect(0)
    folder = offline.folder / "notes"
    folder.joinpath("docs").mkdir()
    folder.joinpath("docs/plan.exe").write_text("x")
    folder.joinpath("a.psd").write_text("x")
    folder.joinpath(".secret").write_text("x")
    offline("build", "notes", "-o", "a.mosis").expect(0)
    names = set(zipfile.ZipFile(offline.folder / "a.mosis").namelist())
    assert not {name for name in names if "psd" in name or "docs" in name or "secret" in name}
    folder.joinpath("b.exe").write_text("x")
    assert "file_type" in offline("check", "notes").expect(1).out
    folder.joinpath("b.exe").unlink()
    folder.joinpath("link.txt").symlink_to("/etc/passwd")
    assert "zip_link" in offline("check", "notes").expect(1).out


@pytest.mark.parametrize(
    ("version", "part", "after"),
    [
        ("1.2.3", "major", "2.0.0"), ("1.2.3", "minor", "1.3.0"), ("1.2.3", "patch", "1.2.4"),
        ("1.2.0-beta.1", "patch", "1.2.0"), ("1.2.0-beta.1+5", "patch", "1.2.0"),
    ],
)  # fmt: skip
def test_the_next_version(version: str, part: str, after: str) -> None:
    assert next_version(version, part) == after


def test_bump_leaves_the_rest_of_the_manifest_alone(tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    path.write_text('{ "version_code" : 4,\n\t"name": "ü", "version":"1.0.0" }\n')
    assert bump(tmp_path, "minor") == ("1.0.0", "1.1.0")
    assert path.read_text() == '{ "version_code" : 5,\n\t"name": "ü", "version":"1.1.0" }\n'
    path.write_text('{"author": {"version": "1"}, "version": "1.0.0", "version_code": 4}')
    bump(tmp_path, "patch")
    found = json.loads(path.read_text())
    assert found == {"author": {"version": "1"}, "version": "1.0.1", "version_code": 5}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ftp://x",
        "https://",
        "https://a@b",
        "https://a/?q",
        "::",
        "http://a..b",
        "http://" + "a" * 64,
        "http://[::1",
        "http://a:99999",
    ],
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(Stop):
        normal_url(text)


def test_addresses_are_compared_in_one_form() -> None:
    assert normal_url("apps.example.net/") == "https://apps.example.net"
    assert normal_url("localhost:8080") == "http://localhost:8080"
    assert normal_url("HTTPS://Apps.example.net/v1/") == "https://apps.example.net"


@pytest.mark.parametrize(
    ("host", "here"),
    [
        ("localhost", True), ("127.0.0.1", True), ("127.255.0.9", True), ("[::1]", True), ("127.evil.example", False),
        ("127.0.0.1.evil.example", False), ("127.1", False), ("localhost.evil.example", False), ("[::2]", False), ("a", False),
    ],
)  # fmt: skip
def test_credentials_go_without_encryption_to_this_machine_alone(host: str, here: bool) -> None:
    assert is_plain_text(f"http://{host}:8080") is not here
    assert not is_plain_text(f"https://{host}")


@pytest.mark.parametrize("token", ["a\nb", "a b", "a\tb", "tök", "€", "a\u2028b"])
def test_a_token_that_is_none_is_refused_and_not_shown(offline: Mosis, token: str) -> None:
    address = {"MOSIS_URL": "http://127.0.0.1:9"}
    offline.environment |= address | {"MOSIS_TOKEN": f" {token}\n"}
    refused = offline("whoami").expect(2)
    del offline.environment["MOSIS_TOKEN"]
    offline.config.store(address["MOSIS_URL"], Credentials(token=token))
    stored = offline("whoami").expect(2)
    assert all(token not in each.out + each.err for each in (refused, stored))


@pytest.mark.parametrize(
    "content",
    ["url = 5", 'portal = "x"', "[portal]\nx = 3", '[portal."http://a"]\ntoken = ["a"]', 'url = ["a"]', "a." * 500 + "b = 1",
     "[[portal]]\nx = 1", "\xff", "[portal"],
)  # fmt: skip
def test_a_configuration_of_another_form_is_named(offline: Mosis, content: str) -> None:
    offline.config.folder.mkdir(parents=True)
    offline.config.path.write_bytes(content.encode("latin-1"))
    for command in (("whoami",), ("logout",), ("keys", "list")):
        refused = offline(*command).expect(2)
        assert str(offline.config.path) in refused.err
        assert "an error in mosis" not in refused.err


def test_only_files_are_replaced_by_a_package(offline: Mosis) -> None:
    offline("init", "notes").expect(0)
    pipe, folder, plain = (offline.folder / name for name in ("pipe", "folder", "plain"))
    os.mkfifo(pipe)
    folder.mkdir()
    plain.write_bytes(b"old")
    offline("build", "notes", "-o", str(pipe)).expect(2)
    assert pipe.is_fifo()
    offline("build", "notes", "-o", str(folder)).expect(0)
    assert [each.suffix for each in folder.iterdir()] == [".mosis"]
    offline("build", "notes", "-o", str(plain)).expect(0)
    assert plain.read_bytes().startswith(b"PK")


@pytest.mark.parametrize(("arguments", "reason"), [
    (["publish", "notes", "--notes", "none"], "none cannot be read: No such file or directory\n"),
    (["publish", "notes", "--notes", "latin"], "latin cannot be read: it is not text in UTF-8\n"),
    (["keys", "import", "laptop", "--file", "latin"], "latin cannot be read: it is not text in ASCII\n"),
    (["build"], "There is no manifest.json in the folder `.`; `mosis init .` makes a new app.\n"),
    (["rollout", "a.b", "1.0.0", "nan"], "argument PERCENT: this must be a share in percent, from 0.1 to 100\n"),
])  # fmt: skip
def test_what_cannot_be_used_is_named_with_the_reason(
    offline: Mosis, arguments: list[str], reason: str
) -> None:
    offline("init", "notes").expect(0)
    offline.folder.joinpath("latin").write_bytes(b"\xe9")
    elsewhere = {"MOSIS_URL": "http://127.0.0.1:1", "MOSIS_TOKEN": "x" * 50}
    refused = offline(*arguments, env=elsewhere).expect(2).err
    assert refused.endswith(reason)


@pytest.mark.parametrize("proxy", [
    "http://", "::::", "http://u:secret@a:b", "http://u:secret@a..b", "http://[::1",
    "https://u:secret@a:1", "socks5://u:secret@a:1"],
)  # fmt: skip
def test_a_proxy_that_is_none_is_named_without_its_password(offline: Mosis, proxy: str) -> None:
    offline.environment |= {
        "MOSIS_URL": "http://portal.example",
        "MOSIS_TOKEN": "x" * 50,
        "http_proxy": proxy,
    }
    refused = offline("whoami").expect(2)
    assert "proxy" in refused.err
    assert "secret" not in refused.err


@pytest.mark.parametrize(
    ("user", "sent"), [("", []), ("u%40v:p%3Aw%C3%A9@", ["u@v:p:w\u00e9"]), ("u@", ["u:"])]
)
@pytest.mark.parametrize("method", ["GET", "CONNECT"])
def test_a_proxy_gets_the_user_and_password_of_its_address(
    monkeypatch: pytest.MonkeyPatch, method: str, user: str, sent: list[str]
) -> None:
    """In the request to a portal over http, and in the CONNECT to one over https."""
    scheme = "http" if method == "GET" else "https"
    heads: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        proxy.settimeout(60)

        def refuse() -> None:
            with proxy.accept()[0] as connection:
                heads.append(connection.recv(65536))
                connection.sendall(b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n")

        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.setenv("NO_PROXY", "")
        monkeypatch.setenv(f"{scheme}_proxy", f"http://{user}127.0.0.1:{proxy.getsockname()[1]}")
        thread = threading.Thread(target=refuse)
        thread.start()
        with suppress(OSError), request("GET", f"{scheme}://portal.example/v1/auth/me"):
            pass
        thread.join()
    lines = heads[0].decode().splitlines()
    found = [each.split()[-1] for each in lines if each.startswith("Proxy-Authorization: Basic ")]
    assert lines[0].startswith(method)
    assert [base64.b64decode(each).decode() for each in found] == sent


def test_an_argument_that_is_not_utf_8_is_sent_with_its_bytes() -> None:
    assert segment(os.fsdecode(b"\xff/\xc3\xa9")) == "%FF%2F%C3%A9"


def test_the_configuration_reads_what_it_has_written(tmp_path: Path) -> None:
    from mosis.client.config import Credentials

    config, odd = Config(tmp_path), 'a"b\\c\x7f\u00e9\U0001f600\n'
    config.store("https://a.example", Credentials(odd, "r"))
    config.store("https://b.example", Credentials(token="t"))
    assert config.credentials("https://a.example") == Credentials(odd, "r")
    assert config.url() == "https://b.example"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_knows_every_command(offline: Mosis, shell: str) -> None:
    script = offline("completion", shell).expect(0).out
    for word in ("publish", "when-approved", "rollback", "revoke"):
        assert word in script
    assert "%(" not in script
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=script, text=True, check=True, timeout=60)


COMPLETED = [
    ("mosis pub", {"publish"}),
    ("mosis ro", {"rollout", "rollback"}),
    ("mosis publish --wh", {"--when-approved"}),
    ("mosis --json keys ex", {"export"}),
    ("mosis reject --rea", {"--reason"}),
]


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_completes(offline: Mosis) -> None:
    script = offline("completion", "bash").expect(0).out
    for line, words in COMPLETED:
        answer = line.split(" ")
        ask = (
            f"COMP_WORDS=({' '.join(answer)}); COMP_CWORD={len(answer) - 1}\n_mosis\n"
            'printf "%s\\n" "${COMPREPLY[@]}"\n'
        )
        done = subprocess.run(
            ["bash", "--norc", "-c", script + ask],
            cwd=offline.folder, capture_output=True, text=True, timeout=60, check=True,
        )  # fmt: skip
        assert set(done.stdout.split()) == words, line


@pytest.mark.skipif(shutil.which("fish") is None, reason="needs fish")
def test_fish_completes(offline: Mosis) -> None:
    offline.folder.joinpath("mosis.fish").write_text(offline("completion", "fish").expect(0).out)
    for line, words in COMPLETED:
        done = subprocess.run(
            ["fish", "--no-config", "-c", f"source mosis.fish; complete -C '{line}'"],
            cwd=offline.folder, capture_output=True, text=True, timeout=60, check=True,
        )  # fmt: skip
        assert {each.split("\t")[0] for each in done.stdout.splitlines()} == words, line


@pytest.mark.skipif(shutil.which("zsh") is None, reason="needs zsh")
def test_zsh_completes(offline: Mosis) -> None:
    """On a terminal of its own: what is typed, a tab, and what stands there then."""
    folder = offline.folder / "functions"
    folder.mkdir()
    folder.joinpath("_mosis").write_text(offline("completion", "zsh").expect(0).out)
    offline.environment |= {"PS1": "", "TERM": "dumb", "ZDOTDIR": str(offline.folder)}
    shell = Terminal(offline, program=["zsh", "-f", "-i"])
    with ended(shell.process):
        shell.type(
            f'fpath=({folder} $fpath); autoload -U compinit; compinit -u; mosis() {{ echo "<$@>" }}\n'
        )
        shell.type("echo rea''dy\n")
        shell.read("ready")
        for typed, whole in (("pub", "publish"), ("publish --wh", "publish --when-approved")):
            shell.type(f"mosis {typed}\t\n")
            shell.read(f"<{whole}>")
        shell.type("exit\n")
        shell.process.wait(60)


def test_what_is_not_understood(offline: Mosis) -> None:
    offline("nonsense").expect(2)
    offline("check", "nowhere").expect(2)
    offline("status").expect(2)
    offline("keys", "export").expect(2)


@pytest.mark.slow
@pytest.mark.parametrize("python", [in_suite(each, pythons()[0]) for each in pythons()])
def test_with_the_standard_library_alone(offline: Mosis, python: str) -> None:
    """No third-party package is found (-I -S); openssl signs; what is not checked is named."""
    path = offline.folder / "mosis.pyz"
    path.write_bytes(zipapp("https://apps.example.net"))

    def run(*arguments: str) -> str:
        command = [python, "-I", "-S", str(path), *arguments]
        with ended(offline.start(*arguments, program=command[: -len(arguments)])) as process:
            out, err = process.communicate(timeout=280)
        assert process.returncode == 0, (out, err)
        return out

    run("init", "notes")
    output = run("check", "notes")
    assert "lupa" in output
    assert "tinycss2" in output
    run("build", "notes", "-o", "a.mosis")
    run("verify", "a.mosis")
    offline("verify", "a.mosis").expect(0)  # by cryptography
    offline("build", "notes", "-o", "b.mosis").expect(0)
    a, b = (offline.folder.joinpath(f"{name}.mosis") for name in "ab")
    assert [zipfile.ZipFile(a).read(name) for name in zipfile.ZipFile(a).namelist()] == [
        zipfile.ZipFile(b).read(name) for name in zipfile.ZipFile(b).namelist()
    ]
    spoiled = bytearray(zipfile.ZipFile(a).read("META-INF/CERT.SIG"))
    spoiled[random.Random(1).randrange(64)] ^= 1
    with zipfile.ZipFile(a) as good, zipfile.ZipFile(offline.folder / "bad.mosis", "w") as bad:
        for entry in good.infolist():
            content = bytes(spoiled) if entry.filename.endswith("SIG") else good.read(entry)
            bad.writestr(entry, content)
    command = [python, "-I", "-S", str(path)]
    with ended(offline.start("verify", "bad.mosis", program=command)) as process:
        assert "signature_invalid" in process.communicate(timeout=280)[0]


def test_an_old_python_is_refused_with_a_message(offline: Mosis) -> None:
    old = [
        *Path.home().glob(".pyenv/versions/2.7*/bin/python"),
        *Path.home().glob(".pyenv/versions/3.10*/bin/python"),
    ]
    if not old:
        pytest.skip("there is no older Python here")
    path = offline.folder / "mosis.pyz"
    path.write_bytes(zipapp("https://apps.example.net"))
    for python in old:
        done = subprocess.run(
            [python, str(path)], capture_output=True, text=True, timeout=60, check=False
        )
        assert "mosis needs Python 3.11 or newer" in done.stderr

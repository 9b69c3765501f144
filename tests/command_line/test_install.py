"""`mosis install` against a store, a mirror or a network that lies: refused with a reason, and the installed version stays."""

import base64
import contextlib
import json
import random
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from mosis.client import install
from mosis.context import Context
from mosis.store.index_keys import IndexKey
from mosis.store.signed_index import Indexes
from tests.client import Account, Client
from tests.command_line.driver import Mosis, approve_all, ended
from tests.conftest import FakeClock
from tests.server import serving

APP = "app.alice.notes"
INDEX, SIGNATURES, PACKAGE = "/v1/store/index/", "/v1/store/index.json.sig", "/packages/"
Answer = Callable[[bytes], bytes]


class Mirror:
    """Between the device and the portal: passes everything on, and changes what a test says."""

    def __init__(self, portal: str) -> None:
        self.portal = portal
        self.changes: dict[str, Answer] = {}
        self.cut_after: list[
            int
        ] = []  # the next answers for packages break off behind so many bytes
        self.ranges: list[str | None] = []
        mirror = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                mirror.serve(self)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def serve(self, handler: BaseHTTPRequestHandler) -> None:
        sent = {
            name: value
            for name, value in handler.headers.items()
            if name in ("Range", "If-Range", "Authorization")
        }
        try:
            with urllib.request.urlopen(
                urllib.request.Request(self.portal + handler.path, headers=sent), timeout=60
            ) as answer:
                status, headers, body = answer.status, answer.headers, answer.read()
        except urllib.error.HTTPError as refusal:
            with refusal:
                status, headers, body = refusal.code, refusal.headers, refusal.read()
        for place, change in self.changes.items():
            if handler.path.startswith(place):
                body = change(body)
        handler.send_response(status)
        for name in ("Content-Type", "ETag", "Content-Range"):
            if headers[name]:
                handler.send_header(name, headers[name])
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        if handler.path.startswith(PACKAGE):
            self.ranges.append(handler.headers["Range"])
            if self.cut_after:
                body = body[: self.cut_after.pop(0)]
                handler.close_connection = True
        with contextlib.suppress(OSError):
            handler.wfile.write(body)


@pytest.fixture
def mirror(url: str) -> Iterator[Mirror]:
    made = Mirror(url)
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture
def device(tmp_path: Path, mirror: Mirror) -> Mosis:
    return Mosis(tmp_path / "device", mirror.url)


def release(mosis: Mosis, client: Client, rita: Account, *arguments: str) -> None:
    """Publish a version of the app for everybody."""
    if not mosis.folder.joinpath("notes").exists():
        mosis("init", "notes").expect(0)
    mosis("publish", "notes", *arguments).expect(0)
    assert approve_all(client, rita) == [APP]
    mosis("publish", "notes", *(each for each in arguments if each != "--again")).expect(0)


def owner_and_reviewer(client: Client) -> tuple[Account, Account]:
    """Of an app that the owner has published with `mosis` in `home/`."""
    config = client.env.config
    alice, rita = client.register("alice"), client.reviewer()
    mosis = Mosis(config.data_dir.parent / "home", config.base_url)
    mosis.sign_in(alice)
    with serving(client.env):
        release(mosis, client, rita)
    return alice, rita


@pytest.fixture
def prepare() -> Callable[[Client], tuple[Account, Account]]:
    return owner_and_reviewer


@pytest.fixture
def rita(prepared: tuple[Account, Account]) -> Account:
    return replace(prepared[1])


@pytest.fixture
def url(prepared: tuple[Account, Account], env: Context) -> Iterator[str]:
    with serving(env):
        yield env.config.base_url


@pytest.fixture
def mosis(tmp_path: Path, url: str) -> Mosis:
    return Mosis(tmp_path / "home", url)


@pytest.fixture
def released(url: str) -> None:
    """The app is in the store."""


def tree(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def is_whole(folder: Path) -> str:
    """The version of an app in a folder, which holds every file of it and nothing else."""
    found = tree(folder)
    listed = found["META-INF/MANIFEST.MF"].decode()
    names = {
        line.removeprefix("Name: ") for line in listed.splitlines() if line.startswith("Name: ")
    }
    assert names | {name for name in found if name.startswith("META-INF/")} == set(found)
    return str(json.loads(found["manifest.json"])["version"])


def nothing_else(device: Mosis) -> None:
    """Neither unpacked rests beside the app nor downloads that failed their check."""
    assert not [path for path in device.folder.iterdir() if path.name.startswith(".")]
    assert not list(device.config.folder.glob("downloads/*.mosis"))


def refused(device: Mosis, words: str, *arguments: str, code: int = 1) -> None:
    """The installation is refused for this reason, and what was installed before is untouched."""
    before = tree(device.folder / APP)
    answer = device("install", APP, *arguments).expect(code)
    assert words in answer.err, answer.err
    assert tree(device.folder / APP) == before
    nothing_else(device)


def test_an_older_index_is_refused(
    mosis: Mosis, client: Client, rita: Account, device: Mosis, mirror: Mirror, clock: FakeClock, released: None
) -> None:  # fmt: skip
    held: dict[str, bytes] = {}

    def hold(name: str) -> Answer:
        return lambda body: held.setdefault(name, body)

    mirror.changes = {SIGNATURES: hold("signatures"), INDEX: hold("index")}
    device("install", APP).expect(0)
    mirror.changes = {}
    clock.advance(60)
    release(mosis, client, rita, "--bump", "patch")
    device("install", APP).expect(0)
    assert is_whole(device.folder / APP) == "1.0.1"
    mirror.changes = {SIGNATURES: hold("signatures"), INDEX: hold("index")}
    refused(device, "older than the last one")
    assert held["signatures"]
    assert held["index"]
    mirror.changes = {}
    device("install", APP).expect(0)


def resigned(index: bytes, key: IndexKey, **changed: Any) -> tuple[bytes, bytes]:
    """An index with other values, and the signature of this key."""
    content = json.dumps(json.loads(index) | changed).encode()
    signed = {"key": key.fingerprint, "signature": base64.b64encode(key.sign(content)).decode()}
    return content, json.dumps({"signatures": [signed]}).encode()


def test_a_forged_index_is_refused(device: Mosis, mirror: Mirror, released: None) -> None:
    device("install", APP).expect(0)
    attacker = IndexKey(bytes(range(32)), "")
    entry = b'"sha256":"'

    def forged_signatures(body: bytes) -> bytes:
        signed = {"key": attacker.fingerprint, "signature": "A" * 86 + "=="}
        return json.dumps(json.loads(body) | {"signatures": [signed]}).encode()

    def renamed_key(body: bytes) -> bytes:
        document = json.loads(body)
        document["signatures"][0]["signature"] = base64.b64encode(bytes(64)).decode()
        return json.dumps(document).encode()

    for place, change, words in (
        (INDEX, lambda body: body.replace(entry, entry[:-1] + b'"0'), "No key that"),
        (INDEX, lambda body: body + b" ", "No key that"),
        (INDEX, lambda body: b"", "No key that"),
        (SIGNATURES, forged_signatures, "No key that"),
        (SIGNATURES, renamed_key, "No key that"),
        (SIGNATURES, lambda body: body.replace(b'"signatures"', b'"other"'), "cannot be read"),
    ):
        mirror.changes = {place: change}
        refused(device, words)
    for rubbish in (b"", b"[]", b"\xff", b"{", b'{"index_url": 3}', b'{"index_url": "ftp://x/"}'):
        mirror.changes = {SIGNATURES: lambda body, rubbish=rubbish: rubbish}  # type: ignore[misc]
        assert device("install", APP).expect(4).err.startswith("mosis: ")
        nothing_else(device)


def test_an_expired_index_is_refused(
    device: Mosis, mirror: Mirror, env: Context, released: None
) -> None:
    """The store's own key has signed it: only the time is wrong."""
    state = {"keys": [], "sequence": 0}
    key = IndexKey(bytes(range(32)), "")
    state["keys"] = [base64.b64encode(key.public).decode()]
    good = {
        "sequence": 5,
        "expires_at": "2027-01-01T00:00:00Z",
        "keys": [{"public_key": state["keys"][0]}],  # type: ignore[index]
        "apps": [],
    }
    from datetime import UTC, datetime

    before, after = datetime(2026, 12, 31, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)
    content, signatures = resigned(json.dumps(good).encode(), key)
    assert install.check_index(content, signatures, state, before)[1]["sequence"] == 5
    with pytest.raises(install.Stop, match="expired"):
        install.check_index(content, signatures, state, after)
    for changed in (
        {"expires_at": "2027-01-01"}, {"expires_at": 7}, {"expires_at": None}, {"sequence": None}, {"sequence": "x"},
        {"keys": []}, {"keys": None}, {"keys": [{"public_key": "AAAA"}]}, {"keys": [{"public_key": "?"}]}, {"keys": [7]},
    ):  # fmt: skip
        with pytest.raises(install.Stop) as stop:
            install.check_index(*resigned(content, key, **changed), state, before)
        assert stop.value.code == 1, changed


def test_an_expired_index_of_the_store_is_refused(
    mosis: Mosis, device: Mosis, client: Client, rita: Account, clock: FakeClock, released: None
) -> None:
    """The portal's clock is behind by years: what it signs has expired."""
    device("install", APP).expect(0)
    clock.advance(-2 * 365 * 86400)
    client.env.state(Indexes).by_age.pop(0)
    refused(device, "expired")


def spoiled(body: bytes, kind: int, chance: random.Random) -> bytes:
    """A package with another bit, without its end, with something behind its end, or empty."""
    at = chance.randrange(len(body))
    flipped = body[:at] + bytes([body[at] ^ (1 << chance.randrange(8))]) + body[at + 1 :]
    return (flipped, body[:at], body + bytes(chance.randrange(1, 100)), b"")[kind]


def test_a_changed_package_is_refused(device: Mosis, mirror: Mirror, released: None) -> None:
    chance = random.Random(5)
    for number in range(12):
        mirror.changes = {
            PACKAGE: lambda body, number=number: spoiled(body, number % 4, chance)  # type: ignore[misc]
        }
        answer = device("install", APP).expect(1)
        assert (
            "not the one that the store has signed" in answer.err or "more than the" in answer.err
        )
        assert not device.folder.joinpath(APP).exists()
        nothing_else(device)
    mirror.changes = {}
    device("install", APP).expect(0)


def test_a_package_with_the_key_of_somebody_else_is_refused(
    mosis: Mosis, tmp_path: Path, offline: Mosis
) -> None:
    """Its hash is in the index, and its certificate is not the key that the index names."""
    import hashlib

    mosis("build", "notes", "-o", "a.mosis").expect(0)
    path = mosis.folder / "a.mosis"
    content = path.read_bytes()
    entry = {
        "package_id": APP, "sha256": hashlib.sha256(content).hexdigest(), "size_bytes": len(content),
        "signing_key_fingerprint": IndexKey(bytes(32), "").fingerprint,
    }  # fmt: skip
    with pytest.raises(install.Stop, match="another public key"):
        install.check_against(path, entry)
    with pytest.raises(install.Stop, match="not what it should be"):
        own = mosis("keys", "--json").expect(0).json["local"][0]["fingerprint"]
        install.check_against(
            path, entry | {"signing_key_fingerprint": own, "package_id": "com.acme.other"}
        )


def test_a_changed_signing_key_is_refused_until_it_is_accepted(
    mosis: Mosis, client: Client, rita: Account, device: Mosis, released: None, clock: FakeClock
) -> None:
    device("install", APP).expect(0)
    mosis("keys", "create", "second").expect(0)
    release(mosis, client, rita, "--bump", "patch", "--key", "second")
    clock.advance(60)
    refused(device, "is signed by another key")
    local = {
        each["name"]: each["fingerprint"]
        for each in mosis("keys", "--json").expect(0).json["local"]
    }
    refused(device, "is signed by another key", "--accept-key", local["default"])
    device("install", APP, "--accept-key", local["second"]).expect(0)
    assert is_whole(device.folder / APP) == "1.0.1"
    device("install", APP).expect(0)
    fresh = Mosis(device.folder / "fresh", device.url)
    fresh("install", APP).expect(0)


def test_the_key_of_the_store_is_pinned(
    device: Mosis, client: Client, mirror: Mirror, released: None, tmp_path: Path
) -> None:
    key = client.get("/.well-known/mosis-store-key")["keys"][0]["public_key"]
    other = base64.b64encode(IndexKey(bytes(range(32)), "").public).decode()
    answer = device("install", APP, "--store-key", other).expect(1)
    assert "No key that this machine knows" in answer.err
    device("install", APP, "--store-key", key).expect(0)
    refused(device, "another key than this machine knows", "--store-key", other)
    attacker = IndexKey(bytes(range(32)), "")
    made: dict[str, bytes] = {}

    def forge(body: bytes) -> bytes:
        made["index"], made["signatures"] = resigned(body, attacker)
        return made["index"]

    mirror.changes = {
        INDEX: forge,
        SIGNATURES: lambda body: made.get("signatures") or body,
        "/.well-known/mosis-store-key": lambda body: body.replace(key.encode(), other.encode()),
    }
    refused(device, "No key that this machine knows")


def test_a_download_that_was_cut_is_resumed(device: Mosis, mirror: Mirror, released: None) -> None:
    mirror.cut_after = [1000, 0, 500, 0, 700]
    device("install", APP).expect(0)
    assert mirror.ranges[:1] == [None]
    assert mirror.ranges[1:] == [f"bytes={at}-" for at in (1000, 1000, 1500, 1500, 2200)]
    assert is_whole(device.folder / APP) == "1.0.0"


def test_a_download_goes_on_in_the_next_run(device: Mosis, mirror: Mirror, released: None) -> None:
    mirror.cut_after = [1000] + [0] * 20
    assert "it resumes where it stopped" in device("install", APP).expect(4).err
    assert not device.folder.joinpath(APP).exists()
    mirror.cut_after, mirror.ranges = [], []
    device("install", APP).expect(0)
    assert mirror.ranges == ["bytes=1000-"]


def test_a_spoiled_beginning_of_a_download_is_not_used_twice(
    device: Mosis, mirror: Mirror, released: None
) -> None:
    mirror.cut_after = [1000] + [0] * 20
    device("install", APP).expect(4)
    mirror.cut_after = []
    (part,) = device.config.folder.glob("downloads/*.part")
    part.write_bytes(b"x" * 1000)
    device("install", APP).expect(1)
    nothing_else(device)
    device("install", APP).expect(0)


def test_an_answer_without_end_is_cut(device: Mosis, mirror: Mirror, released: None) -> None:
    mirror.changes = {PACKAGE: lambda body: body + bytes(1 << 20)}
    refused(device, "more than the")
    assert not list(device.config.folder.glob("downloads/*"))


class Halted(BaseException):
    """Stands for the end of the process."""


@pytest.mark.parametrize("step", ["_extract", "rename-1", "rename-2", "flush"])
@pytest.mark.parametrize("kind", ["killed", "refused by the system"])
def test_an_installation_that_stops_leaves_one_whole_version(
    mosis: Mosis, client: Client, rita: Account, device: Mosis, released: None, clock: FakeClock, step: str,
    kind: str, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """At every step: after a kill the next run has a whole version; after an error it is there at once."""
    device("install", APP).expect(0)
    release(mosis, client, rita, "--bump", "patch")
    clock.advance(60)
    target = device.folder / APP
    renames = 0
    rename, extract, flush = Path.rename, install._extract, install._flush_folder
    ended = kind == "killed"

    def stop(*_: Any) -> Any:
        raise Halted if ended else OSError(28, "No space left on device")

    def broken_rename(path: Path, to: Path) -> Path:
        nonlocal renames
        renames += 1
        return stop() if step == f"rename-{renames}" else rename(path, to)

    monkeypatch.setattr(Path, "rename", broken_rename)
    if step == "_extract":
        monkeypatch.setattr(install, "_extract", lambda *arguments: (extract(*arguments), stop()))
    if step == "flush":
        monkeypatch.setattr(
            install, "_flush_folder", lambda *arguments: (flush(*arguments), stop())
        )
    if ended:  # a killed process cleans nothing up
        monkeypatch.setattr(install, "restore", lambda target: None)
        monkeypatch.setattr(install.shutil, "rmtree", lambda *arguments, **more: None)
        with pytest.raises(Halted):
            device("install", APP)
        monkeypatch.undo()
        install.restore(target)
    else:
        assert "No space left" in device("install", APP).expect(1).err
        monkeypatch.undo()
    assert is_whole(target) in ("1.0.0", "1.0.1")
    assert not [path for path in device.folder.iterdir() if path.name.startswith(".")]
    device("install", APP).expect(0)
    assert is_whole(target) == "1.0.1"
    nothing_else(device)


@pytest.mark.slow
def test_killed_at_any_moment_the_next_run_installs(
    mosis: Mosis, client: Client, rita: Account, device: Mosis, released: None
) -> None:
    chance = random.Random(3)
    for _ in range(6):
        with ended(device.start("install", APP)) as process:
            with contextlib.suppress(Exception):
                process.wait(chance.uniform(0.1, 0.6))
            process.kill()
            process.wait(60)
    device("install", APP).expect(0)
    assert is_whole(device.folder / APP) == "1.0.0"
    nothing_else(device)


def test_a_folder_with_something_else_is_left_alone(device: Mosis, released: None) -> None:
    other = device.folder / APP
    other.mkdir()
    other.joinpath("thesis.txt").write_text("years of work")
    refused(device, "holds something else", code=2)
    device("install", APP, "--to", "elsewhere").expect(0)
    assert is_whole(device.folder / "elsewhere") == "1.0.0"


def test_an_update_through_a_link_replaces_what_the_link_names(
    mosis: Mosis, client: Client, rita: Account, device: Mosis, released: None
) -> None:
    device("install", APP, "--to", "real").expect(0)
    device.folder.joinpath("link").symlink_to("real")
    device("install", APP, "--to", "link").expect(0)
    assert device.folder.joinpath("link").is_symlink()
    assert is_whole(device.folder / "real") == "1.0.0"
    nothing_else(device)

"""Kills a primary, its Litestream, a store front end and its Litestream at random, and checks every
response of the store.

    python -m bench.front_end_kills --kills 200 --seed 1

A writer renames the developer of twelve apps all the time; each rename changes all twelve in one
transaction. A reader asks the front end for the list, one app, an update check and the signed index.
A response is right if the primary has, or could have, given it: the list and the app have one of the
names that were sent, everywhere the same, and the entity tag of exactly these bytes; the index has a
valid signature of the primary's key. After the last kill both must give the same list. With --plant
a name is changed in the copy that the front end reads: the campaign must notice.
"""

import argparse
import base64
import contextlib
import hashlib
import json
import os
import random
import signal
import sqlite3
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

from mosis.config import Config
from mosis.database import Database
from mosis.operations import front_end
from mosis.packages import ed25519
from mosis.web.request import etag
from tests.catalogue import add_listed
from tests.front_ends import FrontEndProcess, ask, primary_process
from tests.server import Backed, is_alive

APPS = 12
WHAT = ("primary", "its litestream", "front end", "its follower", "follower stopped", "all")


class Writer(threading.Thread):
    """Renames the developer until it is stopped; `names` has every name that was sent."""

    def __init__(self, primary: Backed, token: str) -> None:
        super().__init__(daemon=True)
        self.primary, self.token = primary, token
        self.names = ["name 0"]
        self.acknowledged = 0
        self.stopping = threading.Event()

    def run(self) -> None:
        while not self.stopping.is_set():
            name = f"name {len(self.names)}"
            self.names.append(name)
            headers = {
                "Authorization": f"Bearer {self.token}",
                "Content-Type": "application/json",
            }
            try:
                body = json.dumps({"name": name}).encode()
                status, _, answer = ask(
                    self.primary.port, "/v1/auth/me", "PATCH", body, headers | {"If-Match": "*"}
                )
                assert status in (200, 503), answer
                self.acknowledged += status == 200
            except (OSError, ValueError, EOFError):
                time.sleep(0.05)
            except Exception as error:  # http.client's, of a killed server
                if type(error).__module__ != "http.client":
                    raise
            time.sleep(0.01)


class Reader(threading.Thread):
    """Asks the front end; `wrong` has what no primary has given."""

    def __init__(self, front: FrontEndProcess, writer: Writer, template: bytes, key: bytes) -> None:
        super().__init__(daemon=True)
        self.front, self.writer, self.template, self.key = front, writer, template, key
        self.wrong: list[str] = []
        self.seen: Counter[str] = Counter()
        self.newest = 0
        self.stopping = threading.Event()

    def run(self) -> None:
        while not self.stopping.is_set():
            for look in (self._list, self._app, self._updates, self._index):
                try:
                    look()
                except (OSError, EOFError):
                    self.seen["no connection"] += 1
                    time.sleep(0.02)
                except Exception as error:
                    if type(error).__module__ != "http.client":
                        self.wrong.append(f"{look.__name__}: {error!r}")
            time.sleep(0.005)

    def _ask(self, path: str) -> tuple[dict[str, str], bytes] | None:
        status, headers, body = ask(self.front.port, path)
        self.seen[f"{status}"] += 1
        if status == 200:
            return headers, body
        if status not in (307, 503):
            self.wrong.append(f"{path}: {status} {body[:200]!r}")
        return None

    def _list(self) -> None:
        if found := self._ask("/v1/store/apps?limit=100"):
            headers, body = found
            names = {app["developer"]["name"] for app in json.loads(body)["apps"]}
            if len(names) != 1:
                self.wrong.append(f"a torn list: {names}")
                return
            (name,) = names
            number = int(name.removeprefix("name "))
            if body != self.template.replace(b'"name 0"', f'"{name}"'.encode()):
                self.wrong.append(f"a list that is none of the primary's: {body[:300]!r}")
            if number >= len(self.writer.names) or headers["etag"] != etag(body):
                self.wrong.append(f"name or tag of nothing: {name} {headers['etag']}")
            self.newest = max(self.newest, number)

    def _app(self) -> None:
        if found := self._ask("/v1/store/apps/kill.app03"):
            app = json.loads(found[1])
            listed = [
                each
                for each in json.loads(self.template)["apps"]
                if each["package_id"] == "kill.app03"
            ]
            if app | {"developer": listed[0]["developer"]} != listed[0]:
                self.wrong.append(f"another app: {app}")
            if app["developer"]["name"] not in self.writer.names:
                self.wrong.append(f"a name that nobody sent: {app['developer']}")

    def _updates(self) -> None:
        if found := self._ask("/v1/store/updates?pkgs=kill.app01:0,kill.app02:1"):
            offers = json.loads(found[1])["updates"]
            if [each["package_id"] for each in offers] != ["kill.app01"]:
                self.wrong.append(f"other offers: {offers}")

    def _index(self) -> None:
        found = self._ask("/v1/store/index.json.sig")
        if found is None:
            return
        signed = json.loads(found[1])
        index = self._ask(signed["index_url"])
        if index is None:
            return
        signature = base64.b64decode(signed["signatures"][0]["signature"])
        if hashlib.sha256(index[1]).hexdigest() != signed["sha256"] or not ed25519.verify(
            self.key, signature, index[1]
        ):
            self.wrong.append(f"an index that nobody signed: {signed}")


def fill(primary: Backed) -> str:
    """An account with twelve published apps; its token."""
    primary.start()
    account = {"email": "a@example.net", "password": "three random words", "name": "name 0"}
    status, answer = primary.ask("/v1/auth/register", account)
    assert status == 201, answer
    primary.stop()
    config = Config.read(primary.environment)
    database = Database(config.database_path)
    db, developer = database.connection(), answer["developer"]["id"]
    with db.write():
        db.insert(
            "signing_keys",
            id=developer,
            developer_id=developer,
            name="k",
            public_key=bytes(32),
            fingerprint="SHA256:x",
            created_at=db.now,
        )
        for number in range(APPS):
            add_listed(db, developer, f"kill.app{number:02}", f"App {number}")
    database.close()
    primary.start()
    return str(answer["access_token"])


def main(arguments: list[str] | None = None) -> int:
    """Run the campaign; 0 if every response was right."""
    given = argparse.ArgumentParser(description=__doc__)
    given.add_argument("--kills", type=int, default=200)
    given.add_argument("--seed", type=int, default=1)
    given.add_argument("--plant", action="store_true")
    options = given.parse_args(arguments)
    chance = random.Random(options.seed)
    with tempfile.TemporaryDirectory(prefix="front-end-kills-") as folder:
        return campaign(Path(folder), options.kills, chance, options.plant)


def campaign(folder: Path, kills: int, chance: random.Random, plant: bool) -> int:
    primary = primary_process(folder / "primary")
    token = fill(primary)
    primary.replicated()
    front = FrontEndProcess(folder / "front", primary, primary.backups)
    try:
        front.start()
        front.ready()
        template = ask(primary.port, "/v1/store/apps?limit=100")[2]
        keys = json.loads(ask(primary.port, "/.well-known/mosis-store-key")[2])["keys"]
        writer = Writer(primary, token)
        reader = Reader(front, writer, template, base64.b64decode(keys[0]["public_key"]))
        writer.start()
        reader.start()
        begun, done = time.monotonic(), Counter[str]()
        if plant:
            damage(primary, front)
        for _ in range(kills):
            time.sleep(chance.uniform(0.2, 1.6))
            what = chance.choice(WHAT)
            done[what] += 1
            hit(what, primary, front, chance)
        writer.stopping.set()
        writer.join(60)
        same = wait_for_same(primary, front)
        reader.stopping.set()
        reader.join(60)
        seconds = time.monotonic() - begun
    finally:
        for each in (front, primary):
            if each.process is not None and each.process.poll() is None:
                each.kill()
    print(f"{kills} kills in {seconds:.0f} s: " + ", ".join(f"{n} {w}" for w, n in done.items()))
    print(f"{writer.acknowledged} renames acknowledged, newest seen {reader.newest}")
    print("responses: " + ", ".join(f"{n} x {status}" for status, n in sorted(reader.seen.items())))
    print(f"wrong: {len(reader.wrong)}" + "".join(f"\n  {each}" for each in reader.wrong[:10]))
    print("both give the same list at the end" if same else "THE LISTS DIFFER at the end")
    return 0 if same and not reader.wrong and reader.newest > 0 else 1


def hit(what: str, primary: Backed, front: FrontEndProcess, chance: random.Random) -> None:
    """Kill something, and start again what was ours to start."""
    with contextlib.suppress(ProcessLookupError, FileNotFoundError, ValueError):
        if what == "its litestream":
            os.kill(primary.litestream, signal.SIGKILL)
        if what == "its follower":
            os.kill(front.follower, signal.SIGKILL)
        if what == "follower stopped":
            follower = front.follower
            os.kill(follower, signal.SIGSTOP)
            time.sleep(chance.uniform(0.1, 1.0))
            if is_alive(follower):
                os.kill(follower, signal.SIGCONT)
    if what in ("primary", "all"):
        primary.kill()
    if what in ("front end", "all"):
        front.kill()
    time.sleep(chance.uniform(0, 0.3))
    if what in ("primary", "all"):
        primary.start()
    if what in ("front end", "all"):
        front.start()


def wait_for_same(primary: Backed, front: FrontEndProcess) -> bool:
    """Whether both give the same list in time: where Litestream hangs, the front end fetches the
    database again after ANEW_SECONDS without a heartbeat."""
    deadline = time.monotonic() + front_end.ANEW_SECONDS + 90
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            lists = [ask(each.port, "/v1/store/apps?limit=100") for each in (primary, front)]
            if lists[0][0] == 200 and lists[0][2] == lists[1][2]:
                return True
        time.sleep(0.2)
    return False


def damage(primary: Backed, front: FrontEndProcess) -> None:
    """Change a name in the newest copy, and have the front end start with it while nothing newer comes."""
    primary.kill()
    front.kill()
    path = max((front.folder / "data/front-end").glob("copy-*.db"))
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as raw:
        raw.execute("PRAGMA journal_mode = DELETE")
        raw.execute("UPDATE listings SET developer_name = 'name 0' WHERE number = 3")
        raw.execute("UPDATE listings SET developer_name = 'name -1' WHERE number <> 3")
    os.utime(path.with_name("followed.db"))  # newer than its number: not read until a commit comes
    front.start()
    time.sleep(1)
    primary.start()


if __name__ == "__main__":
    sys.exit(main())

"""Kills the portal with SIGKILL during package checks, and verifies that every version reaches a final state.

    python -m bench.kill_checks --cycles 100

The client keeps the ledger: each acknowledged upload must end as `ready` (good packages) or `failed` (broken ones), each
acknowledged claim must still be held by its reviewer, no job may be dead, no child process may outlive its portal. With --plant
one job is removed by hand: the campaign must notice.
"""

import argparse
import contextlib
import http.client
import json
import random
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import portal
from bench.kill import QUOTAS, call
from tests.package_builder import SigningKey, build_package, signing_key
from tests.server import Running, is_alive

PASSWORD = "three random words"
FILLING = b"".join(
    b".c%d { color: #%06x; padding: %ddp; }\n" % (each, each, each % 9) for each in range(6000)
)  # 0.4 s of checking


class Campaign:
    """One portal, one developer, one reviewer, and what was promised to them."""

    def __init__(self, folder: Path, plant: bool = False) -> None:
        # A version must not fail because the machine is busy.
        self.server = Running(folder, QUOTAS | {"CHECK_SECONDS": "120"})
        self.plant = plant
        self.key: SigningKey = signing_key()
        self.expected: dict[str, str] = {}  # version id: state
        self.claims: set[str] = set()
        self.children = 0
        self.tokens: dict[str, str] = {}

    def prepare(self) -> None:
        self.server.start()
        for name in ("dev", "rev"):
            account = {"email": f"{name}@example.net", "password": PASSWORD, "name": name}
            call(self.server.port, "POST", "/v1/auth/register", json.dumps(account).encode())
        promote = [
            sys.executable,
            str(portal.HERE / "portal.py"),
            "admin",
            "promote",
            "rev@example.net",
            "--role",
            "reviewer",
        ]
        subprocess.run(
            promote, env=self.server.environment, check=True, stdout=subprocess.DEVNULL, timeout=120
        )
        self.sign_in()
        self._send("/v1/signing-keys", {"name": "k", "public_key": self.key.public_base64})
        self._send("/v1/apps", {"package_id": "kill.checks", "name": "Kill"})

    def sign_in(self) -> None:
        for name in ("dev", "rev"):
            account = {"email": f"{name}@example.net", "password": PASSWORD}
            status, answer = call(
                self.server.port, "POST", "/v1/auth/login", json.dumps(account).encode()
            )
            assert status == 200, answer
            self.tokens[name] = answer["access_token"]

    def cycle(self, number: int) -> None:
        """Upload some versions, claim a review, and kill the portal at some moment of the checks."""
        for each in range(3):
            code = number * 10 + each + 1
            broken = random.random() < 0.3
            lua = b"local = 1" if broken else b"return mosis.storage.get('a')"
            files = {"assets/filling.rcss": FILLING, "assets/main.lua": lua}
            package = build_package("kill.checks", f"1.0.{code}", code, key=self.key, files=files)
            address = "/v1/apps/kill.checks/versions?submit=true"
            status, answer = call(self.server.port, "POST", address, package, self.tokens["dev"])
            if status == 409 and answer["code"] == "quota_exceeded":
                break  # too many are being checked: those of killed processes wait for their leases
            assert status == 201, answer
            self.expected[answer["id"]] = "failed" if broken else "in_review"
        status, answer = call(
            self.server.port, "GET", "/v1/reviews?state=waiting&limit=1", b"", self.tokens["rev"]
        )
        for review in answer["reviews"]:
            status, _ = call(
                self.server.port,
                "POST",
                f"/v1/reviews/{review['id']}/claim",
                b"{}",
                self.tokens["rev"],
            )
            if status == 200:
                self.claims.add(review["id"])
        time.sleep(random.uniform(0, 0.6))
        before = children_of(self.server.pid)
        self.children += len(before)
        self.server.kill()
        until = (
            time.monotonic() + 60
        )  # one that was just being started looks for its parent as soon as it runs
        while any(is_alive(pid) for pid in before):
            assert time.monotonic() < until, "a child has outlived its portal"
            time.sleep(0.02)
        if self.plant:
            with contextlib.closing(
                sqlite3.connect(self.server.environment["DATABASE_PATH"])
            ) as db:
                db.execute(
                    "DELETE FROM jobs WHERE kind = 'check_version' AND state IN ('waiting', 'running')"
                )
                db.commit()
        self.server.start()
        if number % 20 == 19:
            self.sign_in()

    def settle(self, timeout_seconds: float) -> float:
        """Wait until nothing is being checked any more; how long that took."""
        begun = time.monotonic()
        while time.monotonic() < begun + timeout_seconds:
            with contextlib.closing(self._db()) as db:
                if not db.execute(
                    "SELECT 1 FROM jobs WHERE state IN ('waiting', 'running') AND kind IN ('check_version', 'submit_version')"
                ).fetchone():
                    break
            time.sleep(0.1)
        return time.monotonic() - begun

    def verify(self) -> None:
        with contextlib.closing(self._db()) as db:
            assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            found = dict(db.execute("SELECT id, state FROM versions"))
            wrong = {
                each: (found.get(each), state)
                for each, state in self.expected.items()
                if found.get(each) != state
            }
            assert not wrong, f"versions that did not reach their end: {list(wrong.items())[:5]}"
            held = {
                row[0]
                for row in db.execute(
                    "SELECT id FROM reviews WHERE state = 'claimed' AND claimed_by IS NOT NULL"
                )
            }
            assert self.claims <= held, "a claim was lost"
            assert db.execute("SELECT count(*) FROM jobs WHERE state = 'dead'").fetchone() == (0,)
            rounds = db.execute(
                "SELECT max(n) FROM (SELECT count(*) AS n FROM reviews GROUP BY version_id)"
            ).fetchone()[0]
            assert rounds in (None, 1), "a version was submitted twice"
            answer = db.execute(
                "SELECT version, kind, count(*) FROM events WHERE kind LIKE 'version.%' GROUP BY version, kind"
            ).fetchall()
            assert [each for each in answer if each[2] != 1] == [], "a notification was sent twice"
            checked = sum(kind == "version.checked" for _, kind, _ in answer)
            assert checked == len(self.expected), f"{checked} of {len(self.expected)} were notified"

    def _send(self, path: str, document: dict[str, Any]) -> None:
        status, answer = call(
            self.server.port, "POST", path, json.dumps(document).encode(), self.tokens["dev"]
        )
        assert status == 201, answer

    def _db(self) -> sqlite3.Connection:
        return sqlite3.connect(f"file:{self.server.environment['DATABASE_PATH']}?mode=ro", uri=True)


def children_of(pid: int) -> list[int]:
    """The processes that this one has started and not yet seen end."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):
            found += [int(each) for each in (task / "children").read_text().split()]
    return found


def campaign(folder: Path, cycles: int, plant: bool = False) -> dict[str, Any]:
    """Run it; the figures. Raises AssertionError with what was lost."""
    run = Campaign(folder, plant)
    try:
        run.prepare()
        for number in range(cycles):
            run.cycle(number)
        settled = run.settle(220 + 6 * cycles)
        run.verify()
    except (OSError, http.client.HTTPException) as trouble:
        raise AssertionError(
            f"the portal does not answer: {trouble!r}\n{run.server.log.read_text()[-2000:]}"
        ) from trouble
    finally:
        run.server.kill()
    return {
        "kills": cycles,
        "kills_during_a_check": run.children,
        "versions": len(run.expected),
        "claims": len(run.claims),
        "lost": 0,
        "settled_after_seconds": round(settled, 1),
    }


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--cycles", type=int, default=100)
    options.add_argument("--seed", type=int, default=int(time.time()))
    options.add_argument(
        "--plant", action="store_true", help="remove the jobs by hand: the campaign must fail"
    )
    given = options.parse_args()
    print(f"seed {given.seed}")
    random.seed(given.seed)
    with tempfile.TemporaryDirectory(prefix="kill-checks-") as folder:
        json.dump(campaign(Path(folder), given.cycles, given.plant), sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()

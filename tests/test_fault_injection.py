"""The Nth call of each function of the system that an upload or a publication makes fails, once, for
every N: what was acknowledged is there, a row has its file, and nothing half-made stays."""

import builtins
import errno
import itertools
import os
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from mosis.context import Context
from mosis.packages.storage import sha256_of
from tests.client import Answer, Client

CALLS = [
    (os, "open"),
    (os, "mkdir"),
    (os, "fsync"),
    (os, "fdatasync"),
    (os, "replace"),
    (builtins, "open"),
]


class Fault:
    """Counts the calls of one function, and lets the Nth fail."""

    def __init__(self, module: Any, name: str, number: int, error: int) -> None:
        self.what = (module, name)
        self.number = number
        self.error = error
        self.where = ""
        self._calls = itertools.count(1)

    @property
    def at_commit(self) -> bool:
        """Whether it came when SQLite had committed and the WAL was to be flushed."""
        return self.where.startswith("fdatasync") or self.where.endswith("portal.db-wal")

    def call(self, call: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        if next(self._calls) == self.number:
            self.where = f"{self.what[1]} of {arguments[0]}"
            raise OSError(self.error, os.strerror(self.error), str(arguments[0]))
        return call(*arguments, **named)


def faults(error: int) -> Iterator[Fault]:
    """One for each call. Each function is counted apart: threads may call different ones in any
    order, each of them as often."""
    for module, name in CALLS:
        for number in itertools.count(1):
            fault = Fault(module, name, number, error)
            yield fault
            if not fault.where:
                break


def tried(monkeypatch: pytest.MonkeyPatch, fault: Fault, what: Callable[[], Answer]) -> Answer:
    """The answer when the fault lies in wait."""
    with monkeypatch.context() as patch:
        patch.setattr(*fault.what, partial(fault.call, getattr(*fault.what)))
        return what()


def check_invariants(env: Context) -> None:
    """Every row has its file, with the bytes that it speaks of, and nothing half-received stays."""
    sql = "SELECT a.developer_id, v.app_id, v.version, v.sha256 FROM versions v JOIN apps a ON a.id = v.app_id"
    rows = env.db.connection().all(sql)
    for developer_id, app_id, version, sha256 in rows:
        assert sha256_of(env.files.path(developer_id, app_id, version)) == sha256
    assert list(env.files.incoming.iterdir()) == []


@pytest.mark.parametrize(("error", "codes"), [
    (errno.EIO, {"package_unavailable", "database_unavailable"}), (errno.EROFS, {"package_unavailable", "database_unavailable"}),
    (errno.ENOSPC, {"no_space", "package_unavailable", "database_unavailable"}),
])  # fmt: skip
def test_an_upload_meets_a_fault_at_every_step(
    client: Client,
    env: Context,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: int,
    codes: set[str],
) -> None:
    alice = client.register()
    app = client.app_of(alice)
    client.upload(app, client.package(alice, version="0.1.0"), as_=alice).expect(
        201
    )  # what is imported late is there now
    steps = []
    for number, fault in enumerate(faults(error), 1):
        package = client.package(alice, version=f"1.0.{number}", code=number)
        answer = tried(monkeypatch, fault, partial(client.upload, app, package, as_=alice))
        check_invariants(env)
        if not fault.where:
            answer.expect(201)
            client.work()  # an account may have only so many versions that wait for their checks
            continue
        assert answer["code"] in codes, (fault.where, answer.body)
        records = [vars(record) for record in caplog.records if record.message == "failed"][-1]
        assert (records["code"], records["request_id"]) == (answer["code"], answer["request_id"])
        assert os.strerror(error) in records["reason"]
        steps.append(fault.where.partition(" of ")[0])
        # A commit that the disk may not have taken is reported as a failure, and is there when it has; the same bytes say so.
        committed = fault.at_commit
        client.upload(app, package, as_=alice).expect(200 if committed else 201)
    assert steps.count("fsync") >= 3, steps  # the file, the folder of its version, that of its app
    assert {"open", "mkdir", "replace", "fdatasync"} <= set(steps)


def test_a_publication_meets_a_fault_at_every_step(
    client: Client, env: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice = client.register()
    app = client.app_of(alice)
    client.published(alice, app, "0.1.0")
    met = 0
    for number, fault in enumerate(faults(errno.EIO), 1):
        version = f"1.0.{number}"
        at = client.approved(alice, app, version, number + 1)
        answer = tried(monkeypatch, fault, partial(client.post, at + "/publish", as_=alice))
        check_invariants(env)
        if not fault.where:
            answer.expect(200)
            continue
        met += 1
        assert answer.expect(503)["code"] in ("package_unavailable", "database_unavailable"), (
            fault.where
        )
        committed = fault.at_commit
        assert client.get(at, as_=alice)["state"] == ("published" if committed else "approved")
    assert met >= 3

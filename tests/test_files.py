"""Package files: what arrives is counted and flushed, what fails leaves nothing behind."""

import errno
import hashlib
import io
import os
from pathlib import Path

import pytest

from mosis.errors import LimitReached, Malformed, Unavailable
from mosis.packages import storage
from mosis.packages.storage import Files, sha256_of


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path / "packages")


def left(files: Files) -> list[Path]:
    return [path for path in files.root.rglob("*") if path.is_file()]


def test_a_body_is_kept_with_its_hash_and_found_again(files: Files) -> None:
    content = os.urandom(700_000)
    received = files.receive(io.BytesIO(content), 1_000_000, len(content))
    assert (received.size_bytes, received.sha256) == (
        len(content),
        hashlib.sha256(content).hexdigest(),
    )
    target = files.path("developer", "app", "1.0.0")
    files.keep(received, target)
    received.discard()  # what the handler does in any case
    with files.open(target, len(content), received.sha256) as file:
        assert file.read() == content
    assert sha256_of(target) == received.sha256
    assert left(files) == [target]


def test_every_new_name_is_flushed_and_known_folders_only_once(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[Path] = []
    flush = os.fsync

    def noted(handle: int) -> None:
        flushed.append(Path(os.readlink(f"/proc/self/fd/{handle}")))
        flush(handle)

    monkeypatch.setattr(os, "fsync", noted)

    def keep(files: Files, version: str, app: str = "app") -> set[str]:
        received, target = files.receive(io.BytesIO(b"12345"), 10), files.path("me", app, version)
        flushed.clear()
        files.keep(received, target)
        assert target in flushed  # by its final name: the rename is not undone by a power cut
        return {str(each.relative_to(files.root)) for each in flushed if each != target}

    assert keep(files, "1") == {".", "me", "me/app", "me/app/1"}
    assert keep(files, "2") == {"me/app", "me/app/2"}
    assert keep(files, "2") == {"me/app", "me/app/2"}  # its folder existed
    assert keep(files, "1", "other") == {"me", "me/other", "me/other/1"}
    for version in ("1", "2"):
        files.remove(files.path("me", "app", version))
    assert not (files.root / "me/app").exists()
    assert keep(files, "1") == {"me", "me/app", "me/app/1"}
    assert keep(Files(files.root), "3") == {".", "me", "me/app", "me/app/3"}  # after a start
    monkeypatch.setattr(storage, "MOST_FLUSHED", 1)
    assert keep(files, "4") == {"me/app", "me/app/4"}
    assert len(files._flushed) <= 2


def test_only_a_large_file_is_flushed_before_its_transaction(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So the write lock is held while little is written."""
    early: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda handle: early.append(os.fstat(handle).st_size))
    for size in (10, storage.FLUSHED_EARLY_BYTES, storage.FLUSHED_EARLY_BYTES + 1):
        files.receive(io.BytesIO(bytes(size)), 1 << 30)
    assert early == [storage.FLUSHED_EARLY_BYTES + 1]


@pytest.mark.parametrize("failing", ["package.mosis", "1", "app"])
def test_a_package_is_not_kept_if_any_of_its_flushes_fails(
    files: Files, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    flush = os.fsync

    def broken(handle: int) -> None:
        if Path(os.readlink(f"/proc/self/fd/{handle}")).name == failing:
            raise OSError(errno.EIO, "Input/output error")
        flush(handle)

    received = files.receive(io.BytesIO(b"12345"), 10)
    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(Unavailable) as refused:
        files.keep(received, files.path("me", "app", "1"))
    assert refused.value.code == "package_unavailable"


@pytest.mark.parametrize(("limit", "expected", "error"), [
    (999, 1000, LimitReached), (1000, 1001, Malformed), (1000, 999, Malformed),
])  # fmt: skip
def test_a_body_of_another_size_leaves_nothing(
    files: Files, limit: int, expected: int, error: type[Exception]
) -> None:
    with pytest.raises(error):
        files.receive(io.BytesIO(b"x" * 1000), limit, expected)
    assert left(files) == []


class Full(io.BytesIO):
    """A body whose copy meets a full disk."""

    def read(self, size: int | None = -1) -> bytes:
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_is_reported_and_leaves_nothing(files: Files) -> None:
    with pytest.raises(Unavailable) as refused:
        files.receive(Full(), 1000)
    assert refused.value.code == "no_space"
    assert left(files) == []
    with pytest.raises(Unavailable, match="no_space"):
        Files(files.root, reserve_bytes=1 << 60).receive(io.BytesIO(b"x"), 1000)
    assert left(files) == []


def test_a_missing_or_damaged_package_is_never_served_and_reported(
    files: Files, caplog: pytest.LogCaptureFixture
) -> None:
    target, sha256 = files.path("developer", "app", "1.0.0"), hashlib.sha256(b"12345").hexdigest()

    def refused() -> str:
        caplog.clear()
        with pytest.raises(Unavailable, match="package_unavailable"):
            files.open(target, 5, sha256)
        (answer,) = caplog.records
        assert (answer.levelname, answer.__dict__["path"]) == ("ERROR", str(target))
        return answer.message

    assert refused() == "package missing"
    files.keep(files.receive(io.BytesIO(b"12345"), 10), target)
    files.open(target, 5, sha256).close()
    for damage in (b"1234", b"", b"12346", b"123456"):
        target.write_bytes(damage)
        assert refused() == "package damaged"
    target.write_bytes(b"12345")
    with files.open(target, 5, sha256) as file:
        assert file.read() == b"12345"
    target.unlink()
    target.mkdir()
    assert refused() == "package damaged"


def test_a_package_is_hashed_once_a_day_and_when_it_was_touched(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, sha256, hashed = (
        files.path("developer", "app", "1.0.0"),
        hashlib.sha256(b"12345").hexdigest(),
        [],
    )
    files.keep(files.receive(io.BytesIO(b"12345"), 10), target)
    real, now = hashlib.file_digest, [1e9]
    monkeypatch.setattr(
        "mosis.packages.storage.hashlib.file_digest",
        lambda *given: hashed.append(1) or real(*given),
    )
    monkeypatch.setattr("mosis.packages.storage.time.time", lambda: now[0])

    def times(**more: bool) -> int:
        hashed.clear()
        for _ in range(3):
            files.open(target, 5, sha256, **more).close()
        return len(hashed)

    assert (times(), times(), times(anew=True)) == (1, 0, 3)
    os.utime(target, (5, 5))
    assert (times(), times()) == (1, 0)
    now[0] += 86400
    assert (times(), times()) == (1, 0)


def test_only_what_is_old_and_has_no_name_is_forgotten(files: Files) -> None:
    named, fresh, orphan = (
        files.path("developer", "app", version) for version in ("1.0.0", "2.0.0", "3.0.0")
    )
    for path in (named, fresh, orphan):
        files.keep(files.receive(io.BytesIO(b"x"), 10), path)
    old, running = (files.receive(io.BytesIO(b"x"), 10).path for _ in range(2))
    for path in (named, orphan, old):
        os.utime(path, (1, 1))
    found = files.find_orphans(lambda path: path == named)
    assert found == [orphan, old]
    files.keep(files.receive(io.BytesIO(b"x"), 10), orphan)  # somebody uploads it meanwhile
    assert files.find_orphans(lambda path: path == named, found) == [old]
    for path in (old, orphan):
        files.remove(path)
    assert sorted(left(files)) == sorted([named, fresh, running])
    assert not orphan.parent.exists()
    assert files.incoming.exists()


def test_what_a_killed_process_left_is_swept_at_start(files: Files) -> None:
    files.receive(io.BytesIO(b"x"), 10)
    assert files.sweep_incoming() == 1
    assert left(files) == []

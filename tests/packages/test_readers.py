"""What the portal accepts is the same for other ZIP readers; a file that is two packages shows that the comparison works."""

import hashlib
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from bench import fuzz
from bench.readers import COMMANDS, PROGRAMS, Program, Readers
from mosis.packages import zip_records
from tests.packages.raw_zip import codes, files, look, two_packages
from tests.packages.test_archive import FINE

pytestmark = pytest.mark.slow

# Those that compile and start within a second; `make fuzz` compares with all.
QUICK = frozenset(name for name in PROGRAMS if not name.startswith(("java", "go")))
OTHER = b"os.execute('rm -rf /')\n"
KINDS = [0xCAFE, 0x000A, 0x5455, 0x7875, 0x5855, 0xD935, 0xFFFF]


@pytest.fixture(scope="module")
def readers() -> Iterator[Readers]:
    with Readers(QUICK) as found:
        yield found


def expected(content: Mapping[str, bytes]) -> list[tuple[bytes, str]]:
    return sorted(
        (name.encode(), hashlib.sha256(each).hexdigest()) for name, each in content.items()
    )


@pytest.mark.parametrize("shape", FINE)
def test_what_is_accepted_is_the_same_for_all(readers: Readers, tmp_path: Path, shape: str) -> None:
    path = tmp_path / "package.mosis"
    path.write_bytes(FINE[shape])
    found = look(FINE[shape]).files
    listed = sorted((name.encode(), each["sha256"]) for name, each in found.items())
    assert readers.differences(path, listed) == {}


@pytest.mark.parametrize("kind", KINDS, ids=hex)
def test_one_file_that_is_two_packages(
    readers: Readers, tmp_path: Path, kind: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The portal refuses it for two reasons; without its checks readers would have found different files."""
    path = tmp_path / "package.mosis"
    path.write_bytes(two_packages(files(), "assets/main.lua", OTHER, kind))
    assert codes(path.read_bytes()) == {"zip_extra", "zip_second_directory"}
    monkeypatch.setattr(zip_records, "_check_extra", lambda *arguments: iter(()))
    assert codes(path.read_bytes()) == {"zip_second_directory"}
    monkeypatch.setattr(zip_records, "_stray_records", lambda *arguments: iter(()))
    assert not codes(path.read_bytes())
    differing = readers.differences(path, expected(files()))
    assert differing.keys() >= {"zipfile"} | {"minizip", "libzip"} & set(readers.names)
    assert "unzip" not in differing
    with_other = expected({**files(), "assets/main.lua": OTHER})
    assert "zipfile" not in readers.differences(path, with_other)


def test_the_campaign_finds_two_packages_when_the_checks_are_switched_off() -> None:
    """Only there: afterwards the checks are on again."""
    nothing = frozenset(["none"])
    (find,) = fuzz.campaign(60, seed=5, plant="archive", only=nothing)["finds"]
    assert "readers differ" in find["trace"]
    assert codes(two_packages(files(), "assets/main.lua", OTHER))


def test_a_reader_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("MINIZ", raising=False)
    with Readers() as found:
        assert found.names == ["zipfile"]
        assert found.absent.keys() == {*COMMANDS, *PROGRAMS}
        assert all(found.absent.values())


def test_a_reader_that_ends_is_no_reader_that_agrees(tmp_path: Path) -> None:
    program = Program(["false"])
    with pytest.raises(OSError, match=r"ended|pipe"):
        program.ask(tmp_path)
        program.answer()
    program.close()


@pytest.mark.parametrize(
    "command",
    [
        ["zip", "-q", "-r", "made.zip"], ["zip", "-q", "-X", "-D", "-r", "made.zip"], ["jar", "cMf", "made.zip"],
        ["bsdtar", "--format", "zip", "-cf", "made.zip"], ["7z", "a", "-tzip", "made.zip"],
    ],
    ids=lambda command: command[0],
)  # fmt: skip
def test_packages_of_other_programs(readers: Readers, tmp_path: Path, command: list[str]) -> None:
    if not shutil.which(command[0]):
        pytest.skip(f"there is no {command[0]} here")
    for name, content in files().items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    names = sorted(path.name for path in tmp_path.iterdir())
    subprocess.run([*command, *names], cwd=tmp_path, check=True, capture_output=True, timeout=60)
    made = tmp_path / "made.zip"
    assert look(made.read_bytes()).files.keys() == files().keys()
    assert readers.differences(made, expected(files())) == {}

"""Other programs that read ZIP archives, to compare with the portal: what it accepts must be the same files for all of them.

Python's zipfile, Info-ZIP's unzip, that of BusyBox, and 7-Zip are used as they are. For the others there is a small program
each in this folder, which is compiled on demand and then reads one archive after another: zlib's minizip, libzip, libarchive (by
the directory and as a stream), Go's archive/zip, Java's ZipFile, JarFile and ZipInputStream, and miniz, where the variable MINIZ
names the folder of its sources. A reader whose library or compiler is missing is left out and named in `absent`.

On Debian: apt install unzip busybox p7zip-full gcc libminizip-dev libzip-dev libarchive-dev golang-go openjdk-17-jdk-headless
"""

import hashlib
import os
import select
import shutil
import subprocess
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

HERE = Path(__file__).parent
ANSWER_SECONDS = 60.0
Files = list[tuple[bytes, str]]  # name and SHA-256 of each file, sorted
_MS_DOS_AND_LIKE = (0, 6, 10, 11, 14)


class Refused(Exception):
    """A reader does not read an archive."""


def with_zipfile(path: Path) -> Files:
    """Python's zipfile."""
    try:
        with zipfile.ZipFile(path) as archive:
            return sorted(
                (info.filename.encode(), hashlib.sha256(archive.read(info)).hexdigest())
                for info in archive.infolist()
                if not info.is_dir()
            )
    except (zipfile.BadZipFile, zlib.error, OSError, ValueError, RuntimeError, EOFError) as error:
        raise Refused(str(error)) from error


def _with_command(*command: str) -> Callable[[Path], Files]:
    """A program that unpacks into the folder it runs in; the files that are then on the disk."""

    def read(path: Path) -> Files:
        with tempfile.TemporaryDirectory(prefix="unpacked-") as folder:
            run = subprocess.run(
                [*command, path],
                cwd=folder,
                capture_output=True,
                timeout=ANSWER_SECONDS,
                stdin=subprocess.DEVNULL,
                env={**os.environ, "LC_ALL": "C.UTF-8", "UNZIP": ""},
                check=False,
            )
            if run.returncode:
                raise Refused((run.stdout + run.stderr).decode("utf-8", "replace")[:300])
            return sorted(_unpacked(Path(folder)))

    return read


def _unpacked(folder: Path) -> Iterator[tuple[bytes, str]]:
    for file in folder.rglob("*"):
        if file.is_symlink():
            raise Refused(f"makes a link: {file.name!r}")
        if not file.is_dir():
            file.chmod(0o600)
            digest = hashlib.sha256(file.read_bytes()).hexdigest()
            yield os.fsencode(file.relative_to(folder)), digest


COMMANDS: dict[str, tuple[str, ...]] = {
    "unzip": ("unzip", "-qq", "-o"),
    "busybox unzip": ("busybox", "unzip", "-q", "-o"),
    "7z": ("7z", "x", "-y", "-bd"),
}


class Program:
    """A program of this folder, which runs as long as there are archives."""

    def __init__(self, command: list[str | Path]) -> None:
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._input, self._output = self._process.stdin, self._process.stdout.fileno()
        self._pending = b""

    def ask(self, path: Path) -> None:
        """Have it begin with an archive."""
        self._input.write(os.fsencode(path) + b"\n")
        self._input.flush()

    def answer(self) -> Files:
        """What it found. Raises Refused; OSError when it ended or does not answer."""
        found = []
        while (line := self._line()) != b".":
            if line.startswith(b"!"):
                raise Refused(line[2:].decode("utf-8", "replace"))
            name, digest = line.split(b" ")
            found.append((bytes.fromhex(name.decode()), digest.decode()))
        return sorted(found)

    def _line(self) -> bytes:
        while b"\n" not in self._pending:
            if not select.select([self._output], [], [], ANSWER_SECONDS)[0]:
                raise TimeoutError(f"no answer within {ANSWER_SECONDS} seconds")
            got = os.read(self._output, 1 << 16)
            if not got:
                raise OSError(f"the reader ended with {self._process.wait()}")
            self._pending += got
        line, _, self._pending = self._pending.partition(b"\n")
        return line

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.communicate()


Build = Callable[[Path], list[str | Path]]


def _compiled(source: str, *libraries: str) -> Build:
    def build(folder: Path) -> list[str | Path]:
        target = folder / source.removesuffix(".c")
        _run(["gcc", "-O2", "-o", target, HERE / source, *libraries])
        return [target]

    return build


def _with_miniz(folder: Path) -> list[str | Path]:
    sources = Path(os.environ["MINIZ"])
    parts = sorted(sources.glob("miniz*.c"))
    # The library's build makes this header; it only says what a shared library exports.
    (folder / "miniz_export.h").write_text("#define MINIZ_EXPORT\n", encoding="utf-8")
    include = [f"-I{folder}", f"-I{sources}"]
    target = folder / "with_miniz"
    _run(["gcc", "-O2", "-w", *include, "-o", target, HERE / "with_miniz.c", *parts])
    return [target]


def _with_go(folder: Path) -> list[str | Path]:
    environment = {"GOCACHE": str(folder / "go-cache"), "GOFLAGS": "-mod=mod", "GO111MODULE": "off"}
    _run(["go", "build", "-o", folder / "with_go", HERE / "reader.go"], environment)
    return [folder / "with_go"]


def _with_java(mode: str) -> Build:
    def build(folder: Path) -> list[str | Path]:
        if not (folder / "Reader.class").exists():
            _run(["javac", "-d", folder, HERE / "Reader.java"])
        return [
            "java",
            "-Xmx256m",
            "-XX:+UseSerialGC",
            "-Xshare:auto",
            "-cp",
            folder,
            "Reader",
            mode,
        ]

    return build


def _run(command: list[str | Path], environment: Mapping[str, str] | None = None) -> None:
    subprocess.run(
        command,
        check=True,
        capture_output=True,
        timeout=300,
        env={**os.environ, **(environment or {})},
    )


PROGRAMS: dict[str, Build] = {
    "minizip": _compiled("with_minizip.c", "-lminizip", "-lz"),
    "libzip": _compiled("with_libzip.c", "-lzip"),
    "libarchive": _compiled("with_libarchive.c", "-larchive"),
    "libarchive stream": lambda folder: [folder / "with_libarchive", "stream"],
    "miniz": _with_miniz,
    "go": _with_go,
    "java ZipFile": _with_java("zip"),
    "java JarFile": _with_java("jar"),
    "java ZipInputStream": _with_java("stream"),
}


class Readers:
    """All readers that this machine has, as a context manager. `absent` names the others, with the reason."""

    def __init__(self, only: frozenset[str] | None = None) -> None:
        self._wanted = {name: PROGRAMS[name] for name in PROGRAMS if not only or name in only}
        self._stack = ExitStack()
        self._programs: dict[str, Program] = {}
        self._functions: dict[str, Callable[[Path], Files]] = {"zipfile": with_zipfile}
        self.absent: dict[str, str] = {}

    def __enter__(self) -> "Readers":
        folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="readers-")))
        for name, command in COMMANDS.items():
            if shutil.which(command[0]):
                self._functions[name] = _with_command(*command)
            else:
                self.absent[name] = f"there is no command {command[0]}"
        for name, build in self._wanted.items():
            try:
                program = Program(build(folder))
            except (OSError, KeyError, subprocess.SubprocessError) as error:
                self.absent[name] = _reason(error)
                continue
            self._programs[name] = program
            self._stack.callback(program.close)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    @property
    def names(self) -> list[str]:
        """The readers that are there."""
        return [*self._functions, *self._programs]

    def differences(self, path: Path, expected: Files) -> dict[str, str]:
        """{reader: how what it reads differs}; empty when all read these files."""
        for program in self._programs.values():
            program.ask(path)
        found: dict[str, str] = {}
        for name in self.names:
            try:
                program = self._programs.get(name)
                got = program.answer() if program else self._functions[name](path)
            except Refused as error:
                found[name] = f"refuses it: {error}"
                continue
            if got == expected or (
                name == "unzip" and _with_names_of_ms_dos(path) and _alike(got, expected)
            ):
                continue
            found[name] = f"reads {sorted(set(got) ^ set(expected))[:4]!r} otherwise"
        return found


def _with_names_of_ms_dos(path: Path) -> bool:
    """Whether unzip would take a name that is marked as UTF-8 for one in a code page of MS-DOS or Windows.

    A fault of unzip 6.0: it heeds the mark only where the entry has an extra field. jar writes such entries.
    """
    with zipfile.ZipFile(path) as archive:
        return any(
            info.create_system in _MS_DOS_AND_LIKE
            and not info.filename.isascii()
            and not info.extra
            for info in archive.infolist()
        )


def _alike(got: Files, expected: Files) -> bool:
    """The same files, but for names beyond ASCII."""
    ascii_only = [[each for each in files if each[0].isascii()] for files in (got, expected)]
    digests = [sorted(digest for _, digest in files) for files in (got, expected)]
    return ascii_only[0] == ascii_only[1] and digests[0] == digests[1]


def _reason(error: Exception) -> str:
    if isinstance(error, KeyError):
        return "the variable MINIZ does not name the folder of its sources"
    if isinstance(error, subprocess.CalledProcessError):
        return error.stderr.decode("utf-8", "replace").strip().partition("\n")[0][:200]
    return str(error)

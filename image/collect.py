"""Collects what the portal needs at run time into one folder, which becomes the image: `python3 collect.py TARGET SITE APP`.

Run inside the build stage. Taken are the interpreter, its standard library without what no server uses, the packages of SITE, the
application of APP, certificates, and every shared library that one of these binaries names. No shell, no package manager.

The standard library and the packages come as bytecode alone (about half the size); the application comes with its source, so
that a trace in the log can be read. Nothing is written at run time: the root file system is read-only.
"""

import compileall
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from py_compile import PycInvalidationMode

NEVER_USED = (  # of the standard library: tests, editors, windows, installers, build tools, and servers of other kinds
    "test",
    "tests",
    "idlelib",
    "idle_test",
    "tkinter",
    "turtledemo",
    "turtle.py",
    "lib2to3",
    "ensurepip",
    "venv",
    "pydoc.py",
    "pydoc_data",
    "distutils",
    "unittest",
    "doctest.py",
    "pdb.py",
    "bdb.py",
    "profile.py",
    "cProfile.py",
    "pstats.py",
    "trace.py",
    "curses",
    "dbm",
    "sqlite3/dump.py",
    "xmlrpc",
    "imaplib.py",
    "poplib.py",
    "ftplib.py",
    "nntplib.py",
    "telnetlib.py",
    "mailbox.py",
    "cgi.py",
    "cgitb.py",
    "antigravity.py",
    "this.py",
    "__phello__",
    "webbrowser.py",
    "pickletools.py",
    "_pyrepl",
    "site-packages",
    "dist-packages",
    "__pycache__",
    "LICENSE.txt",
    "sitecustomize.py",
    "_sysconfigdata*",
    "config-3.*",
    "multiprocessing",
    "concurrent/futures/process.py",
    "zoneinfo",
    "tomllib",
    "plistlib.py",
    "pyclbr.py",
    "symtable.py",
    "tabnanny.py",
    "timeit.py",
    "rlcompleter.py",
    "code.py",
    "codeop.py",
    "cmd.py",
    "sched.py",
    "shelve.py",
    "_aix_support.py",
    "_ios_support.py",
    "_osx_support.py",
    "_android_support.py",
    "_apple_support.py",
)
NEVER_LOADED = (
    "_test*",
    "_xx*",
    "xx*",
    "_curses*",
    "readline*",
    "_tkinter*",
    "_dbm*",
    "_gdbm*",
    "_ctypes_test*",
    "_multiprocessing*",
    "_crypt*",
    "nis*",
    "ossaudiodev*",
    "_lsprof*",
    "_zoneinfo*",
)
NOT_OF_PACKAGES = (  # lupa brings every Lua there is, the checks use 5.4; pycparser is for building C extensions
    "lupa/lua5[1235]*",
    "lupa/luajit*",
    "lupa/*.pxd",
    "lupa/*.pyx",
    "lupa/tests",
    "pycparser*",
    "bin",
    "*.dist-info/RECORD",
    "*.dist-info/WHEEL",
    "*.dist-info/INSTALLER",
    "*.dist-info/REQUESTED",
    "*.dist-info/entry_points.txt",
    "*.dist-info/top_level.txt",
    "*.dist-info/direct_url.json",
    "*/tests",
    "*/test",
    "cerberus/benchmarks",
    "_distutils_hack",
    "cffi/*.h",
    "cffi/recompiler.py",
    "cffi/setuptools_ext.py",
    "cffi/vengine*",
    "cffi/verifier.py",
    "**/*.pyi",
    "**/py.typed",
    "**/*.c",
    "**/*.h",
)
FILES = {
    "etc/passwd": "root:x:0:0:root:/:/none\nportal:x:1026:100:portal:/data:/none\n",
    "etc/group": "root:x:0:\nusers:x:100:\n",
    "etc/nsswitch.conf": "hosts: files dns\n",
}
UNCHECKED = PycInvalidationMode.UNCHECKED_HASH
LATE = (  # imported inside functions
    "bottle waitress websockets.asyncio.server jwt cerberus multipart orjson mistune lupa.lua54 tinycss2 ssl sqlite3 smtplib"
    " http.client urllib.request zipfile ctypes decimal cryptography.hazmat.primitives.asymmetric.ed25519"
    " cryptography.hazmat.primitives.kdf.scrypt nacl.pwhash email.message csv obstore.store"
)
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")


def main(target: Path, site: Path, app: Path) -> None:
    """Collect everything and say how large it came out."""
    python = Path(sys.executable).resolve()
    stdlib = Path(sysconfig.get_path("stdlib"))
    libraries = target / stdlib.relative_to("/")
    copy(python, target)
    link(target / "usr/bin/python3", python)
    shutil.copytree(stdlib, libraries, symlinks=False, ignore_dangling_symlinks=True)
    prune(libraries, NEVER_USED)
    prune(libraries / "lib-dynload", NEVER_LOADED)
    packages = libraries / "site-packages"
    shutil.copytree(site, packages, dirs_exist_ok=True)
    prune(packages, NOT_OF_PACKAGES)
    link_packages(target, packages)
    bytecode_alone(libraries)
    shutil.copytree(app, target / "app")
    compileall.compile_dir(
        target / "app", quiet=1, stripdir=str(target), invalidation_mode=UNCHECKED
    )
    copy(CERTIFICATES, target)
    for name, content in FILES.items():
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (target / name).write_text(content)
    for folder in ("data", "packages", "backups", "tmp"):
        (target / folder).mkdir()
    for library in shared_libraries(target, target / python.relative_to("/")):
        copy(library, target)
    try_out(target)
    for part in (
        "usr/bin",
        str(libraries.relative_to(target)),
        str(packages.relative_to(target)),
        "app",
        "",
    ):
        print(f"{size(target / part) / 1e6:8.1f} MB  /{part}")


def link_packages(target: Path, packages: Path) -> None:
    """Debian's Python looks for packages in /usr/lib/python3/dist-packages, others in the library's own site-packages."""
    import site

    for folder in map(Path, site.getsitepackages()):
        at = target / folder.relative_to("/")
        if at != packages:
            at.parent.mkdir(parents=True, exist_ok=True)
            if not at.exists():
                at.symlink_to("/" + str(packages.relative_to(target)))
            return


def prune(folder: Path, patterns: tuple[str, ...]) -> None:
    """Remove what matches."""
    for pattern in patterns:
        for found in list(folder.glob(pattern)):
            shutil.rmtree(found) if found.is_dir() and not found.is_symlink() else found.unlink()


def bytecode_alone(folder: Path) -> None:
    """Compile every module beside its source and remove the source."""
    compileall.compile_dir(
        folder,
        quiet=2,
        legacy=True,
        stripdir=str(folder),
        prependdir="<lib>",
        invalidation_mode=UNCHECKED,
    )
    for source in list(folder.rglob("*.py")):
        if source.with_suffix(".pyc").exists():
            source.unlink()
    for cache in list(folder.rglob("__pycache__")):
        shutil.rmtree(cache)


def shared_libraries(root: Path, python: Path) -> set[Path]:
    """The libraries of the build stage that Python and the libraries under `root` name, theirs in turn, and the loader."""
    found: set[Path] = set()
    for path in [*root.rglob("*.so*"), python]:
        if path.is_symlink() or not path.is_file():
            continue
        listed = subprocess.run(  # noqa: S603  (the build's own files)
            ["/usr/bin/ldd", path],
            capture_output=True,
            text=True,
            check=False,
        ).stdout
        found |= {
            Path(each) for each in re.findall(r"(?:=> |^\s*)(/\S+) \(0x", listed, re.MULTILINE)
        }
    return {each for each in found if not each.is_relative_to(root)}


def try_out(target: Path) -> None:
    """Import every module of the application from inside, so that a build fails which lacks something. The command line
    for developers (`mosis.client`) is sent to them and never imported here."""
    program = (
        "import importlib, pkgutil, sys; sys.path.insert(0, '/app'); import mosis, portal\n"
        "found = [each.name for each in pkgutil.walk_packages(mosis.__path__, 'mosis.')]\n"
        "names = [each for each in found if not each.endswith('__main__') and not each.startswith('mosis.client')]\n"
        "[importlib.import_module(name) for name in names + NEEDED.split()]\n"
        "print(len(names), 'modules,', len(sys.modules), 'in all')\n"
    ).replace("NEEDED", repr(LATE))
    subprocess.run(  # noqa: S603  (the build's own files)
        ["/usr/sbin/chroot", target, "/usr/bin/python3", "-B", "-c", program],
        check=True,
        env={"PYTHONDONTWRITEBYTECODE": "1"},
    )


def copy(path: Path, target: Path) -> None:
    """Copy a file to the same place under the target; of a link what it leads to, under the link's name."""
    at = target / path.relative_to("/")
    at.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(path.resolve(), at)


def link(at: Path, to: Path) -> None:
    if not at.exists():
        at.parent.mkdir(parents=True, exist_ok=True)
        at.symlink_to(to)


def size(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir())


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]))

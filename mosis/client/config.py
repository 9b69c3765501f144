"""The configuration of the command line: config.toml with portals and credentials, signing keys,
and the state of interrupted work. All files are readable by their user only (mode 0600)."""

import contextlib
import json
import os
import pkgutil
import re
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mosis.client.output import REFUSED, USAGE, Stop
from mosis.records import dataclass

HEAD = "# Written by `mosis`. It contains credentials: do not share it.\n"


def folder() -> Path:
    """MOSIS_CONFIG_DIR, or `mosis` in XDG_CONFIG_HOME, ~/.config or, on Windows, APPDATA."""
    if given := os.environ.get("MOSIS_CONFIG_DIR"):
        return Path(given)
    base = os.environ.get("XDG_CONFIG_HOME") or (
        os.environ.get("APPDATA") if sys.platform == "win32" else None
    )
    return (Path(base) if base else Path.home() / ".config") / "mosis"


def normal_url(text: str) -> str:
    """The address of a portal in normal form. Raises Stop."""
    address = text.strip().rstrip("/")
    if "://" not in address:
        local = address.partition("/")[0].rpartition(":")[0] or address
        address = (
            f"{'http' if local in ('localhost', '127.0.0.1', '[::1]') else 'https'}://{address}"
        )
    try:
        parts = urlsplit(address)
        good = (
            parts.scheme in ("http", "https") and parts.hostname and not parts.netloc.endswith(":")
        )
        good = good and parts.port != 0 and not re.search(r"[\x00-\x20\x7f]", address)
        good = good and bool(str(parts.hostname).encode("idna"))
    except ValueError:  # UnicodeError is one: a label that is empty or too long
        good = False
    if not good or parts.query or parts.fragment or parts.username is not None:
        raise Stop(
            f"{text!r} is not the address of a portal; use one such as https://apps.example.net",
            USAGE,
        )
    path = parts.path.rstrip("/").removesuffix("/v1")
    return f"{parts.scheme.lower()}://{parts.netloc.lower()}{path}"


def is_plain_text(url: str) -> bool:
    """Whether credentials would go over a network without encryption."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    is_here = re.fullmatch(r"localhost|::1|127(?:\.[0-9]{1,3}){3}", host)
    return parts.scheme == "http" and not is_here


def built_in_url() -> str | None:
    """The portal that this program was downloaded from, if any."""
    with contextlib.suppress(OSError, ValueError):
        content = pkgutil.get_data("mosis.client", "portal.json")
        return str(json.loads(content)["url"]) if content else None
    return None


@dataclass
class Credentials:
    """The credentials for one portal. `token` is an API key; the others are a session."""

    access_token: str = ""
    refresh_token: str = ""
    token: str = ""


class Config:
    """The configuration folder of one user, read again each time: another `mosis` may be running."""

    def __init__(self, place: Path | None = None) -> None:
        self.folder = place or folder()
        self.path = self.folder / "config.toml"

    def url(self, given: str | None = None) -> str:
        """The portal's address: the argument, MOSIS_URL, that of the last login, or the one that
        the program came from. Raises Stop if there is none."""
        found = given or os.environ.get("MOSIS_URL") or self._read().get("url") or built_in_url()
        if not found:
            raise Stop("Which portal? Run `mosis login URL` first, or set MOSIS_URL.", USAGE)
        return normal_url(str(found))

    def credentials(self, url: str) -> Credentials:
        """The stored credentials of a portal; MOSIS_TOKEN takes precedence. Empty if none."""
        if token := os.environ.get("MOSIS_TOKEN", "").strip():
            return Credentials(token=token)
        stored = self._read().get("portal", {}).get(url, {})
        known = Credentials.__dataclass_fields__
        return Credentials(**{name: str(each) for name, each in stored.items() if name in known})

    def store(self, url: str, credentials: Credentials | None) -> None:
        """Store or remove a portal's credentials, the default from now on. Requires `lock()`."""
        document = self._read()
        portals = document.setdefault("portal", {})
        if credentials is None:
            portals.pop(url, None)
        else:
            portals[url] = {name: each for name, each in vars(credentials).items() if each}
            document["url"] = url
        write_private(self.path, (HEAD + _toml(document)).encode())

    @contextlib.contextmanager
    def lock(self, name: str = "config") -> Iterator[None]:
        """A lock between processes, which ends with the process that holds it."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with open(self.folder / f"{name}.lock", "a+b") as file:
            if sys.platform == "win32":
                import msvcrt

                file.seek(0)
                msvcrt.locking(file.fileno(), msvcrt.LK_LOCK, 1)
            else:
                import fcntl

                fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def read_state(self, *names: str) -> dict[str, Any]:
        """State that an earlier run stored under these names; empty if there is none."""
        with contextlib.suppress(OSError, ValueError):
            document = json.loads(self._state_path(names).read_bytes())
            return document if isinstance(document, dict) else {}
        return {}

    def write_state(self, document: dict[str, Any], *names: str) -> None:
        """Store state durably; an empty document removes it."""
        path = self._state_path(names)
        if document:
            write_private(path, json.dumps(document).encode())
        else:
            path.unlink(missing_ok=True)

    def _state_path(self, names: tuple[str, ...]) -> Path:
        digest = sha256("\0".join(names).encode("utf-8", "surrogateescape")).hexdigest()[:32]
        return self.folder / "state" / f"{names[0]}-{digest}.json"

    def _read(self) -> dict[str, Any]:
        try:
            document = tomllib.loads(self.path.read_text(encoding="utf-8"))
            if not all(_is_ours(*each) for each in document.items()):
                raise ValueError("it has other values than texts and tables of tables of texts")
            return document
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            detail = f"{self.path} cannot be read ({error}); repair or remove it."
            raise Stop(detail, USAGE) from None


def write_private(path: Path, content: bytes) -> None:
    """Write a file that only its user can read, atomically and durably."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle, unfinished = tempfile.mkstemp(dir=path.parent, prefix=".new-")  # mode 0600
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(unfinished, path)
        except BaseException:  # an interruption may happen after the rename too
            with contextlib.suppress(FileNotFoundError):
                os.unlink(unfinished)
            raise
    except OSError as error:
        raise Stop(f"{path} cannot be written: {error.strerror or error}", REFUSED) from None


def _is_ours(name: str, value: Any) -> bool:
    """Whether a value of config.toml is one that `_toml` writes: a text, or the table of portals."""
    if name != "portal" or not isinstance(value, dict):
        return name != "portal" and isinstance(value, str)
    return all(
        isinstance(table, dict) and all(isinstance(each, str) for each in table.values())
        for table in value.values()
    )


def _toml(document: dict[str, Any]) -> str:
    """TOML of texts, and of tables of tables of texts."""
    lines = [f"{name} = {_text(each)}" for name, each in document.items() if isinstance(each, str)]
    for name, entry in document.items():
        for key, fields in entry.items() if isinstance(entry, dict) else ():
            lines += ["", f"[{name}.{_text(key)}]"]
            lines += [f"{field} = {_text(each)}" for field, each in fields.items()]
    return "\n".join(lines) + "\n"


def _text(value: object) -> str:
    """A basic string of TOML. JSON's escapes are among its escapes; DEL must be one too."""
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")

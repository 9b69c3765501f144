"""Signing keys: Ed25519 private keys as PEM files (RFC 8410) in the configuration folder, mode
0600. A key leaves the machine only by `mosis keys export`."""

import base64
import os
import re
import secrets
from pathlib import Path
from typing import Any

from mosis.client.api import Portal, Problem
from mosis.client.config import Config, write_private
from mosis.client.output import REFUSED, USAGE, Stop
from mosis.errors import Invalid
from mosis.packages import ed25519
from mosis.packages.signature import fingerprint, parse_public_key, to_pem
from mosis.records import dataclass

DEFAULT = "default"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")
_PEM = re.compile(r"-----BEGIN PRIVATE KEY-----\s+([A-Za-z0-9+/=\s]+)-----END PRIVATE KEY-----")


@dataclass(frozen=True)
class Key:
    """A key pair; `seed` is the private key of 32 bytes."""

    name: str
    seed: bytes
    public: bytes

    @property
    def fingerprint(self) -> str:
        return fingerprint(self.public)

    def sign(self, message: bytes) -> bytes:
        """The signature, made with the package or program that is installed. Raises Stop without both."""
        try:
            return ed25519.sign(self.seed, message)
        except ed25519.NoEd25519 as error:
            raise Stop(str(error)) from None


def parse(name: str, text: str) -> Key:
    """The key in a PEM text. Raises Stop for anything but an Ed25519 private key."""
    found = _PEM.search(text)
    try:
        content = base64.b64decode("".join(found[1].split()), validate=True) if found else b""
    except ValueError:
        content = b""
    if (
        not content.startswith(ed25519.PRIVATE_HEAD)
        or len(content) != len(ed25519.PRIVATE_HEAD) + 32
    ):
        detail = f"{name} is not an Ed25519 private key as PEM, as `openssl genpkey -algorithm ed25519` writes it."
        raise Stop(detail, USAGE)
    return _key(name, content[-32:])


def load(config: Config, name: str | None = None) -> Key | None:
    """The key to sign with: MOSIS_SIGNING_KEY (its PEM), the named one, the default, or the only
    one. None if there is no key. Raises Stop if the choice is ambiguous."""
    if name is None and (given := os.environ.get("MOSIS_SIGNING_KEY", "").strip()):
        return parse("MOSIS_SIGNING_KEY", given)
    names = stored(config)
    if name is None:
        if not names:
            return None
        name = DEFAULT if DEFAULT in names else names[0]
        if name != DEFAULT and len(names) > 1:
            detail = f"There are several signing keys ({', '.join(names)}): choose one with --key."
            raise Stop(detail, USAGE)
    if name not in names:
        raise Stop(
            f"There is no signing key {name!r} on this machine; `mosis keys` lists them.", USAGE
        )
    return parse(name, _path(config, name).read_text(encoding="ascii", errors="replace"))


def load_all(config: Config) -> list[Key]:
    """Every key of this machine."""
    keys = [load(config, name) for name in stored(config)]
    if os.environ.get("MOSIS_SIGNING_KEY", "").strip():
        keys.append(load(config))
    return [key for key in keys if key is not None]


def stored(config: Config) -> list[str]:
    """The names of the keys in the configuration folder."""
    return sorted(path.stem for path in config.folder.joinpath("keys").glob("*.pem"))


def create(config: Config, name: str = DEFAULT) -> Key:
    """Create a key. Raises Stop if one with this name exists."""
    key = _key(name, secrets.token_bytes(32))
    add(config, key)
    return key


def add(config: Config, key: Key) -> None:
    """Store a key. An existing one is never replaced."""
    path = _path(config, key.name)
    with config.lock("keys"):
        if path.exists():
            raise Stop(f"A signing key {key.name!r} exists already: {path}", REFUSED)
        write_private(path, ed25519.private_pem(key.seed).encode())


def register(portal: Portal, key: Key) -> dict[str, Any]:
    """Register the key with the account, once; returns the portal's row for it. Raises Problem."""
    for row in portal.pages("/signing-keys", "signing_keys", limit=100):
        if row["fingerprint"] == key.fingerprint and row["state"] == "active":
            return row
    document = {"name": f"{key.name} on {machine()}"[:100], "public_key": to_pem(key.public)}
    try:
        made: dict[str, Any] = portal.post("/signing-keys", document)
    except Problem as problem:
        if problem.problem == "signing_key_exists":
            problem.message = (
                f"The signing key {key.name!r} was revoked, or belongs to another account. Make another:"
                f" mosis keys create NAME, then use --key NAME. ({problem.message})"
            )
        raise
    return made


def ensure_registered(portal: Portal, key: Key) -> None:
    """As `register`, if the credential may do that: a build server's token need not."""
    try:
        register(portal, key)
    except Problem as problem:
        if problem.problem not in ("insufficient_scope", "limited_to_apps"):
            raise


def read_public(text: str) -> bytes:
    """A public key as a file, PEM or base64. Raises Stop."""
    try:
        content = Path(text).read_text(encoding="ascii") if Path(text).is_file() else text
        return parse_public_key(content)
    except (Invalid, UnicodeDecodeError, OSError):
        detail = f"{text!r} is not an Ed25519 public key, as PEM or as the base64 of its 32 bytes."
        raise Stop(detail, USAGE) from None


def _key(name: str, seed: bytes) -> Key:
    try:
        return Key(name, seed, ed25519.public_key(seed))
    except ed25519.NoEd25519 as error:
        raise Stop(str(error)) from None


def _path(config: Config, name: str) -> Path:
    if not _NAME.match(name):
        detail = f"{name!r} is not a valid key name: use letters, digits, '.', '_' and '-'."
        raise Stop(detail, USAGE)
    return config.folder / "keys" / f"{name}.pem"


def machine() -> str:
    import platform

    return re.sub(r"[^A-Za-z0-9._-]", "", platform.node())[:60] or "this machine"

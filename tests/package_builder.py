"""Builds packages: good ones by default, bad ones by overriding one thing."""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from mosis.packages.build import png, signed, zipped
from mosis.packages.signature import to_pem


@dataclass
class SigningKey:
    """An Ed25519 key pair of a developer."""

    private: Ed25519PrivateKey

    @cached_property
    def raw(self) -> bytes:
        """The public key, 32 bytes."""
        return self.private.public_key().public_bytes(
            serialization.Encoding.Raw, serialization.PublicFormat.Raw
        )

    @property
    def public_base64(self) -> str:
        return base64.b64encode(self.raw).decode()

    @property
    def public_pem(self) -> str:
        return to_pem(self.raw)

    def sign(self, message: bytes) -> bytes:
        return self.private.sign(message)


def signing_key() -> SigningKey:
    return SigningKey(Ed25519PrivateKey.generate())


def manifest_of(
    package_id: str = "com.acme.notes",
    version: str = "1.0.0",
    version_code: int = 1,
    **changes: Any,
) -> dict[str, Any]:
    """A good manifest with some fields changed; a field given as None is left out."""
    manifest = {
        "id": package_id,
        "name": "Notes",
        "version": version,
        "version_code": version_code,
        "entry": "assets/main.rml",
        "min_mosis_version": "1.0.0",
        "author": {"name": "Alice", "email": "alice@example.net"},
        "permissions": ["storage"],
        "icons": {size: f"icons/icon-{size}.png" for size in ("32", "64", "128")},
    } | changes
    return {name: value for name, value in manifest.items() if value is not None}


def files_of(manifest: Mapping[str, Any] | bytes) -> dict[str, bytes]:
    """The files of a good package, META-INF apart."""
    return {
        "manifest.json": manifest if isinstance(manifest, bytes) else json.dumps(manifest).encode(),
        **{f"icons/icon-{size}.png": png(size) for size in (32, 64, 128)},
        "assets/main.rml": b'<rml><head><link type="text/rcss" href="main.rcss"/></head><body>Notes</body></rml>',
        "assets/main.rcss": b"body { font-size: 16dp; }\n",
        "assets/main.lua": b'local notes = mosis.storage.get("notes")\nreturn notes\n',
    }


def build_package(
    package_id: str = "com.acme.notes",
    version: str = "1.0.0",
    version_code: int = 1,
    *,
    key: SigningKey,
    files: Mapping[str, bytes | None] | None = None,
    manifest: Mapping[str, Any] | bytes | None = None,
) -> bytes:
    """A signed package. `manifest` changes fields (or is the raw file), `files` adds files, or removes those given as None."""
    answer = (
        manifest
        if isinstance(manifest, bytes)
        else manifest_of(package_id, version, version_code, **(manifest or {}))
    )
    content: dict[str, bytes | None] = {**files_of(answer), **(files or {})}
    return zipped(
        signed({name: each for name, each in content.items() if each is not None}, key.sign)
    )

"""Ed25519 signatures (RFC 8032), by the package `cryptography`, or by the program `openssl` (3.0 or
newer) if that is not installed. The portal always has the package; the command line runs with
either."""

import shutil
import subprocess
import tempfile
from base64 import b64encode
from functools import cache
from pathlib import Path

# PrivateKeyInfo and SubjectPublicKeyInfo of RFC 8410, without the 32 bytes of the key
PRIVATE_HEAD = bytes.fromhex("302e020100300506032b657004220420")
PUBLIC_HEAD = bytes.fromhex("302a300506032b6570032100")
_SECONDS = 30
# RFC 8032, section 7.1, test 2: verifies that the program supports Ed25519
_KNOWN = tuple(
    bytes.fromhex(text)
    for text in (
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
        "72",
    )
)


class NoEd25519(Exception):
    """Neither the package nor a program that supports Ed25519 is installed."""


def verify(raw_key: bytes, signature: bytes, message: bytes) -> bool:
    """Whether this key (32 bytes) made this signature of this message. Raises NoEd25519."""
    try:
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    except ImportError:
        return _openssl_verifies(raw_key, signature, message)
    try:
        Ed25519PublicKey.from_public_bytes(raw_key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def sign(seed: bytes, message: bytes) -> bytes:
    """The signature, 64 bytes, by this private key (32 bytes). Raises NoEd25519."""
    try:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    except ImportError:
        key = private_pem(seed).encode()
        return _openssl(
            ["pkeyutl", "-sign", "-rawin", "-inkey", "key", "-in", "message"],
            key=key,
            message=message,
        )
    return Ed25519PrivateKey.from_private_bytes(seed).sign(message)


def public_key(seed: bytes) -> bytes:
    """The public key, 32 bytes, of a private key. Raises NoEd25519."""
    try:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    except ImportError:
        key = private_pem(seed).encode()
        return _openssl(["pkey", "-in", "key", "-pubout", "-outform", "DER"], key=key)[-32:]
    public = Ed25519PrivateKey.from_private_bytes(seed).public_key()
    # not public_bytes_raw(): the command line runs with the packages of old distributions too
    return public.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)


def private_pem(seed: bytes) -> str:
    """The private key as `openssl genpkey -algorithm ed25519` writes it."""
    body = b64encode(PRIVATE_HEAD + seed).decode()
    return f"-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----\n"


def _openssl_verifies(raw_key: bytes, signature: bytes, message: bytes) -> bool:
    if _is_valid(raw_key, signature, message):
        return True
    _check_program()  # a negative result counts only if the program accepts a known good signature
    return False


def _is_valid(raw_key: bytes, signature: bytes, message: bytes) -> bool:
    arguments = ["-verify", "-rawin", "-pubin", "-keyform", "DER", "-inkey", "key"]
    arguments += ["-sigfile", "signature", "-in", "message"]
    try:
        answer = _openssl(
            ["pkeyutl", *arguments], key=PUBLIC_HEAD + raw_key, signature=signature, message=message
        )
    except _Refused:
        return False
    return b"Verified Successfully" in answer


@cache
def _check_program() -> None:
    if not _is_valid(*_KNOWN):
        raise NoEd25519(
            f"{shutil.which('openssl')} cannot check Ed25519 signatures; install OpenSSL 3.0 or newer,"
            " or the Python package cryptography."
        )


class _Refused(NoEd25519):
    """The program ended with an error."""


def _openssl(arguments: list[str], **files: bytes) -> bytes:
    """The output of the program. Its files are in a directory that only this user can read, because
    it does not read messages from a pipe."""
    program = shutil.which("openssl")
    if program is None:
        raise NoEd25519(
            "To sign and to check signatures, install the Python package cryptography or OpenSSL 3.0."
        )
    with tempfile.TemporaryDirectory(prefix="mosis-") as folder:
        for name, content in files.items():
            Path(folder, name).write_bytes(content)
        done = subprocess.run(  # noqa: S603  (no shell, and no argument of somebody else)
            [program, *arguments], cwd=folder, capture_output=True, timeout=_SECONDS, check=False
        )
    if done.returncode != 0:
        reason = done.stderr.decode("utf-8", "replace").strip()[:200]
        raise _Refused(
            f"{program} does not support Ed25519 ({reason}); install OpenSSL 3.0 or newer."
        )
    return done.stdout

"""Signatures of scanners for leaked secrets on their reports, in the form of GitHub's partner programme
(https://docs.github.com/en/code-security/secret-scanning/secret-scanning-partner-program).

The body is signed with ECDSA (P-256, SHA-256). `Github-Public-Key-Identifier` names the key, and
the scanner publishes its keys as {public_keys: [{key_identifier, key}]}, each in PEM.
"""

import base64
import threading

from mosis.clock import Clock
from mosis.errors import Unavailable
from mosis.outbound.http import Unreachable, ask

CACHED_SECONDS = 3600  # keys are read again after this
AGAIN_SECONDS = 30  # an unknown key is looked for at most once in this time


class ScannerKeys:
    """The public keys of the configured scanner. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._read_at = float("-inf")
        self._keys: dict[str, str] = {}

    def has_signed(self, url: str, clock: Clock, body: bytes, key_id: str, signature: str) -> bool:
        """Whether the body is signed with one of the keys at `url`. Raises Unavailable
        `provider_unavailable` if the keys cannot be read."""
        key = self._find(url, clock, key_id)
        return key is not None and _is_signed(body, key, signature)

    def _find(self, url: str, clock: Clock, key_id: str) -> str | None:
        with self._lock:
            age = clock.monotonic() - self._read_at
            if age > (CACHED_SECONDS if key_id in self._keys else AGAIN_SECONDS):
                self._read_at = clock.monotonic()  # a failure is not repeated at once either
                self._keys = _read(url)
            return self._keys.get(key_id)


def _read(url: str) -> dict[str, str]:
    try:
        reply = ask(url)
    except Unreachable as error:
        raise _unavailable(str(error)) from error
    document = reply.document if isinstance(reply.document, dict) else {}
    listed = document.get("public_keys")
    if reply.status != 200 or not isinstance(listed, list):
        raise _unavailable(f"answers {reply.status} without public_keys")
    return {
        each["key_identifier"]: each["key"]
        for each in listed
        if isinstance(each, dict)
        and isinstance(each.get("key_identifier"), str)
        and isinstance(each.get("key"), str)
    }


def _is_signed(body: bytes, pem: str, signature: str) -> bool:
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(pem.encode())
        if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name != "secp256r1":
            return False
        key.verify(base64.b64decode(signature, validate=True), body, ec.ECDSA(hashes.SHA256()))
    except (InvalidSignature, UnsupportedAlgorithm, ValueError):
        return False
    return True


def _unavailable(why: str) -> Unavailable:
    detail = (
        f"The scanner's public keys cannot be read: the server {why[:200]}. Send the report again."
    )
    return Unavailable("provider_unavailable", detail, retry_after_seconds=AGAIN_SECONDS)

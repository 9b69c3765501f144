#!/usr/bin/env python3
"""Checks a store's signed index as a careful device would, and refuses what is forged, replayed or out of date.

    python examples/verify_index.py https://apps.example.net --key BASE64 --state index-state.json

The first time, `--key` is the public key that came with the device (GET /.well-known/mosis-store-key shows it, but a key that
comes over the same wire as what it signs proves nothing). Afterwards the state file holds the keys and the highest sequence that
was seen; losing it means that an old index can be replayed once. Prints one line and exits 0, or says what is wrong and exits 1.
Needs the package `cryptography`.
"""

import argparse
import base64
import hashlib
import json
import sys
import urllib.request
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urljoin

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

MOST_BYTES = 256 << 20


class Refused(Exception):
    """The index is not to be believed; the sentence says why."""


def fingerprint(key: bytes) -> str:
    """How the store names a key."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(key).digest()).decode().rstrip("=")


def verify(
    index: bytes, signatures: bytes, state: dict[str, Any], now: datetime
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The index and the state to keep from now on: {keys: [base64], sequence}. Raises Refused.

    The order matters: nothing of the index is read before its signature holds.
    """
    try:
        said = {
            each["key"]: base64.b64decode(each["signature"])
            for each in json.loads(signatures)["signatures"]
        }
    except (ValueError, KeyError, TypeError):
        raise Refused("what should be its signatures cannot be read") from None
    pinned = [base64.b64decode(key) for key in state["keys"]]
    if not any(_signed(key, said.get(fingerprint(key), b""), index) for key in pinned):
        raise Refused("no key that this device knows has signed it")
    document = json.loads(index)
    if document["sequence"] < state["sequence"]:
        raise Refused(
            f"it is an old one: {document['sequence']}, after {state['sequence']} was seen"
        )
    if datetime.fromisoformat(document["expires_at"]) <= now:
        raise Refused(
            f"it expired at {document['expires_at']}: the store, or somebody in between, holds the newer one back"
        )
    # What a known key has signed says which keys to know from now on: so the store changes its key, and forgets the old one.
    return document, {
        "keys": [key["public_key"] for key in document["keys"]],
        "sequence": document["sequence"],
    }


def fetch(store: str) -> tuple[bytes, bytes]:
    """The index and its signatures. The signatures come first and name the address of their index, which stays for ten minutes:
    so both fit, whatever changes in between. Stores before 0.2 name none; there a new index between the two requests means to
    ask for both again."""
    address = f"{store}/v1/store/index.json.sig"
    for _ in range(3):
        signatures = _get(address)
        named = _index_url(signatures)
        try:
            index = _get(urljoin(address, named or "index.json"))
        except HTTPError as error:
            if named and error.code == 404:
                continue  # these signatures are too old: something in between has kept them
            raise
        if hashlib.sha256(index).hexdigest().encode() in signatures:
            break
    else:
        raise Refused("no index was found that fits its signatures")
    return index, signatures


def _index_url(signatures: bytes) -> str | None:
    """Where the index of these signatures is; nothing of it is believed before the signature holds."""
    try:
        found = json.loads(signatures)["index_url"]
    except (ValueError, KeyError, TypeError):
        return None
    return found if isinstance(found, str) else None


def _signed(key: bytes, signature: bytes, message: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def _get(url: str) -> bytes:
    if not url.startswith(("https://", "http://")):
        raise Refused(f"{url} is not a web address")
    asked = urllib.request.Request(url, headers={"Cache-Control": "no-cache"})  # noqa: S310  (looked at above)
    with urllib.request.urlopen(asked, timeout=30) as answer:  # noqa: S310
        return bytes(answer.read(MOST_BYTES))


def main() -> int:
    """Fetch, verify, keep the state."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("store", help="the address of the portal")
    parser.add_argument(
        "--key",
        help="the pinned public key, base64 of 32 bytes; only needed while there is no state file",
    )
    parser.add_argument(
        "--state",
        type=Path,
        default=Path("index-state.json"),
        help="where keys and sequence are kept",
    )
    given = parser.parse_args()
    if given.state.exists():
        state = json.loads(given.state.read_bytes())
    elif given.key:
        state = {"keys": [given.key], "sequence": 0}
    else:
        parser.error("give the pinned key with --key; there is no state file yet")
    try:
        document, state = verify(*fetch(given.store.rstrip("/")), state, datetime.now(UTC))
    except Refused as error:
        print(f"refused: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"not fetched: {error}", file=sys.stderr)
        return 1
    unfinished = given.state.with_suffix(".part")
    unfinished.write_text(json.dumps(state), encoding="ascii")
    unfinished.replace(given.state)
    print(
        f"good: sequence {document['sequence']}, {len(document['apps'])} apps, good until {document['expires_at']}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())

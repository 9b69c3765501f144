"""Pseudonyms of devices: keyed hashes, which cannot be reversed without the secret."""

import hashlib

BYTES = 8


def pseudonym(secret: str, app: int, device_id: str) -> bytes:
    """The pseudonym of a device in an app: 8 bytes of a keyed hash (BLAKE2b, RFC 7693). Without the
    secret nobody can find its device_id, nor recognize the same device in two apps. For a million
    devices, the probability that two share one is 1 in 10^7."""
    return keyed(secret, b"device", app.to_bytes(8, "big") + bytes.fromhex(device_id))


def keyed(secret: str, purpose: bytes, message: bytes) -> bytes:
    """8 bytes that only the holder of the secret can compute; `purpose`: 16 bytes at most."""
    return hashlib.blake2b(
        message, digest_size=BYTES, key=secret.encode()[:64], person=purpose
    ).digest()


SLOTS = 256


def list_key(secret: str, device_id: str, slot: int) -> bytes:
    """The key under which the table `devices` lists a device for the apps of a slot. With the
    device's id and the secret, all its apps are found by SLOTS keys, however many apps there are;
    without the secret, nobody can tell that two keys belong to one device."""
    return keyed(secret, b"list", slot.to_bytes(2, "big") + bytes.fromhex(device_id))

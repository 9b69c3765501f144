"""Pseudonyms: who has the secret can make them from an id, nobody can go back."""

import hashlib

BYTES = 8


def pseudonym(secret: str, app: int, device_id: str) -> bytes:
    """The device in the rows of an app: 8 bytes of a keyed hash (BLAKE2b, RFC 7693). Without the secret nobody can tell to
    which device_id it belongs, nor that two apps know the same device. A million devices share one with a chance of 1 in 10^7."""
    return keyed(secret, b"device", app.to_bytes(8, "big") + bytes.fromhex(device_id))


def keyed(secret: str, purpose: bytes, message: bytes) -> bytes:
    """8 bytes that only the holder of the secret can make; other ones for each purpose (up to 16 bytes)."""
    return hashlib.blake2b(
        message, digest_size=BYTES, key=secret.encode()[:64], person=purpose
    ).digest()


SLOTS = 256


def list_key(secret: str, device_id: str, slot: int) -> bytes:
    """Under which key the table `devices` lists a device for the apps of a slot. Whoever has the device's id and the secret finds
    all its apps by SLOTS keys, however many apps there are; nobody else can tell that two keys belong to one device."""
    return keyed(secret, b"list", slot.to_bytes(2, "big") + bytes.fromhex(device_id))

"""Encryption of what leaves for a bucket: only who has BACKUP_KEY can read or make it.

Format, version 1. The header has 58 bytes:

    12  "mosis-backup"
     1  version, 1
     3  scrypt parameters (RFC 7914): base-2 logarithm of N, r, p
    16  salt
    16  key check: shows whether a key is the right one
    10  checksum: the first bytes of SHA-256 over the header before it and the purpose

scrypt makes 48 bytes of the key and the salt: the key of AES-256-GCM and the key check. Then come
chunks of 64 KiB, the last one shorter, each followed by a tag of 16 bytes: the STREAM construction
(Hoang, Reyhanitabar, Rogaway and Vizar, 2015), as in the format of age. The nonce is the number of
the chunk in 11 bytes and a byte that is 1 for the last chunk, so that no chunk can be removed, added
or moved. The salt is random for each object, so no nonce is used twice with a key. The header and
the purpose are authenticated with each chunk: an object does not pass for one of another purpose.
"""

import hashlib
import hmac
import secrets
from collections.abc import Iterable, Iterator

from mosis.litestream import BackupError

MAGIC = b"mosis-backup"
VERSION = 1
# 32 MiB and about 0.3 s; as strong as N = 2**17, p = 1 with 128 MiB (OWASP Password Storage Cheat Sheet)
LOG2_N, R, P = 15, 8, 3
LARGEST_LOG2_N, LARGEST_RP = 20, 64  # of a header that is read: bounds of memory and time
CHUNK, TAG = 64 << 10, 16
SALT, CHECK, CHECKSUM = 16, 16, 10
HEADER = len(MAGIC) + 1 + 3 + SALT + CHECK + CHECKSUM


class WrongKey(BackupError):
    """BACKUP_KEY is not the key with which the object was encrypted."""


class DamagedObject(BackupError):
    """The object is damaged, cut off, or something else."""


def encrypt(key: str, purpose: str, content: Iterable[bytes]) -> Iterator[bytes]:
    """The header, then the encrypted chunks. Memory does not grow with the content."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    parameters, salt = bytes((LOG2_N, R, P)), secrets.token_bytes(SALT)
    secret, check = _derived(key, parameters, salt)
    header = MAGIC + bytes((VERSION,)) + parameters + salt + check
    header += _checksum(header, purpose)
    yield header
    cipher, bound = AESGCM(secret), header + purpose.encode()
    for number, chunk, last in _numbered(content, CHUNK):
        yield cipher.encrypt(_nonce(number, last), chunk, bound)


def decrypt(key: str, purpose: str, encrypted: Iterable[bytes]) -> Iterator[bytes]:
    """The content, in chunks, each of which has been verified. The whole is verified only when the
    iteration has ended: until then the caller must not use it. Raises WrongKey, DamagedObject."""
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    pieces = iter(encrypted)
    start = b""
    while len(start) < HEADER and (piece := next(pieces, None)) is not None:
        start += piece
    header, rest = start[:HEADER], start[HEADER:]
    cipher, bound = AESGCM(_secret_of(key, purpose, header)), header + purpose.encode()
    for number, chunk, last in _numbered(_joined(rest, pieces), CHUNK + TAG):
        try:
            yield cipher.decrypt(_nonce(number, last), chunk, bound)
        except InvalidTag:
            raise DamagedObject(
                f"its chunk {number} is damaged, or the object was cut off or put together anew"
            ) from None


def _secret_of(key: str, purpose: str, header: bytes) -> bytes:
    if len(header) < HEADER or not header.startswith(MAGIC):
        raise DamagedObject("it is not an encrypted backup of this portal, or is cut off")
    version, parameters = header[len(MAGIC)], header[len(MAGIC) + 1 :][:3]
    if version != VERSION:
        detail = f"it has format {version}, this program reads {VERSION}: use a newer one"
        raise DamagedObject(detail)
    body, checksum = header[:-CHECKSUM], header[-CHECKSUM:]
    if not hmac.compare_digest(_checksum(body, purpose), checksum):
        raise DamagedObject("its header is damaged, or it has another purpose than its name says")
    log2_n, r, p = parameters
    if not 1 <= log2_n <= LARGEST_LOG2_N or not 1 <= r * p <= LARGEST_RP:
        raise DamagedObject("its header asks for more memory than any program that wrote one")
    salt, check = body[-SALT - CHECK : -CHECK], body[-CHECK:]
    secret, expected = _derived(key, parameters, salt)
    if not hmac.compare_digest(check, expected):
        detail = "BACKUP_KEY is not the key with which the backup was encrypted: set the former one"
        raise WrongKey(detail)
    return secret


def _derived(key: str, parameters: bytes, salt: bytes) -> tuple[bytes, bytes]:
    from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

    log2_n, r, p = parameters
    made = Scrypt(salt=salt, length=32 + CHECK, n=1 << log2_n, r=r, p=p).derive(key.encode())
    return made[:32], made[32:]


def _checksum(header: bytes, purpose: str) -> bytes:
    return hashlib.sha256(header + purpose.encode()).digest()[:CHECKSUM]


def _nonce(number: int, last: bool) -> bytes:
    return number.to_bytes(11, "big") + bytes((last,))


def _joined(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest


def _numbered(pieces: Iterable[bytes], size_bytes: int) -> Iterator[tuple[int, bytes, bool]]:
    """Pieces of any size as chunks of this size: (number, chunk, whether it is the last). The last
    one is shorter or full; it is empty only if there is nothing at all."""
    number, held = 0, bytearray()
    for piece in pieces:
        held += piece
        while len(held) > size_bytes:  # a full chunk waits: it may be the last
            yield number, bytes(held[:size_bytes]), False
            del held[:size_bytes]
            number += 1
    yield number, bytes(held), True

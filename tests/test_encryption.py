"""The encryption of what leaves for a bucket: whatever is done to an object, its content never changes unseen."""

import tracemalloc
from collections.abc import Iterator

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from hypothesis import given
from hypothesis import strategies as st

from mosis.operations.backup import encryption
from mosis.operations.backup.encryption import (
    CHUNK,
    HEADER,
    TAG,
    DamagedObject,
    WrongKey,
    decrypt,
    encrypt,
)

KEY = "a passphrase of a test, long enough"
STEP = CHUNK + TAG
SIZES = [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 3 * CHUNK + 17]


@pytest.fixture(autouse=True)
def _cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """The least that scrypt can cost; one test has the real cost."""
    for name, value in (("LOG2_N", 1), ("R", 1), ("P", 1)):
        monkeypatch.setattr(encryption, name, value)


def content_of(size_bytes: int) -> bytes:
    return bytes(number * 7 % 251 for number in range(size_bytes))


def whole(key: str, purpose: str, encrypted: bytes, piece: int = 10_000) -> bytes:
    pieces = (encrypted[at : at + piece] for at in range(0, len(encrypted), piece))
    return b"".join(decrypt(key, purpose, pieces))


@pytest.mark.parametrize("size_bytes", SIZES)
@pytest.mark.parametrize("piece", [977, STEP, 1 << 20])
def test_content_of_every_size_comes_back(size_bytes: int, piece: int) -> None:
    content = content_of(size_bytes)
    pieces = [content[at : at + piece] for at in range(0, size_bytes, piece)]
    encrypted = b"".join(encrypt(KEY, "secrets", pieces))
    chunks = max(1, -(-size_bytes // CHUNK))
    assert len(encrypted) == HEADER + size_bytes + chunks * TAG
    assert whole(KEY, "secrets", encrypted, piece) == content


def test_an_independent_program_can_read_it_by_the_description() -> None:
    content = content_of(CHUNK + 5)
    encrypted = b"".join(encrypt(KEY, "telemetry", [content]))
    header = encrypted[:58]
    magic, version, parameters, salt = header[:12], header[12], header[13:16], header[16:32]
    assert (magic, version) == (b"mosis-backup", 1)
    n, r, p = 1 << parameters[0], parameters[1], parameters[2]
    derived = Scrypt(salt=salt, length=48, n=n, r=r, p=p).derive(KEY.encode())
    assert header[32:48] == derived[32:]
    cipher, bound = AESGCM(derived[:32]), header + b"telemetry"
    first, second = encrypted[58:][:STEP], encrypted[58:][STEP:]
    assert cipher.decrypt(bytes(11) + b"\0", first, bound) == content[:CHUNK]
    assert cipher.decrypt(bytes(10) + b"\1\1", second, bound) == content[CHUNK:]


def test_the_real_cost_is_what_the_description_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    encrypted = b"".join(encrypt(KEY, "secrets", [b"x"]))
    assert tuple(encrypted[13:16]) == (15, 8, 3)
    assert whole(KEY, "secrets", encrypted) == b"x"


def test_the_same_content_is_never_encrypted_alike() -> None:
    made = {b"".join(encrypt(KEY, "secrets", [b"same"])) for _ in range(20)}
    assert len(made) == 20
    assert len({each[HEADER:] for each in made}) == 20


def test_a_wrong_key_is_named_as_such_and_nothing_is_disclosed() -> None:
    encrypted = b"".join(encrypt(KEY, "secrets", [b"content"]))
    for key in (KEY + " ", KEY.upper(), "another passphrase, long enough"):
        with pytest.raises(WrongKey, match="BACKUP_KEY") as refused:
            whole(key, "secrets", encrypted)
        assert key not in str(refused.value)


def test_an_object_does_not_pass_for_one_of_another_purpose() -> None:
    encrypted = b"".join(encrypt(KEY, "telemetry", [b"content"]))
    with pytest.raises(DamagedObject, match="purpose"):
        whole(KEY, "secrets", encrypted)


THREE = content_of(2 * CHUNK + 100)


@given(st.data())
def test_every_flipped_bit_is_found(data: st.DataObject) -> None:
    encrypted = bytearray(b"".join(encrypt(KEY, "secrets", [THREE])))
    at = data.draw(st.integers(0, len(encrypted) - 1) | st.integers(0, HEADER - 1))
    encrypted[at] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(DamagedObject):
        whole(KEY, "secrets", bytes(encrypted))


@given(st.integers(0, HEADER + 3 * TAG + len(THREE) - 1))
def test_every_truncation_is_found(length: int) -> None:
    encrypted = b"".join(encrypt(KEY, "secrets", [THREE]))
    with pytest.raises(DamagedObject):
        whole(KEY, "secrets", encrypted[:length])


def chunks_of(encrypted: bytes) -> tuple[bytes, list[bytes]]:
    body = encrypted[HEADER:]
    return encrypted[:HEADER], [body[at : at + STEP] for at in range(0, len(body), STEP)]


@pytest.mark.parametrize(
    "order",
    [(0, 1), (0, 2), (1, 2), (2,), (1, 0, 2), (0, 0, 1, 2), (0, 1, 1, 2), (0, 1, 2, 2), (2, 1, 0), ()],
)  # fmt: skip
def test_chunks_that_are_removed_moved_or_repeated_are_found(order: tuple[int, ...]) -> None:
    header, chunks = chunks_of(b"".join(encrypt(KEY, "secrets", [content_of(3 * CHUNK)])))
    with pytest.raises(DamagedObject):
        whole(KEY, "secrets", header + b"".join(chunks[each] for each in order))


def test_chunks_of_two_objects_are_not_mixed() -> None:
    one, other = (b"".join(encrypt(KEY, "secrets", [THREE])) for _ in range(2))
    (header, mine), (_, theirs) = chunks_of(one), chunks_of(other)
    with pytest.raises(DamagedObject):
        whole(KEY, "secrets", header + mine[0] + theirs[1] + mine[2])
    with pytest.raises(DamagedObject):
        whole(KEY, "secrets", one + b"more")


def test_a_header_cannot_ask_for_much_memory_or_time() -> None:
    body = encryption.MAGIC + bytes((1, 30, 255, 255)) + bytes(32)
    with pytest.raises(DamagedObject, match="memory"):
        whole(KEY, "secrets", body + encryption._checksum(body, "secrets") + bytes(TAG))


def test_a_later_format_is_named() -> None:
    encrypted = bytearray(b"".join(encrypt(KEY, "secrets", [b"x"])))
    encrypted[12] = 2
    with pytest.raises(DamagedObject, match="format 2"):
        whole(KEY, "secrets", bytes(encrypted))


def test_memory_does_not_grow_with_the_content() -> None:
    def pieces() -> Iterator[bytes]:
        for _ in range(24):
            yield bytes(1 << 20)

    tracemalloc.start()
    try:
        size_bytes = sum(
            len(each) for each in decrypt(KEY, "telemetry", encrypt(KEY, "telemetry", pieces()))
        )
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert size_bytes == 24 << 20
    assert peak < 6 << 20

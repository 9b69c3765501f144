"""Every code of a finding with a package that earns it; and no bytes make anything but our own refusal."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mosis.errors import Invalid, Unavailable
from mosis.packages import FINDINGS, inspect, is_signed_by, read_file
from mosis.packages.build import png
from mosis.packages.signature import CERTIFICATE, DIGESTS, SIGNATURE
from tests.campaign import short_and_full
from tests.package_builder import manifest_of, signing_key
from tests.packages.raw_zip import KEY, Entry, codes, entries, files, look, raw_zip, with_entry
from tests.packages.test_archive import CONFUSING, LIMITS


def without(name: str) -> bytes:
    """A package in which one file is missing and everything else is as it was."""
    return raw_zip(each for each in entries() if each.name != name)


def instead(name: str, content: bytes) -> bytes:
    """A package in which one file was exchanged after signing."""
    return raw_zip(
        replace(each, content=content) if each.name == name else each for each in entries()
    )


def saying(**changes: object) -> bytes:
    """A package whose manifest says something else."""
    return raw_zip(entries(files(manifest=changes)))


ICONS = manifest_of()["icons"]
CASES: list[tuple[str, bytes]] = [
    *((code, data) for code, data in CONFUSING.values()),
    ("path_invalid", raw_zip(with_entry("../a.txt"))),
    ("path_encoding", raw_zip(with_entry(b"\xe9.txt"))),
    ("path_too_long", raw_zip(with_entry("a/" * 16 + "a.txt"))),
    ("path_duplicate", raw_zip([*entries(), Entry("Manifest.json")])),
    ("file_type", raw_zip(with_entry("a.exe"))),
    ("manifest_missing", raw_zip(entries(files({"manifest.json": None})))),
    *(("manifest_json", raw_zip(entries(files(manifest=text)))) for text in [
        b"", b"{", b"\xff", b"\xef\xbb\xbf{}", b'{"id": 1, "id": 2}', b"[NaN]", b"[" * 33 + b"]" * 33, b'["\\ud800"]', b"{} {}"]),
    ("required", saying(entry=None)),
    ("unknown_field", saying(debug=True)),
    ("wrong_type", saying(name=1)),
    ("wrong_type", raw_zip(entries(files(manifest=b"[]")))),
    ("wrong_format", saying(version="one")),
    ("too_long", saying(name="N" * 51)),
    ("id_mismatch", saying(id="com.acme.other")),
    ("permission_unknown", saying(permissions=["fly"])),
    ("permission_reserved", saying(permissions=["system_settings"])),
    ("duplicate_value", saying(permissions=["storage", "storage"])),
    ("file_missing", saying(entry="assets/none.rml")),
    ("icon_invalid", saying(icons={**ICONS, "32": ICONS["64"]})),
    ("icon_invalid", raw_zip(entries(files({ICONS["32"]: png(31)})))),
    ("icon_invalid", raw_zip(entries(files({ICONS["32"]: b""})))),
    ("digests_missing", without(DIGESTS)),
    ("digests_malformed", instead(DIGESTS, b"no")),
    ("digests_malformed", instead(DIGESTS, b"Manifest-Version: 1.0\n\n" + b"x" * (1 << 20))),
    ("digest_unlisted", raw_zip([*entries(), Entry("a.txt")])),
    ("digest_extra", without("assets/main.lua")),
    ("digest_wrong", instead("assets/main.lua", b"return 1\n")),
    ("signature_missing", without(SIGNATURE)),
    ("zip_second_directory", raw_zip([*entries(), Entry("a.txt", b"PK\6\7", method=0)])),
    ("zip_ambiguous", raw_zip(with_entry("a.txt", method=0, descriptor=b"PK\7\x08"))),
    ("zip_attributes", raw_zip(with_entry("a.txt", external=0o100755 << 16))),
    ("certificate_mismatch", raw_zip([*entries(), Entry(CERTIFICATE, signing_key().public_pem.encode())])),
    ("signature_malformed", instead(SIGNATURE, b"no")),
    ("signature_invalid", instead(SIGNATURE, bytes(64))),
]  # fmt: skip


@pytest.mark.parametrize(
    ("code", "data"), CASES, ids=[f"{number}-{code}" for number, (code, _) in enumerate(CASES)]
)
def test_a_finding_is_earned(code: str, data: bytes) -> None:
    assert code in codes(data)


def test_a_package_of_somebody_without_keys() -> None:
    assert codes(raw_zip(entries()), keys={}) == {"no_signing_key"}


def test_every_code_of_the_reader_has_a_package_that_earns_it() -> None:
    """Those that follow it in the table are of the deep checks; test_checks.py holds them in the same way."""
    tested = (
        {code for code, _ in CASES}
        | {code for _, expected in LIMITS.values() for code in expected}
        | {"no_signing_key"}
    )
    every = list(FINDINGS)
    assert tested == set(every[: every.index("rml_malformed")])


def test_findings_come_all_at_once() -> None:
    found = codes(
        raw_zip(
            [*entries(files({"a.exe": b""}, {"name": 1, "permissions": ["fly"]})), Entry("b.txt")]
        )
    )
    assert found == {"file_type", "wrong_type", "permission_unknown", "digest_unlisted"}


def test_an_answer_has_200_findings_at_most() -> None:
    with pytest.raises(Invalid) as caught:
        look(raw_zip([*entries(), *(Entry(f"{number}.exe") for number in range(300))]))
    assert len(caught.value.errors) == 200
    assert "600 error" in caught.value.detail  # a wrong kind and not listed, each


def test_what_a_good_package_says(tmp_path: Path) -> None:
    content = files(manifest={"version": "2.0.0-beta.1", "version_code": 7, "permissions": None})
    path = tmp_path / "package.mosis"
    path.write_bytes(raw_zip(entries(content)))
    package = inspect(path, package_id="com.acme.notes", keys={"key": KEY.raw})
    assert (package.version, package.version_code, package.channel) == ("2.0.0-beta.1", 7, "beta")
    assert (package.permissions, package.signing_key_id) == ((), "key")
    assert package.manifest == json.loads(content["manifest.json"])
    assert {name: each["size_bytes"] for name, each in package.files.items()} == {
        name: len(each) for name, each in content.items()
    }
    assert all(read_file(path, name) == each for name, each in content.items())
    with pytest.raises(KeyError):
        read_file(path, "assets/none.lua")


def test_a_package_that_cannot_be_read_any_more_is_unavailable(tmp_path: Path) -> None:
    path = tmp_path / "package.mosis"
    path.write_bytes(raw_zip(entries()))
    assert is_signed_by(path, KEY.raw)
    assert not is_signed_by(path, signing_key().raw)
    for content in (b"", without(SIGNATURE), without(DIGESTS)):
        path.write_bytes(content)
        with pytest.raises(Unavailable):
            is_signed_by(path, KEY.raw)
    path.unlink()
    with pytest.raises(Unavailable):
        is_signed_by(path, KEY.raw)


GOOD = raw_zip(entries())
PACKAGE = look(GOOD)
CHANGE = st.tuples(st.integers(0, len(GOOD) - 1), st.integers(0, 3), st.binary(max_size=4))


def mutated(data: bytes, changes: list[tuple[int, int, bytes]]) -> bytes:
    """Each change takes some bytes away at a place and puts others there."""
    for position, gone, instead_of in changes:
        data = data[:position] + instead_of + data[position + gone :]
    return data


@settings(max_examples=4 * settings.default.max_examples, database=None)
@given(st.lists(CHANGE, min_size=1, max_size=4))
def test_no_mutation_is_more_than_a_refusal_or_the_same_package(
    changes: list[tuple[int, int, bytes]],
) -> None:
    try:
        package = look(mutated(GOOD, changes))
    except Invalid:
        return
    assert package == PACKAGE


@pytest.mark.parametrize("bits", short_and_full(1, 8))
def test_no_single_bit_makes_another_package(bits: int) -> None:
    """Every byte of the headers, with one or each of its bits inverted."""
    for position in range(GOOD.index(b"PK\1\2"), len(GOOD)):
        for bit in (1 << (position + number) % 8 for number in range(bits)):
            changed = bytearray(GOOD)
            changed[position] ^= bit
            try:
                assert look(bytes(changed)) == PACKAGE
            except Invalid:
                continue


@settings(database=None)
@given(
    st.binary(max_size=200),
    st.sampled_from([DIGESTS, SIGNATURE, "manifest.json", "icons/icon-32.png"]),
)
def test_no_content_of_the_files_that_are_read_is_more_than_a_finding(
    content: bytes, name: str
) -> None:
    assert codes(instead(name, content)) or content == files()[name]

"""Inspection of package files: limits, manifest, digests, signature. It takes a path and returns a
Package, or raises every finding; it uses neither database nor settings.

archive.py       the files of the ZIP        zip_records.py  its records, to the last byte
file_names.py    which names are allowed     manifest.py     manifest.json
signature.py     META-INF and signing keys   findings.py     the codes
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from mosis.errors import Invalid, Malformed, Unavailable
from mosis.packages import manifest as manifests
from mosis.packages import signature as signatures
from mosis.packages.archive import META, Archive, Unreadable
from mosis.packages.findings import FINDINGS, Finding
from mosis.packages.formats import format_of
from mosis.packages.manifest import is_package_id, is_prerelease, is_version, version_key
from mosis.packages.signature import fingerprint, parse_public_key, to_pem
from mosis.records import dataclass
from mosis.validation.strict_json import load_json

__all__ = [
    "FINDINGS", "Archive", "Finding", "Package", "Unreadable", "fingerprint", "inspect", "is_package_id", "is_signed_by",
    "is_version",
    "parse_public_key", "read_file", "to_pem", "version_key",
]  # fmt: skip

MANIFEST_BYTES = 64 * 1024
MOST_FINDINGS = 200
_PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"


@dataclass(frozen=True)
class Package:
    """An inspected package: manifest, files {name: {size_bytes, sha256}} and signing key."""

    package_id: str
    version: str
    version_code: int
    channel: str
    min_mosis_version: str
    permissions: tuple[str, ...]
    manifest: dict[str, Any]
    files: dict[str, dict[str, Any]]
    signing_key_id: str


def inspect(path: Path, *, package_id: str, keys: Mapping[str, bytes]) -> Package:
    """Inspect an uploaded file without extracting it to disk, in constant memory.

    `keys` are the active signing keys of the app's owner by id, 32 raw bytes each. Raises Invalid
    `package_rejected` with every finding (up to 200), Unavailable `package_unavailable` if the file
    cannot be read.
    """
    try:
        with open(path, "rb") as file:
            inspection = _Inspection(Archive(file))
            package = inspection.package(package_id, keys)
    except Unreadable as error:
        raise _rejected([error.finding]) from error
    except OSError as error:
        detail = "The package cannot be read from the disk; upload it again later."
        raise Unavailable("package_unavailable", detail) from error
    if package is None:
        raise _rejected(inspection.findings)
    return package


def read_file(package: Path | BinaryIO, name: str, limit_bytes: int = 10 << 20) -> bytes:
    """One file of an inspected package, open or at a path. Raises KeyError, Unreadable, OSError."""
    if not isinstance(package, Path):
        return Archive(package).read(name, limit_bytes)
    with open(package, "rb") as file:
        return Archive(file).read(name, limit_bytes)


def is_signed_by(package: Path | BinaryIO, raw_key: bytes) -> bool:
    """Whether this package, which was inspected before, is signed with this key (32 raw bytes).
    Raises Unavailable `package_unavailable` if the package cannot be read any more."""
    try:
        found = signatures.read_signature(read_file(package, signatures.SIGNATURE))
        message = read_file(package, signatures.DIGESTS)
    except (Unreadable, KeyError, OSError) as error:
        detail = "The package of this version cannot be read; upload it again."
        raise Unavailable("package_unavailable", detail) from error
    return found is not None and signatures.verify(raw_key, found, message)


class _Inspection:
    """One pass over an archive, which collects findings."""

    def __init__(self, archive: Archive) -> None:
        self.archive = archive
        self.findings = list(archive.findings)
        self._contents: dict[str, bytes] = {}  # the few files whose content is needed
        self._heads: dict[str, bytes] = {}

    def package(self, package_id: str, keys: Mapping[str, bytes]) -> Package | None:
        """The package, or None if there are findings."""
        limits = {
            "manifest.json": MANIFEST_BYTES,
            signatures.DIGESTS: signatures.DIGESTS_BYTES,
            signatures.SIGNATURE: signatures.SIGNATURE_BYTES,
            signatures.CERTIFICATE: signatures.CERTIFICATE_BYTES,
        }
        if any(
            finding.code in ("archive_too_large", "too_many_files") for finding in self.findings
        ):
            return None  # compared with the limits before anything is decompressed
        digests = self._digests(limits)
        manifest = self._manifest(package_id)
        self._check_digests(digests)
        signing_key_id = self._signer(keys)
        self._check_certificate(keys if signing_key_id is None else {"": keys[signing_key_id]})
        if self.findings or manifest is None or signing_key_id is None:
            return None
        files = {
            name: {"size_bytes": self.archive.members[name].size_bytes, "sha256": digest.hex()}
            for name, digest in digests.items()
        }
        return Package(
            package_id,
            manifest["version"],
            manifest["version_code"],
            "beta" if is_prerelease(manifest["version"]) else "stable",
            manifest["min_mosis_version"],
            tuple(manifest.get("permissions", ())),
            manifest,
            files,
            signing_key_id,
        )

    def _digests(self, limits: Mapping[str, int]) -> dict[str, bytes]:
        """The SHA-256 of every readable file; needed small files, and PNG headers, are stored."""
        digests = {}
        for name, member in self.archive.members.items():
            digest, start, size = hashlib.sha256(), bytearray(), 0
            limit = limits.get(name, len(_PNG) + 8)
            try:
                for block in self.archive.blocks(member):
                    digest.update(block)
                    size += len(block)
                    start += block[: max(0, limit + 1 - len(start))]
            except Unreadable as error:
                # the finding is already there, from the header
                if error.finding.code != "file_too_large":
                    self.findings.append(error.finding)
                continue
            digests[name] = digest.digest()
            (self._contents if name in limits else self._heads)[name] = bytes(start)
        return digests

    def _manifest(self, package_id: str) -> dict[str, Any] | None:
        content = self._contents.get("manifest.json")
        if "manifest.json" not in self.archive.members:
            nested = next(
                (name for name in self.archive.members if name.endswith("/manifest.json")), None
            )
            hint = (
                f" It is {nested!r}: pack what is in the folder, not the folder itself, as in `cd {nested.rpartition('/')[0]}` and"
                " `zip -r ../app.mosis .`."
                if nested
                else " It must lie at the root of the archive."
            )
            self._find("manifest_missing", "There is no manifest.json." + hint)
        elif content is not None and len(content) > MANIFEST_BYTES:
            detail = f"manifest.json may have at most {MANIFEST_BYTES} bytes."
            self._find("manifest_too_large", detail, "manifest.json")
        elif content is not None:
            try:
                manifest = load_json(content)
            except Malformed as error:
                self._find(
                    "manifest_json",
                    error.detail.replace("The body", "manifest.json"),
                    "manifest.json",
                )
                return None
            sizes = {name: member.size_bytes for name, member in self.archive.members.items()}
            found = manifests.check(manifest, package_id, sizes)
            self.findings += found
            if not found:
                self._check_icons(manifest["icons"])
            return dict(manifest) if isinstance(manifest, dict) else None
        return None

    def _check_icons(self, icons: Mapping[str, str]) -> None:
        for size, path in icons.items():
            head = self._heads.get(path, b"")[: len(_PNG) + 8]
            if head != _PNG + int(size).to_bytes(4, "big") * 2:
                what = f"it is {format_of(head) or 'another kind of file'}"
                if head.startswith(_PNG) and len(head) == len(_PNG) + 8:
                    width, height = (int.from_bytes(head[at : at + 4]) for at in (16, 20))
                    what = f"it has {width} x {height}"
                detail = f"{path!r} is not a PNG of {size} x {size} pixels: {what}."
                self.findings.append(
                    Finding("icon_invalid", detail, path, pointer=f"/icons/{size}")
                )

    def _check_digests(self, found: Mapping[str, bytes]) -> None:
        content = self._contents.get(signatures.DIGESTS)
        if content is None:
            self._find("digests_missing", f"There is no readable {signatures.DIGESTS}.")
            return
        if len(content) > signatures.DIGESTS_BYTES:
            detail = f"It may have at most {signatures.DIGESTS_BYTES} bytes."
            self._find("digests_malformed", detail, signatures.DIGESTS)
            return
        listed, findings = signatures.read_digests(content)
        self.findings += findings
        if listed or not findings:
            self.findings += signatures.check_digests(
                listed, {name: each for name, each in found.items() if name not in META}
            )

    def _signer(self, keys: Mapping[str, bytes]) -> str | None:
        """The id of the key whose signature matches the exact bytes of MANIFEST.MF."""
        content, message = (
            self._contents.get(signatures.SIGNATURE),
            self._contents.get(signatures.DIGESTS),
        )
        if content is None:
            self._find("signature_missing", f"There is no readable {signatures.SIGNATURE}.")
            return None
        signature = signatures.read_signature(content)
        if signature is None:
            self._find(
                "signature_malformed",
                "It must be 64 bytes (Ed25519), raw or as base64; not hexadecimal, PEM or UTF-16.",
                signatures.SIGNATURE,
            )
        elif not keys:
            detail = "Register the public key first: POST /v1/signing-keys."
            self._find("no_signing_key", detail, signatures.SIGNATURE)
        elif message is not None:
            for key_id, raw in keys.items():
                if signatures.verify(raw, signature, message):
                    return key_id
            self.findings.append(_not_by_a_live_key())
        return None

    def _check_certificate(self, keys: Mapping[str, bytes]) -> None:
        """CERT.PEM has no digest, so the signature must imply it: it must be one of these keys."""
        content = self._contents.get(signatures.CERTIFICATE)
        if (
            keys
            and content is not None
            and not any(signatures.is_certificate(content, raw) for raw in keys.values())
        ):
            self._find(
                "certificate_mismatch",
                "It must be the public key that signed, as `openssl pkey -pubout` "
                "writes it; or leave the file out.",
                signatures.CERTIFICATE,
            )

    def _find(self, code: str, detail: str, path: str | None = None) -> None:
        self.findings.append(Finding(code, detail, path))


def _not_by_a_live_key() -> Finding:
    detail = "It was not made with any of your active signing keys."
    return Finding("signature_invalid", detail, signatures.SIGNATURE)


def signature_refused() -> Invalid:
    """The error for a package whose signing key was revoked after the package was inspected."""
    return _rejected([_not_by_a_live_key()])


def _rejected(findings: list[Finding]) -> Invalid:
    shown = [finding.as_dict() for finding in findings[:MOST_FINDINGS]]
    return Invalid(
        shown, "package_rejected", f"The package has {len(findings)} error(s); see errors."
    )

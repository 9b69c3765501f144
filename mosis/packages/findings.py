"""What can be wrong with a package: every code with one sentence; docs/API.md lists the same, a test holds both together."""

from dataclasses import asdict, dataclass
from typing import Any

FINDINGS: dict[str, str] = {
    # the archive
    "not_a_zip": "The file is not a ZIP archive, is cut off, or has bytes before, between or after what belongs to it.",
    "zip_comment": "The archive or an entry carries a comment.",
    "zip_multi_disk": "The archive is split over several disks.",
    "zip64": "The archive uses ZIP64, which no package within the limits needs.",
    "zip_headers_disagree": "A local header and the central directory say different things about an entry.",
    "zip_overlap": "Entries overlap, or lie in another order than the central directory lists them.",
    "zip_encrypted": "An entry is encrypted.",
    "zip_method": "An entry is compressed by another method than deflate.",
    "zip_extra": "An entry gives itself a second name in an extra field, or the field is damaged.",
    "zip_damaged": "The data of an entry cannot be unpacked, or is not what its checksum and sizes say.",
    "zip_link": "An entry is a link or a device.",
    # names
    "path_invalid": "A name is absolute, climbs out, or has backslashes, drive letters, control characters or empty segments.",
    "path_encoding": "A name is not UTF-8 or not in Unicode's normal form C.",
    "path_too_long": "A name has more than 256 bytes or 16 levels.",
    "path_duplicate": "Two names are equal, or equal when case is folded, or one is a folder and a file.",
    "file_type": "A file of this kind is not allowed in a package.",
    # limits
    "too_many_files": "There are more than 1000 files.",
    "file_too_large": "A file has more than 10 MiB unpacked.",
    "archive_too_large": "All files together have more than 200 MiB unpacked.",
    "ratio_too_high": "An entry unpacks to more than a hundred times its size.",
    # the manifest
    "manifest_missing": "There is no manifest.json.",
    "manifest_too_large": "manifest.json has more than 64 KiB.",
    "manifest_json": "manifest.json is not acceptable JSON.",
    "required": "A required field is missing.",
    "unknown_field": "There is no such field.",
    "wrong_type": "A field is of another type.",
    "wrong_format": "A field does not have the form that is asked for.",
    "too_long": "A text or list is too long.",
    "id_mismatch": "The id is not the package_id of the app.",
    "permission_unknown": "There is no such permission.",
    "permission_reserved": "This permission is for the system's own apps.",
    "duplicate_value": "A value stands twice in a list.",
    "file_missing": "A file that the manifest names is not in the package.",
    "icon_invalid": "An icon is not a PNG of its size.",
    # digests and signature
    "digests_missing": "There is no META-INF/MANIFEST.MF.",
    "digests_malformed": "META-INF/MANIFEST.MF cannot be read.",
    "digest_unlisted": "A file is not listed in META-INF/MANIFEST.MF.",
    "digest_extra": "META-INF/MANIFEST.MF lists a file that is not there, or lists one twice.",
    "digest_wrong": "A file does not have the digest that META-INF/MANIFEST.MF says.",
    "signature_missing": "There is no META-INF/CERT.SIG.",
    "signature_malformed": "META-INF/CERT.SIG is neither 64 raw bytes nor their base64.",
    "signature_invalid": "The signature is not by any live signing key of the app's owner.",
    "no_signing_key": "The app's owner has no live signing key.",
}


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong or noteworthy. `pointer` is a JSON pointer (RFC 6901) into manifest.json, "" elsewhere."""

    code: str
    detail: str
    path: str | None = None
    line: int | None = None
    pointer: str = ""
    tier: int = 1
    severity: str = "error"

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

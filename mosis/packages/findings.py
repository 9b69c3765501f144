"""What can be wrong with a package: every code with one sentence; docs/API.md lists the same, a test holds both together."""

from dataclasses import asdict, dataclass
from typing import Any

FINDINGS: dict[str, str] = {
    # the archive
    "not_a_zip": "The file is not a ZIP archive, is cut off, or has bytes before, between or after what belongs to it.",
    "other_format": "The file can be read as another format too: as a PDF, a tar archive or a disk image.",
    "zip_comment": "The archive or an entry carries a comment.",
    "zip_multi_disk": "The archive is split over several disks.",
    "zip64": "The archive uses ZIP64, which no package within the limits needs.",
    "zip_headers_disagree": "A local header and the central directory say different things about an entry.",
    "zip_overlap": "Entries overlap, or lie in another order than the central directory lists them.",
    "zip_encrypted": "An entry is encrypted.",
    "zip_method": "An entry is compressed by another method than deflate.",
    "zip_extra": "An extra field is of a kind that is not allowed, has another length than its kind, or stands twice.",
    "zip_second_directory": "Some readers would find another directory or end of the archive than others.",
    "zip_ambiguous": "An entry has a feature that readers understand differently.",
    "zip_damaged": "The data of an entry cannot be unpacked, or is not what its checksum and sizes say.",
    "zip_link": "An entry is a link or a device.",
    "zip_attributes": "A file is executable, set-uid or hidden, or says that it is a folder.",
    # names
    "path_invalid": "A name is not a plain relative path, has a character that is not allowed, or is reserved on Windows.",
    "path_encoding": "A name is not UTF-8, not marked as UTF-8, or not in Unicode's normal form C.",
    "path_too_long": "A path has more than 256 bytes or 16 levels, or a name in it more than 255 bytes.",
    "path_duplicate": "Two files or folders have one name where case does not count, or one is a folder and a file.",
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
    "digests_malformed": "META-INF/MANIFEST.MF is not a list of digests in the form of a JAR manifest.",
    "digest_unlisted": "A file is not listed in META-INF/MANIFEST.MF.",
    "digest_extra": "META-INF/MANIFEST.MF lists a file that is not there, or lists one twice.",
    "digest_wrong": "A file does not have the digest that META-INF/MANIFEST.MF says.",
    "signature_missing": "There is no META-INF/CERT.SIG.",
    "signature_malformed": "META-INF/CERT.SIG is neither 64 raw bytes nor their base64.",
    "signature_invalid": "The signature is not by any live signing key of the app's owner.",
    "certificate_mismatch": "META-INF/CERT.PEM is not the public key that signed the package.",
    "no_signing_key": "The app's owner has no live signing key.",
    # tier 2, in the job: what is wrong inside the files
    "rml_malformed": "RmlUi cannot read an RML document, or a template lacks its head or body.",
    "rml_doctype": "An RML document has a document type.",
    "rml_entity": "An RML document declares an entity.",
    "rml_root": "The outermost element of an RML document is neither rml nor template.",
    "rml_too_deep": "An RML document nests more than 200 elements.",
    "rcss_malformed": "A style sheet cannot be parsed.",
    "lua_syntax": "A script does not compile.",
    "lua_bytecode": "A script is compiled Lua instead of source text.",
    "json_malformed": "A JSON file is not acceptable JSON.",
    "text_invalid": "A text file is not UTF-8 text.",
    "image_invalid": "An image is not what its name says, or is damaged.",
    "font_invalid": "A font is neither TrueType nor OpenType, or is damaged.",
    "sound_invalid": "A sound is not what its name says, or is damaged.",
    "check_timeout": "The checks took too long.",
    "check_memory": "The checks took too much memory.",
    "check_crashed": "The checks ended unexpectedly.",
    # tier 3, for the reviewer: none of these blocks by itself
    "rml_not_xml": "RmlUi reads an RML document, but it is not well-formed XML.",
    "lua_dangerous": "A script uses os, io, debug, load, loadstring, loadfile, dofile or package.",
    "lua_indirect": "A script reaches what it uses by way of _G, _ENV, getfenv, setfenv, rawset or another name for mosis.",
    "require_missing": "A script requires a module that is not in the package.",
    "reference_missing": "A document or style sheet names a file that is not in the package.",
    "long_line": "A line has more than 2000 characters.",
    "base64_blob": "A text has more than 400 characters without a break, as of base64.",
    "url_insecure": "An address is neither https nor wss.",
    "url_private": "An address is of a private network or of the device itself.",
    "secret_found": "A text seems to hold a key, token or password.",
    "trailing_data": "Bytes of a file are no part of its image or sound.",
    "sound_damaged": "Players skip a part of a sound.",
    "image_huge": "An image has more than 16 million pixels.",
    "permission_unused": "A permission is asked for, and nothing seems to use it.",
    "permission_undeclared": "A permission seems to be used that is not asked for.",
    "permission_new": "A permission is asked for that the last published version did not ask for.",
    "first_app": "It is the developer's first app.",
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

"""Remarks for reviewers about any text: secrets, addresses, very long lines, encoded data."""

import ipaddress
import re
from collections import Counter
from collections.abc import Iterator
from itertools import chain

from mosis.packages.checks.kinds import Contents, error, info, shown, warning
from mosis.packages.findings import Finding
from mosis.validation.strict_json import load_json

LONG_LINE = 2000
BLOB = 400
EACH = 5  # findings of one code in one file
# What it is: what stands in each, and the whole form. Looking for a plain text first takes a
# hundredth of the time of the expression.
_SECRETS = {
    "a private key": (("-----BEGIN ",), re.compile(r"-----BEGIN (?:[A-Z]+ )?PRIVATE KEY-----")),
    "a key of this portal": (("mk_live_",), re.compile(r"\bmk_live_[A-Za-z0-9_-]{20,}")),
    "an AWS key": (("AKIA", "ASIA"), re.compile(r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b")),
    "a GitHub token": (
        ("ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_"),
        re.compile(r"\b(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{40,})"),
    ),
    "a Google key": (("AIza",), re.compile(r"\bAIza[0-9A-Za-z_-]{35}\b")),
    "a Slack token": (("xox",), re.compile(r"\bxox[abprs]-[0-9A-Za-z-]{10,}")),
    "a Stripe key": (("k_live_",), re.compile(r"\b[sr]k_live_[0-9A-Za-z]{20,}")),
    "a signed token (JWT)": (
        ("eyJ",),
        re.compile(r"\beyJ[A-Za-z0-9_-]{10,2000}\.eyJ[A-Za-z0-9_-]{10,2000}\.[A-Za-z0-9_-]{10}"),
    ),
    "a password in an address": (
        ("://",),
        re.compile(r"\b[a-z][a-z0-9+.-]{1,20}://[^\s/:@\"'<>]{1,100}:[^\s/:@\"'<>]{3,100}@"),
    ),
}
_URL = re.compile(
    r"\b(https?|wss?|ftps?|file|data|javascript)://([^\s/\"'<>\\)?#]{0,300})", re.IGNORECASE
)
_BLOB = re.compile(rf"(?<![A-Za-z0-9+/_-])[A-Za-z0-9+/_-]{{{BLOB},}}={{0,2}}")
_LOCAL_NAMES = ("localhost", ".localhost", ".local", ".internal", ".lan", ".home.arpa")


def check_plain(path: str, content: bytes, contents: Contents) -> Iterator[Finding]:
    """Notes and licences must be text."""
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as trouble:
        detail = f"It is not UTF-8 at byte {trouble.start}; save it as UTF-8."
        yield error("text_invalid", detail, path, content.count(b"\n", 0, trouble.start) + 1)
        return
    if found := re.search(r"[\x00-\x08\x0e-\x1f]", text):
        detail = "It has control characters, so it is not text; remove them."
        yield error("text_invalid", detail, path, text.count("\n", 0, found.start()) + 1)


def check_json(path: str, content: bytes, contents: Contents) -> Iterator[Finding]:
    """JSON must be UTF-8, maybe with a byte order mark, have unique keys and 32 levels at most."""
    from mosis.errors import Malformed

    try:
        load_json(content.removeprefix(b"\xef\xbb\xbf"))
    except Malformed as trouble:
        line = re.search(r"line (\d+)", trouble.detail)
        yield error(
            "json_malformed",
            trouble.detail.replace("The body", "It"),
            path,
            int(line[1]) if line else None,
        )


def look(path: str, content: bytes) -> Iterator[Finding]:
    """Remarks for the reviewer about any text."""
    text = content.decode("utf-8", "replace")
    counts: Counter[str] = Counter()
    for finding in chain(
        _secrets(path, text), _addresses(path, text), _lines(path, text), _blobs(path, text)
    ):
        counts[finding.code] += 1
        if counts[finding.code] <= EACH:
            yield finding


def _secrets(path: str, text: str) -> Iterator[Finding]:
    for what, (parts, pattern) in _SECRETS.items():
        if any(part in text for part in parts) and (found := pattern.search(text)):
            detail = f"It seems to hold {what}, beginning with {found[0][:6]!r}; everybody who has the app can read it."
            yield warning("secret_found", detail, path, _line(text, found.start()))


def _addresses(path: str, text: str) -> Iterator[Finding]:
    seen = set()
    for found in _URL.finditer(text) if "://" in text else ():
        scheme, host = found[1].lower(), _host(found[2])
        if (scheme, host) in seen:
            continue
        seen.add((scheme, host))
        if _is_private(host):
            detail = f"{shown(found[0])} is an address of a private network."
            yield warning("url_private", detail, path, _line(text, found.start()))
        elif scheme not in ("https", "wss"):
            yield warning(
                "url_insecure",
                f"{shown(found[0])} is not encrypted.",
                path,
                _line(text, found.start()),
            )


def _lines(path: str, text: str) -> Iterator[Finding]:
    for number, line in enumerate(text.split("\n"), 1):
        if len(line) > LONG_LINE:
            detail = f"This line has {len(line)} characters, too many to read."
            yield info("long_line", detail, path, number)


def _blobs(path: str, text: str) -> Iterator[Finding]:
    if max(map(len, text.split("\n"))) < BLOB:
        return
    for found in _BLOB.finditer(text):
        detail = f"{len(found[0])} characters without a break, as in base64: {shown(found[0], 24)}."
        yield info("base64_blob", detail, path, _line(text, found.start()))


def _host(authority: str) -> str:
    host = authority.rpartition("@")[2].lower()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].rstrip(".,;")


def _is_private(host: str) -> bool:
    """Whether a host is this machine or a private network, also as label, octal or hex."""
    if host == "localhost" or host.endswith(_LOCAL_NAMES) or re.fullmatch(r"0x[0-9a-f]+|\d+", host):
        return True
    if re.fullmatch(r"[0-9a-fx.]+", host) and any(
        re.fullmatch(r"0[0-9x].*", part) for part in host.split(".")
    ):
        return True  # 0177.0.0.1 and 0x7f.0.0.1
    if re.fullmatch(r"\d+(?:\.\d+){1,2}", host):
        return True  # 127.1 and 10.0.1: no host name ends in a number
    try:
        return not ipaddress.ip_address(host).is_global
    except ValueError:
        return False


def _line(text: str, place: int) -> int:
    return text.count("\n", 0, place) + 1

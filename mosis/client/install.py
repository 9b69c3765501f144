"""`install`, `verify`: what a careful device does, and the reference for authors of devices.

1. The signed index: a signature by a known key, a sequence that is not lower than the last one, not expired.
2. The signing key of the app: the same as at the last installation, unless the user accepts the new one.
3. The package: size and SHA-256 as in the index; an interrupted download is resumed.
4. The archive: every rule of the portal, and the developer's signature by the key whose fingerprint is in the index.
5. The folder: unpacked beside the old version, flushed to the disk, and renamed. After an interruption the next run
   restores the old version first.
"""

import base64
import contextlib
import glob
import hashlib
import http.client
import json
import os
import re
import shutil
import tempfile
from argparse import Namespace
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mosis import packages
from mosis.client import check as checks
from mosis.client import signing
from mosis.client.api import (
    ANSWER_BYTES,
    Portal,
    Problem,
    absolute,
    problem_of,
    reason,
    request,
    segment,
)
from mosis.client.config import Config
from mosis.client.output import DONE, FAILED, REFUSED, USAGE, Output, Stop, printable
from mosis.errors import Invalid, Malformed, PortalError
from mosis.packages.archive import Archive
from mosis.packages.ed25519 import NoEd25519
from mosis.packages.ed25519 import verify as verified
from mosis.packages.signature import CERTIFICATE, fingerprint, parse_public_key
from mosis.validation.strict_json import load_json

INDEX_BYTES = 256 << 20
REDIRECTS = 3
TRIES = 5  # connections in a row that bring nothing
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")


def install(portal: Portal, output: Output, args: Namespace) -> int:
    """Fetch, verify and unpack the version that the store offers."""
    entry = find(read_index(portal, output, args.store_key), args.package)
    target = Path(args.to or args.package).resolve()
    with portal.config.lock("install"):
        restore(target)
        _check_target(target, args.package)
        _check_signer(portal, entry, args.accept_key)
        cache = portal.config.folder / "downloads"
        cache.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = cache / f"{entry['sha256']}.mosis"
        owner, app = segment(entry["developer_id"]), segment(entry["app_id"])
        address = f"{portal.url}/packages/{owner}/{app}/{segment(entry['version'])}/package.mosis"
        fetch(portal, address, path, limit_bytes=entry["size_bytes"], tag=entry["sha256"])
        try:
            signed = check_against(path, entry)
            unpack(path, target)
        finally:
            path.unlink(missing_ok=True)
        portal.config.write_state(
            {"signing_key": entry["signing_key_fingerprint"]}, *_signer_state(portal, entry)
        )
    if not signed:
        output.note("the developer's signature was not checked: the package does not carry the public key;"
                    " its bytes are those that the store has signed")  # fmt: skip
    facts = {name: entry[name] for name in ("package_id", "version", "version_code", "sha256")}
    output.result(
        facts | {"folder": str(target), "signature": "verified" if signed else "no certificate"},
        f"{printable(entry['package_id'])} {printable(entry['version'])} is in {target}",
    )
    return DONE


def verify(config: Config, portal: Portal | None, output: Output, args: Namespace) -> int:
    """Check a package's archive, digests and signature; with `--store` also by the index."""
    path = Path(args.file)
    keys = {each: signing.read_public(each) for each in args.key or ()}
    embedded = _certificate(path)
    if not keys and embedded:
        keys = {fingerprint(embedded): embedded}
    report = checks.check_package(path, None, keys)
    signer = next((key for key in keys.values() if checks.is_signed_by(path, key)), None)
    facts: dict[str, Any] = {"signer": fingerprint(signer) if signer else None}
    if args.store and not report.blocking:
        assert portal is not None
        entry = find(
            read_index(portal, output, args.store_key), str(checks.manifest_in(path)["id"])
        )
        check_against(path, entry)
        facts["store"] = portal.url
    if signer and not args.key and not args.store:
        output.note(
            f"signed by {fingerprint(signer)}, as the package itself says; compare it, or use --key or --store"
        )
    return checks.show(output, report, str(path), None, **facts)


def read_index(portal: Portal, output: Output, store_key: str | None) -> dict[str, Any]:
    """The store's signed index. Its keys and its highest sequence are stored; the first time, the keys
    come from `store_key` or, with a note, from the store itself. Raises Stop for an index that is
    forged, replayed, expired or malformed."""
    with portal.config.lock("index"):
        state = portal.config.read_state("index", portal.url)
        if store_key:
            pinned = base64.b64encode(signing.read_public(store_key)).decode()
            if pinned not in state.get("keys", [pinned]):
                detail = "--store-key is another key than this machine knows for this store."
                raise Stop(detail, REFUSED)
            state = {"keys": [pinned], "sequence": state.get("sequence", 0)}
        elif not state:
            document = portal.get("/.well-known/mosis-store-key", public=True)
            keys = _public_keys(document)
            state = {"keys": keys, "sequence": 0}
            shown = ", ".join(fingerprint(base64.b64decode(each)) for each in keys)
            output.note(
                f"first contact with {portal.url}: trusting its key {shown}. Compare it, or say --store-key."
            )
        index, signatures = _fetch_index(portal)
        document, state = check_index(index, signatures, state, datetime.now(UTC))
        portal.config.write_state(state, "index", portal.url)
    return document


def check_index(
    index: bytes, signatures: bytes, state: dict[str, Any], now: datetime
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The index, and the state to store: {keys: [base64], sequence}. Nothing of the index is read before
    a signature by a known key is verified. Raises Stop."""
    try:
        made = {
            each["key"]: base64.b64decode(each["signature"])
            for each in json.loads(signatures)["signatures"]
        }
        pinned = [base64.b64decode(key) for key in state["keys"]]
    except (ValueError, KeyError, TypeError):
        raise Stop("The signatures of the index cannot be read.", REFUSED) from None
    try:
        if not any(verified(key, made.get(fingerprint(key), b""), index) for key in pinned):
            raise Stop("No key that this machine knows has signed the store's index.", REFUSED)
    except NoEd25519 as error:
        raise Stop(str(error)) from None
    try:
        document = load_json(index)
        sequence = int(document["sequence"])
        expired = datetime.fromisoformat(document["expires_at"]) <= now
    except (KeyError, TypeError, ValueError, Malformed):
        raise Stop("The index has a valid signature, but it is not an index.", REFUSED) from None
    if sequence < state["sequence"]:
        raise Stop(
            f"The index is older than the last one: its sequence is {sequence}, the last was"
            f" {state['sequence']}. The store, or somebody in between, sends an old copy.",
            REFUSED,
        )
    if expired:
        raise Stop(
            f"The index expired at {document['expires_at']}: the store, or somebody in between, holds"
            " the newer one back; or the clock of this machine is wrong.",
            REFUSED,
        )
    return document, {"keys": _public_keys(document), "sequence": sequence}


def _public_keys(document: Any) -> list[str]:
    """The public keys in an index or in the store's key document, as base64. Raises Stop."""
    try:
        keys = [str(each["public_key"]) for each in document["keys"]]
        if keys and all(len(base64.b64decode(key, validate=True)) == 32 for key in keys):
            return keys
    except (KeyError, TypeError, ValueError):
        pass
    raise Stop("The store names no Ed25519 key that signs its index.", REFUSED)


ENTRY = {
    "package_id": str, "version": str, "version_code": int, "developer_id": str, "app_id": str, "size_bytes": int,
    "sha256": str, "signing_key_fingerprint": str,
}  # fmt: skip


def find(index: dict[str, Any], package_id: str) -> dict[str, Any]:
    """An app's entry of the index. Raises Stop where there is none, or where it is malformed."""
    apps = index.get("apps")
    for entry in apps if isinstance(apps, list) else []:
        if isinstance(entry, dict) and entry.get("package_id") == package_id:
            good = all(isinstance(entry.get(name), kind) for name, kind in ENTRY.items())
            if not good or not _SHA256.match(entry["sha256"]):
                raise Stop(f"The index describes {package_id!r} in an unknown form.", REFUSED)
            return dict(entry)
    detail = f"The store does not offer {package_id!r} to everybody on the stable channel."
    raise Stop(detail, REFUSED)


def fetch(
    portal: Portal,
    address: str,
    path: Path,
    *,
    limit_bytes: int,
    tag: str | None = None,
    credential: str | None = None,
) -> None:
    """Fetch a file; with its SHA-256 as tag, an earlier attempt (`.part`) goes on. Raises Stop."""
    part = path.with_suffix(".part")
    if tag is None:
        part.unlink(missing_ok=True)
    trouble, tries, best = "", 0, 0
    while tries < TRIES:
        have = part.stat().st_size if part.exists() else 0
        tries, best = (0, have) if have > best else (tries + 1, best)
        headers = {"Authorization": f"Bearer {credential}"} if credential else {}
        if have:
            headers |= {"Range": f"bytes={have}-", "If-Range": f'"{tag}"'}
        try:
            with _following(address, headers) as answer:
                if answer.status == 416:
                    part.unlink(missing_ok=True)
                    continue
                if answer.status not in (200, 206):
                    raise problem_of(answer)
                _save(portal.output, answer, part, have if answer.status == 206 else 0, limit_bytes)
            os.replace(part, path)
            return
        except OSError as error:
            trouble = reason(error)
    raise Stop(
        f"{address} cannot be fetched ({trouble}). Run the same command again"
        + (": it resumes where it stopped." if tag else "."),
        FAILED,
    )


@contextlib.contextmanager
def _following(address: str, headers: dict[str, str]) -> Iterator[http.client.HTTPResponse]:
    """A GET that follows redirects: the store may have its packages elsewhere. What is there gets no
    credential and no entity tag of the portal. Raises Stop."""
    for _ in range(REDIRECTS + 1):
        with request("GET", address, headers=headers) as answer:
            place = answer.headers.get("Location")
            if answer.status not in (302, 303, 307, 308) or not place:
                yield answer
                return
            target = absolute(address, place)
        if address.startswith("https:") and not target.startswith("https:"):
            raise Stop(f"{address} leads to {target}, which is not encrypted.", REFUSED)
        address, headers = target, {key: headers[key] for key in headers if key == "Range"}
    raise Stop(f"{address} leads on and on; it is not fetched.", FAILED)


def check_against(path: Path, entry: dict[str, Any]) -> bool:
    """Compare a file with its entry of the signed index; whether the developer's signature was checked
    too. Raises Stop for a file that differs in any way."""
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != entry["sha256"] or path.stat().st_size != entry["size_bytes"]:
        detail = f"The package is not the one that the store has signed: its SHA-256 is {digest}."
        raise Stop(detail, REFUSED)
    raw = _certificate(path)
    if raw is None:
        return False
    if fingerprint(raw) != entry["signing_key_fingerprint"]:
        raise Stop("The package carries another public key than the store's index names.", REFUSED)
    try:
        packages.inspect(path, package_id=entry["package_id"], keys={"": raw})
    except Invalid as refusal:
        found = "; ".join(f"{each['code']}: {each['detail']}" for each in refusal.errors[:5])
        raise Stop(
            f"The package is not what it should be: {found}", REFUSED, findings=refusal.errors
        ) from None
    except NoEd25519 as error:
        raise Stop(str(error)) from None
    return True


def unpack(path: Path, target: Path) -> None:
    """Unpack a package into a folder, whole or not at all, and replace the version that is there. The
    portal's rules for names, sizes and kinds are checked first, so no file can land elsewhere. Raises
    Stop; the old version is in its place then."""
    target = target.absolute()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        restore(target)
        new = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}.mosis-new-"))
        try:
            with open(path, "rb") as file:
                _extract(Archive(file), new)
            new.chmod(0o755)
            if target.exists():
                target.rename(_old(target))
            new.rename(target)
            _flush_folder(target.parent)
        except BaseException:
            shutil.rmtree(new, ignore_errors=True)
            restore(target)
            raise
        shutil.rmtree(_old(target), ignore_errors=True)
    except packages.Unreadable as error:
        raise Stop(f"The package cannot be unpacked: {error}", REFUSED) from None
    except OSError as error:
        detail = f"{error.filename or target} cannot be written: {error.strerror}"
        raise Stop(detail, REFUSED) from None


def restore(target: Path) -> None:
    """Undo an installation that was interrupted: put the old version back where the new one did not get
    into its place, and remove what is half unpacked."""
    target = target.absolute()
    old = _old(target)
    if old.exists() and not target.exists():
        old.rename(target)
    for rest in target.parent.glob(f".{glob.escape(target.name)}.mosis-new-*"):
        shutil.rmtree(rest, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)


def _old(target: Path) -> Path:
    """Where the replaced version is until the new one is in its place."""
    return target.with_name(f".{target.name}.mosis-old")


def _flush_folder(folder: Path) -> None:
    """Make renames in a folder durable, where the system can (Windows cannot open folders)."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _extract(archive: Archive, folder: Path) -> None:
    if archive.findings:
        raise Stop(f"The package is not what it should be: {archive.findings[0].detail}", REFUSED)
    for name, member in archive.members.items():
        place = folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        with open(place, "xb") as file:
            for block in archive.blocks(member):
                file.write(block)
            file.flush()
            os.fsync(file.fileno())


def _signer_state(portal: Portal, entry: dict[str, Any]) -> tuple[str, str, str]:
    return "signer", portal.url, str(entry["package_id"])


def _check_signer(portal: Portal, entry: dict[str, Any], accepted: str | None) -> None:
    """Raises Stop for an app that another key signs than at its last installation from this store, unless
    the user accepts that key: somebody else may have taken over the app or its account."""
    before = portal.config.read_state(*_signer_state(portal, entry)).get("signing_key")
    now = entry["signing_key_fingerprint"]
    if before is None or now in (before, accepted):
        return
    raise Stop(
        f"{entry['package_id']} {entry['version']} is signed by another key, {now}, than the version that"
        f" was installed before, {before}. Ask the developer whether the key has changed; then run the"
        f" same command with --accept-key {now}",
        REFUSED,
    )


def _check_target(target: Path, package_id: str) -> None:
    """Raises Stop for a folder that holds something else than this app."""
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return
    try:
        installed = load_json(target.joinpath("manifest.json").read_bytes())["id"]
    except (OSError, Malformed, KeyError, TypeError):
        installed = None
    if installed != package_id or not target.joinpath("META-INF").is_dir():
        raise Stop(f"{target} holds something else; name another folder with --to.", USAGE)


def _fetch_index(portal: Portal) -> tuple[bytes, bytes]:
    """The index and its signatures, which name its address: so both fit, whatever changes in between."""
    address = f"{portal.url}/v1/store/index.json.sig"
    for _ in range(3):
        signatures = _download(portal, address, ANSWER_BYTES)
        try:
            place = str(json.loads(signatures)["index_url"])
        except (ValueError, KeyError, TypeError):
            raise Stop("The signatures of the index cannot be read.", FAILED) from None
        try:
            return _download(portal, absolute(address, place), INDEX_BYTES), signatures
        except Problem as problem:
            if problem.status != 404:
                raise
    raise Stop("No index was found that fits its signatures; try again.", FAILED)


def _download(portal: Portal, address: str, limit_bytes: int) -> bytes:
    with tempfile.TemporaryDirectory(prefix="mosis-") as folder:
        path = Path(folder, "answer")
        fetch(portal, address, path, limit_bytes=limit_bytes)
        return path.read_bytes()


def _save(
    output: Output, answer: http.client.HTTPResponse, part: Path, start: int, limit_bytes: int
) -> None:
    done, announced = start, answer.headers.get("Content-Length") or ""
    total = start + int(announced) if announced.isdigit() else limit_bytes
    with open(part, "r+b" if start else "wb") as file:
        file.seek(start)
        while block := answer.read(64 * 1024):
            done += len(block)
            if done > limit_bytes:
                file.close()
                part.unlink(missing_ok=True)
                detail = f"The portal sends more than the {limit_bytes} bytes that were announced."
                raise Stop(detail, REFUSED)
            file.write(block)
            if total > 1 << 20:
                output.progress("Fetching", done, total)
    output.end_progress()
    if announced.isdigit() and done < total:
        raise ConnectionError("the connection broke")


def _certificate(path: Path) -> bytes | None:
    """The public key in a package; it proves nothing by itself."""
    try:
        return parse_public_key(packages.read_file(path, CERTIFICATE, 1024).decode("ascii"))
    except (KeyError, packages.Unreadable, UnicodeDecodeError, PortalError, OSError):
        return None

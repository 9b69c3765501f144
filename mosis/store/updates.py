"""Which version a device is offered, by channel, rollout and Mosis version."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from itertools import groupby

from mosis.context import Context
from mosis.database import Connection
from mosis.errors import NotFound
from mosis.packages import is_package_id, version_key
from mosis.records import dataclass
from mosis.store.revisions import app_revisions

MOST_APPS = 500
OFFER_BYTES = 1_500  # of an offer with its JSON, without the release notes, by tracemalloc
LONGEST_DEVICE = 128
LONGEST_AGE_DAYS = 90  # the longest cooldown


@dataclass(frozen=True)
class Device:
    """What a device reports about itself. Without an `id` it is in no partial rollout; without a
    Mosis version, no version is too new for it."""

    channel: str = "stable"
    id: str = ""
    mosis_version: str = ""
    min_age_days: int = 0  # it wants nothing that was published later, but for security releases


@dataclass
class Offer:
    """A published version: the fields that update checks need."""

    package_id: str
    app_id: str
    developer_id: str
    version_id: str
    version: str
    version_code: int
    channel: str
    rollout_percent: float
    size_bytes: int
    sha256: str
    permissions: str
    min_mosis_version: str
    release_notes: str
    published_at: str
    security: int
    shown: bytes = b""  # its JSON in the response, once it has been made


def updates(
    env: Context, db: Connection, installed: Mapping[str, int], device: Device
) -> list[Offer]:
    """Versions newer than the installed ones {package_id: version_code}, in the given order;
    unknown apps are skipped. A device stays in a rollout while its share grows, so it never goes
    back to an older version."""
    before, runs = published_before(env, device.min_age_days), _runs(device)
    chosen = []
    for app, code in zip(_offers(env, db, installed), installed.values(), strict=True):
        if app is None or app.newest_code <= code:
            continue
        if app.for_all and not before and (runs is None or app.offers[0][1] <= runs):
            chosen.append(app.newest)
        elif best := _best(app, device, runs, code, before):
            chosen.append(best)
    return chosen


def offered(env: Context, db: Connection, package_id: str, device: Device) -> Offer:
    """The version offered to a device that does not have the app. Raises NotFound."""
    before = published_before(env, device.min_age_days)
    [app] = _offers(env, db, [package_id])
    best = _best(app, device, _runs(device), 0, before) if app else None
    if best is not None:
        return best
    raise NotFound("app in the store, or no version of it fits this device")


def in_rollout(placing: bytes, version_id: str, device_id: str, percent: float) -> bool:
    """Whether a device is in this share of a version's devices. A keyed hash decides, so that
    nobody can choose a side, and each version orders the devices differently."""
    if percent >= 100:
        return True
    if not device_id:
        return False
    digest = hashlib.blake2b(
        f"{version_id}:{device_id}".encode("utf-8", "surrogatepass"), key=placing, digest_size=8
    ).digest()
    return int.from_bytes(digest, "big") * 100 < percent * (1 << 64)


Needs = tuple[object, ...]  # the sort key of a min_mosis_version


@dataclass
class _Offers:
    """The offers of one app, newest first, of which there is at least one."""

    placing: bytes
    offers: tuple[tuple[Offer, Needs], ...]
    newest: Offer
    newest_code: int
    for_all: bool  # whether the newest is for all channels and devices


def published_before(env: Context, min_age_days: int) -> str:
    """The latest publication that is this many days old; "" without a cooldown."""
    return env.clock.now(-min_age_days * 86_400) if min_age_days else ""


def _runs(device: Device) -> Needs | None:
    return version_key(device.mosis_version) if device.mosis_version else None


def _best(
    app: _Offers, device: Device, runs: Needs | None, installed_code: int, before: str
) -> Offer | None:
    for offer, needs in app.offers:
        if offer.version_code <= installed_code:
            return None
        if before and offer.published_at > before and not offer.security:
            continue
        if offer.channel != "stable" and offer.channel != device.channel:
            continue
        if runs is not None and needs > runs:
            continue
        if in_rollout(app.placing, offer.version_id, device.id, offer.rollout_percent):
            return offer
    return None


def _offers(env: Context, db: Connection, package_ids: Iterable[str]) -> list[_Offers | None]:
    """The offers of each of these different apps, cached until the app changes: most update checks read
    no rows. None for unknown apps, which are not cached; everything missing is read by one query."""
    asked = app_revisions(env, package_ids)
    found: list[_Offers | None] = env.cache.get_many(asked, room="offers")
    if not all(found):
        missing = [each for each, app in zip(asked, found, strict=True) if app is None]
        placing, read = db.value("SELECT placing FROM store_state"), {}
        for package_id, offers in _read(db, list(filter(is_package_id, missing))).items():
            newest = offers[0][0]
            for_all = newest.channel == "stable" and newest.rollout_percent >= 100
            app = _Offers(placing, offers, newest, newest.version_code, for_all)
            size = sum(OFFER_BYTES + 2 * len(offer.release_notes) for offer, _ in offers)
            env.cache.put(package_id, asked[package_id], app, size, room="offers")
            read[package_id] = app
        found = [app or read.get(each) for each, app in zip(asked, found, strict=True)]
    return found


def _read(db: Connection, package_ids: list[str]) -> dict[str, tuple[tuple[Offer, Needs], ...]]:
    """What devices can be offered of these apps, by package id, newest first."""
    sql = (
        "SELECT a.package_id, a.id, a.developer_id, v.id, v.version, v.version_code, v.channel, v.rollout_percent, v.size_bytes,"
        " v.sha256, v.permissions, v.min_mosis_version, v.release_notes, v.published_at, v.security"
        " FROM json_each(?) asked CROSS JOIN apps a ON a.package_id = asked.value"
        " JOIN developers d ON d.id = a.developer_id JOIN versions v ON v.app_id = a.id"
        " WHERE a.suspended = 0 AND d.suspended = 0 AND v.state = 'published'"
        " ORDER BY a.package_id, v.version_code DESC, v.channel DESC"
    )
    rows = db.all(sql, json.dumps(package_ids), into=Offer)
    return {
        package_id: _reachable(offers, db.clock.now(-LONGEST_AGE_DAYS * 86_400))
        for package_id, offers in groupby(rows, key=lambda offer: offer.package_id)
    }


def _reachable(rows: Iterable[Offer], old: str) -> tuple[tuple[Offer, Needs], ...]:
    """The offers without those that can never apply: a version is left out if every device that
    could get it can get a newer one, with the longest cooldown too: one published before `old`."""
    chosen: list[tuple[Offer, Needs]] = []
    # by channel: requirements of the newer versions for everybody
    least: dict[str, Needs] = {}
    for offer in rows:
        needs = version_key(offer.min_mosis_version)
        if any(
            channel in least and least[channel] <= needs for channel in ("stable", offer.channel)
        ):
            continue
        chosen.append((offer, needs))
        if offer.rollout_percent >= 100 and (offer.published_at <= old or offer.security):
            least[offer.channel] = needs
    return tuple(chosen)

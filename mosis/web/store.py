"""The store for devices: the catalogue, the bytes of packages, the icons. Everything here is public."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote

import bottle

from mosis import packages
from mosis.caller import Caller
from mosis.context import Context
from mosis.database import Connection
from mosis.errors import MalformedRequest, NotFound, Unavailable
from mosis.publishing import package_files
from mosis.publishing.versions import Version
from mosis.store import downloads, index_keys, listings, published_index, search, signed_index
from mosis.store import updates as store_updates
from mosis.store.downloads import Picture
from mosis.store.listings import Listing
from mosis.store.published_index import NotHere
from mosis.store.search import Query
from mosis.store.updates import Device, Offer
from mosis.validation import Json, Schema, choice, choices, text
from mosis.validation.strict_json import dump_json as dump
from mosis.web.file_response import send_file
from mosis.web.long_poll import in_turn
from mosis.web.request import listed, read_choice, read_number, read_page
from mosis.web.routing import elsewhere
from mosis.web.schemas import File, list_of, one_of, operation, shape, shown

CHANNELS = ("stable", "beta")
LARGEST_CODE = 2_147_483_647
UPDATES: Schema = {
    "pkgs": {
        "type": "dict",
        "required": True,
        "maxlength": store_updates.MOST_APPS,
        "valuesrules": {"type": "integer", "min": 0, "max": LARGEST_CODE},
    },
    "channel": text(20),
    "device": text(store_updates.LONGEST_DEVICE),
    "mosis_version": text(64),
    "min_age_days": {"type": "integer", "min": 0, "max": store_updates.LONGEST_AGE_DAYS},
}
TEXTS = ("pkgs", "channel", "device", "mosis_version")
ASK_AGAIN = "public, no-cache"  # may be stored, but is revalidated each time
# Clients may cache it without limit, shared caches for a short time only, because it may have to be
# withdrawn.
IMMUTABLE = "public, max-age=31536000, s-maxage=300, immutable"

STORE_APP = shape(
    "StoreApp",
    "package_id name summary description category tags[] homepage? developer icon_url"
    " screenshots:link[] version version_code:int size_bytes:int sha256 permissions[]"
    " min_mosis_version? release_notes download_url downloads:int published_at updated_at",
    developer=shape("", "id name"),
)
STORE_VERSION = shape(
    "StoreVersion",
    "version version_code:int channel size_bytes:int sha256 permissions[] min_mosis_version?"
    " release_notes published_at security:bool",
    channel=one_of(*CHANNELS),
)
OFFER = shape(
    "Update",
    "package_id version version_code:int download_url sha256 size_bytes:int"
    " min_mosis_version? permissions[] release_notes published_at security:bool",
)
SIGNATURES = shape(
    "IndexSignatures",
    "sequence:int sha256 index_url:str signatures[]",
    signatures=shape("", "key signature"),
)
OFFERS = shape("Updates", "updates[]", updates=OFFER)
CATEGORY = shape("Category", "name apps:int")
STORE_KEYS = shape(
    "StoreKeys",
    "keys[]",
    keys=shape(
        "StoreKey",
        "fingerprint algorithm public_key created_at announced_until?",
        algorithm={"const": "Ed25519"},
    ),
)
COOLDOWN: Schema = {
    "min_age_days": {
        "type": "integer",
        "min": 0,
        "max": store_updates.LONGEST_AGE_DAYS,
        "meta": (
            "Leaves out versions that were published within this many days, "
            "except security releases."
        ),
    }
}
INDEX: Schema = {
    "min_age_days": {
        "type": "integer",
        "allowed": [*signed_index.AGES],
        "meta": "The index with this cooldown; a separate index that contains `min_age_days`.",
    }
}
SEARCH: Schema = {
    "q": text(4000, meta="Any text; the first 8 words are used."),
    "category": text(100, meta="Only apps of this category."),
    "tag": text(100, meta="Only apps with this tag."),
    "sort": choice(search.SORTS, meta="The order (default: best match first)."),
}
DEVICE: Schema = {
    "channel": choice(("", *CHANNELS), meta="Default: `stable`."),
    "device": text(
        store_updates.LONGEST_DEVICE,
        meta="Any constant text of the device; determines its place in rollouts.",
    ),
    "mosis_version": text(
        64, meta="The device's version of Mosis; leaves out versions that need a newer one."
    ),
}
DEVICE |= COOLDOWN
PKGS: Schema = {"pkgs": text(32_768, meta="`com.acme.notes:12,com.acme.todo:3`, up to 500.")}
OF_PICTURE: Schema = {"v": text(100, meta="The version's id, as in responses.")}


def routes(app: bottle.Bottle) -> None:
    app.get("/store/apps", callback=index, scope="public", cache="store")
    app.get("/store/apps/<package_id>", callback=show, scope="public", cache="store")
    app.get("/store/apps/<package_id>/versions", callback=history, scope="public", cache="store")
    app.get("/store/apps/<package_id>/download", callback=download, scope="public")
    app.get("/store/categories", callback=categories, scope="public", cache="store")
    app.get("/store/updates", callback=updates, scope="public")
    app.post("/store/updates", callback=updates_of_many, scope="public")
    app.get("/store/index.json", callback=index_json, scope="public")
    app.get(
        "/store/index.json.sig", callback=index_signatures, scope="public", cache_control=ASK_AGAIN
    )
    app.get("/store/index/<sequence>.json", callback=index_numbered, scope="public")
    app.get("/.well-known/mosis-store-key", callback=store_key, scope="public")
    app.get(
        "/packages/<developer_id>/<app_id>/<version>/package.mosis",
        callback=package,
        scope="public",
    )
    app.get("/assets/<app_id>/icon-<size:int>.png", callback=icon, scope="public")
    app.get("/assets/<app_id>/screenshot-<number:int>", callback=screenshot, scope="public")


@operation(list_of("apps", STORE_APP), query=SEARCH | COOLDOWN)
def index(env: Context, db: Connection) -> Json:
    """Published apps: all, or those that match a search; any text is a valid search."""
    query = bottle.request.query
    sort = read_choice("sort", *search.SORTS, default="") or ""
    query = Query(
        query.getunicode("q", ""),
        query.getunicode("category", ""),
        query.getunicode("tag", ""),
        sort,
        store_updates.published_before(env, read_age()),
    )
    page = search.index(db, read_page(*search.position_types(query)), query)
    return listed("apps", page, [public(env, listing) for listing in page.rows])


@operation(STORE_APP, query=COOLDOWN)
def show(env: Context, db: Connection, package_id: str) -> Json:
    """One published app."""
    return public(
        env, listings.get(db, package_id, store_updates.published_before(env, read_age()))
    )


@operation(list_of("versions", STORE_VERSION))
def history(env: Context, db: Connection, package_id: str) -> Json:
    """The published versions of an app, newest first."""
    page = listings.history(db, package_id, read_page(str, str))
    return listed("versions", page, [shown(STORE_VERSION, version) for version in page.rows])


@operation(list_of("categories", CATEGORY))
def categories(db: Connection) -> Json:
    """The categories by name, each with the number of its apps."""
    page = listings.categories(db, read_page(str))
    return listed("categories", page, [{"name": name, "apps": count} for name, count in page.rows])


@operation({302: None}, query=DEVICE)
def download(env: Context, db: Connection, package_id: str) -> bottle.HTTPResponse:
    """Redirect to an app's package."""
    offer = store_updates.offered(env, db, package_id, read_device(query_of_updates(), read_age()))
    return bottle.HTTPResponse(
        b"", 302, {"Location": env.url(package_path(offer)), "Cache-Control": "no-store"}
    )


@operation(OFFERS, query=DEVICE | PKGS)
def updates(env: Context, db: Connection) -> bytes:
    """Newer versions of the installed apps: pkgs=com.acme.notes:12,com.acme.todo:3."""
    query = query_of_updates()
    pairs = [pair.rpartition(":") for pair in query.get("pkgs", "").split(",") if pair]
    names, _, texts = zip(*pairs, strict=True) if pairs else ((), (), ())
    codes = _codes(texts)
    if codes is None or len(pairs) > store_updates.MOST_APPS:
        detail = f"pkgs is up to {store_updates.MOST_APPS} apps, such as com.acme.notes:12,com.acme.todo:3."
        raise MalformedRequest(detail)
    installed = dict(zip(names, codes, strict=True))
    if len(installed) < len(pairs):
        raise MalformedRequest("pkgs names an app more than once.")
    return shown_updates(env, db, installed, read_device(query, read_age()))


@operation(OFFERS, body=UPDATES)
def updates_of_many(env: Context, db: Connection, body: Json) -> bytes:
    """The same as JSON, for up to 500 apps."""
    device = read_device(body, body.get("min_age_days", 0))
    return shown_updates(env, db, body["pkgs"], device)


def _codes(texts: Sequence[str]) -> list[int] | None:
    """Version codes in a query; None if one is none."""
    together = "".join(texts) or "0"
    if not (together.isascii() and together.isdigit() and all(texts)):
        return None
    codes = list(map(int, texts)) if max(map(len, texts), default=0) <= 10 else [LARGEST_CODE + 1]
    return codes if max(codes, default=0) <= LARGEST_CODE else None


def query_of_updates() -> dict[str, str]:
    query = bottle.request.query
    return {name: query.getunicode(name, "") for name in TEXTS if name in query}


def read_age() -> int:
    """The requested cooldown in days. Raises Malformed."""
    return read_number("min_age_days", store_updates.LONGEST_AGE_DAYS)


def read_index_age() -> int:
    """As `read_age`, for an index. Raises Malformed."""
    age = bottle.request.query.get("min_age_days", "0")
    if age not in ("0", *map(str, signed_index.AGES)):
        raise MalformedRequest(choices.one_of(age, signed_index.AGES, "min_age_days"))
    return int(age)


def read_device(query: Mapping[str, str], min_age_days: int) -> Device:
    """What a device reports about itself, in a query or a JSON object. Raises Malformed."""
    device = Device(
        query.get("channel") or "stable",
        query.get("device") or "",
        query.get("mosis_version") or "",
        min_age_days,
    )
    if device.channel not in CHANNELS:
        raise MalformedRequest(choices.one_of(device.channel, CHANNELS, "channel"))
    if len(device.id) > store_updates.LONGEST_DEVICE:
        detail = f"device may have at most {store_updates.LONGEST_DEVICE} characters."
        raise MalformedRequest(detail)
    if device.mosis_version and not packages.is_version(device.mosis_version):
        raise MalformedRequest("mosis_version must be a semantic version such as 1.4.0.")
    return device


def shown_updates(
    env: Context, db: Connection, installed: Mapping[str, int], device: Device
) -> bytes:
    """The response, joined from parts of cached offers: most devices ask about the same."""
    offers = store_updates.updates(env, db, installed, device)
    parts = [offer.shown or _shown_offer(env, offer) for offer in offers]
    return b'{"updates":[' + b",".join(parts) + b"]}"


def _shown_offer(env: Context, offer: Offer) -> bytes:
    address = env.url(package_path(offer))
    offer.shown = dump(shown(OFFER, offer, download_url=address))
    return offer.shown


@operation(File("application/json", ranges=True), query=INDEX)
def index_json(env: Context, db: Connection) -> bottle.HTTPResponse:
    """The whole catalogue as one signed document."""
    try:
        found = signed_index.current_index(env, db, read_index_age())
    except NotHere:
        return at_primary(env)
    file = opened(found.path)
    return send_file(
        file,
        found.size_bytes,
        sha256=found.sha256,
        content_type="application/json",
        changed_at=found.created_at,
        cache_control=ASK_AGAIN,
        gzipped=_gzipped(env, found.sequence),
    )


@operation(SIGNATURES, query=INDEX, refuses="package_unavailable")
def index_signatures(env: Context, db: Connection) -> bytes | bottle.HTTPResponse:
    """The address of the newest index, and the signatures of its exact bytes."""
    try:
        return signed_index.current_index(env, db, read_index_age()).signatures
    except NotHere:
        return at_primary(env)


@operation(File("application/json", ranges=True))
def index_numbered(env: Context, sequence: str) -> bottle.HTTPResponse:
    """The index with this number; available for ten minutes after it is replaced."""
    if not (sequence.isascii() and sequence.isdigit() and len(sequence) < 20):
        raise NotFound("index")
    try:
        file, size_bytes, sha256 = signed_index.index_at(env, int(sequence))
    except NotHere:  # an older one, or one that only the primary has yet
        return at_primary(env)
    return send_file(
        file,
        size_bytes,
        sha256=sha256,
        content_type="application/json",
        cache_control="public, max-age=600, immutable",
        gzipped=_gzipped(env, int(sequence)),
    )


def _gzipped(env: Context, sequence: int) -> Callable[[], tuple[BinaryIO, int, str] | None] | None:
    """A function that opens the compressed form of an index; None if compression is off."""
    return (lambda: signed_index.gzip_index_at(env, sequence)) if env.config.compression else None


@operation(STORE_KEYS)
def store_key(env: Context) -> Json | bottle.HTTPResponse:
    """The public keys that sign the store's index, the current one first."""
    if not env.read_only:
        return {"keys": index_keys.public_keys(index_keys.index_keys(env))}
    try:
        return {"keys": published_index.announced_keys(env)}
    except NotHere:
        return at_primary(env)


@operation({200: File("application/vnd.mosis.package+zip", ranges=True), 302: None}, refuses="gone")
def package(
    env: Context, db: Connection, caller: Caller, developer_id: str, app_id: str, version: str
) -> bottle.HTTPResponse:
    """The bytes of a published package; counted as a download when all were sent."""
    found = downloads.package(db, developer_id, app_id, version)
    is_get = bottle.request.method == "GET"
    if is_get and (address := package_files.address(env, db, found)):
        return redirected(env, caller, found, address)
    return send_file(
        package_files.open_or_later(env, db, found, in_turn(caller)),
        found.size_bytes,
        sha256=found.sha256,
        content_type="application/vnd.mosis.package+zip",
        name=f"{downloads.package_id(db, app_id)}-{found.version}.mosis",
        cache_control=IMMUTABLE,
        changed_at=found.created_at,
        surrogate_key=app_id,
        sent=lambda sent, ended: downloads.count_download(
            env, caller.client_network, found, sent, ended=ended
        ),
    )


def redirected(env: Context, caller: Caller, version: Version, address: str) -> bottle.HTTPResponse:
    """The address of the package in the bucket or at the CDN. What is sent from there is not seen
    here, so a request for the whole package counts as a download."""
    if bottle.request.get_header("Range") is None:
        size = version.size_bytes
        downloads.count_download(env, caller.client_network, version, size, ended=True)
    return bottle.HTTPResponse(b"", 302, {"Location": address, "Cache-Control": "no-store"})


@operation(File("image/png", ranges=True), query=OF_PICTURE)
def icon(
    env: Context, db: Connection, caller: Caller, app_id: str, size: int
) -> bottle.HTTPResponse:
    """An app's icon in 32, 64 or 128 pixels."""
    return picture(app_id, downloads.icon(env, db, app_id, size, in_turn(caller)))


@operation(File("image/*", ranges=True), query=OF_PICTURE)
def screenshot(
    env: Context, db: Connection, caller: Caller, app_id: str, number: int
) -> bottle.HTTPResponse:
    """A screenshot of an app, counted from 0."""
    return picture(app_id, downloads.screenshot(env, db, app_id, number, in_turn(caller)))


def picture(app_id: str, found: Picture) -> bottle.HTTPResponse:
    """A picture; cached without limit if the address names its version, else for an hour."""
    named = bottle.request.query.get("v") == found.version_id
    return send_file(
        found.file,
        found.size_bytes,
        sha256=found.sha256,
        content_type=found.content_type,
        changed_at=found.created_at,
        cache_control=IMMUTABLE if named else "public, max-age=3600, s-maxage=300",
        surrogate_key=app_id,
    )


def at_primary(env: Context) -> bottle.HTTPResponse:
    """A redirect of a store front end to the same address at the primary."""
    location = elsewhere(env.config.primary_url or "", bottle.request.environ)
    return bottle.HTTPResponse(b"", 307, {"Location": location, "Cache-Control": "no-store"})


def opened(path: Path) -> BinaryIO:
    """A file that existed a moment ago. Raises Unavailable if it has been removed since."""
    try:
        return open(path, "rb")
    except FileNotFoundError:
        detail = "This file was just replaced by a newer one; send the request again."
        raise Unavailable("package_unavailable", detail) from None


def package_path(of: Listing | Offer) -> str:
    return f"/packages/{of.developer_id}/{of.app_id}/{quote(of.version)}/package.mosis"


def public(env: Context, listing: Listing) -> Json:
    assets, version = f"/assets/{listing.app_id}", listing.version_id
    return shown(
        STORE_APP,
        listing,
        developer={"id": listing.developer_id, "name": listing.developer_name},
        icon_url=env.url(f"{assets}/icon-128.png?v={version}"),
        screenshots=[
            env.url(f"{assets}/screenshot-{number}?v={version}")
            for number in range(len(json.loads(listing.screenshots)))
        ],
        download_url=env.url(package_path(listing)),
    )

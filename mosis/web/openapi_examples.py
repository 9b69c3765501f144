"""Example values for the fields of requests and responses in the OpenAPI document."""

from typing import Any

ID = "0198c0de-0000-7000-8000-000000000000"
NOON = "2027-01-31T12:00:00Z"
SHA256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
# By the name of a field or parameter; or by the name of its schema or call and its own name.
EXAMPLES: dict[str, Any] = {
    "path": "assets/main.lua",
    "app": "com.acme.notes",
    "package_id": "com.acme.notes",
    "version": "1.0.0",
    "version_code": 1,
    "email": "ada@example.net",
    "password": "correct horse battery",
    "current_password": "correct horse battery",
    "new_password": "battery staple correct",
    "name": "Notes",
    "summary": "Notes that stay on the device.",
    "description": "Write, search, and keep it to yourself.",
    "category": "productivity",
    "tags": ["notes", "text"],
    "homepage": "https://acme.example/notes",
    "scopes": ["versions:upload"],
    "reason": "It loses notes.",
    "comment": "Very nice.",
    "text": "Which permission is it?",
    "percent": 25,
    "rollout_percent": 25,
    "publish_at": NOON,
    "public_key": "GDJZJ4r0bQVQ0tqjPn2sB0KLwW8SEcW4wuDqKq1l0T0=",
    "user_code": "BCDF-GHJK",
    "pkgs": {"com.acme.notes": 12},
    "id": ID,
    "device_id": "0" * 63 + "1",
    "channel": "stable",
    "client_name": "build machine",
    "batch": ID,
    "day": "2027-01-31",
    "counts": {ID: 12},
    "url": "https://ci.acme.example/mosis",
    "kinds": ["version.published"],
    "timestamp": NOON,
    "app_id": "com.acme.notes",
    "app_version": "1.0.0",
    "mosis_version": "1.4.0",
    "session_id": "5f0c9c52",
    "provider": "github",
    "size": 64,
    "number": 1,
    "sha256": SHA256,
    "size_bytes": 48_213,
    "fingerprint": SHA256,
    "release_notes": "Finds notes by their tags.",
    "permissions": ["storage"],
    "next_step": "Publish it when you like.",
    "findings": [],
    "reasons": [],
    "downloads": 1815,
    "access_token": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIwMTk4In0.c2lnbmF0dXJl",
    "refresh_token": "5hQ1yT0w8xVbq2Lz",
    "expires_in": 900,
    "refresh_expires_in": 2_592_000,
    "token": "Zm9yLW9uZS11c2U",
    "suspended": False,
    "providers": ["password"],
    "mail": {},
    "return_to": "/console/",
    "redirect_url": "https://github.com/login/oauth/authorize?client_id=x&state=y",
    "device_code": "md_Jx0c1RkTqv",
    "verification_uri": "http://localhost:8080/console/device",
    "interval": 5,
    "verification_uri_complete": "http://localhost:8080/console/device?code=BCDF-GHJK",
    "invitation": "aW52aXRhdGlvbg",
    "grant_type": "urn:ietf:params:oauth:grant-type:device_code",
    "prefix": "mk_live_3fKq9Z",
    "secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    "network": "198.51.100.0/24",
    "client": "curl/8.5.0",
    "role": "developer",
    "action": "version.uploaded",
    "hash": SHA256,
    "details": {"app": "com.acme.notes"},
    "internal": False,
    "sequence": 1_800_000_000_000,
    "index_url": "/v1/store/index/1800000000000.json",
    "signature": "c2lnbmF0dXJlIG9mIHRoZSBpbmRleA==",
    "sqlite_version": "3.51.3",
    "disk_free_bytes": 53_687_091_200,
    "queue_age_seconds": 0.1,
    "download_url": f"http://localhost:8080/packages/{ID}/{ID}/1.0.0/package.mosis",
    "icon_url": f"http://localhost:8080/assets/{ID}/icon-128.png?v={ID}",
    "because": ["first_version"],
    "screenshots": [f"http://localhost:8080/assets/{ID}/screenshot-0?v={ID}"],
    "sample_rate": 1,
    "rejected": 0,
    "duplicate": False,
    "errors": [],
    "batches": [],
    "crash_reports": [],
    "days": [],
    "security": False,
    "min_age_days": 7,
    "last": 1815,
    "by": ["day"],
    "total": 1815,
    "Downloads.downloads": [{"day": "2027-01-31", "count": 1815}],
    "Downloads.from": "2027-01-02",
    "Downloads.to": "2027-01-31",
    "steps": [{"percent": 1, "after_hours": 0}, {"percent": 10, "after_hours": 24}],
    "halt_when": {"crash_free_below": 0.99, "sessions_at_least": 200, "compared_with": "previous"},
    "crash_free_share": 0.97,
    "p_value": 0.00002,
    "p_value_bound": 0.005,
    "frames": ["main.lua:12: in function 'save'"],
    "type": "LuaError",
    "message": "bad argument #1 to 'save'",
    "stack_trace": "main.lua:12: in function 'save'\nmain.lua:40: in main chunk",
    "context": {"screen": "editor"},
    "error": "answered 503",
    "kind": "version.published",
    "changed": [],
    "gone": [],
    "added": [],
    "removed": [],
    "Developer.name": "Ada",
    "Me.name": "Ada",
    "auth_register.name": "Ada",
    "auth_me_update.name": "Ada",
    "AuthenticatorSecret.secret": "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP",
    "otpauth_uri": "otpauth://totp/Mosis%20apps%3Aada%40example.net?secret=JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP&issuer=Mosis%20apps",
    "code": "287082",
    "ticket": "ms_" + "3fKq" * 16,
    "recovery_codes": ["k7qm-2hxw-9dtz-v4np"],
    "issuer": "https://token.actions.githubusercontent.com",
    "claims": {"repository_id": "123456789", "ref": "refs/heads/main"},
    "subject_token": "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJodHRwcyJ9.c2lnbmF0dXJl",
    "audience": "com.acme.notes",
    "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
    "scope": "versions:upload",
    "Member.name": "Ada",
    "Member.role": "publisher",
    "app_name": "Notes",
    "ReceivedInvitation.invited_by": "Ada",
    "ApiKey.name": "build machine",
    "NewApiKey.name": "build machine",
    "api_keys_create.name": "build machine",
    "ApiKey.apps": ["com.acme.notes"],
    "NewApiKey.apps": ["com.acme.notes"],
    "NewApiKey.key": "mk_live_" + "3fKq9Z" * 7,
    "api_keys_report.key": "mk_live_" + "3fKq9Z" * 7,
    "SigningKey.name": "laptop",
    "signing_keys_create.name": "laptop",
    "Category.name": "productivity",
    "Category.apps": 12,
    "Copy.name": "20270131T120000Z",
    "Job.kind": "check_version",
    "Notification.text": "com.acme.notes 1.0.0 is published.",
    "Notification.data": {"rollout_percent": 25},
    "Standing.state": "waiting",
    "reviews_reject.reasons": ["crashes"],
    "listing_reviews_reject.reasons": ["metadata"],
    "before": "Notes",
    "after": "Pads",
    "IndexSignatures.key": SHA256,
    "reviews_reject.comment": "It ends when a note is empty.",
    "admin_developers_update.role": "reviewer",
    "telemetry_update.usage_events": False,
    "ReportedMatch.token_hash": "n4bQgYhMfWWaL+qgxVrQFaO/TxsrC4Is0V1sFbDwCgg=",
    "ReportedMatch.token_type": "mosis_api_key",
    "auth_logout.everywhere": True,
    "versions_submit.publish": True,
}


def example_of(name: str, what: dict[str, Any], where: str = "") -> Any:
    """An example for a field with this name and declaration (of either kind of schema), in the
    schema or call `where`."""
    kinds = what.get("type", "")
    kind = kinds if isinstance(kinds, str) else kinds[0]
    words = what.get("enum") or what.get("allowed")
    for known in (f"{where}.{name}", name):
        if known in EXAMPLES and _fits(EXAMPLES[known], kind, words, what.get("format", "")):
            return EXAMPLES[known]
    if words or "const" in what:
        return words[0] if words else what["const"]
    inside = what.get("properties") or (what.get("schema") if kind == "dict" else None)
    if inside:
        where = what.get("title", where)
        return {
            each: example_of(each, rules, where)
            for each, rules in inside.items()
            if "properties" in what or rules.get("required")
        }
    if kind in ("array", "list"):
        items = what.get("items") or what.get("schema")
        return [example_of(name, items, where)] if items and items.get("type") else []
    for choice in what.get("oneOf", ()):
        return example_of(name, choice, where)
    if kind == "null" or ("null" in kinds and isinstance(kinds, list)):
        return None
    formats = {
        "uuid": ID,
        "date-time": NOON,
        "date": NOON[:10],
        "uri-reference": "https://portal.example/",
    }
    plain = {
        "string": formats.get(what.get("format", ""), "text"),
        "integer": 1,
        "number": 1.5,
        "boolean": True,
    }
    return plain.get(kind, {})


def body_of(call: str, schema: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """An example body of a call: its required fields, and those with an example."""
    return {
        name: example_of(name, rules, call)
        for name, rules in schema.items()
        if rules.get("required") or name in EXAMPLES or f"{call}.{name}" in EXAMPLES
    }


def _fits(value: Any, kind: str, words: list[str] | None, format: str) -> bool:
    wanted: dict[str, type | tuple[type, ...]] = {
        "string": str,
        "integer": int,
        "number": (int, float),
        "array": list,
        "list": list,
        "object": dict,
        "dict": dict,
        "boolean": bool,
    }
    if not isinstance(value, wanted.get(kind, ())) or (
        isinstance(value, bool) and kind != "boolean"
    ):
        return False
    return (not words or value in words) and (format != "uuid" or value == ID)

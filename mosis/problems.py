"""The table from error codes to HTTP status and title, and the RFC 9457 document made from it.

It is below web/ and server/ because both send errors: the handlers, and the server for requests
that it cannot parse.
"""

import json
from typing import Any

# code: (status, title). Tests verify that every code that is raised is listed here and in
# docs/API.md.
PROBLEMS: dict[str, tuple[int, str]] = {
    # reading the request
    "malformed_request": (400, "Malformed request"),
    "malformed_json": (400, "Malformed JSON"),
    "bad_cursor": (400, "Bad cursor"),
    "ambiguous_request": (400, "Ambiguous request"),
    "request_timeout": (408, "Request took too long"),
    "length_required": (411, "Length required"),
    "too_large": (413, "Body too large"),
    "uri_too_long": (414, "URI too long"),
    "unsupported_media_type": (415, "Unsupported media type"),
    "expectation_failed": (417, "Expectation failed"),
    "header_too_large": (431, "Header too large"),
    "not_implemented": (501, "Not implemented"),
    "oauth_state_invalid": (400, "Sign-in not started here"),
    "unsupported_grant_type": (400, "Unsupported grant type"),
    # device login (RFC 8628, section 3.5)
    "authorization_pending": (400, "Authorization pending"),
    "slow_down": (400, "Slow down"),
    "access_denied": (400, "Access denied"),
    "invalid_grant": (400, "ID token not taken"),
    "expired_token": (400, "Expired"),
    # authentication and rights
    "unauthenticated": (401, "Not signed in"),
    "invalid_token": (401, "Invalid token"),
    "invalid_credentials": (401, "Invalid credentials"),
    "second_factor_required": (401, "Second factor required"),
    "invalid_code": (401, "Invalid code"),
    "second_factor_missing": (403, "Second factor missing"),
    "insufficient_scope": (403, "Insufficient scope"),
    "forbidden": (403, "Forbidden"),
    "trusted_only": (403, "Trusted publishers only"),
    "limited_to_apps": (403, "Credential limited to apps"),
    "suspended": (403, "Suspended"),
    "prefix_reserved": (403, "Prefix reserved"),
    "signature_invalid": (403, "Signature invalid"),
    "cross_site": (403, "Cross-site request"),
    "form_expired": (403, "Form expired"),
    "https_required": (403, "Needs https"),
    "registration_closed": (403, "Registration closed"),
    "provider_refused": (403, "Refused by the provider"),
    "provider_answer_invalid": (403, "Provider's answer not verified"),
    # the requested object
    "not_found": (404, "Not found"),
    "method_not_allowed": (405, "Method not allowed"),
    "gone": (410, "Gone"),
    "precondition_failed": (412, "Precondition failed"),
    "range_not_satisfiable": (416, "Range not satisfiable"),
    # the state of the object
    "email_taken": (409, "E-mail address taken"),
    "email_not_verified": (409, "E-mail address not verified"),
    "identity_taken": (409, "Identity taken"),
    "last_way_in": (409, "Last way to sign in"),
    "already_member": (409, "Already a member"),
    "last_owner": (409, "Last owner"),
    "package_id_taken": (409, "Package id taken"),
    "version_exists": (409, "Version exists"),
    "version_code_not_higher": (409, "Version code not higher"),
    "signing_key_exists": (409, "Signing key exists"),
    "signing_key_revoked": (409, "Signing key revoked"),
    "limit_reached": (409, "Limit reached"),
    "quota_exceeded": (409, "Quota exceeded"),
    "invalid_state": (409, "Invalid state"),
    "already_decided": (409, "Already decided"),
    "listing_edited": (409, "Listing change edited"),
    "idempotency_in_progress": (409, "Still running"),
    # errors of the server
    "invalid": (422, "Invalid content"),
    "package_rejected": (422, "Package rejected"),
    "digest_mismatch": (422, "Digest mismatch"),
    "idempotency_key_reused": (422, "Idempotency-Key reused"),
    # temporarily not possible
    "rate_limited": (429, "Too many requests"),
    "too_many_uploads": (429, "Too many uploads at once"),
    "internal": (500, "Internal error"),
    "busy": (503, "Busy"),
    "provider_unavailable": (503, "Provider unavailable"),
    "package_unavailable": (503, "Package unavailable"),
    "lease_lost": (503, "Lease lost"),
    "database_unavailable": (503, "Database unavailable"),
    "not_ready": (503, "Not ready"),
    "no_space": (507, "Not enough space"),
}

_documents = {"path": ""}
CONTENT_TYPE = "application/problem+json"


def document_errors_under(path: str) -> None:
    """Set where clients find /docs: the path of BASE_URL. Called once per application."""
    _documents["path"] = path


def status(code: str) -> int:
    """The HTTP status of an error code; an unknown code is a bug, 500."""
    return PROBLEMS.get(code, PROBLEMS["internal"])[0]


def document(
    code: str,
    detail: str,
    request_id: str,
    errors: list[dict[str, Any]] | None = None,
    **facts: Any,
) -> dict[str, Any]:
    """The problem as an object (RFC 9457, section 3.1). `type` is a URI reference to the code's line in the docs."""
    number, title = PROBLEMS.get(code, PROBLEMS["internal"])
    problem: dict[str, Any] = {
        "type": f"{_documents['path']}/docs/errors#{code}",
        "title": title,
        "status": number,
        "detail": detail,
        "code": code,
        "request_id": request_id,
    }
    if errors:
        problem["errors"] = errors
    return problem | facts


def body(code: str, detail: str, request_id: str, **more: Any) -> bytes:
    """The problem as a response body."""
    return json.dumps(document(code, detail, request_id, **more), ensure_ascii=False).encode()

"""Publishing from a build server without a stored secret: the ID token of the build is exchanged for a token
of the portal (RFC 8693)."""

import json
import os
from urllib.parse import quote

from mosis.client.api import Portal, reason, request
from mosis.client.output import FAILED, Stop

GRANT = "urn:ietf:params:oauth:grant-type:token-exchange"
ID_TOKEN = "urn:ietf:params:oauth:token-type:id_token"


def is_available() -> bool:
    """Whether this is a build that has an ID token, or can ask for one. MOSIS_TOKEN comes first.

    GitHub gives jobs with `id-token: write` an address to ask, Forgejo those with
    `enable-openid-connect: true`; GitLab sets the variable that `id_tokens` of the job names.
    """
    if os.environ.get("MOSIS_TOKEN", "").strip():
        return False
    return bool(os.environ.get("MOSIS_ID_TOKEN", "").strip() or _address())


def sign_in(portal: Portal, package_id: str) -> None:
    """Use tokens of a trusted publisher for this app from now on. Raises Stop, Problem."""

    def exchange() -> str:
        answer = portal.post(
            "/auth/token",
            {
                "grant_type": GRANT,
                "subject_token": _id_token(portal.url),
                "subject_token_type": ID_TOKEN,
                "audience": package_id,
            },
            public=True,
        )
        return str(answer["access_token"])

    portal.trust(exchange)


def _address() -> str:
    names = ("ACTIONS_ID_TOKEN_REQUEST_URL", "ACTIONS_ID_TOKEN_REQUEST_TOKEN")
    return os.environ.get(names[0], "") if all(os.environ.get(name) for name in names) else ""


def _id_token(audience: str) -> str:
    """The ID token of this build, for the portal. Raises Stop."""
    if given := os.environ.get("MOSIS_ID_TOKEN", "").strip():
        return given
    address = _address()
    address += f"{'&' if '?' in address else '?'}audience={quote(audience, safe='')}"
    headers = {"Authorization": f"Bearer {os.environ['ACTIONS_ID_TOKEN_REQUEST_TOKEN']}"}
    try:
        with request("GET", address, None, headers) as answer:
            content = answer.read(1 << 20)
            found = json.loads(content).get("value") if answer.status == 200 else None
    except OSError as error:
        raise Stop(f"The build server gives no ID token: {reason(error)}.", FAILED) from None
    except (ValueError, AttributeError):
        found = None
    if not isinstance(found, str) or not found:
        detail = "The build server gives no ID token: the job needs `permissions: id-token: write`."
        raise Stop(detail, FAILED)
    return found

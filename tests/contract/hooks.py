"""What Schemathesis has to know that no description says: who signs in, and what a good package looks like."""

import json
import os
import urllib.request
from typing import Any

import schemathesis
from hypothesis import strategies as st

URL = os.environ["CONTRACT_URL"]
PASSWORD = os.environ["CONTRACT_PASSWORD"]
LEAVERS = {"auth_logout"}  # calls that end the session they come with: somebody else makes them


def signed_in(email: str) -> str:
    """A fresh access token."""
    body = json.dumps({"email": email, "password": PASSWORD}).encode()
    request = urllib.request.Request(
        URL + "/v1/auth/login", body, {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=20) as answer:
        return str(json.load(answer)["access_token"])


def who(case: Any, context: Any) -> str:
    return "leaver" if context.operation.definition.raw.get("operationId") in LEAVERS else "root"


@schemathesis.auth(refresh_interval=60, cache_by_key=who)
class SignedIn:
    """An administrator, who may call everything."""

    def get(self, case: Any, context: Any) -> str:
        return signed_in(f"{who(case, context)}@example.net")

    def set(self, case: Any, data: str, context: Any) -> None:
        case.headers = dict(case.headers or {}) | {"Authorization": f"Bearer {data}"}


with open(os.environ["CONTRACT_PACKAGE"], "rb") as _package:
    schemathesis.openapi.media_type(
        "application/vnd.mosis.package+zip",
        st.one_of(st.just(_package.read()), st.binary(max_size=500)),
    )

"""An address on its way out says so."""

import json
from typing import Any
from wsgiref.util import setup_testing_defaults

import portal
from mosis.context import Context
from mosis.web.schemas import operation, shape


@operation(shape("", "name"))
def old() -> dict[str, Any]:
    """Says something."""
    return {"name": "still here"}


def test_an_address_on_its_way_out_says_so(env: Context) -> None:
    app = portal.build(env)
    app.get(
        "/old",
        callback=old,
        scope="public",
        deprecated="2027-01-31",
        sunset="2027-07-31",
        successor="/v1/new",
    )
    headers, body = _get(app, "/v1/old")
    assert json.loads(body) == {"name": "still here"}
    assert headers["deprecation"] == "@1801353600"
    assert headers["sunset"] == "Sat, 31 Jul 2027 00:00:00 GMT"
    assert headers["link"] == '</v1/new>; rel="successor-version"'
    assert "deprecation" not in _get(app, "/healthz")[0]
    described = json.loads(_get(app, "/openapi.json")[1])
    assert described["paths"]["/v1/old"]["get"]["deprecated"] is True


def _get(app: Any, path: str) -> tuple[dict[str, str], bytes]:
    environ: dict[str, Any] = {"PATH_INFO": path, "REMOTE_ADDR": "198.51.100.7"}
    setup_testing_defaults(environ)
    started: dict[str, str] = {}

    def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
        started.update({name.lower(): value for name, value in headers})

    return started, b"".join(app(environ, start))

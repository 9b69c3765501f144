"""Telemetry over HTTP: what devices send, and what developers see of it."""

from typing import Any

import bottle

from mosis.environment import Environment
from mosis.telemetry import intake
from mosis.telemetry.intake import Receipt
from mosis.telemetry.schemas import BODY_LIMIT_BYTES
from mosis.web.request import client_address, read_packed_json


def routes(app: bottle.Bottle) -> None:
    app.post("/telemetry/events", callback=events, scope="public", body="telemetry", lane="telemetry")


def events(env: Environment) -> dict[str, Any]:
    address = client_address(env.config.trusted_proxy)
    receipt = intake.take(env, address, read_packed_json(BODY_LIMIT_BYTES))
    bottle.response.status = 202
    return public_receipt(receipt)


def public_receipt(receipt: Receipt) -> dict[str, Any]:
    return {
        "accepted": receipt.accepted, "rejected": receipt.rejected, "duplicate": receipt.duplicate,
        "sample_rate": receipt.sample_rate, "errors": receipt.errors,
    }

#!/usr/bin/env python3
"""Receives one webhook of the portal, checks its signature, prints the event as JSON, and ends.

    python examples/webhook_receiver.py http://127.0.0.1:9999 whsec_...

The second argument is the secret that `POST /v1/webhooks` has answered. Deliveries are signed as Standard Webhooks says:
an HMAC-SHA256 over ID.TIMESTAMP.BODY. A receiver has to compare it in constant time, refuse old timestamps, and remember the
ids that it has had: an event may come twice. Needs nothing but Python.
"""

import base64
import hashlib
import hmac
import sys
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.parse import urlsplit

OLD_SECONDS = 300
LARGEST_BYTES = 1 << 20


def is_genuine(secret: str, headers: dict[str, str], body: bytes, now: float) -> bool:
    """Whether the portal has signed this delivery, in the last five minutes."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    sent = headers.get("webhook-timestamp", "")
    if not sent.isdigit() or abs(now - int(sent)) > OLD_SECONDS:
        return False
    signed = f"{headers.get('webhook-id', '')}.{sent}.".encode() + body
    mine = "v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
    given = headers.get("webhook-signature", "").split(" ")
    return any(hmac.compare_digest(mine.encode(), each.encode()) for each in given)


class Receiver(BaseHTTPRequestHandler):
    """Answers 204 to a genuine delivery, 401 to any other."""

    secret = ""
    received: list[bytes] = []

    def do_POST(self) -> None:
        length = min(int(self.headers.get("Content-Length", "0")), LARGEST_BYTES)
        body = self.rfile.read(length)
        headers = {name.lower(): value for name, value in self.headers.items()}
        genuine = is_genuine(self.secret, headers, body, time.time())
        self.send_response(204 if genuine else 401)
        self.end_headers()
        if genuine:
            self.received.append(body)

    def log_message(self, *_: object) -> None:
        """Nothing but the event goes to the terminal."""


def main() -> None:
    address, Receiver.secret = sys.argv[1:]
    place = urlsplit(address)
    with HTTPServer((place.hostname or "127.0.0.1", place.port or 80), Receiver) as server:
        while not Receiver.received:
            server.handle_request()
    print(Receiver.received[0].decode())


if __name__ == "__main__":
    main()

"""What happens on a portal that is in use, beside the load of a measurement: each second one
publication, downloads that count, and batches of telemetry."""

import http.client
import itertools
import json
import random
import threading
import time
from typing import Any

from bench.peers import dataset
from bench.peers.systems import System

DOWNLOADS = 20  # a second, each from another address
BATCHES = 5  # of telemetry, a second


class LivingPortal:
    """Uses a running system until the block ends. `failures` counts requests that were not served.

    The publications of a system are numbered through all its runs (`System.published`), because a
    version is published once.
    """

    def __init__(self, system: System, publications: int) -> None:
        self.system = system
        self.publications = publications
        self.failures = 0
        self.asked = 0
        self._draw = random.Random(5)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "LivingPortal":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.system.port, timeout=30)
        begun = time.monotonic()
        for second in itertools.count(1):
            for method, path, document in self._second():
                self._ask(connection, method, path, document)
                if self._stop.is_set():
                    return connection.close()
            if self._stop.wait(max(0.0, begun + second - time.monotonic())):
                return connection.close()

    def _second(self) -> list[tuple[str, str, Any]]:
        """The requests of one second."""
        system, found = self.system, []
        if system.published < self.publications:
            app, code = dataset.publication(system.published)
            system.published += 1
            package_id = dataset.package_ids(app + 1)[app]
            path = f"/apps/{package_id}/versions/{code}.0.0/publish"
            found.append(("POST", path, {}))
        for _ in range(DOWNLOADS):
            number = self._draw.randrange(1, dataset.OWN_APPS)
            found.append(("GET", system.small_download(number), None))
        for _ in range(BATCHES):
            found.append(("POST", "/telemetry/events", batch()))
        return found

    def _ask(
        self, connection: http.client.HTTPConnection, method: str, path: str, document: Any
    ) -> None:
        address = self._draw.randrange(1 << 24)
        headers = {"X-Forwarded-For": f"10.{address >> 16}.{address >> 8 & 255}.{address & 255}"}
        if path.startswith("/apps/"):
            headers["Authorization"] = f"Bearer {self.system.token}"
        body = None
        if document is not None:
            headers["Content-Type"] = "application/json"
            body = json.dumps(document)
        self.asked += 1
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            answer.read()
            self.failures += answer.status >= 300
        except (OSError, http.client.HTTPException):
            self.failures += 1
            connection.close()  # and opened again by the next request


def batch() -> dict[str, Any]:
    """A batch of 20 events, as a device sends it now."""
    event = {
        "type": "perf_frame",
        "timestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "data": {"ms": 16.6},
    }
    return {
        "app_id": dataset.package_ids(1)[0],
        "app_version": "5.0.0",
        "mosis_version": "1.0.0",
        "device_id": "ab" * 32,
        "session_id": "s1",
        "events": [event] * 20,
    }

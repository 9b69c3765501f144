#!/usr/bin/env python3
"""Prints events as they happen, one JSON document a line, over a WebSocket.

    python examples/follow_events.py ws://127.0.0.1:8081 TOKEN [--after EVENT_ID] [--count N]

TOKEN is an access token or an API key with `apps:read`. After a break, start again with the id of the last event: nothing is
lost. Needs the package `websockets` (`pip install "mosis-portal[live]"`).
"""

import argparse
import sys
from urllib.parse import urlencode

from websockets.sync.client import connect


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("address", help="ws://HOST:PORT, or wss://HOST of the reverse proxy")
    parser.add_argument("token")
    parser.add_argument("--after", help="only events after this one")
    parser.add_argument("--count", type=int, default=sys.maxsize, help="end after so many")
    said = parser.parse_args()
    query = f"?{urlencode({'after': said.after})}" if said.after else ""
    headers = {"Authorization": f"Bearer {said.token}"}
    with connect(f"{said.address}/v1/events{query}", additional_headers=headers) as events:
        for number, event in enumerate(events, 1):
            print(event, flush=True)
            if number >= said.count:
                return


if __name__ == "__main__":
    main()

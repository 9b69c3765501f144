"""The hostile clients of `python -m bench.hostile_clients`: `python -m bench.hostile_attacks NAME PORT` attacks until its standard
input ends, then prints how many connections it has opened.

It runs at the lowest priority (nice 19), so that it has the processor time that the portal and its other clients leave, and no
more: what is measured beside it is how the portal shares itself out, not how the kernel shares out the machine.
"""

import contextlib
import http.client
import os
import selectors
import socket
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

HOSTILE = "127.0.0.3"
AT_ONCE = 20  # connections that are opened or written to before others have a turn


def get(path: str) -> bytes:
    """A request."""
    return f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode()


def login() -> bytes:
    """The beginning of a body that never ends."""
    head = "POST /v1/auth/login HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: 900\r\n\r\n{{".encode()


def hostile(number: int) -> str:
    """One address for all."""
    return HOSTILE


def many(number: int) -> str:
    """One of 550 addresses."""
    return f"127.0.{3 + number % 11}.{1 + number // 11 % 50}"


@dataclass(frozen=True)
class Attack:
    """So many connections, each of which sends this when it is opened, and one byte every half second."""

    connections: int
    sends: Callable[[int], bytes]
    source: Callable[[int], str] = hostile
    reads: bool = False  # what comes, as fast as it can, and sends anew


ATTACKS = {
    "slow readers": Attack(
        60, lambda n: get(f"/v1/store/apps?limit=100&x={n}" if n % 2 else "/openapi.json") * 200
    ),
    "slow senders": Attack(300, lambda n: login() if n % 2 else b"GET / HTTP/1.1\r\nX: "),
    "hoarders": Attack(1100, lambda n: get("/healthz")),
    "hoarders, 550 addresses": Attack(1100, lambda n: get("/healthz"), many),
    "pipeliners": Attack(300, lambda n: get("/") * 600),
    "pipeliners that read": Attack(100, lambda n: get("/v1/store/apps") * 300, reads=True),
}
ACCOUNT = "a greedy account"


class Crowd:
    """The connections of an attack; those that the portal closes are opened again."""

    def __init__(self, attack: Attack, port: int) -> None:
        self.attack = attack
        self.port = port
        self.opened = 0
        self.held: dict[int, socket.socket] = {}
        self._selector = selectors.DefaultSelector()

    def go_round(self) -> None:
        """Open what is not open, and send a byte on what is."""
        for number in range(self.attack.connections):
            client = self.held.get(number)
            if client is None:
                self._open(number)
            else:
                with contextlib.suppress(BlockingIOError):
                    try:
                        client.send(b"x")
                    except BlockingIOError:
                        raise
                    except OSError:
                        self._close(number)
            if number % AT_ONCE == 0:
                self.read(0.002)

    def read(self, seconds: float) -> None:
        """Read what comes, for an attack that reads, or let the time pass."""
        if not self.attack.reads:
            time.sleep(seconds)
            return
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            for key, _ in self._selector.select(left):
                client, number = key.fileobj, key.data
                assert isinstance(client, socket.socket)
                try:
                    if not client.recv(1 << 18):
                        self._close(number)
                        continue
                    client.send(self.attack.sends(number))
                except BlockingIOError:
                    pass
                except OSError:
                    self._close(number)

    def _open(self, number: int) -> None:
        client = socket.socket()
        if not self.attack.reads:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(1)
        self.opened += 1
        try:
            client.bind((self.attack.source(number), 0))
            client.connect(("127.0.0.1", self.port))
            client.sendall(self.attack.sends(number))
        except OSError:
            client.close()
            return
        client.setblocking(False)
        self.held[number] = client
        self._selector.register(client, selectors.EVENT_READ, number)

    def _close(self, number: int) -> None:
        client = self.held.pop(number)
        self._selector.unregister(client)
        client.close()


def crowd(attack: Attack, port: int, ended: threading.Event) -> int:
    """Attack until the event; how many connections were opened."""
    clients = Crowd(attack, port)
    while not ended.is_set():
        begun = time.monotonic()
        clients.go_round()
        clients.read(max(0.0, begun + 0.5 - time.monotonic()))
    return clients.opened


def greedy(port: int, ended: threading.Event) -> int:
    """An account that uploads and signs in as fast as it can, six at a time; how many of these it has done."""
    from bench.hostile_clients import Honest  # its packages are built by the same functions

    account, done = Honest(port, HOSTILE, f"mallory{os.getpid()}"), [0] * 6

    def take(number: int) -> None:
        while not ended.is_set():
            with contextlib.suppress(OSError, http.client.HTTPException, AssertionError):
                account.upload(account.package())
                account.sign_in()
                done[number] += 2

    threads = [threading.Thread(target=take, args=(number,)) for number in range(len(done))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(done)


def main() -> int:
    """Attack."""
    os.nice(19)
    name, port, ended = sys.argv[1], int(sys.argv[2]), threading.Event()

    def wait() -> None:
        sys.stdin.read()
        ended.set()

    threading.Thread(target=wait, daemon=True).start()
    print(greedy(port, ended) if name == ACCOUNT else crowd(ATTACKS[name], port, ended))
    return 0


if __name__ == "__main__":
    sys.exit(main())

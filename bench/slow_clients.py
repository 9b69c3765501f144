"""How long /healthz takes while slow clients do their worst: 900 half-open heads, 40 readers that do not read, 6 uploads
without a credential. Prints figures; `python bench/slow_clients.py --stock` shows unmodified waitress (SERVER=waitress)."""

import argparse
import os
import resource
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from mosis.errors import Denied
from mosis.server import Admission, Server, StockServer

MIB = 1024 * 1024
HOST = "Host: localhost\r\n"


def admit(method: str, path: str, headers: Mapping[str, str]) -> Admission:
    """Nobody may upload."""
    if path == "/upload":
        raise Denied("unauthenticated", "Sign in first.")
    return Admission(MIB)


def application(big: Path) -> Callable[..., Any]:
    """/big is a file, everything else is a constant."""

    def app(environ: dict[str, Any], start_response: Any) -> Any:
        if environ["PATH_INFO"] == "/big":
            start_response("200 OK", [("Content-Length", str(big.stat().st_size))])
            return environ["wsgi.file_wrapper"](big.open("rb"))
        start_response("200 OK", [("Content-Length", "2"), ("Content-Type", "text/plain")])
        return [b"ok"]

    return app


def start(stock: bool, app: Callable[..., Any], spool: Path) -> int:
    """The port of a server that runs in a thread of this process."""
    listen = "127.0.0.1:0"
    server = (
        StockServer(app, listen, 8, 50 * MIB, spool)
        if stock
        else Server(app, listen, 8, admit, spool, connections_per_address=1000)
    )
    threading.Thread(target=server.run, daemon=True).start()
    return server.port


def connect(port: int, text: str, body: bytes = b"") -> socket.socket:
    """A client that has sent this and does not read."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect(("127.0.0.1", port))
    client.sendall(text.encode() + body)
    return client


def health_ms(port: int, count: int) -> list[float]:
    """How long each of this many requests took, each on a connection of its own, sorted."""
    took = []
    for _ in range(count):
        began = time.perf_counter()
        client = connect(port, f"GET /healthz HTTP/1.1\r\n{HOST}Connection: close\r\n\r\n")
        client.settimeout(30)
        assert client.recv(4096).startswith(b"HTTP/1.1 200")
        client.close()
        took.append((time.perf_counter() - began) * 1000)
    return sorted(took)


def main() -> None:
    """Measure without and with the crowd, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--stock", action="store_true", help="unmodified waitress (SERVER=waitress)"
    )
    stock = parser.parse_args().stock
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard if 0 < hard < 8192 else 8192, hard))
    with tempfile.TemporaryDirectory() as folder:
        big, spool = Path(folder, "big"), Path(folder, "spool")
        spool.mkdir()
        with big.open("wb") as file:
            file.truncate(50 * MIB)
        port = start(stock, application(big), spool)
        print("stock waitress" if stock else "mosis.server")
        report("alone", health_ms(port, 300))
        crowd = [connect(port, f"GET / HTTP/1.1\r\n{HOST}X-Half: ") for _ in range(900)]
        crowd += [connect(port, f"GET /big HTTP/1.1\r\n{HOST}\r\n") for _ in range(40)]
        head = f"POST /upload HTTP/1.1\r\n{HOST}Content-Length: {50 * MIB}\r\n\r\n"
        crowd += [connect(port, head, bytes(700_000)) for _ in range(6)]
        time.sleep(0.5)
        report("with the crowd", health_ms(port, 300))
        files = [os.path.realpath(f"/proc/self/fd/{each}") for each in os.listdir("/proc/self/fd")]
        print(f"  stored bodies: {sum(each.startswith(str(spool)) for each in files)}")
        for client in crowd:
            client.close()


def report(what: str, took: list[float]) -> None:
    """One line of figures."""
    at = [took[int(len(took) * share)] for share in (0.5, 0.99)]
    print(
        f"  /healthz {what:<15} p50 {at[0]:6.1f} ms   p99 {at[1]:6.1f} ms   longest {took[-1]:6.1f} ms"
    )


if __name__ == "__main__":
    main()

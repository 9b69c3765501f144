"""Pipelined requests (RFC 9112, section 9.3.2), for every address that can be read without an account."""

import http.client
import io
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from tests.server import serving
from tests.web.test_conventions import GETS, World, prepare, world  # noqa: F401

ASKED = ("GET", "HEAD", "GET")


class Answered(io.BytesIO):
    """What http.client reads a response from."""

    def makefile(self, *arguments: Any) -> io.BytesIO:
        return self

    def close(self) -> None:
        """http.client closes after each response; more of them follow."""


@pytest.fixture
def settings() -> dict[str, str]:
    return {
        "LISTEN_ADDR": "127.0.0.1:0",
        "WEBHOOKS_PRIVATE": "allow",
        "SECURITY_CONTACT": "mailto:security@example.net",
    }


@pytest.fixture
def port(world: World) -> Iterator[int]:  # noqa: F811
    with serving(world.client.env) as server:
        yield server.port


def test_every_public_address_answers_pipelined_requests_in_order(world: World, port: int) -> None:  # noqa: F811
    checked = 0
    for route in GETS:
        if route.config["scope"] != "public" or route.rule.startswith(("/metrics", "/auth/oauth")):
            continue
        path = world.path(route)
        lines = [
            f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nAccept-Encoding: {coding}\r\n"
            for coding in ("identity", "gzip")
            for method in ASKED
        ]
        end = "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        with socket.create_connection(("127.0.0.1", port), 60) as wire:
            wire.sendall(("\r\n".join(lines) + "\r\n" + end).encode())
            stream = Answered(b"".join(iter(lambda: wire.recv(1 << 16), b"")))
        answers = []
        for method in (*ASKED, *ASKED, "GET"):
            answer = http.client.HTTPResponse(stream, method=method)  # type: ignore[arg-type]
            answer.begin()
            answers.append((answer.status, answer.headers, answer.read()))
        assert stream.read() == b"", path
        assert answers[-1][0] == 200, path
        assert b'"ok"' in answers[-1][2], path
        for first, head, again in (answers[:3], answers[3:6]):
            assert first[0] == head[0] == again[0], path
            assert head[2] == b"", path
            tags = {each[1].get("ETag") for each in (first, head, again)}
            if len(tags) == 1 and None not in tags:
                assert first[2] == again[2], path
            if "Content-Length" in head[1] and len(tags) == 1 and None not in tags:
                assert int(head[1]["Content-Length"]) == len(first[2]), path
        checked += 1
    assert checked > 20

"""What cannot be parsed is refused in words that say what to do, without those of Python or its libraries."""

import gzip
import re

import pytest

from tests.client import Client

INTERNALS = re.compile(r"Error\(|Error:|codec|Traceback|<class|zlib|invalid literal|can\'t decode")
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
PACKED = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
PARTS = {"Content-Type": "multipart/form-data; boundary=b"}
HEAD = b'--b\r\nContent-Disposition: form-data; name="package"; filename="%s"\r\n\r\n'


@pytest.mark.parametrize(("path", "headers", "body"), [
    ("/v1/auth/token", FORM, b"grant_type=%FF"), ("/v1/auth/token", FORM, b"\xff=1"), ("/v1/auth/token", FORM, b"a&b"),
    ("/v1/telemetry/events", PACKED, b"{}"), ("/v1/telemetry/events", PACKED, gzip.compress(b"{}" * 99)[:-9]),
    ("/v1/telemetry/events", PACKED, gzip.compress(b"\xff")), ("/v1/auth/login", {"Content-Type": "application/json"}, b"\xff"),
    ("/v1/auth/login", {"Content-Type": "application/json"}, b"{"), ("/v1/auth/login", {"Content-Type": "application/json"}, b""),
])  # fmt: skip
def test_a_body_that_cannot_be_parsed(
    client: Client, path: str, headers: dict[str, str], body: bytes
) -> None:
    refused = client.post(path, body, headers=headers)
    assert refused.status in (400, 401, 422)
    assert not INTERNALS.search(refused.body.decode()), refused.body


@pytest.mark.parametrize("body", [
    b"", b"--b", b"--b--", b"--b\nContent-Disposition: form-data\n\nx\n--b--", HEAD % b"a" + b"x", b"\xff\xfe",
    HEAD % b"m\xfcsli" + b"no package\r\n--b--\r\n",
])  # fmt: skip
def test_a_form_that_cannot_be_parsed(client: Client, body: bytes) -> None:
    alice = client.register()
    app = client.app_of(alice)
    refused = client.post(f"/v1/apps/{app}/versions", body, as_=alice, headers=PARTS)
    assert refused.status in (400, 422)
    assert not INTERNALS.search(refused.body.decode()), refused.body


def test_a_form_may_name_its_file_in_another_encoding(client: Client) -> None:
    alice = client.register()
    app = client.app_of(alice)
    body = HEAD % b"m\xfcsli.mosis" + client.package(alice) + b"\r\n--b--\r\n"
    client.post(f"/v1/apps/{app}/versions", body, as_=alice, headers=PARTS).expect(201)

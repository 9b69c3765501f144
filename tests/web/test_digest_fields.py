"""Digests that a request announces: Content-Digest, Repr-Digest (RFC 9530) and Digest (RFC 3230)."""

import base64
import hashlib
from collections.abc import Mapping
from typing import Any

import pytest

from mosis.errors import PortalError
from mosis.web.digest_fields import check_digests
from tests.client import Account, Client

BODY = b'{"hello": "world"}'
NOTES = "com.acme.notes"


def encoded(body: bytes, algorithm: str = "sha256") -> str:
    return base64.b64encode(hashlib.new(algorithm, body).digest()).decode()


SHA256, SHA512 = encoded(BODY), encoded(BODY, "sha512")
WRONG = encoded(b"other")
URL_SAFE = base64.urlsafe_b64encode(b"\xff" * 32).decode()


def refusal(headers: Mapping[str, str], body: bytes = BODY) -> str | None:
    """The code with which a body is refused, None where it is not."""
    try:
        check_digests(headers.get, body)
    except PortalError as error:
        return error.code
    return None


@pytest.mark.parametrize(
    "value",
    [
        f"sha-256=:{SHA256}:",
        f"sha-512=:{SHA512}:",
        f"sha-256=:{SHA256}:, sha-512=:{SHA512}:",
        f"sha-256=:{SHA256}:,sha-512=:{SHA512}:",
        f"sha-256=:{SHA256}:\t, \tsha-512=:{SHA512}:",
        f"  sha-256=:{SHA256}:  ",
        f"sha-256=:{SHA256.rstrip('=')}:",  # padding may be left out (RFC 8941, section 4.2.7)
        f"sha-256=:{SHA256[:-2]}{chr(ord(SHA256[-2]) + 1)}=:",  # and the last bits may be anything
        f"sha-256=:{SHA256}:;a=1;b",
        f'sha-256=:{SHA256}:; a="x,y=:z:"; b=?0;c=tok/en;d=-1.5;e=:AA==:;*f=@1659578233',
        f"md5=:{WRONG}:, sha-256=:{SHA256}:",
        f"unixsum=30637, sha-256=:{SHA256}:",
        f"x;q=1, sha-256=:{SHA256}:",
        f'other=(1 "two, three" :AA==:;p=1);q, sha-256=:{SHA256}:',
        f"a=?1, b=(), c=( 1  2 ), sha-256=:{SHA256}:",
        f'd=%"f%c3%bc", sha-256=:{SHA256}:',
        f"sha-256=:{WRONG}:, sha-256=:{SHA256}:",  # the last counts
        "sha=:AAAA:",
        "md5=:AAAA:",
        "sha-3=1",
        "",
    ],
)
@pytest.mark.parametrize("field", ["Content-Digest", "Repr-Digest"])
def test_a_digest_that_fits(field: str, value: str) -> None:
    assert refusal({field: value}) is None


@pytest.mark.parametrize(
    "value",
    [
        f"sha-256=:{WRONG}:",
        f"sha-512=:{encoded(b'other', 'sha512')}:",
        f"sha-256=:{SHA256}:, sha-512=:{encoded(b'x', 'sha512')}:",
        f"sha-256=:{SHA256}:, sha-256=:{WRONG}:",
        f"md5=:AAAA:, sha-256=:{WRONG}:;a",
        f"sha-256=:{WRONG.rstrip('=')}:",
    ],
)
@pytest.mark.parametrize("field", ["Content-Digest", "Repr-Digest"])
def test_a_digest_of_another_body(field: str, value: str) -> None:
    assert refusal({field: value}) == "digest_mismatch"


@pytest.mark.parametrize(
    "value",
    [
        SHA256,
        f"sha-256={SHA256}",
        f'sha-256="{SHA256}"',
        f"sha-256=:{SHA256}",
        f"sha-256={SHA256}:",
        f"sha-256 = :{SHA256}:",
        f"SHA-256=:{SHA256}:",
        f"sha-256=:{hashlib.sha256(BODY).hexdigest()}:",
        f"sha-256=:{SHA256[:-4]}:",
        "sha-256=::",
        "sha-256",
        "sha-256=1",
        "sha-256=?1",
        f"sha-256=(:{SHA256}:)",
        f"sha-256=:{SHA256}:,",
        f",sha-256=:{SHA256}:",
        f"sha-256=:{SHA256}: sha-512=:{SHA512}:",
        f"sha-256=:{SHA256}:; ;a",
        f"sha-256=:{SHA256.replace('=', ' ')}:",
        f"sha-256=:{URL_SAFE}:",
        f"sha-256=:{SHA256}:;A=1",
        "\xff",
        "=",
        ":",
        ";",
        "a=",
        f"sha-256=:{SHA256[:5]}={SHA256[5:]}:",
        "(" + " " * 5000,
        "a=(" + "1 " * 5000,
        "a" + ";b" * 5000 + "!",
    ],
)
@pytest.mark.parametrize("field", ["Content-Digest", "Repr-Digest"])
def test_a_field_that_cannot_be_read(field: str, value: str) -> None:
    assert refusal({field: value}) == "malformed_request"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (f"SHA-256={SHA256}", None),
        (f"sha-256={SHA256}", None),
        (f"SHA-256={SHA256},sha-512={SHA512}", None),
        (f"MD5=HUXZLQLMuI/KZ5KDcJPcOA==, SHA-256={SHA256.rstrip('=')}", None),
        ("UNIXsum=30637", None),
        ("", None),
        (" , ", None),
        (f"SHA-256={WRONG}", "digest_mismatch"),
        (f"SHA-256={SHA256},SHA-512={encoded(b'x', 'sha512')}", "digest_mismatch"),
        (f"SHA-256=:{SHA256}:", "malformed_request"),
        ("SHA-256", "malformed_request"),
        ("SHA-256=", "malformed_request"),
        (f"SHA-256={hashlib.sha256(BODY).hexdigest()}", "malformed_request"),
        ("SHA-256=\xff", "malformed_request"),
    ],
)
def test_the_older_field(value: str, expected: str | None) -> None:
    assert refusal({"Digest": value}) == expected


def test_each_of_several_fields_is_compared() -> None:
    good, bad = f"sha-256=:{SHA256}:", f"sha-256=:{WRONG}:"
    assert refusal({"Content-Digest": good, "Repr-Digest": good}) is None
    assert refusal({"Content-Digest": good, "Repr-Digest": bad}) == "digest_mismatch"
    assert refusal({"Content-Digest": good, "Digest": f"SHA-256={WRONG}"}) == "digest_mismatch"


def upload(client: Client, alice: Account, body: bytes, **headers: str) -> Any:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.post(f"/v1/apps/{NOTES}/versions", body, as_=alice, headers=named)


def test_an_upload_is_compared_in_every_algorithm(client: Client, alice: Account) -> None:
    package = client.package(alice)
    for algorithm, name in (("sha256", "sha-256"), ("sha512", "sha-512")):
        refused = upload(
            client, alice, package, Content_Digest=f"{name}=:{encoded(b'x', algorithm)}:"
        ).expect(422, code="digest_mismatch")
        assert f"{name}=:{encoded(package, algorithm)}:" in refused["errors"][0]["detail"]
        refused = upload(client, alice, package, Repr_Digest=f"{name}=:AA==:").expect(400)
        assert "1 bytes instead of" in refused["detail"]
    assert list((client.env.config.packages_dir / "incoming").iterdir()) == []
    right = f"sha-256=:{encoded(package)}:, sha-512=:{encoded(package, 'sha512')}:"
    upload(client, alice, package, Content_Digest=right, Repr_Digest=right).expect(201)


def test_the_digest_of_a_form_is_that_of_the_whole_body(client: Client, alice: Account) -> None:
    package = client.package(alice)
    head = b'preamble\r\n--b\r\nContent-Disposition: form-data; name="package"; filename="n.mosis"\r\n\r\n'
    form = head + package + b"\r\n--b--\r\n" + b"epilogue" * 20_000
    kind = "multipart/form-data; boundary=b"
    refused = upload(
        client, alice, form, Content_Type=kind, Content_Digest=f"sha-256=:{encoded(package)}:"
    )
    assert "the whole body" in refused.expect(422, code="digest_mismatch")["detail"]
    upload(
        client, alice, form, Content_Type=kind, Content_Digest=f"sha-256=:{encoded(form)}:"
    ).expect(201)


def test_a_json_body_is_compared_too(client: Client, alice: Account) -> None:
    body = b'{"package_id": "com.acme.other", "name": "Other"}'
    json = {"Content-Type": "application/json"}
    wrong = json | {"Content-Digest": f"sha-256=:{WRONG}:"}
    client.post("/v1/apps", body, as_=alice, headers=wrong).expect(422, code="digest_mismatch")
    client.get("/v1/apps/com.acme.other", as_=alice).expect(404)
    right = json | {"Content-Digest": f"sha-256=:{encoded(body)}:"}
    client.post("/v1/apps", body, as_=alice, headers=right).expect(201)

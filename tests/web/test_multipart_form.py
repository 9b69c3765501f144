"""Uploads as multipart forms: RFC 7578 as clients of all ages write it, and what is refused because it has two meanings."""

import pytest

from mosis.errors import Malformed
from mosis.web.multipart_form import boundary_of, part_name
from tests.client import Account, Answer, Client

NOTES = "com.acme.notes"
PACKAGE = 'form-data; name="package"; filename="n.mosis"'


def part(disposition: str, content: bytes, *headers: str) -> bytes:
    lines = [f"Content-Disposition: {disposition}", *headers]
    return b"--b\r\n" + "\r\n".join(lines).encode() + b"\r\n\r\n" + content + b"\r\n"


def send(
    client: Client,
    alice: Account,
    *parts: bytes,
    kind: str = "multipart/form-data; boundary=b",
    query: str = "",
    after: bytes = b"--b--\r\n",
) -> Answer:
    return client.post(
        f"/v1/apps/{NOTES}/versions{query}",
        b"".join(parts) + after,
        as_=alice,
        headers={"Content-Type": kind},
    )


@pytest.mark.parametrize(
    ("disposition", "name"),
    [
        ('form-data; name="package"', "package"),
        ("form-data; name=package", "package"),
        ('form-data;name="package"', "package"),
        ('form-data ; NAME = "package" ;', "package"),
        ('form-data; filename="a.mosis"; name="package"', "package"),
        ('form-data; name="package"; filename="a; name=\\"x\\".mosis"', "package"),
        ('form-data; name="pack\\"age"', 'pack"age'),
        ('form-data; name="pack%22age"', 'pack"age'),
        ('form-data; name="a\\\\b"', "a\\b"),
        ('form-data; name="a%0D%0Ab"', "a\r\nb"),
        ('form-data; name="package"; filename="C:\\dir\\n.mosis"', "package"),
        ('form-data; name="package"; filename="C:\\"', "package"),
        ('form-data; filename="C:\\dir\\"; name=package', "package"),
        ('form-data; name="package"; filename="a"b".mosis"', "package"),
        ("form-data; name*=UTF-8''pack%61ge", "package"),
        ("form-data; name*=utf-8'en'r%C3%A9sum%C3%A9; name=resume", "résumé"),
        ("form-data; name*=iso-8859-1''r%E9sum%E9", "résumé"),
        ('form-data; name*0="pack"; name*1=age', "package"),
        ("form-data; name*1=age; name*0=pack", "package"),
        ("form-data; name*0*=UTF-8''p%61; name*1*=ck%61; name*2=ge", "package"),
        ("form-data; name=\"package\"; filename*=UTF-8''n%C3%BCsse.mosis", "package"),
        ("form-data; name=\"package\"; filename=n.mosis; filename*=UTF-8''%zz", "package"),
        (
            'form-data; name="package"; filename*0="n"; filename*1=".mosis"; filename*2*=UTF-8\'\'x',
            "package",
        ),
        ('form-data; name="package"; filename*=nonsense', "package"),
        ("form-data", ""),
        ("form-data; filename=x", ""),
        ('form-data; name=""', ""),
        ("form-data; name*x=a; name=package", "package"),
    ],
)
def test_a_name_in_every_form(disposition: str, name: str) -> None:
    assert part_name(disposition) == name


@pytest.mark.parametrize(
    "disposition",
    [
        'form-data; name="package"; name="channel"',
        "form-data; name=package; Name=package",
        'form-data; name="package',
        'form-data; name="package" x',
        "form-data; name",
        "form-data; =package",
        'form-data; filename="x"; name=channel"; name="package"',
        "form-data; name*0=a; name*0=b",
    ],
)
def test_a_name_with_two_meanings(disposition: str) -> None:
    with pytest.raises(Malformed):
        part_name(disposition)


@pytest.mark.parametrize(
    ("kind", "boundary"),
    [
        ("multipart/form-data; boundary=b", b"b"),
        ('multipart/form-data; boundary="b"', b"b"),
        ("Multipart/Form-Data; BOUNDARY=b", b"b"),
        ("multipart/form-data;boundary=b;charset=utf-8", b"b"),
        ("multipart/form-data; charset=utf-8; boundary=b", b"b"),
        (
            "multipart/form-data; boundary=----WebKitFormBoundary7MA4YWxkTrZu0gW",
            b"----WebKitFormBoundary7MA4YWxkTrZu0gW",
        ),
        ("multipart/form-data; boundary=----=_Part_1_2.3", b"----=_Part_1_2.3"),
        ('multipart/form-data; boundary="a b\'()+_,-./:=?c"', b"a b'()+_,-./:=?c"),
        ("multipart/form-data; boundary=a/b:c?", b"a/b:c?"),
        ('multipart/form-data; boundary="a\\"b"', b'a"b'),
        ("multipart/form-data; boundary=" + "x" * 70, b"x" * 70),
        ("multipart/form-data; boundary=x; ", b"x"),
        ("multipart/form-data ; boundary = x", b"x"),
    ],
)
def test_a_boundary_in_every_form(kind: str, boundary: bytes) -> None:
    assert boundary_of(kind) == boundary


@pytest.mark.parametrize(
    "kind",
    [
        "multipart/form-data",
        "multipart/form-data;",
        "multipart/form-data; boundary",
        "multipart/form-data; boundary=",
        'multipart/form-data; boundary=""',
        "multipart/form-data; boundary=a; boundary=b",
        'multipart/form-data; boundary="a',
        'multipart/form-data; boundary="a "',
        "multipart/form-data; boundary=\xfc",
        "multipart/form-data; boundary=" + "x" * 201,
        "multipart/form-data; bound=b",
        'multipart/form-data; boundary="a\tb"',
    ],
)
def test_a_boundary_that_is_none(client: Client, alice: Account, kind: str) -> None:
    send(client, alice, part(PACKAGE, b"x"), kind=kind).expect(400, code="malformed_request")


@pytest.mark.parametrize(
    "parts",
    [
        [part(PACKAGE, b"%")],
        [b"This is the preamble.\r\n", part(PACKAGE, b"%")],
        [b"\r\n", part(PACKAGE, b"%")],
        [part('form-data;\r\n name="package";\r\n\tfilename="n.mosis"', b"%")],
        [part(PACKAGE, b"%", "Content-Transfer-Encoding: binary")],
        [
            part(
                PACKAGE,
                b"%",
                "content-type: application/octet-stream; x=y",
                "X-Other: 1",
                "Content-Digest: sha-256=:AAAA:",
            )
        ],
        [
            part('form-data; name="_charset_"', b"utf-8"),
            part('form-data; name="release_notes"', "ü".encode()),
            part(PACKAGE, b"%"),
        ],
        [
            part(
                'form-data; name="release_notes"',
                b"\xfc",
                "Content-Type: text/plain; charset=ISO-8859-1",
            ),
            part(PACKAGE, b"%"),
        ],
        [
            part('form-data; name="release_notes"', b"\xfc"),
            part(PACKAGE, b"%"),
            part('form-data; name="_charset_"', b"windows-1252"),
        ],
        [
            part(
                'form-data; name="release_notes"',
                b"\xef\xbb\xbf\xc3\xbc",
                "Content-Type: text/plain",
            ),
            part(PACKAGE, b"%"),
        ],
        [
            part(
                'form-data; name="release_notes"; filename="notes.txt"',
                "ü".encode(),
                'Content-Type: text/plain; charset="UTF-8"',
            ),
            part(PACKAGE, b"%"),
        ],
        [
            part('form-data; name="channel"', b""),
            part('form-data; name="submit"', b""),
            part(PACKAGE, b"%"),
        ],
    ],
)
def test_forms_of_all_clients_are_taken(client: Client, alice: Account, parts: list[bytes]) -> None:
    package = client.package(alice)
    sent = [each.replace(b"\r\n\r\n%\r\n", b"\r\n\r\n" + package + b"\r\n") for each in parts]
    made = send(client, alice, *sent, after=b"--b--\r\nThis is the epilogue.").expect(201)
    assert made["release_notes"] == ("ü" if any(b"release_notes" in each for each in parts) else "")


GOOD = part(PACKAGE, b"PK")


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (
            [part('form-data; name="other"', b"x"), GOOD],
            "must be one of: package, channel, release_notes, submit, publish",
        ),
        ([part('form-data; name="Package"', b"x"), GOOD], "Did you mean package?"),
        ([part("form-data", b"x"), GOOD], "has no name"),
        ([part("form-data; filename=x", b"x")], "has no name"),
        ([GOOD, GOOD], "`package` more than once"),
        (
            [
                part('form-data; name="channel"', b"beta"),
                part("form-data; name=channel", b"beta"),
                GOOD,
            ],
            "`channel` more than once",
        ),
        (
            [
                part('form-data; name="submit"', b"true"),
                GOOD,
                part('form-data; name="submit"', b"false"),
            ],
            "`submit` more than once",
        ),
        ([part('form-data; name="package"; name="channel"', b"x")], "`name` twice"),
        (
            [part(PACKAGE, b"UEs=", "Content-Transfer-Encoding: base64")],
            "Content-Transfer-Encoding base64",
        ),
        (
            [
                part(
                    'form-data; name="channel"',
                    b"be=74a",
                    "Content-Transfer-Encoding: Quoted-Printable",
                ),
                GOOD,
            ],
            "quoted-printable",
        ),
        ([part('form-data; name="release_notes"', b"\xfc"), GOOD], "`release_notes` is not UTF-8"),
        (
            [
                part(
                    'form-data; name="release_notes"',
                    b"x",
                    "Content-Type: text/plain; charset=shift_jis",
                ),
                GOOD,
            ],
            "character set shift_jis",
        ),
        (
            [
                part('form-data; name="_charset_"', b"utf-16"),
                part('form-data; name="channel"', b"beta"),
                GOOD,
            ],
            "character set utf-16",
        ),
        ([part('form-data; name="channel"', b"beta")], "no field `package`"),
        ([part('attachment; name="package"', b"PK")], "Content-Disposition of `form-data`"),
        (
            [part(PACKAGE, b"PK", 'Content-Disposition: form-data; name="channel"')],
            "Content-Disposition twice",
        ),
        ([GOOD.replace(b"\r\n", b"\n")], "CR LF"),
        ([GOOD.replace(b"--b\r\n", b"--b\n")], "CR LF"),
        ([b"--b\r\nContent-Type: text/plain\r\n\r\nx\r\n", GOOD], "Content-Disposition"),
        ([b"--b\r\n\r\nx\r\n", GOOD], "Content-Disposition"),
        ([part('form-data; name="channel"', b"x" * 101), GOOD], "channel is too large"),
        ([part(PACKAGE, b"PK", *["X-A: 1"] * 9)], "more than 8 headers"),
        ([part(f'form-data; name="{"x" * 3000}"', b"PK")], "2048 bytes"),
        ([part('form-data; name="x\xfc\x85y"', b"x")], "`xü\\x85y`".replace("\\x85", "")),
    ],
)
def test_what_cannot_be_used_is_refused_in_words(
    client: Client, alice: Account, parts: list[bytes], message: str
) -> None:
    refused = send(client, alice, *parts)
    assert refused.status in (400, 413)
    assert message in refused["detail"]
    assert client.get(f"/v1/apps/{NOTES}/versions", as_=alice)["versions"] == []


def test_a_parameter_stands_in_the_query_or_in_the_form(client: Client, alice: Account) -> None:
    body = part('form-data; name="channel"', b"beta"), part(PACKAGE, client.package(alice))
    refused = send(client, alice, *body, query="?channel=beta").expect(400)
    assert "`channel` is in the query and in the form" in refused["detail"]
    made = send(client, alice, *body, query="?release_notes=new").expect(201)
    assert (made["channel"], made["release_notes"]) == ("beta", "new")


def test_everything_wrong_with_the_parameters_is_reported_at_once(
    client: Client, alice: Account
) -> None:
    wrong = (
        ("publish", b"yes"),
        ("submit", b"1"),
        ("channel", b"Beta"),
        ("release_notes", b"\x1b" * 5001),
    )
    parts = [part(f'form-data; name="{name}"', value) for name, value in wrong]
    refused = send(client, alice, part(PACKAGE, client.package(alice)), *parts)
    errors = refused.expect(422, code="invalid")["errors"]
    assert [each["pointer"] for each in errors] == [
        "/channel",
        "/publish",
        "/release_notes",
        "/release_notes",
        "/submit",
    ]
    assert errors[0]["detail"] == "This must be one of: stable, beta."


@pytest.mark.parametrize(
    "kind",
    [
        "multipart/mixed",
        "multipart/related",
        "Multipart/Digest",
        "multipart/form-data-x",
        "multipart/",
    ],
)
def test_another_multipart_body_is_refused(client: Client, alice: Account, kind: str) -> None:
    refused = send(client, alice, part(PACKAGE, client.package(alice)), kind=f"{kind}; boundary=b")
    assert "multipart/form-data" in refused.expect(415, code="unsupported_media_type")["detail"]


@pytest.mark.parametrize(
    "kind",
    [
        "",
        "application/zip",
        "application/x-www-form-urlencoded",
        "text/plain; charset=utf-8",
    ],
)
def test_a_raw_package_is_taken_whatever_it_is_called(
    client: Client, alice: Account, kind: str
) -> None:
    headers = {"Content-Type": kind}
    at = f"/v1/apps/{NOTES}/versions"
    client.post(at, client.package(alice), as_=alice, headers=headers).expect(201)

"""Device login (RFC 8628)."""

from urllib.parse import urlencode

import pytest

from mosis.people.device_login import LETTERS
from mosis.web.device_login import GRANT
from tests.client import Account, Answer, Client
from tests.conftest import FakeClock

FORM = {"Content-Type": "application/x-www-form-urlencoded"}


def begin(client: Client) -> Answer:
    return client.post(
        "/v1/auth/device",
        {"client_name": "build server", "scopes": ["apps:read", "versions:upload"]},
    ).expect(200)


def poll(client: Client, begun: Answer) -> Answer:
    return client.post("/v1/auth/token", {"grant_type": GRANT, "device_code": begun["device_code"]})


def test_a_machine_is_signed_in_once_its_owner_approves(
    client: Client, alice: Account, clock: FakeClock
) -> None:
    begun = begin(client)
    assert begun["verification_uri_complete"].endswith(begun["user_code"])
    assert (begun["expires_in"], begun["interval"]) == (900, 5)
    pending = poll(client, begun).expect(400, "authorization_pending")
    assert pending["error"] == "authorization_pending"
    asked = client.get(f"/v1/auth/device/{begun['user_code']}", as_=alice).expect(200)
    assert (asked["client_name"], asked["scopes"]) == (
        "build server",
        ["apps:read", "versions:upload"],
    )
    code = begun["user_code"].lower().replace("-", " ")  # however it was typed
    client.post("/v1/auth/device/approve", {"user_code": code, "approve": True}, as_=alice).expect(
        200
    )
    clock.advance(5)
    signed_in = poll(client, begun).expect(200)
    token = signed_in["access_token"]
    assert client.get("/v1/apps", as_=token).expect(200)["total"] == 1
    client.post("/v1/apps", {"package_id": "com.acme.x", "name": "X"}, as_=token).expect(
        403, "insufficient_scope"
    )
    client.get("/v1/auth/me/audit", as_=token).expect(403, "forbidden")
    me = client.get("/v1/auth/me", as_=token).expect(200)
    assert (me["id"], me["role"], me["scopes"]) == (alice.id, "developer", asked["scopes"])
    clock.advance(10)
    poll(client, begun).expect(400, "expired_token")
    again = client.post("/v1/auth/refresh", {"refresh_token": signed_in["refresh_token"]}).expect(
        200
    )["access_token"]
    client.post("/v1/apps", {"package_id": "com.acme.x", "name": "X"}, as_=again).expect(
        403, "insufficient_scope"
    )


def test_a_machine_signs_itself_out_and_nobody_else(client: Client, alice: Account) -> None:
    begun = begin(client)
    client.post(
        "/v1/auth/device/approve", {"user_code": begun["user_code"], "approve": True}, as_=alice
    ).expect(200)
    machine = poll(client, begun).expect(200)
    client.post("/v1/auth/logout", {"everywhere": True}, as_=machine["access_token"]).expect(
        403, "forbidden"
    )
    client.post("/v1/auth/logout", as_=machine["access_token"]).expect(204)
    client.get("/v1/apps", as_=machine["access_token"]).expect(401, "invalid_token")
    client.post("/v1/auth/refresh", {"refresh_token": machine["refresh_token"]}).expect(
        401, "invalid_token"
    )
    client.get("/v1/apps", as_=alice).expect(200)


def test_what_was_approved_and_not_collected_ends_with_the_sessions(
    client: Client, alice: Account
) -> None:
    begun = begin(client)
    client.post(
        "/v1/auth/device/approve", {"user_code": begun["user_code"], "approve": True}, as_=alice
    ).expect(200)
    client.post("/v1/auth/logout", {"everywhere": True}, as_=alice).expect(204)
    poll(client, begun).expect(400, "expired_token")


def test_a_machine_of_an_administrator_has_no_role(client: Client, clock: FakeClock) -> None:
    root = client.admin()
    begun = begin(client)
    client.post(
        "/v1/auth/device/approve", {"user_code": begun["user_code"], "approve": True}, as_=root
    ).expect(200)
    client.get("/v1/admin/developers", as_=poll(client, begun).expect(200)["access_token"]).expect(
        403
    )


def test_the_owner_may_say_no(client: Client, alice: Account) -> None:
    begun = begin(client)
    client.post(
        "/v1/auth/device/approve", {"user_code": begun["user_code"], "approve": False}, as_=alice
    ).expect(200)
    poll(client, begun).expect(400, "access_denied")


def test_who_asks_too_often_has_to_slow_down(
    client: Client, alice: Account, clock: FakeClock
) -> None:
    begun = begin(client)
    poll(client, begun).expect(400, "authorization_pending")
    assert poll(client, begun).expect(400, "slow_down")["interval"] == 10
    clock.advance(9)
    assert poll(client, begun).expect(400, "slow_down")["interval"] == 15
    clock.advance(15)
    poll(client, begun).expect(400, "authorization_pending")


def test_codes_expire_and_are_decided_once(
    client: Client, alice: Account, clock: FakeClock
) -> None:
    begun = begin(client)
    body = {"user_code": begun["user_code"], "approve": True}
    client.post("/v1/auth/device/approve", body, as_=alice).expect(200)
    client.post("/v1/auth/device/approve", body, as_=client.register("mallory")).expect(404)
    late = begin(client)
    clock.advance(901)
    alice = client.sign_in(alice)
    client.post(
        "/v1/auth/device/approve", {"user_code": late["user_code"], "approve": True}, as_=alice
    ).expect(404)
    poll(client, late).expect(400, "expired_token")
    client.post("/v1/auth/token", {"grant_type": GRANT, "device_code": "made up"}).expect(
        400, "expired_token"
    )


def test_codes_have_no_vowels_and_nothing_in_the_database_can_be_presented(client: Client) -> None:
    codes = [begin(client) for _ in range(20)]
    assert not set("AEIOUY") & set(LETTERS)
    assert all(
        set(each["user_code"]) <= set(LETTERS + "-") and len(each["user_code"]) == 9
        for each in codes
    )
    dump = "\n".join(client.env.db.connection()._raw.iterdump())
    assert not any(each["device_code"] in dump for each in codes)


def test_clients_of_the_rfc_send_forms(client: Client, alice: Account) -> None:
    form = urlencode(
        {"client_id": "ci", "client_name": "build server", "scope": "apps:read"}
    ).encode()
    begun = client.post("/v1/auth/device", form, headers=FORM).expect(200)
    body = urlencode(
        {"grant_type": GRANT, "device_code": begun["device_code"], "client_id": "ci"}
    ).encode()
    client.post("/v1/auth/token", body, headers=FORM).expect(400, "authorization_pending")


@pytest.mark.parametrize(
    "body",
    [b"a=1&a=2", b"%zz", b"client_name", b"\xff=1", b"&".join(b"%d=1" % n for n in range(60))],
)
def test_a_bad_form_is_refused(client: Client, body: bytes) -> None:
    assert client.post("/v1/auth/device", body, headers=FORM).status in (400, 422)


@pytest.mark.parametrize("body", [
    {"client_name": "x"}, {"client_name": "x", "scopes": []}, {"client_name": "x", "scopes": ["root"]},
    {"client_name": "x", "scope": "root"},
    {"client_name": "", "scopes": ["apps:read"]}, {"client_name": "a\nb", "scopes": ["apps:read"]},
])  # fmt: skip
def test_errors_in_the_first_request_are_reported(client: Client, body: dict[str, object]) -> None:
    client.post("/v1/auth/device", body).expect(422, "invalid")
    client.post("/v1/auth/token", {"grant_type": "password", "device_code": "x"}).expect(
        400, "unsupported_grant_type"
    )

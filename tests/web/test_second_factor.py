"""The second factor: codes that are valid once, guesses that are counted, and ways around that are closed."""

import base64
import re
from typing import Any

import pytest

from mosis.caller import PORTAL
from mosis.commands import cli
from mosis.credentials import totp
from mosis.people import second_factor
from tests.browser import Browser, text_of
from tests.client import PASSWORD, Account, Answer, Client
from tests.conftest import FakeClock
from tests.web.test_recovery import mailed

NOTES = "com.acme.notes"


class Phone:
    """An authenticator app."""

    def __init__(self, clock: FakeClock, secret: bytes, recovery: list[str]) -> None:
        self.clock = clock
        self.secret = secret
        self.recovery = recovery

    def code(self, steps: int = 0) -> str:
        return totp.code_at(self.secret, int(self.clock.at) // totp.STEP_SECONDS + steps)

    def next(self) -> str:
        """The code of the next half minute, once it has begun."""
        self.clock.advance(totp.STEP_SECONDS)
        return self.code()


def turned_on(client: Client, clock: FakeClock, account: Account) -> Phone:
    """Somebody's second factor, on."""
    begun = client.post("/v1/auth/totp", {"password": PASSWORD}, as_=account).expect(200)
    secret = base64.b32decode(begun["secret"])
    assert begun["otpauth_uri"].startswith("otpauth://totp/Mosis%20apps%3A")
    phone = Phone(clock, secret, [])
    client.get("/v1/auth/me", as_=account).expect(200)
    phone.recovery = client.post(
        "/v1/auth/totp/confirm", {"code": phone.code()}, as_=account
    ).expect(200)["recovery_codes"]
    assert len(set(phone.recovery)) == 10
    return phone


def login(client: Client, account: Account) -> Answer:
    return client.post("/v1/auth/login", {"email": account.email, "password": PASSWORD})


def step(client: Client, ticket: str, code: str, **more: Any) -> Answer:
    body = {"ticket": ticket, "code": code}
    return client.post("/v1/auth/login/second-factor", body, **more)


@pytest.fixture
def alice(client: Client) -> Account:
    return client.register("alice")


@pytest.fixture
def phone(client: Client, clock: FakeClock, alice: Account) -> Phone:
    return turned_on(client, clock, alice)


@pytest.mark.parametrize(
    ("at", "code"),
    [(59, "94287082"), (1111111109, "07081804"), (1111111111, "14050471"), (1234567890, "89005924"),
     (2000000000, "69279037"), (20000000000, "65353130")],
)  # fmt: skip
def test_codes_are_those_of_the_rfc(at: int, code: str) -> None:
    """RFC 6238, appendix B; it has eight digits, of which the last six are ours."""
    secret = b"12345678901234567890"
    assert totp.code_at(secret, at // 30) == code[2:]
    assert totp.step_of(secret, code[2:], at) == at // 30
    assert totp.step_of(secret, code[2:], at + 30) == at // 30
    assert totp.step_of(secret, code[2:], at + 90) is None
    for wrong in ("", "1", code[2:] + "0", "٢٨٧٠٨٢", "28 082", "+12345"):
        assert totp.step_of(secret, wrong, at) is None


class TestSigningIn:
    def test_it_takes_two_steps(self, client: Client, alice: Account, phone: Phone) -> None:
        ticket = login(client, alice).expect(401, "second_factor_required")["ticket"]
        assert "access_token" not in login(client, alice).json
        signed_in = step(client, ticket, phone.next()).expect(200)
        assert signed_in["developer"]["second_factor"] is True
        client.get("/v1/auth/me", as_=signed_in["access_token"]).expect(200)
        assert client.notifications(alice)[0]["kind"] == "security.second_factor_on"

    def test_a_code_is_good_once(self, client: Client, alice: Account, phone: Phone) -> None:
        """An observer of the screen comes too late, also with the code of the step before."""
        ticket = login(client, alice)["ticket"]
        step(client, ticket, phone.code()).expect(401, "invalid_code")  # it has turned it on
        code = phone.next()
        step(client, ticket, f"{code[:3]} {code[3:]}").expect(200)
        for again in (code, phone.code(-1)):
            step(client, login(client, alice)["ticket"], again).expect(401, "invalid_code")
        assert "security.second_factor_failed" in [
            each["kind"] for each in client.notifications(alice)
        ]

    def test_a_recovery_code_is_good_once(
        self, client: Client, alice: Account, phone: Phone
    ) -> None:
        first = phone.recovery[0]
        ticket = login(client, alice)["ticket"]
        step(client, ticket, first.upper().replace("-", " ")).expect(200)
        step(client, ticket, first).expect(401, "invalid_code")
        (found,) = [
            each
            for each in client.notifications(alice)
            if each["kind"] == "security.recovery_code_used"
        ]
        assert found["data"]["left"] == 9
        body = {"code": phone.recovery[1]}
        fresh = client.post("/v1/auth/totp/recovery-codes", body, as_=alice).expect(200)
        step(client, ticket, phone.recovery[2]).expect(401, "invalid_code")
        step(client, ticket, fresh["recovery_codes"][0]).expect(200)

    @pytest.mark.parametrize("way", ["late", "password", "other", "forged", "empty"])
    def test_a_ticket_is_for_one_account_and_ten_minutes(
        self, client: Client, alice: Account, phone: Phone, clock: FakeClock, way: str
    ) -> None:
        ticket = login(client, alice)["ticket"]
        if way == "late":
            clock.advance(second_factor.TICKET_SECONDS + 1)
        elif way == "password":
            body = {"current_password": PASSWORD, "new_password": PASSWORD + " 2"}
            client.post("/v1/auth/password", body, as_=alice).expect(204)
        elif way == "other":
            bob = client.register("bob")
            other = turned_on(client, clock, bob)
            step(client, ticket, other.next()).expect(401, "invalid_code")
            return
        elif way == "forged":
            ticket = ticket[:-2] + ("AA" if not ticket.endswith("AA") else "BB")
        else:
            ticket = "ms_"
        step(client, ticket, phone.next()).expect(401, "invalid_token")

    @pytest.mark.parametrize("settings", [{"RATE_LIMITS": "on"}])
    def test_guesses_are_counted_and_lock_nobody_out(
        self, client: Client, alice: Account, phone: Phone
    ) -> None:
        ticket = login(client, alice)["ticket"]
        codes = [
            step(client, ticket, "000000", address=f"203.0.{number}.7").status
            for number in range(31)
        ]
        assert codes == [401] * 29 + [429] * 2  # one has turned it on
        for _ in range(10):
            step(client, ticket, "111111", address="198.18.0.7").expect(429)
        step(client, ticket, phone.recovery[0], address="192.0.2.7").expect(200)

    def test_a_password_by_mail_does_not_open_it(
        self, client: Client, alice: Account, phone: Phone
    ) -> None:
        client.verified(alice)
        client.post("/v1/auth/password/forgot", {"email": alice.email}).expect(202)
        body = {"token": mailed(client, "new password"), "new_password": PASSWORD}
        client.post("/v1/auth/password/reset", body).expect(204)
        login(client, alice).expect(401, "second_factor_required")

    def test_it_is_asked_for_in_a_browser(
        self, client: Client, alice: Account, phone: Phone
    ) -> None:
        browser = Browser(client)
        page = browser.sign_in(alice.email)
        assert "Second step" in text_of(page)
        assert "Hello" not in text_of(browser.open("/console/"))
        page = browser.send(browser.sign_in(alice.email), "/console/sign-in/code", code="000000")
        assert "This code is wrong" in text_of(page)
        page = browser.send(page, "/console/sign-in/code", code=phone.next())
        assert "Hello, Alice" in text_of(page)


class TestTurningOnAndOff:
    def test_a_stolen_session_turns_nothing_on_or_off(
        self, client: Client, alice: Account, clock: FakeClock
    ) -> None:
        for password in ("wrong password", None):
            body = {"password": password}
            client.post("/v1/auth/totp", body, as_=alice).expect(401, "invalid_credentials")
        client.post("/v1/auth/totp/confirm", {"code": "123456"}, as_=alice).expect(409)
        phone = turned_on(client, clock, alice)
        client.post("/v1/auth/totp", {"password": PASSWORD}, as_=alice).expect(409, "invalid_state")
        for code in ("000000", phone.code(), "aaaa-bbbb-cccc-dddd"):
            client.delete("/v1/auth/totp", {"code": code}, as_=alice).expect(401, "invalid_code")
            body = {"code": code}
            client.post("/v1/auth/totp/recovery-codes", body, as_=alice).expect(401)
        client.delete("/v1/auth/totp", {"code": phone.next()}, as_=alice).expect(204)
        login(client, alice).expect(200)
        client.delete("/v1/auth/totp", {"code": phone.next()}, as_=alice).expect(409)
        key = client.post("/v1/keys", {"name": "ci", "scopes": ["keys:manage"]}, as_=alice)["key"]
        client.post("/v1/auth/totp", {"password": PASSWORD}, as_=key).expect(403, "forbidden")

    def test_what_was_begun_counts_for_nothing(self, client: Client, alice: Account) -> None:
        client.post("/v1/auth/totp", {"password": PASSWORD}, as_=alice).expect(200)
        client.post("/v1/auth/totp/confirm", {"code": "000000"}, as_=alice).expect(401)
        login(client, alice).expect(200)
        assert client.get("/v1/auth/me", as_=alice)["second_factor"] is False

    def test_the_clock_may_be_set_back(
        self, client: Client, alice: Account, phone: Phone, clock: FakeClock
    ) -> None:
        """A code from when it was ahead does not lock the owner out."""
        clock.advance(40 * 24 * 3600)
        step(client, login(client, alice)["ticket"], phone.code()).expect(200)
        clock.advance(-40 * 24 * 3600)
        step(client, login(client, alice)["ticket"], phone.code()).expect(200)

    def test_the_operator_turns_it_off(self, client: Client, alice: Account, phone: Phone) -> None:
        with client.env.db.connection().write() as db:
            second_factor.remove(db, PORTAL, alice.id)
        login(client, alice).expect(200)
        assert cli.parser().parse_args(["admin", "second-factor-off", "a@example.net"])

    def test_it_is_set_up_in_a_browser(
        self, client: Client, alice: Account, clock: FakeClock
    ) -> None:
        browser = Browser(client)
        browser.sign_in(alice.email)
        at = "/console/second-factor"
        page = browser.send(browser.open(at), at, password=PASSWORD)
        picture = browser.open(at + "/code.svg")
        assert picture.headers["content-type"] == "image/svg+xml"
        assert picture.headers["cache-control"] == "no-store"
        found = re.search(r"[A-Z2-7]{32}", text_of(page))
        assert found
        phone = Phone(clock, base64.b32decode(found[0]), [])
        page = browser.send(page, at + "/confirm", code=phone.code())
        codes = re.findall(r"\b(?:[a-z2-9]{4}-){3}[a-z2-9]{4}\b", text_of(page))
        assert len(codes) == 10
        assert browser.open(at + "/code.svg").status == 404
        page = browser.send(browser.open(at), at + "/off", code=codes[0])
        assert "The second factor is off." in text_of(page)


class TestDevices:
    def test_approving_a_device_needs_a_code(
        self, client: Client, alice: Account, phone: Phone
    ) -> None:
        begun = client.post("/v1/auth/device", {"client_name": "ci", "scopes": ["apps:read"]})
        body = {"user_code": begun["user_code"], "approve": True}
        at = "/v1/auth/device/approve"
        client.post(at, body, as_=alice).expect(401, "second_factor_required")
        client.post(at, body | {"code": "000000"}, as_=alice).expect(401, "invalid_code")
        client.post(at, body | {"code": phone.next()}, as_=alice).expect(200)
        grant = "urn:ietf:params:oauth:grant-type:device_code"
        asked = {"grant_type": grant, "device_code": begun["device_code"]}
        client.post("/v1/auth/token", asked).expect(200)

    def test_denying_one_does_not(self, client: Client, alice: Account, phone: Phone) -> None:
        begun = client.post("/v1/auth/device", {"client_name": "ci", "scopes": ["apps:read"]})
        body = {"user_code": begun["user_code"], "approve": False}
        client.post("/v1/auth/device/approve", body, as_=alice).expect(200)


class TestWhatTheOperatorWants:
    @pytest.mark.parametrize("settings", [{"REQUIRE_SECOND_FACTOR": "staff"}])
    def test_staff_use_their_role_with_a_second_factor(
        self, client: Client, clock: FakeClock
    ) -> None:
        rita, root, alice = client.reviewer(), client.admin(), client.register("alice")
        client.get("/v1/reviews", as_=rita).expect(403, "second_factor_missing")
        client.get("/v1/admin/developers", as_=root).expect(403, "second_factor_missing")
        body = {"name": "x", "scopes": ["apps:read"], "role": "admin"}
        key = client.post("/v1/keys", body, as_=root).expect(201)["key"]
        client.get("/v1/admin/developers", as_=key).expect(403, "second_factor_missing")
        browser = Browser(client)
        browser.sign_in(rita.email)
        assert browser.open("/console/reviews").status == 403
        client.app_of(alice)
        client.upload(NOTES, client.package(alice), as_=alice).expect(201)
        turned_on(client, clock, rita)
        client.get("/v1/reviews", as_=rita).expect(200)
        assert browser.open("/console/reviews").status == 200

    @pytest.mark.parametrize("settings", [{"REQUIRE_SECOND_FACTOR": "publishers"}])
    def test_publishers_change_nothing_without_one(self, client: Client, clock: FakeClock) -> None:
        alice = client.register("alice")
        client.app_of(alice)
        scopes = ["apps:write", "versions:upload"]
        key = client.post("/v1/keys", {"name": "ci", "scopes": scopes}, as_=alice)["key"]
        for credential in (alice, key):
            client.upload(NOTES, client.package(alice), as_=credential).expect(  # type: ignore[arg-type]
                403, "second_factor_missing"
            )
            body = {"summary": "x"}
            client.patch(f"/v1/apps/{NOTES}", body, as_=credential).expect(403)
        client.get(f"/v1/apps/{NOTES}", as_=alice).expect(200)
        turned_on(client, clock, alice)
        client.upload(NOTES, client.package(alice), as_=key).expect(201)  # type: ignore[arg-type]

    @pytest.mark.parametrize("settings", [{"REQUIRE_VERIFIED_EMAIL": "on"}])
    def test_a_version_goes_out_with_a_verified_address(self, client: Client) -> None:
        alice = client.register("alice")
        client.app_of(alice)
        client.upload(NOTES, client.package(alice), as_=alice).expect(201)
        client.work()
        at = f"/v1/apps/{NOTES}/versions/1.0.0"
        client.post(at + "/submit", as_=alice).expect(409, "email_not_verified")
        client.verified(alice)
        client.post(at + "/submit", as_=alice).expect(200)
        review = client.get(at, as_=alice)["review"]["id"]
        client.post(f"/v1/reviews/{review}/approve", as_=client.reviewer()).expect(200)
        with client.env.db.connection().write() as db:
            db.change("UPDATE developers SET email_verified = 0 WHERE id = ?", alice.id)
        client.post(at + "/publish", as_=alice).expect(409, "email_not_verified")
        client.verified(alice)
        client.post(at + "/publish", as_=alice).expect(200)

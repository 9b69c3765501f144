"""The second step of a sign-in, and turning the second factor on and off."""

import io

from bottle import HTTPResponse

from mosis.caller import Caller
from mosis.context import Context
from mosis.credentials import totp
from mosis.database import Connection
from mosis.errors import NotFound
from mosis.people import accounts, second_factor
from mosis.ui.pages import PRIVATE, Page, Section
from mosis.web.auth import SECOND_STEP, spend_code
from mosis.web.plugins import Portal
from mosis.web.request import spend
from mosis.web.second_factor import BEGIN, CODE

HERE = "/console/second-factor"


def routes(app: Portal) -> None:
    Section(app, "/console/sign-in/code", scope="visitor", again=step).post("", sign_in)
    pages = Section(app, HERE, scope="developer", again=show)
    pages.get("", show)
    pages.get("/code.svg", picture)
    pages.post("", begin, lane="passwords")
    pages.post("/confirm", confirm)
    pages.post("/codes", renew)
    pages.post("/off", turn_off)


def step(page: Page) -> bytes:
    """The form for the code, again."""
    return page.render("second_step.tpl", ticket=page.typed("ticket"))


def sign_in(env: Context, db: Connection, page: Page) -> HTTPResponse:
    """Sign in with a code, after the password or the provider."""
    form = page.form.checked(SECOND_STEP, trimmed=("code",))
    account = second_factor.account_of(env, db, form["ticket"])
    spend_code(env, page.caller, account, form["code"])
    nobody = Caller(address=page.caller.address, client=page.caller.client)
    page.sign_in(db, accounts.second_step(env, db, nobody, form["ticket"], form["code"]))
    return page.go_on()


def show(env: Context, db: Connection, caller: Caller, page: Page) -> bytes:
    """The second factor of the caller, and what can be done about it."""
    found = second_factor.find(db, caller.account)
    secret = found and totp.base32(totp.secret_of(env.secret, caller.account, found.seed))
    return page.render(
        "second_factor.tpl",
        factor=found,
        secret=None if found is None or found.confirmed_at else secret,
        has_password=bool(accounts.get(db, caller.account).password_hash),
    )


def picture(env: Context, db: Connection, caller: Caller, page: Page) -> HTTPResponse:
    """The QR code of a secret that is not confirmed yet; it is made here and no other host sees it."""
    import segno

    found = second_factor.find(db, caller.account)
    if found is None or found.confirmed_at:
        raise NotFound("QR code")
    secret = totp.secret_of(env.secret, caller.account, found.seed)
    made = io.BytesIO()
    uri = second_factor.uri(env, db, caller.account, secret)
    segno.make_qr(uri, error="m").save(made, kind="svg", scale=5, border=4, light="white")
    return HTTPResponse(made.getvalue(), 200, {"Content-Type": "image/svg+xml", **PRIVATE})


def begin(env: Context, db: Connection, caller: Caller, page: Page) -> HTTPResponse:
    """Make a secret for an authenticator app."""
    form = page.form.checked(BEGIN)
    spend(env, "sign_in", f"{caller.account} {caller.network}")
    second_factor.begin(env, db, caller, form.get("password"))
    return page.see_other(HERE)


def confirm(env: Context, db: Connection, caller: Caller, page: Page) -> bytes:
    """Turn it on, and show the recovery codes."""
    code = page.form.checked(CODE, trimmed=("code",))["code"]
    spend_code(env, caller, caller.account, code)
    return page.render("recovery_codes.tpl", codes=second_factor.turn_on(env, db, caller, code))


def renew(env: Context, db: Connection, caller: Caller, page: Page) -> bytes:
    """Make new recovery codes, and show them."""
    code = page.form.checked(CODE, trimmed=("code",))["code"]
    spend_code(env, caller, caller.account, code)
    codes = second_factor.renew_recovery_codes(env, db, caller, code)
    return page.render("recovery_codes.tpl", codes=codes)


def turn_off(env: Context, db: Connection, caller: Caller, page: Page) -> HTTPResponse:
    """Turn it off."""
    code = page.form.checked(CODE, trimmed=("code",))["code"]
    spend_code(env, caller, caller.account, code)
    second_factor.turn_off(env, db, caller, code)
    return page.see_other(HERE, notice="second_factor_off")

"""Sign-in with a password or at a provider; registration; sign-out; the set-up of the first administrator, by the
link that the portal prints at start."""

from bottle import HTTPResponse

from mosis.context import Context
from mosis.database import Connection
from mosis.errors import Denied
from mosis.people import accounts, first_administrator, identities
from mosis.ui.pages import Page, Section
from mosis.validation import Schema
from mosis.web import oauth
from mosis.web.auth import LOGIN, REGISTER, TICKET, spend_sign_in
from mosis.web.plugins import Portal
from mosis.web.request import spend

REGISTER_HERE: Schema = {name: REGISTER[name] for name in ("email", "password", "name")}
SET_UP: Schema = REGISTER_HERE | {"token": TICKET}
RETURN = "/console/signed-in/"


def routes(app: Portal) -> None:
    pages = Section(app, "/console", scope="visitor", again=show)
    pages.get("/sign-in", show)
    pages.post("/sign-in", sign_in, lane="passwords")
    pages.post("/sign-in/<provider>", begin, lane=oauth.lane_of_begin)
    pages.get("/signed-in/<provider>", collect)
    pages.get("/register", show_register)
    pages.post("/register", register, again=show_register, lane="passwords")
    pages.post("/sign-out", sign_out, again=None)
    first = Section(app, "/setup", scope="visitor", again=show_set_up)
    first.get("", show_set_up)
    first.post("", set_up, lane="passwords")


def show(env: Context, page: Page) -> bytes | HTTPResponse:
    """The sign-in form, with a button for each provider."""
    if page.signed_in and page.problem is None:
        return page.go_on()
    return page.render("sign_in.tpl", providers=list(env.providers))


def sign_in(env: Context, db: Connection, page: Page) -> HTTPResponse:
    """Sign in with a password."""
    form = page.form.checked(LOGIN, trimmed=("email",))
    spend_sign_in(env, page.caller, form["email"])
    try:
        page.sign_in(db, accounts.login(env, db, page.caller, **form))
    except Denied as refusal:
        return _second_step(page, refusal)
    return page.go_on()


def _second_step(page: Page, refusal: Denied) -> HTTPResponse:
    """The page that asks for a code, if that is what is missing; else the refusal itself."""
    if refusal.code != "second_factor_required":
        raise refusal
    return page.answer(page.render("second_step.tpl", ticket=refusal.facts["ticket"]))


def begin(env: Context, db: Connection, page: Page, provider: str) -> HTTPResponse:
    """Start a sign-in at a provider. The response is a page that leads there, because `form-action`
    of the Content-Security-Policy does not allow forms to lead to other hosts."""
    back = page.url(RETURN + provider, next=page.next_path())
    with oauth.turn(env, provider):
        spend(env, "sign_in_network", page.caller.network)
        address, browser = identities.begin(env, db, page.caller, provider, back)
    response = page.answer(page.render("go_to_provider.tpl", provider=provider, address=address))
    oauth.set_cookie(response, env, browser, identities.BEGUN_SECONDS)
    return response


def collect(env: Context, db: Connection, page: Page, provider: str) -> bytes | HTTPResponse:
    """Complete a sign-in at a provider; its result is for this browser, and once only."""
    browser = oauth.browser_of(env)
    if not browser and page.signed_in:
        return page.go_on()  # a second time, by the back button
    try:
        page.sign_in(db, identities.collect(env, db, page.caller, provider, browser))
        response = page.go_on()
    except Denied as refusal:
        response = _second_step(page, refusal)
    oauth.set_cookie(response, env, "", 0)
    return response


def show_register(env: Context, page: Page) -> bytes | HTTPResponse:
    """The registration form."""
    if page.signed_in and page.problem is None:
        return page.go_on()
    return page.render(
        "register.tpl", providers=list(env.providers), registration=env.config.registration
    )


def register(env: Context, db: Connection, page: Page) -> HTTPResponse:
    """Register and sign in."""
    form = page.form.checked(REGISTER_HERE, trimmed=("email", "name"))
    spend(env, "registration", page.caller.network)
    page.sign_in(db, accounts.register(env, db, page.caller, **form))
    return page.see_other("/console/", notice="registered")


def sign_out(db: Connection, page: Page) -> HTTPResponse:
    """End the browser's session."""
    if page.signed_in:
        page.sign_out(db)
    return page.see_other("/console/sign-in", notice="signed_out")


def show_set_up(page: Page) -> bytes:
    """The form to create the first administrator. It does not disclose whether there is one."""
    return page.render("setup.tpl")


def set_up(env: Context, db: Connection, page: Page) -> HTTPResponse:
    """Create the first administrator and sign in."""
    form = page.form.checked(SET_UP, trimmed=("token", "email", "name"))
    spend(env, "sign_in_network", page.caller.network)
    page.sign_in(db, first_administrator.create(env, db, page.caller, **form))
    return page.see_other("/console/", notice="administrator")

"""What all pages share: session, origin check, errors as pages, headers.

`mosis/ui/__init__.py` describes how to add a page.
"""

import hashlib
import hmac
import inspect
import re
import traceback
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import bottle

from mosis import problems
from mosis.caller import ROLES, Caller
from mosis.context import Context
from mosis.credentials import tokens
from mosis.database import Connection
from mosis.errors import Denied, PortalError
from mosis.people import authentication, browser_sessions
from mosis.people.accounts import SignedIn
from mosis.ui import forms, rendering
from mosis.ui.forms import Form
from mosis.ui.rendering import message, message_or
from mosis.validation import Json
from mosis.web.answers import Answers, CachedResponse, place_of
from mosis.web.callers import Callers, somebody
from mosis.web.idempotency import Retries
from mosis.web.plugins import Errors, Inputs, Portal, problem
from mosis.web.request import accepts_html, etag, names_tag, read_page, require_tag
from mosis.web.routing import environ_path, limit_of

HTML = "text/html; charset=utf-8"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self';"
    " font-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Frame-Options": "DENY",
    # not no-referrer: browsers would then send `Origin: null` with the portal's own forms (Fetch,
    # section 3.2)
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
PRIVATE = {"Cache-Control": "no-store", "Vary": "Cookie"}
LOCAL = re.compile(r"(?:.+\.)?localhost|127(?:\.[0-9]{1,3}){3}|::1")
# Valid targets after a sign-in: paths of the console, with single slashes and no control
# characters.
NEXT = re.compile(r"/console/(?:[A-Za-z0-9._~!$&'()*+,;=:@%?-]|(?<!/)/){0,1000}")
START = "/console/"
_FORM_TOKEN = b"mosis form token 1"


class Section:
    """Part of the URL table: pages below one path, with the options that they share; see
    mosis/ui/__init__.py for the options. `again` is for its POSTs."""

    def __init__(self, app: Portal, path: str = "", *, again: Any = None, **options: Any) -> None:
        self._app, self._path, self._again, self._options = app, path, again, options

    def get(self, path: str, handler: Callable[..., Any], **options: Any) -> None:
        """Add a page."""
        self._add("GET", path, handler, options)

    def post(self, path: str, handler: Callable[..., Any], **options: Any) -> None:
        """Add the target of a form."""
        self._add("POST", path, handler, {"again": self._again} | options)

    def _add(self, method: str, path: str, handler: Any, options: Json) -> None:
        skipped = [Errors, Callers, Retries, Inputs, Answers]
        options = self._options | options
        place = self._path + path
        self._app.route(place, method, callback=handler, skip=skipped, page=True, **options)


def is_secure(base_url: str) -> bool:
    """Whether requests to this address cannot be read on the way: https, or this machine."""
    parts = urlsplit(base_url)
    return parts.scheme == "https" or bool(LOCAL.fullmatch(parts.hostname or ""))


def origin_of(base_url: str) -> str:
    """The origin of an address as browsers write it: without the port that its scheme has anyway."""
    parts = urlsplit(base_url)
    port = ":443" if parts.scheme == "https" else ":80"
    return f"{parts.scheme}://{parts.netloc.removesuffix(port)}"


class Page:
    """A request for a page: the caller, the form, and the response."""

    def __init__(self, env: Context, *, public: bool) -> None:
        environ = bottle.request.environ
        self.env = env
        self.public = public  # a public page, the same for all callers
        self.request_id: str = environ["mosis.request_id"]
        self.caller = somebody(env, environ)
        self.form = Form([])
        self.problem: PortalError | None = None
        self._prefix = env.config.base_path
        self._token = ""  # of the cookie, whether or not it belongs to a session
        self._new_cookie: tuple[str, int] | None = None
        self._scripts: list[str] = []

    # used by templates

    @property
    def signed_in(self) -> bool:
        return self.caller.developer_id is not None

    @property
    def store_name(self) -> str:
        return self.env.config.store_name

    @property
    def scripts(self) -> list[str]:
        return self._scripts

    @property
    def form_token(self) -> str:
        """The token in every form, derived from the cookie, which other sites cannot read. A
        browser without a cookie gets one that is not a session, unless a script or a stream of
        events asks: that response can arrive after a sign-in in another tab, and the cookie would
        replace the session's."""
        if not self._token:
            self._token = browser_sessions.make_token()
            if bottle.request.get_header("Sec-Fetch-Mode", "navigate") == "navigate":
                self._new_cookie = (self._token, 0)
        return self._form_token_of(self._token)

    @property
    def notice(self) -> str:
        """The message that the previous page requested, one of the catalogue."""
        return message_or(f"notice.{bottle.request.query.get('notice', '')}", "")

    @property
    def problem_text(self) -> str:
        """The error, as a text of the catalogue or the error's own."""
        if self.problem is None:
            return ""
        return message_or(f"problem.{self.problem.code}", self.problem.detail)

    def words(self, key: str, default: str) -> str:
        """A text of the catalogue, or None."""
        return message_or(key, default)

    def provider_name(self, name: str) -> str:
        """The display name of a provider."""
        return message_or(f"provider.{name}", name.capitalize())

    def navigation(self) -> list[rendering.Entry]:
        return rendering.entries_for(self.caller)

    def is_here(self, path: str) -> bool:
        """Whether this page is the one at `path` or below it, for `aria-current`."""
        here: str = bottle.request.environ["PATH_INFO"]
        return here == path or (path != START and here.startswith(path + "/"))

    def url(self, path: str, **query: str) -> str:
        """The address of a path, including the path of BASE_URL."""
        return self._prefix + quote(path, safe="/#") + ("?" + urlencode(query) if query else "")

    def asset(self, name: str) -> str:
        return f"{self._prefix}/ui/{name}?v={rendering.asset_version(name)}"

    def script(self, name: str) -> str:
        """Load a script of `assets/` with this page."""
        if name not in self._scripts:
            self._scripts.append(name)
        return ""

    def typed(self, field: str) -> str:
        """The submitted value of a field of a form that is shown again."""
        return self.form.get(field)

    def error_of(self, field: str) -> str:
        """What is wrong with a field of a form that is shown again."""
        found = self.problem.errors if self.problem is not None else []
        for each in found:
            if f"{each.get('pointer')}/".startswith(f"/{field}/"):
                return message_or(f"finding.{each.get('code')}", str(each.get("detail", "")))
        return ""

    # used by handlers

    def render(self, template: str, **values: Any) -> bytes:
        """The page from a template."""
        known = {
            "page": self,
            "t": message,
            "url": self.url,
            "minute_of": rendering.minute_of,
            "day_of": rendering.day_of,
            "size_of": rendering.size_of,
            "count_of": rendering.count_of,
        }
        return rendering.render(template, known | values)

    def request(self, *types: type | tuple[type, ...]) -> Any:
        """The requested part of a list, as `read_page` of the API."""
        return read_page(*types)

    def answer(self, body: bytes) -> bottle.HTTPResponse:
        """200 with a page that only this caller may see."""
        return bottle.HTTPResponse(body, 200, {"Content-Type": HTML, **PRIVATE})

    def see_other(self, path: str, **query: str) -> bottle.HTTPResponse:
        """303 to another page of the portal, the response to a successful form."""
        return bottle.HTTPResponse(b"", 303, {"Location": self.url(path, **query), **PRIVATE})

    def next_path(self) -> str:
        """The target after a sign-in: `next` of form or query, if it is a path of the console."""
        wanted = self.form.get("next") or bottle.request.query.get("next", "")
        return wanted if NEXT.fullmatch(wanted) else START

    def go_on(self) -> bottle.HTTPResponse:
        """303 to `next_path`."""
        return bottle.HTTPResponse(
            b"", 303, {"Location": self._prefix + self.next_path(), **PRIVATE}
        )

    def sign_in(self, db: Connection, signed_in: SignedIn) -> None:
        """Bind a session to the browser, under a new token; its previous session ends."""
        token = browser_sessions.open_session(db, signed_in.session_id)
        # last, because nothing can be written with it afterwards
        if self.caller.session_id is not None:
            browser_sessions.end(db, self.caller)
        self._new_cookie = (token, tokens.REFRESH_SECONDS)

    def sign_out(self, db: Connection) -> None:
        """End the browser's session and delete its cookie."""
        browser_sessions.end(db, self.caller)
        self._new_cookie = ("", 0)

    def forget(self) -> None:
        """The cookie of this browser goes: its session has ended."""
        self._new_cookie = ("", 0)

    def unless_known(
        self, body: bytes, headers: Mapping[str, str], tag: str
    ) -> bottle.HTTPResponse:
        """The body, or 304 if the browser has it."""
        require_tag(tag)
        if names_tag(bottle.request.get_header("If-None-Match", ""), tag):
            unchanged = {name: value for name, value in headers.items() if name != "Content-Type"}
            return bottle.HTTPResponse(b"", 304, unchanged)
        return bottle.HTTPResponse(body, 200, dict(headers))

    # used by the plugin

    def read_cookie(self, db: Connection) -> None:
        """Find the caller by the cookie."""
        token = bottle.request.get_cookie(self._cookie, "")
        if not browser_sessions.is_token(token):
            return
        self._token = token
        found = browser_sessions.find(self.env, db, token, self.caller.address, self.caller.client)
        if found is not None:
            self.caller = found.caller
            if found.extended:
                self._new_cookie = (token, tokens.REFRESH_SECONDS)

    def read_form(self) -> None:
        """Read the form, which must have been served to this browser by this portal. Raises Denied
        `cross_site` or `form_expired`, Malformed."""
        self.check_origin()
        self.form = forms.read()
        self.check_form_token(self.form.get(forms.TOKEN_FIELD))

    def check_form_token(self, given: str) -> None:
        """Raises Denied `form_expired` unless this is the token of the forms of this session."""
        if not self._token or not tokens.same(given, self._form_token_of(self._token)):
            detail = "This form is older than your session in this browser; send it again."
            raise Denied("form_expired", detail)

    def error(self, error: PortalError) -> bottle.HTTPResponse:
        """An error as a page of its own."""
        self.problem = error
        title = problems.PROBLEMS.get(error.code, problems.PROBLEMS["internal"])[1]
        body = self.render("error.tpl", title=title, code=error.code)
        return self.refused(error, body)

    def refused(self, error: PortalError, body: bytes) -> bottle.HTTPResponse:
        """A page with the status and the headers of an error."""
        response = problem(error, self.request_id)
        response.body = body
        response.set_header("Content-Type", HTML)
        for name, value in PRIVATE.items():
            response.set_header(name, value)
        return response

    def finish(self, response: bottle.HTTPResponse) -> None:
        """Set the headers of every page, and the cookie if it has changed."""
        for name, value in HEADERS.items():
            if name not in response.headers:  # files of packages have a stricter policy
                response.set_header(name, value)
        if self._new_cookie is not None:
            value, seconds = self._new_cookie
            secure = self._cookie.startswith("__Host-")
            response.set_cookie(
                self._cookie,
                value,
                path="/",
                httponly=True,
                samesite="lax",
                secure=secure,
                **({"max_age": seconds} if seconds or not value else {}),
            )

    @property
    def _cookie(self) -> str:
        return browser_sessions.cookie_name(self.env.config.base_url)

    def _form_token_of(self, token: str) -> str:
        key = self.env.secret.encode()
        return hmac.new(key, _FORM_TOKEN + token.encode(), hashlib.sha256).hexdigest()

    def check_origin(self) -> None:
        """Raises Denied `cross_site` unless a page of this portal sent the request, according to
        Sec-Fetch-Site, or to Origin if that is missing (over http, and in old browsers)."""
        site = bottle.request.get_header("Sec-Fetch-Site")
        origin = bottle.request.get_header("Origin", "")
        if (
            site != "same-origin"
            if site is not None
            else origin != origin_of(self.env.config.base_url)
        ):
            detail = f"This form was not sent by a page of this portal. Open it at {self.env.config.base_url}."
            raise Denied("cross_site", detail)


class Pages:
    """Bottle plugin that runs the handlers of pages; handlers of the API are not affected."""

    api = 2

    def __init__(self, env: Context) -> None:
        self.env = env
        self._callers = Callers(env)

    def apply(self, callback: Callable[..., Any], route: bottle.Route) -> Callable[..., Any]:
        if not route.config.get("page"):
            return callback
        public = route.config["scope"] == "public"

        def answered(**arguments: Any) -> Any:
            page = Page(self.env, public=public)
            try:
                response = self._answer(page, route, arguments)
            except PortalError as error:
                response = self._refusal(page, route, error, arguments)
            except (bottle.HTTPResponse, MemoryError):
                raise
            except Exception as error:
                raise bottle.HTTPError(
                    500, exception=error, traceback=traceback.format_exc()
                ) from error
            page.finish(response)
            return response

        return answered

    def error_page(self, code: str, detail: str) -> bottle.HTTPResponse:
        """Errors of the application itself (unknown address, unhandled exception), as a page."""
        page = Page(self.env, public=True)
        response = page.error(PortalError(code, detail))
        page.finish(response)
        return response

    def _answer(self, page: Page, route: bottle.Route, arguments: Json) -> bottle.HTTPResponse:
        if page.public:
            self._callers.count(limit_of(route), page.caller)
            return self._public(page, route, arguments)
        if not is_secure(self.env.config.base_url):
            raise Denied(
                "https_required",
                f"{self.env.config.base_url} is not encrypted: a password or session sent there could be read on the way."
                " Set BASE_URL to an https address.",
            )
        db = self.env.db.connection()
        page.read_cookie(db)
        bottle.request.environ["mosis.caller"] = page.caller
        self._callers.count(limit_of(route), page.caller)
        if bottle.request.method not in ("GET", "HEAD"):
            if route.config.get("body") == "package":
                page.check_origin()  # the handler reads the body, and checks the form token in it
            else:
                page.read_form()
        if route.config["scope"] != "visitor":
            if not page.signed_in and bottle.request.method in ("GET", "HEAD"):
                return page.see_other("/console/sign-in", next=_here())
            _require(page.caller, route.config["scope"])
        if not page.signed_in:
            return self._private(page, self._call(route.callback, page, db, arguments))
        with db.guarded(lambda db: authentication.confirm(self.env, db, page.caller)):
            return self._private(page, self._call(route.callback, page, db, arguments))

    def _public(self, page: Page, route: bottle.Route, arguments: Json) -> bottle.HTTPResponse:
        """A public page; with `cache` it is cached like responses of the API."""
        environ, place = bottle.request.environ, None
        accept = bottle.request.get_header("Accept", "")
        if route.config.get("cache") == "store" and accepts_html(accept):
            place = place_of(self.env, environ_path(environ), bottle.request.query_string)
            cached = self.env.cache.get(place.key, place.revision, room=place.room)
            if cached:
                return page.unless_known(cached.body, dict(cached.headers), cached.tag)
        made = self._call(route.callback, page, self.env.db.connection(), arguments)
        if isinstance(made, bottle.HTTPResponse):
            return made
        tag = etag(made)
        vary = [route.config.get("varies"), bottle.response.get_header("Vary")]
        headers = {
            "Content-Type": route.config.get("content_type", HTML),
            "Cache-Control": route.config.get("cache_control", "public, max-age=0, no-cache"),
            "ETag": tag,
            **({"Vary": ", ".join(filter(None, vary))} if any(vary) else {}),
            **HEADERS,
        }
        if place:
            cached = CachedResponse.of(made, list(headers.items()), tag, route)
            size = len(bottle.request.query_string) + cached.size_bytes
            self.env.cache.put(place.key, place.revision, cached, size, room=place.room)
        return page.unless_known(made, headers, tag)

    def _private(self, page: Page, made: Any) -> bottle.HTTPResponse:
        return made if isinstance(made, bottle.HTTPResponse) else page.answer(made)

    def _refusal(
        self, page: Page, route: bottle.Route, error: PortalError, arguments: Json
    ) -> bottle.HTTPResponse:
        """The page with the form again, or an error page."""
        again = route.config.get("again")
        if again is None or error.code in ("cross_site", "https_required"):
            return page.error(error)
        # the caller may not see the page with the form either
        if not _may(page.caller, route.config["scope"]):
            return page.error(error)
        page.problem = error
        try:
            made = self._call(again, page, self.env.db.connection(), arguments)
        except PortalError:  # there is no such page for them
            return page.error(error)
        return page.refused(error, made) if isinstance(made, bytes) else page.error(error)

    def _call(
        self, handler: Callable[..., Any], page: Page, db: Connection, arguments: Json
    ) -> Any:
        wanted = inspect.signature(handler).parameters
        known = {"page": page, "db": db, "caller": page.caller, "env": self.env} | arguments
        return handler(**{name: value for name, value in known.items() if name in wanted})


def _may(caller: Caller, scope: str) -> bool:
    """Whether the caller may use a page of this scope."""
    try:
        if scope not in ("public", "visitor"):
            _require(caller, scope)
    except Denied:
        return False
    return True


def _require(caller: Caller, scope: str) -> None:
    """Raises Denied if nobody is signed in or the role is too low."""
    caller.account  # noqa: B018  (raises if nobody is signed in)
    if scope in ROLES and not caller.has_role(scope):
        raise Denied("forbidden", f"This page needs the role {scope}.")
    if scope in ROLES and scope != "developer":
        caller.require_second_factor("staff")


def _here() -> str:
    """The address of this page, as `next` of a sign-in."""
    environ = bottle.request.environ
    path = quote(environ["PATH_INFO"], safe="/")
    return path + (f"?{environ['QUERY_STRING']}" if environ.get("QUERY_STRING") else "")

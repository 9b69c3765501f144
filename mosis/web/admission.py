"""Admission: a request's largest body and its lane, from its head and the URL table."""

from collections.abc import Mapping
from http.cookies import CookieError, SimpleCookie

import bottle

from mosis.config import Config
from mosis.context import Context
from mosis.credentials import tokens
from mosis.errors import Denied, PortalError
from mosis.people import authentication, browser_sessions
from mosis.server import Admission
from mosis.telemetry.schemas import BODY_LIMIT_BYTES
from mosis.web.request import JSON_LIMIT_BYTES
from mosis.web.routing import own_path, split_version

MULTIPART_EXTRA_BYTES = 64 * 1024


def limit_bytes(config: Config) -> int:
    """The largest body of any route: a package in a form."""
    return config.package_limit_bytes + MULTIPART_EXTRA_BYTES


class Admissions:
    """Called by the server before any of the body is stored. Only routes for packages accept large
    bodies, only with a valid credential, and only while the disk has room. Where the account is
    looked up, the lane is shared among accounts."""

    def __init__(self, app: bottle.Bottle, env: Context) -> None:
        self.app = app
        self.env = env

    def __call__(self, method: str, path: str, headers: Mapping[str, str]) -> Admission:
        """Raises Denied `unauthenticated`, `invalid_token`, Unavailable `no_space` for uploads."""
        path = split_version(own_path(self.app.prefix, path))[1]
        try:
            match = self.app.router.match({"REQUEST_METHOD": method, "PATH_INFO": path or "/"})
        except bottle.HTTPError:
            return Admission(JSON_LIMIT_BYTES, "quick")  # the application will answer 404 or 405
        route, named = match
        lane = route.config.get("lane", "quick")
        if callable(lane):
            lane = lane(self.env, **named)
        if route.config.get("body") == "telemetry":
            return Admission(BODY_LIMIT_BYTES, lane)
        if route.config.get("body") != "package":
            account = self._account_if_known(lane, headers)
            return Admission(JSON_LIMIT_BYTES, lane, account, match=match)
        account = self._account(headers) if not route.config.get("page") else self._user(headers)
        limit = limit_bytes(self.env.config)
        length = headers.get("CONTENT_LENGTH", "")
        expected = min(int(length), limit) if length.isdigit() else limit
        # stored twice: by the server, then by the application
        self.env.files.check_upload(2 * expected)
        return Admission(limit, lane, account, holds_share=True)

    def _account_if_known(self, lane: str, headers: Mapping[str, str]) -> str:
        """The account whose turn a request in shared lanes takes; None: to be refused."""
        if lane != "publishing":
            return ""
        try:
            return self._account(headers)
        except PortalError:
            return ""

    def _user(self, headers: Mapping[str, str]) -> str:
        """Whose browser sends a form of a page. Raises Denied."""
        try:
            cookies = SimpleCookie(headers.get("COOKIE", ""))
        except CookieError:
            cookies = SimpleCookie()
        cookie = cookies.get(browser_sessions.cookie_name(self.env.config.base_url))
        db = self.env.db.connection()
        account = cookie and browser_sessions.account_of(self.env, db, cookie.value)
        if not account:
            detail = "Your session in this browser has ended; sign in again."
            raise Denied("unauthenticated", detail)
        return account

    def _account(self, headers: Mapping[str, str]) -> str:
        """The account of the credential. Raises Denied."""
        bearer = headers.get("AUTHORIZATION", "").partition(" ")[2]
        credential = headers.get("X_API_KEY", bearer).strip()
        if not tokens.plausible(credential):
            raise Denied(
                "unauthenticated",
                "Sign in first: an upload needs `Authorization: Bearer` with a token or an API key.",
            )
        db = self.env.db.connection()
        return authentication.caller_of(self.env, db, credential, "", "").account

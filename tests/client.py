"""A client that speaks the domain: `client.upload(draft, package, as_=alice).expect(409, code="version_exists")`."""

import gzip
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any
from urllib.parse import quote, urlsplit
from wsgiref.validate import validator

from mosis.context import Context
from mosis.events import KINDS
from mosis.people import accounts
from mosis.publishing import apps, members
from mosis.server.request import Answer as Ready
from mosis.server.request import Request
from mosis.web.answers import CachedResponses
from mosis.worker import Worker
from tests import described
from tests.package_builder import build_package, signing_key

PASSWORD = "correct horse battery"


def parsed(environ: Mapping[str, Any]) -> Request:
    """The same request as the server's parser would have it."""
    request = Request(None)
    request.command, request.query, request.peer = (
        environ["REQUEST_METHOD"],
        environ["QUERY_STRING"],
        environ["REMOTE_ADDR"],
    )
    request.path = environ["SCRIPT_NAME"] + environ["PATH_INFO"]
    request.headers = {
        name[5:]: value for name, value in environ.items() if name.startswith("HTTP_")
    }
    return request


def packed(headers: Mapping[str, str]) -> bool:
    """Whether a response is compressed."""
    return headers.get("content-encoding") == "gzip"


def headers_of(ready: Ready) -> dict[str, str]:
    """The headers of an answer of the server's loop."""
    lines = ready[1].decode("latin-1").split("\r\n")
    assert lines.pop() == ""
    names = [line.partition(": ")[0].lower() for line in lines]
    assert len(set(names)) == len(names), f"a header is repeated: {sorted(names)}"
    return dict(zip(names, (line.partition(": ")[2] for line in lines), strict=True))


@dataclass
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes
    cookies: list[str] = field(default_factory=list)  # the Set-Cookie lines

    @cached_property
    def json(self) -> Any:
        return json.loads(gzip.decompress(self.body) if packed(self.headers) else self.body)

    def __getitem__(self, name: str) -> Any:
        return self.json[name]

    def expect(self, status: int, code: str | None = None) -> "Answer":
        """Fail unless the answer has this status and, for problems, this code and the shape of RFC 9457."""
        assert self.status == status, (self.status, self.body[:2000])
        if status >= 400:
            assert self.headers["content-type"] == "application/problem+json"
            assert {"type", "title", "status", "detail", "code", "request_id"} <= set(self.json)
            assert self["status"] == status
            assert self["request_id"] == self.headers["x-request-id"]
        if code is not None:
            assert self["code"] == code, self.json
        return self

    def finding(self, pointer: str) -> str:
        """The code of the first finding at this pointer."""
        return next(each["code"] for each in self["errors"] if each["pointer"] == pointer)


@dataclass
class Account:
    """Somebody signed in."""

    email: str
    token: str
    refresh_token: str
    id: str
    key: Any = field(default_factory=signing_key)


class Client:
    """Speaks to the application as a WSGI server would; wsgiref's validator watches both sides. What the server's loop would have
    answered without the application is held to what the application says."""

    def __init__(self, app: Any, env: Context) -> None:
        self.app = validator(app)
        self.ready = CachedResponses(app, env)
        self.env = env
        self.worker = Worker(env)
        self.found_desk: Account | None = None

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        as_: "Account | str | None" = None,
        headers: Mapping[str, str] | None = None,
        address: str = "198.51.100.7",
    ) -> Answer:
        """One request. A dict is sent as JSON, bytes as they are; `as_` is an Account or a credential."""
        parts = urlsplit(path)
        raw = (
            body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        )
        environ: dict[str, Any] = {
            "REQUEST_METHOD": method,
            "SCRIPT_NAME": "",
            "PATH_INFO": _latin(parts.path),
            "QUERY_STRING": parts.query,
            "SERVER_NAME": "localhost",
            "SERVER_PORT": "8080",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "REMOTE_ADDR": address,
            "HTTP_USER_AGENT": "tests",
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.input": io.BytesIO(raw),
            "wsgi.errors": io.StringIO(),
            "wsgi.multithread": True,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
        }
        if body is not None:
            environ["CONTENT_LENGTH"] = str(len(raw))
            environ["CONTENT_TYPE"] = (
                "application/octet-stream" if isinstance(body, bytes) else "application/json"
            )
        if as_ is not None:
            environ["HTTP_AUTHORIZATION"] = "Bearer " + (
                as_.token if isinstance(as_, Account) else as_
            )
        for name, value in (headers or {}).items():
            variable = name.upper().replace("-", "_")
            environ[
                variable if variable in ("CONTENT_TYPE", "CONTENT_LENGTH") else "HTTP_" + variable
            ] = value
        started: dict[str, Any] = {}

        def start_response(
            status: str, answered: list[tuple[str, str]], exc_info: Any = None
        ) -> Any:
            names = [name.lower() for name, _ in answered]
            assert sorted(set(names)) == sorted(names) or names.count("set-cookie") > 1, (
                f"a header is repeated: {sorted(names)}"
            )
            started.update(
                status=int(status[:3]),
                headers={name.lower(): value for name, value in answered},
                cookies=[value for name, value in answered if name.lower() == "set-cookie"],
            )
            return lambda data: None

        ready, hits = None, self.env.cache.hits
        if not self.env.limits.on:  # being asked twice counts for them
            ready, self.env.cache.hits = self.ready(parsed(environ)), hits
        answer = self.app(environ, start_response)
        try:
            content = b"".join(answer)
        finally:
            answer.close()
        sent = (method, parts.query, environ.get("CONTENT_TYPE", ""), raw)
        plain = gzip.decompress(content) if content and packed(started["headers"]) else content
        described.check(
            environ.get("bottle.route"), sent, started["status"], started["headers"], plain
        )
        if ready is not None:
            result = headers_of(ready)
            alike = {
                name: value
                for name, value in started["headers"].items()
                if name not in ("x-request-id", "content-length")
            }
            assert (int(ready[0][:3]), ready[2]) == (started["status"], content), (path, ready)
            assert {
                name: value
                for name, value in result.items()
                if name not in ("x-request-id", "content-length")
            } == alike
        return Answer(started["status"], started["headers"], content, started["cookies"])

    def get(self, path: str, **more: Any) -> Answer:
        return self.call("GET", path, **more)

    def post(self, path: str, body: Any = None, **more: Any) -> Answer:
        return self.call("POST", path, body, **more)

    def patch(self, path: str, body: Any = None, **more: Any) -> Answer:
        return self.call("PATCH", path, body, **more)

    def delete(self, path: str, body: Any = None, **more: Any) -> Answer:
        return self.call("DELETE", path, body, **more)

    def register(self, name: str = "alice") -> Account:
        """A new developer, signed in."""
        email = f"{name}@example.net"
        answer = self.post(
            "/v1/auth/register", {"email": email, "password": PASSWORD, "name": name.title()}
        ).expect(201)
        return Account(
            email, answer["access_token"], answer["refresh_token"], answer["developer"]["id"]
        )

    def verified(self, account: Account) -> Account:
        """The same account, whose address counts as verified."""
        db = self.env.db.connection()
        with db.write():
            db.change("UPDATE developers SET email_verified = 1 WHERE id = ?", account.id)
        return account

    def reviewer(self, name: str = "rita") -> Account:
        """A new account with the role reviewer."""
        account = self.register(name)
        accounts.promote(self.env.db.connection(), account.email, "reviewer")
        return account

    def admin(self, name: str = "root") -> Account:
        """A new account with the role admin."""
        account = self.register(name)
        self.role_of(account, "admin")
        return account

    def role_of(self, account: Account, role: str) -> None:
        """Give somebody a role, as the command line does."""
        accounts.promote(self.env.db.connection(), account.email, role)

    def sign_in(self, account: Account, password: str = PASSWORD, **more: Any) -> Account:
        """The same account in another session."""
        answer = self.post(
            "/v1/auth/login", {"email": account.email, "password": password}, **more
        ).expect(200)
        return replace(account, token=answer["access_token"], refresh_token=answer["refresh_token"])

    def joins(self, account: Account, app: str, role: str) -> None:
        """Make somebody a member of an app, as if an invitation had been accepted."""
        db = self.env.db.connection()
        with db.write():
            members.add(db, apps.get(db, app).id, account.id, role)

    def notifications(self, account: Account) -> list[dict[str, Any]]:
        """The notifications of an account, newest first, each with facts that its kind names."""
        page = self.get("/v1/notifications?limit=100", as_=account).expect(200)
        found: list[dict[str, Any]] = page["notifications"]
        for each in found:
            assert set(each["data"]) <= set(KINDS[each["kind"]].data.split()), each
        return found

    def app_of(self, account: Account, package_id: str = "com.acme.notes") -> str:
        """A new app of somebody who has registered a signing key; its package_id."""
        known = self.get("/v1/signing-keys", as_=account)["signing_keys"]
        if not known:
            self.post(
                "/v1/signing-keys",
                {"name": "laptop", "public_key": account.key.public_base64},
                as_=account,
            ).expect(201)
        self.post(
            "/v1/apps",
            {"package_id": package_id, "name": package_id.rpartition(".")[2].title()},
            as_=account,
        ).expect(201)
        return package_id

    def out(self, account: Account, package_id: str = "com.acme.notes") -> str:
        """As `app_of`, an app of which something was published, as far as its row says; its package_id."""
        self.app_of(account, package_id)
        with self.env.db.connection().write() as db:
            db.change("UPDATE apps SET published = 1 WHERE package_id = ?", package_id)
        return package_id

    def upload(self, app: str, package: bytes, *, as_: Account, query: str = "") -> Answer:
        """Upload a package as the raw body."""
        return self.post(f"/v1/apps/{app}/versions{query}", package, as_=as_)

    def package(
        self,
        account: Account,
        package_id: str = "com.acme.notes",
        version: str = "1.0.0",
        code: int = 1,
        **more: Any,
    ) -> bytes:
        """A package signed by somebody's key."""
        return build_package(
            package_id=package_id, version=version, version_code=code, key=account.key, **more
        )

    def work(self) -> int:
        """Do every job that is due; how many."""
        return self.worker.run_due()

    def published(
        self, account: Account, app: str, version: str = "1.0.0", code: int = 1, **more: Any
    ) -> Answer:
        """A version taken the whole way: uploaded, checked, submitted, approved, published."""
        at = self.approved(account, app, version, code, **more)
        return self.post(at + "/publish", as_=account).expect(200)

    def approved(
        self, account: Account, app: str, version: str = "1.0.0", code: int = 1, **more: Any
    ) -> str:
        """The address of a version that was uploaded, checked, submitted and approved."""
        self.upload(
            app,
            self.package(account, app, version, code, **more),
            as_=account,
            query="?submit=true",
        ).expect(201)
        self.work()
        at = f"/v1/apps/{app}/versions/{quote(version)}"
        review = self.get(at, as_=account)["review"]["id"]
        self.post(f"/v1/reviews/{review}/approve", as_=self.desk).expect(200)
        return at

    @property
    def desk(self) -> Account:
        """A reviewer, the same in each call."""
        if self.found_desk is None:
            self.found_desk = self.reviewer("rita.reviews")
        return self.found_desk

    def approve_listing(self, pending: dict[str, Any]) -> Answer:
        """Approve a listing change, as PATCH of an app has shown it."""
        body = {"revision": pending["revision"]}
        at = f"/v1/listing-changes/{pending['id']}/approve"
        return self.post(at, body, as_=self.desk).expect(200)


def _latin(path: str) -> str:
    from urllib.parse import unquote_to_bytes

    return unquote_to_bytes(path).decode("latin-1")

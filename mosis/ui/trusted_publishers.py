"""The trusted publishers of an app: build servers that upload without a stored secret."""

import json
from typing import Any

from bottle import HTTPResponse

from mosis.caller import Caller
from mosis.context import Context
from mosis.database import Connection
from mosis.database.pagination import PageRequest
from mosis.errors import Invalid
from mosis.people import trusted_publishers
from mosis.people.trusted_publishers import SCOPES
from mosis.publishing import apps, members
from mosis.ui.pages import Page, Section
from mosis.validation import Schema, check, choice, text
from mosis.web.apps import PUBLISH_BY
from mosis.web.plugins import Portal
from mosis.web.trusted_publishers import ADD

ALL = PageRequest(100)  # an app has at most 20
ADD_HERE: Schema = {
    "issuer": ADD["issuer"],
    "claims": text(5000, required=True),
    "scopes": ADD["scopes"],
}
ONLY: Schema = {"publish_by": choice(PUBLISH_BY, required=True)}
# Issuers as their tokens name them, and claims to copy; docs/COOKBOOK.md has the workflows.
EXAMPLES = (
    (
        "GitHub Actions",
        "https://token.actions.githubusercontent.com",
        "repository_id=123456789\nref=refs/heads/main",
    ),
    ("GitLab", "https://gitlab.com", "project_id=1234\nref=main\nref_protected=true"),
    ("Forgejo", "https://git.example.org/api/actions", "repository_id=12\nref=refs/heads/main"),
)


def routes(app: Portal) -> None:
    here = "/console/apps/<app>/trusted-publishers"
    pages = Section(app, here, scope="developer", again=show)
    pages.get("", show)
    pages.post("", trust)
    pages.post("/only", only)
    pages.post("/<publisher>/remove", remove)


def show(env: Context, db: Connection, caller: Caller, page: Page, app: str) -> bytes:
    """The build servers that an app trusts, and, for its owners, the form to add one."""
    found = apps.with_role(db, caller, app, "viewer")
    rows = trusted_publishers.index(db, found, ALL).rows
    return page.render(
        "trusted_publishers.tpl",
        app=found,
        is_owner=members.role_of(db, found.id, caller.account) == "owner",
        publishers=[(row, json.loads(row.claims), json.loads(row.scopes)) for row in rows],
        scopes=SCOPES,
        chosen=page.form.all("scopes") or SCOPES[:2],
        examples=EXAMPLES,
        audience=env.config.base_url,
    )


def trust(env: Context, db: Connection, caller: Caller, page: Page, app: str) -> HTTPResponse:
    """Add a trusted publisher."""
    apps.with_role(db, caller, app, "owner")
    form = page.form.checked(ADD_HERE, trimmed=("issuer", "claims"), lists=("scopes",))
    publisher = check(form | {"claims": _claims(form["claims"])}, ADD)
    with apps.changing(db, caller, app, "owner") as found:
        trusted_publishers.add(env, db, caller, found, publisher)
    return _back(page, found.package_id, "publisher_added")


def remove(db: Connection, caller: Caller, page: Page, app: str, publisher: str) -> HTTPResponse:
    """Remove a trusted publisher; its tokens end at once."""
    with apps.changing(db, caller, app, "owner") as found:
        trusted_publishers.remove(db, caller, trusted_publishers.get(db, found, publisher))
    return _back(page, found.package_id, "publisher_removed")


def only(db: Connection, caller: Caller, page: Page, app: str) -> HTTPResponse:
    """Choose whether only trusted publishers may upload."""
    apps.with_role(db, caller, app, "owner")
    fields: dict[str, Any] = page.form.checked(ONLY)
    with apps.changing(db, caller, app, "owner") as found:
        apps.change(db, caller, found, fields)
    return _back(page, found.package_id, "publish_by_changed")


def _claims(text: str) -> dict[str, str]:
    """Claims from lines `name=value`. Raises Invalid."""
    found: dict[str, str] = {}
    for line in filter(None, (each.strip() for each in text.split("\n"))):
        name, sign, value = (part.strip() for part in line.partition("="))
        if not (name and sign and value) or name in found:
            detail = "Write one claim in each line, as name=value, and each name once."
            raise Invalid([{"pointer": "/claims", "code": "wrong_format", "detail": detail}])
        found[name] = value
    return found


def _back(page: Page, package_id: str, notice: str) -> HTTPResponse:
    return page.see_other(f"/console/apps/{package_id}/trusted-publishers", notice=notice)

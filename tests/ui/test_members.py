"""Members, transfers, trusted publishers and rollout plans with browsers, and what each role tries there."""

import pytest

from mosis.credentials import tokens
from tests.browser import Browser, forms_of, text_of
from tests.client import Account, Answer, Client

NOTES = "com.acme.notes"
APP = f"/console/apps/{NOTES}"
MEMBERS, TRUSTED = APP + "/members", APP + "/trusted-publishers"
GITHUB = "https://token.actions.githubusercontent.com"


def signed_in(client: Client, account: Account) -> Browser:
    found = Browser(client)
    found.sign_in(account.email)
    return found


@pytest.fixture
def owner(client: Client, alice: Account) -> Browser:
    return signed_in(client, alice)


def token_of(client: Client) -> str:
    """The token that was mailed last."""
    db = client.env.db.connection()
    newest = db.value("SELECT id FROM app_invitations ORDER BY rowid DESC LIMIT 1")
    return tokens.make_ticket(client.env.secret, newest)


def accept(browser: Browser, token: str) -> Answer:
    """Paste the token, read what it is for, and accept."""
    page = browser.send(browser.open("/console/join"), "/console/join", token=token)
    if page.status != 200:
        return page
    return browser.send(page, "/console/join")


def test_somebody_is_invited_accepts_gets_another_role_and_leaves(
    client: Client, alice: Account, owner: Browser
) -> None:
    page = owner.send(owner.open(MEMBERS), MEMBERS, email="bob@example.net", role="viewer")
    assert "The invitation is sent." in text_of(page)
    assert "bob@example.net" in text_of(page)
    token, bob = token_of(client), client.register("bob")
    guest = signed_in(client, bob)
    page = guest.send(guest.open("/console/join"), "/console/join", token=token)
    assert "Alice invites you to work on Notes as: Viewer." in text_of(page)
    assert client.get(f"/v1/apps/{NOTES}", as_=bob).status == 404  # nothing is accepted yet
    page = guest.send(page, "/console/join")
    assert "You are a member of this app now." in text_of(page)
    assert [each.action for each in forms_of(guest.open(MEMBERS)) if "/members" in each.action] == [
        f"{MEMBERS}/{bob.id}/remove"  # a viewer may leave, and no more
    ]
    page = owner.send(owner.open(MEMBERS), f"{MEMBERS}/{bob.id}/role", role="owner")
    assert "The role is changed." in text_of(page)
    page = guest.send(guest.open(MEMBERS), f"{MEMBERS}/{bob.id}/remove")
    assert "You have left the app." in text_of(page)
    assert guest.open(MEMBERS).status == 404
    assert accept(guest, token).status == 404  # used


def test_a_stranger_with_the_link_learns_nothing(
    client: Client, alice: Account, owner: Browser
) -> None:
    owner.send(owner.open(MEMBERS), MEMBERS, email="bob@example.net", role="owner")
    mallory = signed_in(client, client.register("mallory"))
    page = accept(mallory, token_of(client))
    assert page.status == 404
    assert "Notes" not in text_of(page)
    assert "Alice" not in text_of(page)


def test_an_invitation_is_cancelled(client: Client, alice: Account, owner: Browser) -> None:
    page = owner.send(owner.open(MEMBERS), MEMBERS, email="bob@example.net", role="viewer")
    token = token_of(client)
    (cancel,) = [each.action for each in forms_of(page) if each.action.endswith("/cancel")]
    assert "its link is void" in text_of(owner.send(page, cancel))
    assert accept(signed_in(client, client.register("bob")), token).status == 404


def test_an_app_is_transferred_when_the_other_side_accepts(
    client: Client, alice: Account, owner: Browser
) -> None:
    page = owner.send(owner.open(MEMBERS), APP + "/transfer", to="carol@example.net")
    assert "Nothing changes until it is accepted." in text_of(page)
    carol = client.register("carol")
    guest = signed_in(client, carol)
    page = guest.send(guest.open("/console/join"), "/console/join", token=token_of(client))
    assert "Alice offers you the app Notes." in text_of(page)
    assert "belongs to your account alone" in text_of(page)
    guest.send(page, "/console/join")
    assert client.get(f"/v1/apps/{NOTES}", as_=carol)["developer_id"] == carol.id
    assert owner.open(MEMBERS).status == 404


def test_the_last_owner_stays(client: Client, alice: Account, owner: Browser) -> None:
    page = owner.send(owner.open(MEMBERS), f"{MEMBERS}/{alice.id}/remove")
    assert (page.status, "only owner" in text_of(page)) == (409, True)
    page = owner.send(page, f"{MEMBERS}/{alice.id}/role", role="viewer")
    assert page.status == 409


@pytest.mark.parametrize("role", ["viewer", "publisher"])
def test_lower_roles_change_nothing_also_with_forms_of_their_own_making(
    client: Client, alice: Account, role: str
) -> None:
    bob = client.register("bob")
    client.joins(bob, NOTES, role)
    browser = signed_in(client, bob)
    trusted = {"issuer": GITHUB, "claims": {"repository_id": "1"}, "scopes": ["apps:read"]}
    publisher = client.post(f"/v1/apps/{NOTES}/publishers", trusted, as_=alice)["id"]
    token = dict(forms_of(browser.open(MEMBERS))[0].fields)["form_token"]
    forms = {
        MEMBERS: {"email": "x@example.net", "role": "owner"},
        f"{MEMBERS}/{bob.id}/role": {"role": "owner"},  # raising one's own role
        f"{MEMBERS}/{alice.id}/role": {"role": "viewer"},
        f"{MEMBERS}/{alice.id}/remove": {},
        APP + "/transfer": {"to": "bob@example.net"},
        TRUSTED: {"issuer": GITHUB, "claims": "repository_id=2", "scopes": "versions:upload"},
        TRUSTED + "/only": {"publish_by": "trusted"},
        f"{TRUSTED}/{publisher}/remove": {},
        APP + "/rollout-plan": {"steps": "5 0"},
        APP + "/listing": {"name": "X"},
    }
    before = list(client.env.db.connection()._raw.iterdump())
    for path, fields in forms.items():
        page = browser.post(path, fields | {"form_token": token}, follow=False)
        assert page.status == 403, path
    assert list(client.env.db.connection()._raw.iterdump()) == before


class TestTrustedPublishers:
    def test_one_is_added_from_an_example_and_removed(
        self, client: Client, alice: Account, owner: Browser
    ) -> None:
        page = owner.open(TRUSTED)
        for word in (GITHUB, "https://gitlab.com", "project_id=1234", "/api/actions"):
            assert word in text_of(page)
        claims = "repository_id=74\n\n ref = refs/heads/main \n"
        page = owner.send(page, TRUSTED, issuer=GITHUB, claims=claims)
        assert "The trusted publisher is added." in text_of(page)
        (found,) = client.get(f"/v1/apps/{NOTES}/publishers", as_=alice)["publishers"]
        assert found["claims"] == {"repository_id": "74", "ref": "refs/heads/main"}
        assert found["scopes"] == ["apps:read", "versions:upload"]
        page = owner.send(page, f"{TRUSTED}/{found['id']}/remove")
        assert "None yet." in text_of(page)

    @pytest.mark.parametrize(
        ("claims", "why"),
        [
            ("repository_id", "one claim in each line"),
            ("repository_id=1\nrepository_id=2", "each name once"),
            ("repository=acme/notes", "by its id"),
            ("=1", "one claim in each line"),
        ],
    )
    def test_errors_are_reported_and_what_was_typed_stays(
        self, client: Client, alice: Account, owner: Browser, claims: str, why: str
    ) -> None:
        page = owner.send(owner.open(TRUSTED), TRUSTED, issuer=GITHUB, claims=claims)
        assert (page.status, why in text_of(page)) == (422, True), text_of(page)
        assert claims.replace("\n", " ") in text_of(page)
        assert client.get(f"/v1/apps/{NOTES}/publishers", as_=alice)["publishers"] == []

    def test_only_trusted_publishers_may_upload(
        self, client: Client, alice: Account, owner: Browser
    ) -> None:
        owner.send(owner.open(TRUSTED), TRUSTED + "/only")
        refused = client.upload(NOTES, client.package(alice), as_=alice)
        refused.expect(403, "trusted_only")
        page = owner.upload(owner.open(APP), client.package(alice))
        assert page.status == 403
        page = owner.send(owner.open(TRUSTED), TRUSTED + "/only")
        assert "with their own credentials" in text_of(page)
        client.upload(NOTES, client.package(alice), as_=alice).expect(201)


class TestPlans:
    def test_the_plan_of_further_versions_is_set_edited_and_removed(
        self, client: Client, alice: Account, owner: Browser
    ) -> None:
        plan = {
            "steps": "5 0\n25 % 24\n100 72",
            "crash_free_below": "99",
            "sessions_at_least": "200",
        }
        page = owner.send(owner.open(APP), APP + "/rollout-plan", **plan)
        assert "25 % after 24 h" in text_of(page)
        found = client.get(f"/v1/apps/{NOTES}", as_=alice)["rollout_plan"]
        assert found["steps"][1] == {"percent": 25, "after_hours": 24}
        assert found["halt_when"]["crash_free_below"] == 0.99
        body = page.body.decode()
        assert "5 0\n25 24\n100 72</textarea>" in body  # the form has it, to be edited
        token = dict(forms_of(page)[0].fields)["form_token"]
        owner.post(APP + "/rollout-plan", {"form_token": token, "remove": "yes"})
        assert client.get(f"/v1/apps/{NOTES}", as_=alice)["rollout_plan"] is None

    @pytest.mark.parametrize(
        "steps", ["", "5", "5 0 1", "a b", "nan 0", "inf 0", "5 1", "50 0\n25 24", "0 0", "101 0", "5 0\n" * 30]
    )  # fmt: skip
    def test_a_plan_that_is_none_is_refused_and_shown_again(
        self, client: Client, alice: Account, owner: Browser, steps: str
    ) -> None:
        page = owner.send(owner.open(APP), APP + "/rollout-plan", steps=steps)
        assert page.status == 422
        assert client.get(f"/v1/apps/{NOTES}", as_=alice)["rollout_plan"] is None

    def test_the_plan_of_a_version_is_edited_where_it_is_published(
        self, client: Client, alice: Account, owner: Browser
    ) -> None:
        client.published(alice, NOTES)
        client.published(alice, NOTES, "1.1.0", 2)
        at = APP + "/versions/1.1.0"
        page = owner.send(owner.open(at), at + "/rollout-plan", steps="10 0\n100 24")
        assert "The rollout plan is saved." in text_of(page)
        assert "100 % after 24 h" in text_of(page)
        token = dict(forms_of(page)[0].fields)["form_token"]
        page = owner.post(at + "/rollout-plan", {"form_token": token, "remove": "yes"})
        assert "The rollout plan is removed." in text_of(page)
        page = owner.post(at + "/rollout-plan", {"form_token": token, "remove": "yes"})
        assert page.status == 404


def test_the_operator_sees_the_checks(client: Client) -> None:
    page = signed_in(client, client.admin()).open("/console/admin/doctor")
    assert page.status == 200
    assert "OK." in text_of(page)
    assert client.env.secret not in page.body.decode()

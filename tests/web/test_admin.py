"""What operators do: people, apps, the trail; and what suspension means."""

import pytest

from tests.client import Account, Client

NOTES = "com.acme.notes"


@pytest.fixture
def root(client: Client) -> Account:
    return client.admin()


def test_a_suspended_account_is_out_at_once_and_can_come_back(
    client: Client, alice: Account, root: Account
) -> None:
    client.published(alice, NOTES)
    client.patch(f"/v1/admin/developers/{alice.id}", {"suspended": True}, as_=root).expect(200)
    client.get("/v1/auth/me", as_=alice).expect(401, "invalid_token")
    client.post("/v1/auth/refresh", {"refresh_token": alice.refresh_token}).expect(
        401, "invalid_token"
    )
    client.post(
        "/v1/auth/login", {"email": alice.email, "password": "correct horse battery"}
    ).expect(403, "suspended")
    client.get(f"/v1/store/apps/{NOTES}").expect(404)
    client.patch(f"/v1/admin/developers/{alice.id}", {"suspended": False}, as_=root).expect(200)
    client.get("/v1/auth/me", as_=client.sign_in(alice)).expect(200)
    client.get(f"/v1/store/apps/{NOTES}").expect(200)


def test_a_role_counts_from_the_next_request_on(
    client: Client, alice: Account, root: Account
) -> None:
    client.get("/v1/reviews", as_=alice).expect(403)
    client.patch(f"/v1/admin/developers/{alice.id}", {"role": "reviewer"}, as_=root).expect(200)
    client.get("/v1/reviews", as_=alice).expect(200)
    client.patch(f"/v1/admin/developers/{alice.id}", {"role": "developer"}, as_=root).expect(200)
    client.get("/v1/reviews", as_=alice).expect(403)


def test_nobody_raises_themself(client: Client, alice: Account, root: Account) -> None:
    client.patch(f"/v1/admin/developers/{alice.id}", {"role": "admin"}, as_=alice).expect(
        403, "forbidden"
    )
    client.patch(f"/v1/admin/developers/{root.id}", {"role": "developer"}, as_=root).expect(
        403, "forbidden"
    )
    client.patch("/v1/auth/me", {"role": "admin"}, as_=alice).expect(422, "invalid")
    client.patch("/v1/admin/developers/nobody", {"role": "admin"}, as_=root).expect(404)


def test_people_and_apps_are_found(client: Client, alice: Account, root: Account) -> None:
    everybody = client.get("/v1/admin/developers?limit=1", as_=root).expect(200)
    rest = client.get(
        f"/v1/admin/developers?limit=1&cursor={everybody['next_cursor']}", as_=root
    ).expect(200)
    assert {each["email"] for page in (everybody, rest) for each in page["developers"]} == {
        alice.email,
        root.email,
    }
    assert [
        each["id"] for each in client.get("/v1/admin/developers?q=ALICE", as_=root)["developers"]
    ] == [alice.id]
    assert [
        each["package_id"]
        for each in client.get("/v1/admin/apps?q=note", as_=root).expect(200)["apps"]
    ] == [NOTES]
    assert client.get("/v1/admin/apps?q=%25", as_=root).expect(200)["apps"] == []


def test_a_suspended_app_is_out_of_the_store(client: Client, alice: Account, root: Account) -> None:
    client.published(alice, NOTES)
    path = (
        client.get(f"/v1/store/apps/{NOTES}/download")
        .headers["location"]
        .removeprefix(client.env.config.base_url)
    )
    client.patch(
        f"/v1/admin/apps/{NOTES}", {"suspended": True, "reason": "malware"}, as_=root
    ).expect(200)
    client.get(f"/v1/store/apps/{NOTES}").expect(404)
    client.get(path).expect(404)
    assert client.get(f"/v1/apps/{NOTES}", as_=alice)["status"] == "suspended"
    client.patch(
        f"/v1/admin/apps/{NOTES}", {"suspended": False, "reason": "cleared"}, as_=root
    ).expect(200)
    client.get(path).expect(200)
    client.patch(f"/v1/admin/apps/{NOTES}", {"suspended": True}, as_=root).expect(422)


def test_the_trail_is_for_admins_whole_and_for_owners_their_part(
    client: Client, alice: Account, root: Account
) -> None:
    bob = client.register("bob")
    client.patch(f"/v1/admin/developers/{alice.id}", {"role": "reviewer"}, as_=root).expect(200)
    whole = client.get("/v1/admin/audit?limit=100", as_=root).expect(200)["entries"]
    assert [each["number"] for each in whole] == sorted(
        (each["number"] for each in whole), reverse=True
    )
    assert {alice.id, bob.id} <= {each["owner_id"] for each in whole}
    own = client.get("/v1/auth/me/audit?limit=100", as_=alice).expect(200)["entries"]
    assert {each["owner_id"] for each in own} == {alice.id}
    assert {"account.created", "account.role_changed", "app.created", "signing_key.added"} <= {
        each["action"] for each in own
    }
    raised = next(each for each in own if each["action"] == "account.role_changed")
    assert (raised["actor_id"], raised["network"]) == (None, ""), (
        "the owner does not see which administrator it was"
    )
    exported = client.get("/v1/auth/me/export", as_=alice).expect(200)["audit"]
    from_where = {each["action"]: each["address"] for each in exported}
    assert (from_where["account.role_changed"], from_where["account.created"]) == (
        "",
        "198.51.100.0/24",
    )
    changed = client.get("/v1/admin/audit?action=account.role_changed", as_=root)["entries"][0]
    assert (changed["actor_id"], changed["details"], changed["network"]) == (
        root.id,
        {"role": "reviewer"},
        "198.51.100.0/24",
    )

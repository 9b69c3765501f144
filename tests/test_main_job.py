"""The main job, whole: register, upload, publish, download."""

import base64
import hashlib

import pytest

from tests.client import PASSWORD, Client


def test_from_an_account_to_the_same_bytes_on_a_device(client: Client) -> None:
    alice, rita = client.register(), client.reviewer()
    app = client.app_of(alice)
    package = client.package(alice)

    uploaded = client.upload(app, package, as_=alice).expect(201)
    assert uploaded["state"] == "checking"
    assert uploaded.headers["location"] == "/v1/apps/com.acme.notes/versions/1.0.0"
    client.work()
    ready = client.get("/v1/apps/com.acme.notes/versions/1.0.0", as_=alice).expect(200)
    assert (ready["state"], [finding["code"] for finding in ready["findings"]]) == (
        "ready",
        ["first_app"],
    )

    submitted = client.post("/v1/apps/com.acme.notes/versions/1.0.0/submit", as_=alice).expect(200)
    assert submitted["next_step"] == "Waiting for a reviewer: 1st of 1."
    waiting = client.get("/v1/reviews?state=waiting", as_=rita).expect(200)["reviews"]
    assert [review["package_id"] for review in waiting] == ["com.acme.notes"]
    client.post(f"/v1/reviews/{waiting[0]['id']}/approve", {"comment": "fine"}, as_=rita).expect(
        200
    )

    client.get("/v1/store/apps/com.acme.notes").expect(404, code="not_found")
    published = client.post("/v1/apps/com.acme.notes/versions/1.0.0/publish", as_=alice).expect(200)
    assert published["state"] == "published"
    assert client.get("/v1/apps/com.acme.notes", as_=alice)["status"] == "published"

    listed = client.get("/v1/store/apps").expect(200)["apps"]
    assert [each["package_id"] for each in listed] == ["com.acme.notes"]
    redirect = client.get("/v1/store/apps/com.acme.notes/download").expect(302)
    path = redirect.headers["location"].removeprefix(client.env.config.base_url)
    got = client.get(path).expect(200)
    digest = hashlib.sha256(package).digest()
    assert got.body == package
    assert got.headers["etag"] == f'"{digest.hex()}"'
    assert got.headers["repr-digest"] == f"sha-256=:{base64.b64encode(digest).decode()}:"
    icon = client.get(f"/assets/{published['app_id']}/icon-64.png").expect(200)
    assert icon.body.startswith(b"\x89PNG")


@pytest.mark.parametrize("prefix", ["", "/v1"])
def test_the_five_endpoints_of_the_first_prototype_answer_with_and_without_v1(
    client: Client, prefix: str
) -> None:
    account = {"email": "bob@example.net", "password": PASSWORD, "name": "Bob"}
    client.post(f"{prefix}/auth/register", account).expect(201)
    token = client.post(
        f"{prefix}/auth/login", {"email": account["email"], "password": PASSWORD}
    ).expect(200)["access_token"]
    assert client.get(f"{prefix}/apps", as_=token).expect(200)["apps"] == []
    client.post(
        f"{prefix}/apps", {"package_id": "com.acme.todo", "name": "Todo"}, as_=token
    ).expect(201)
    client.post(f"{prefix}/apps/com.acme.todo/versions", b"not a zip", as_=token).expect(
        422, code="package_rejected"
    )

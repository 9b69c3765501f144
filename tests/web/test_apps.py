"""Apps and signing keys over HTTP."""

import io
import os
from typing import Any

import pytest

from mosis.context import Context
from mosis.store import downloads
from tests.client import Client
from tests.package_builder import signing_key

APP = {"package_id": "com.acme.notes", "name": "Notes"}


def test_an_app_is_made_shown_changed_and_deleted(client: Client) -> None:
    alice = client.register()
    made = client.post(
        "/v1/apps", APP | {"tags": ["a", "b"], "homepage": "https://example.net"}, as_=alice
    ).expect(201)
    assert made.headers["location"] == "/v1/apps/com.acme.notes"
    assert set(made.json) == {
        "id", "package_id", "name", "summary", "description", "category", "tags", "homepage", "status", "developer_id", "icon_url",
        "rollout_plan", "publish_by", "pending",
        "latest_version", "created_at", "updated_at",
    }  # fmt: skip
    assert client.get(f"/v1/apps/{made['id']}", as_=alice).expect(200).json == made.json
    changed = client.patch(
        "/v1/apps/com.acme.notes", {"summary": "Short", "tags": []}, as_=alice
    ).expect(200)
    assert (changed["summary"], changed["tags"], changed["name"]) == ("Short", [], "Notes")
    client.delete("/v1/apps/com.acme.notes", as_=alice).expect(204)
    client.get("/v1/apps/com.acme.notes", as_=alice).expect(404)
    client.post("/v1/apps", APP, as_=alice).expect(201)


def test_a_package_id_is_taken_once(client: Client) -> None:
    alice, bob = client.register(), client.register("bob")
    client.post("/v1/apps", APP, as_=alice).expect(201)
    client.post("/v1/apps", APP, as_=bob).expect(409, code="package_id_taken")


@pytest.mark.parametrize(("change", "pointer"), [
    ({"package_id": "notes"}, "/package_id"), ({"package_id": "com.Acme.notes"}, "/package_id"),
    ({"package_id": "com..notes"}, "/package_id"), ({"package_id": "com.acme.notes\n"}, "/package_id"),
    ({"package_id": "com." + "a" * 255}, "/package_id"), ({"package_id": "com.acmé"}, "/package_id"),
    ({"name": "n" * 51}, "/name"), ({"tags": ["t"] * 11}, "/tags"), ({"tags": [1]}, "/tags/0"),
    ({"homepage": "javascript:alert(1)"}, "/homepage"), ({"developer_id": "me"}, "/developer_id"),
    ({"category": "A B"}, "/category"),
])  # fmt: skip
def test_errors_in_an_app_are_reported(
    client: Client, change: dict[str, Any], pointer: str
) -> None:
    answer = client.post("/v1/apps", APP | change, as_=client.register()).expect(
        422, code="invalid"
    )
    assert [each["pointer"] for each in answer["errors"]] == [pointer]


def test_lists_come_in_pages_that_stay_right_while_rows_are_added(client: Client) -> None:
    alice = client.register()
    for number in range(5):
        client.post(
            "/v1/apps", {"package_id": f"com.acme.a{number}", "name": "A"}, as_=alice
        ).expect(201)
    first = client.get("/v1/apps?limit=2", as_=alice).expect(200)
    assert (first["total"], [app["package_id"] for app in first["apps"]]) == (
        5,
        ["com.acme.a4", "com.acme.a3"],
    )
    client.post("/v1/apps", {"package_id": "com.acme.late", "name": "A"}, as_=alice).expect(201)
    second = client.get(f"/v1/apps?limit=2&cursor={first['next_cursor']}", as_=alice).expect(200)
    assert [app["package_id"] for app in second["apps"]] == ["com.acme.a2", "com.acme.a1"]
    assert f"cursor={second['next_cursor']}" in second.headers["link"]
    last = client.get(f"/v1/apps?limit=2&cursor={second['next_cursor']}", as_=alice).expect(200)
    assert (len(last["apps"]), last["next_cursor"], "link" in last.headers) == (1, None, False)


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=101", "limit=x", "limit=1e1", "cursor=x", "cursor=WzFd", "status=gone"],
)
def test_bad_queries_are_reported(client: Client, query: str) -> None:
    client.get(f"/v1/apps?{query}", as_=client.register()).expect(400)


def test_a_get_is_repeated_only_when_something_changed(client: Client) -> None:
    alice = client.register()
    client.post("/v1/apps", APP, as_=alice).expect(201)
    tag = client.get("/v1/apps", as_=alice).headers["etag"]
    assert client.get("/v1/apps", as_=alice, headers={"If-None-Match": tag}).expect(304).body == b""
    client.patch("/v1/apps/com.acme.notes", {"name": "New"}, as_=alice).expect(200)
    client.get("/v1/apps", as_=alice, headers={"If-None-Match": tag}).expect(200)
    app_tag = client.get("/v1/apps/com.acme.notes", as_=alice).headers["etag"]
    client.patch(
        "/v1/apps/com.acme.notes", {"name": "X"}, as_=alice, headers={"If-Match": tag}
    ).expect(412)
    client.delete("/v1/apps/com.acme.notes", as_=alice, headers={"If-Match": app_tag}).expect(204)


def test_signing_keys_are_registered_and_revoked(client: Client) -> None:
    alice, key = client.register(), signing_key()
    made = client.post(
        "/v1/signing-keys", {"name": "laptop", "public_key": key.public_pem}, as_=alice
    ).expect(201)
    assert made["public_key"] == key.public_pem
    assert made["fingerprint"].startswith("SHA256:")
    same = client.post(
        "/v1/signing-keys", {"name": "again", "public_key": key.public_base64}, as_=alice
    )
    same.expect(409, code="signing_key_exists")
    client.delete(f"/v1/signing-keys/{made['id']}", as_=alice).expect(204)
    client.delete(f"/v1/signing-keys/{made['id']}", as_=alice).expect(204)
    assert client.get("/v1/signing-keys", as_=alice)["signing_keys"][0]["state"] == "revoked"
    client.delete(f"/v1/signing-keys/{made['id']}", as_=client.register("bob")).expect(404)


def test_at_most_ten_signing_keys_are_live(client: Client) -> None:
    alice = client.register()
    for number in range(10):
        key = {"name": str(number), "public_key": signing_key().public_base64}
        client.post("/v1/signing-keys", key, as_=alice).expect(201)
    one_more = {"name": "x", "public_key": signing_key().public_base64}
    client.post("/v1/signing-keys", one_more, as_=alice).expect(409, code="limit_reached")


@pytest.mark.parametrize(
    "key",
    ["", "x", "AAAA", "A" * 43 + "=", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----"],
)
def test_other_keys_are_refused(client: Client, key: str) -> None:
    client.post("/v1/signing-keys", {"name": "k", "public_key": key}, as_=client.register()).expect(
        422
    )


def test_an_address_that_does_not_take_a_method_names_those_that_it_takes(client: Client) -> None:
    for path, allowed in (
        ("/v1/apps", "GET, HEAD, OPTIONS, POST"),
        ("/v1/apps/com.acme.notes", "DELETE, GET, HEAD, OPTIONS, PATCH"),
        ("/v1/auth/login", "OPTIONS, POST"),
    ):
        refused = client.call("PUT", path, {}).expect(405, code="method_not_allowed")
        assert (refused.headers["allow"], refused.headers["cache-control"]) == (allowed, "no-store")
    assert (
        client.get("/v1/nowhere").expect(404, code="not_found").headers["cache-control"]
        == "no-store"
    )


def test_the_packages_of_a_deleted_app_go_after_a_day_and_nothing_else_does(
    client: Client, env: Context
) -> None:
    alice = client.register()
    for package_id in ("com.acme.notes", "com.acme.todo"):
        client.upload(
            client.app_of(alice, package_id), client.package(alice, package_id), as_=alice
        ).expect(201)
    client.work()
    client.delete("/v1/apps/com.acme.todo", as_=alice).expect(204)
    left = env.files.receive(io.BytesIO(b"of a killed process"), 100).path
    packages = sorted(env.config.packages_dir.glob("*/*/*/package.mosis"))
    downloads.sweep_packages(env)
    assert sorted(env.config.packages_dir.glob("*/*/*/package.mosis")) == packages
    for path in (*packages, left):
        os.utime(path, (1, 1))
    for _ in range(2):
        downloads.sweep_packages(env)
        assert len(list(env.config.packages_dir.glob("*/*/*/package.mosis"))) == 1
        assert list(env.files.incoming.iterdir()) == []
    version = client.get("/v1/apps/com.acme.notes/versions/1.0.0", as_=alice)
    assert env.files.path(alice.id, version["app_id"], "1.0.0").exists()

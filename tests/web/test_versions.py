"""Versions over HTTP: uploads, moves, reviews."""

import base64
import gzip
import hashlib
from typing import Any

import pytest

from mosis.publishing import version_checks
from tests.client import Account, Client
from tests.conftest import FakeClock

NOTES = "com.acme.notes"
AT = f"/v1/apps/{NOTES}/versions/1.0.0"


def test_a_version_shows_all_its_fields(client: Client, alice: Account) -> None:
    uploaded = client.upload(
        NOTES, client.package(alice), as_=alice, query="?release_notes=First%20one"
    ).expect(201)
    assert set(uploaded.json) == {
        "id", "app_id", "package_id", "version", "version_code", "channel", "state", "next_step", "findings", "review",
        "permissions", "min_mosis_version", "release_notes", "size_bytes", "sha256", "signing_key_id", "rollout_percent",
        "publish_at", "download_url", "created_at", "submitted_at", "decided_at", "published_at", "package_removed_at",
        "rollout_plan", "security",
    }  # fmt: skip
    assert (uploaded["release_notes"], uploaded["review"], uploaded["permissions"]) == (
        "First one",
        None,
        ["storage"],
    )


def test_release_notes_in_the_query_are_text(client: Client, alice: Account) -> None:
    def upload(notes: str) -> Any:
        return client.upload(
            NOTES, client.package(alice), as_=alice, query=f"?release_notes={notes}"
        )

    for wrong in ("%FF", "a%00b"):
        assert upload(wrong).expect(422).finding("/release_notes") == "wrong_format"
    assert upload("Gr%C3%BC%C3%9Fe%0A%F0%9F%8E%89").expect(201)["release_notes"] == "Grüße\n🎉"


def test_the_same_bytes_again_are_no_new_version(client: Client, alice: Account) -> None:
    package = client.package(alice)
    first = client.upload(NOTES, package, as_=alice).expect(201)
    assert client.upload(NOTES, package, as_=alice).expect(200)["id"] == first["id"]
    other = client.package(alice, files={"assets/more.txt": b"more"})
    client.upload(NOTES, other, as_=alice).expect(409, code="version_exists")
    assert list((client.env.config.packages_dir / "incoming").iterdir()) == []


def test_a_withdrawn_version_gives_its_string_back(client: Client, alice: Account) -> None:
    client.upload(NOTES, client.package(alice), as_=alice).expect(201)
    client.work()
    client.post(AT + "/withdraw", as_=alice).expect(200)
    again = client.package(alice, files={"assets/more.txt": b"more"})
    client.upload(NOTES, again, as_=alice).expect(201)


def test_a_published_version_spends_its_string_and_code(client: Client, alice: Account) -> None:
    client.published(alice, NOTES)
    client.post(AT + "/yank", {"reason": "broken"}, as_=alice).expect(200)
    client.upload(NOTES, client.package(alice, files={"assets/m.txt": b"m"}), as_=alice).expect(
        409, code="version_exists"
    )
    client.upload(NOTES, client.package(alice, version="1.0.1", code=1), as_=alice).expect(
        409, code="version_code_not_higher"
    )
    client.upload(NOTES, client.package(alice, version="1.0.1", code=2), as_=alice).expect(201)


def test_a_form_may_have_its_fields_in_any_order(client: Client, alice: Account) -> None:
    def part(name: str, content: bytes) -> bytes:
        return b'--aB\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n' % (
            name.encode(),
            content,
        )

    for number, parts in enumerate(
        [["package", "release_notes", "channel"], ["channel", "package", "release_notes"]], 1
    ):
        fields = {
            "package": client.package(alice, version=f"1.0.{number}", code=number),
            "release_notes": "Grüße".encode(),
            "channel": b"beta",
        }
        body = b"".join(part(name, fields[name]) for name in parts) + b"--aB--\r\n"
        form = {
            "Content-Type": "Multipart/Form-Data; boundary=aB"
        }  # as browsers have it: capitals count in a boundary
        made = client.post(f"/v1/apps/{NOTES}/versions", body, as_=alice, headers=form)
        assert (made.expect(201)["channel"], made["release_notes"]) == ("beta", "Grüße")


@pytest.mark.parametrize("body", [
    b"", b"--b--\r\n", b'--b\r\nContent-Disposition: form-data; name="other"\r\n\r\nx\r\n--b--\r\n',
    b'--b\r\nContent-Disposition: form-data; name="package"\r\n\r\nno end', b"nonsense",
    b'--b\r\nContent-Disposition: form-data; name="channel"\r\n\r\nbeta\r\n' * 9 + b"--b--\r\n",
])  # fmt: skip
def test_broken_forms_are_reported(client: Client, alice: Account, body: bytes) -> None:
    answer = client.post(
        f"/v1/apps/{NOTES}/versions",
        body,
        as_=alice,
        headers={"Content-Type": "multipart/form-data; boundary=b"},
    )
    answer.expect(400, code="malformed_request")


def test_notes_in_the_query_are_utf_8_without_control_characters(
    client: Client, alice: Account
) -> None:
    answer = client.upload(
        NOTES, client.package(alice), as_=alice, query="?release_notes=Gr%C3%BC%C3%9Fe%0A%E2%9C%93"
    ).expect(201)
    assert answer["release_notes"] == "Grüße\n✓"
    for wrong in ("%00", "%1b[2J", "%ff", "x" * 5001):
        refused = client.upload(
            NOTES,
            client.package(alice, version="2.0.0", code=2),
            as_=alice,
            query=f"?release_notes={wrong}",
        )
        assert refused.expect(422, code="invalid").finding("/release_notes") in (
            "wrong_format",
            "too_long",
        )


def test_a_packed_body_is_refused(client: Client, alice: Account) -> None:
    packed = {"Content-Encoding": "gzip"}
    refused = client.post(
        f"/v1/apps/{NOTES}/versions",
        gzip.compress(client.package(alice)),
        as_=alice,
        headers=packed,
    )
    refused.expect(415, code="unsupported_media_type")


def test_a_content_digest_is_compared(client: Client, alice: Account) -> None:
    package = client.package(alice)
    wrong = {"Content-Digest": f"sha-256=:{base64.b64encode(bytes(32)).decode()}:"}
    client.post(f"/v1/apps/{NOTES}/versions", package, as_=alice, headers=wrong).expect(
        422, code="digest_mismatch"
    )
    right = {
        "Content-Digest": f"sha-256=:{base64.b64encode(hashlib.sha256(package).digest()).decode()}:"
    }
    client.post(f"/v1/apps/{NOTES}/versions", package, as_=alice, headers=right).expect(201)


def test_a_package_over_the_limit_is_refused(client: Client, alice: Account) -> None:
    object.__setattr__(client.env.config, "package_limit_bytes", 1000)
    client.upload(NOTES, client.package(alice), as_=alice).expect(413, code="too_large")


def test_a_revoked_key_signs_no_new_upload(client: Client, alice: Account) -> None:
    key = client.get("/v1/signing-keys", as_=alice)["signing_keys"][0]["id"]
    client.delete(f"/v1/signing-keys/{key}", as_=alice).expect(204)
    answer = client.upload(NOTES, client.package(alice), as_=alice).expect(
        422, code="package_rejected"
    )
    assert [each["code"] for each in answer["errors"]] == ["no_signing_key"]


def test_a_move_that_is_not_allowed_names_those_that_are(client: Client, alice: Account) -> None:
    client.upload(NOTES, client.package(alice), as_=alice).expect(201)
    client.work()
    answer = client.post(AT + "/publish", as_=alice).expect(409, code="invalid_state")
    assert (answer["state"], answer["allowed"]) == ("ready", ["submit", "withdraw"])
    for move, body in (
        ("halt", None),
        ("unyank", None),
        ("yank", {"reason": "r"}),
        ("rollout", {"percent": 50}),
    ):
        client.post(f"{AT}/{move}", body, as_=alice).expect(409, code="invalid_state")


def test_halting_yanking_and_back(client: Client, alice: Account) -> None:
    url = client.published(alice, NOTES)["download_url"].removeprefix(client.env.config.base_url)
    icon = client.get("/v1/store/apps/com.acme.notes")["icon_url"].removeprefix(
        client.env.config.base_url
    )
    client.get(icon).expect(200)
    client.post(AT + "/halt", as_=alice).expect(200)
    client.get("/v1/store/apps/com.acme.notes").expect(404)
    client.get(url).expect(200)
    client.post(AT + "/publish", as_=alice).expect(200)
    client.get("/v1/store/apps/com.acme.notes").expect(200)
    client.post(AT + "/yank", {"reason": "It eats notes."}, as_=alice).expect(200)
    gone = client.get(url).expect(410, code="gone")
    assert "It eats notes." in gone["detail"]
    assert gone.headers["cache-control"] == "no-store"
    for headers in ({"If-None-Match": "*"}, {"Range": "bytes=0-1"}, {"If-Match": '"x"'}):
        client.get(url, headers=headers).expect(410, code="gone")
    assert client.call("HEAD", url).status == 410
    client.get(icon).expect(404)
    client.post(AT + "/unyank", as_=alice).expect(200)
    client.get(url).expect(200)


def test_a_share_only_grows(client: Client, alice: Account) -> None:
    client.published(alice, NOTES)
    at = client.approved(alice, NOTES, "1.1.0", 2)
    client.post(at + "/publish", {"rollout_percent": 10}, as_=alice).expect(200)
    assert client.get("/v1/store/apps/com.acme.notes")["version"] == "1.0.0"
    assert "10 % of the devices" in client.get(at, as_=alice)["next_step"]
    client.post(at + "/rollout", {"percent": 5}, as_=alice).expect(409)
    assert (
        "50 %" in client.post(at + "/rollout", {"percent": 50}, as_=alice).expect(200)["next_step"]
    )
    client.post(at + "/rollout", {"percent": 100}, as_=alice).expect(200)
    assert client.get("/v1/store/apps/com.acme.notes")["version"] == "1.1.0"
    client.post(at + "/rollout", {"percent": 101}, as_=alice).expect(422)


def test_a_halted_version_goes_on_with_its_share_or_a_larger_one(
    client: Client, alice: Account
) -> None:
    client.published(alice, NOTES)
    at = client.approved(alice, NOTES, "1.1.0", 2)
    client.post(at + "/publish", {"rollout_percent": 10}, as_=alice).expect(200)
    refused = client.post(at + "/publish", {"rollout_percent": 20}, as_=alice).expect(
        409, code="invalid_state"
    )
    assert "rollout" in refused["allowed"]
    client.post(at + "/halt", as_=alice).expect(200)
    client.post(at + "/publish", {"rollout_percent": 5}, as_=alice).expect(
        409, code="invalid_state"
    )
    client.post(at + "/publish", {"publish_at": client.env.clock.now(600)}, as_=alice).expect(
        409, code="invalid_state"
    )
    assert client.get(at, as_=alice)["state"] == "halted", "what is refused has changed nothing"
    assert client.post(at + "/publish", as_=alice).expect(200)["rollout_percent"] == 10
    client.post(at + "/halt", as_=alice).expect(200)
    assert (
        client.post(at + "/publish", {"rollout_percent": 30}, as_=alice).expect(200)[
            "rollout_percent"
        ]
        == 30
    )
    assert client.get(at, as_=alice)["rollout_percent"] == 30


def test_a_version_is_published_at_its_time(
    client: Client, alice: Account, clock: FakeClock
) -> None:
    client.upload(NOTES, client.package(alice), as_=alice, query="?submit=true").expect(201)
    client.work()
    client.post(
        f"/v1/reviews/{client.get(AT, as_=alice)['review']['id']}/approve", as_=client.reviewer()
    ).expect(200)
    later = client.env.clock.now(600)
    scheduled = client.post(AT + "/publish", {"publish_at": later}, as_=alice).expect(200)
    assert (scheduled["state"], scheduled["publish_at"], later in scheduled["next_step"]) == (
        "approved",
        later,
        True,
    )
    client.work()
    clock.advance(601)
    client.work()
    alice.token = client.post("/v1/auth/refresh", {"refresh_token": alice.refresh_token})[
        "access_token"
    ]
    assert client.get(AT, as_=alice)["state"] == "published"


def test_a_damaged_package_is_never_published_or_served(client: Client, alice: Account) -> None:
    url = client.published(alice, NOTES)["download_url"].removeprefix(client.env.config.base_url)
    file = next(client.env.config.packages_dir.glob("*/*/1.0.0/package.mosis"))
    good = file.read_bytes()
    for damage in (good[:-1], good[:100] + bytes([good[100] ^ 1]) + good[101:]):
        file.write_bytes(damage)
        for headers in ({}, {"Range": "bytes=0-9"}, {"If-None-Match": "*"}):
            client.get(url, headers=headers).expect(503, code="package_unavailable")
    file.write_bytes(good)
    assert client.get(url).expect(200).body == good
    file.unlink()
    client.get(url).expect(503, code="package_unavailable")
    client.post(AT + "/halt", as_=alice).expect(200)
    client.post(AT + "/publish", as_=alice).expect(503, code="package_unavailable")


@pytest.mark.parametrize(("body", "pointer"), [
    ({}, "/comment"), ({"reasons": ["quality"]}, "/comment"), ({"reasons": ["quality"], "comment": "  "}, "/comment"),
    ({"reasons": ["spam"], "comment": "\x00no"}, "/comment"), ({"reasons": [], "comment": "x"}, "/reasons"),
    ({"reasons": ["mood"], "comment": "x"}, "/reasons/0"),
])  # fmt: skip
def test_a_rejection_needs_reasons_and_a_comment(
    client: Client, alice: Account, body: dict[str, Any], pointer: str
) -> None:
    client.upload(NOTES, client.package(alice), as_=alice, query="?submit=true").expect(201)
    client.work()
    review = client.get(AT, as_=alice)["review"]["id"]
    answer = client.post(f"/v1/reviews/{review}/reject", body, as_=client.reviewer()).expect(422)
    assert pointer in [each["pointer"] for each in answer["errors"]]


def test_a_verdict_is_given_once_and_not_on_ones_own_app(client: Client, alice: Account) -> None:
    client.upload(NOTES, client.package(alice), as_=alice, query="?submit=true").expect(201)
    client.work()
    review = f"/v1/reviews/{client.get(AT, as_=alice)['review']['id']}"
    rita = client.reviewer()
    client.get(review, as_=alice).expect(403, code="forbidden")
    client.post(
        review + "/reject", {"reasons": ["quality"], "comment": "It crashes."}, as_=rita
    ).expect(200)
    client.post(review + "/approve", as_=rita).expect(409, code="already_decided")
    shown = client.get(AT, as_=alice)
    assert (shown["state"], shown["review"]["comment"], shown["review"]["reasons"]) == (
        "rejected",
        "It crashes.",
        ["quality"],
    )
    client.app_of(rita, "com.rita.app")
    client.upload(
        "com.rita.app", client.package(rita, "com.rita.app"), as_=rita, query="?submit=true"
    ).expect(201)
    client.work()
    own = client.get("/v1/apps/com.rita.app/versions/1.0.0", as_=rita)["review"]["id"]
    client.post(f"/v1/reviews/{own}/approve", as_=rita).expect(403, code="forbidden")


def test_what_is_published_says_whom_it_reaches(client: Client, alice: Account) -> None:
    def step(version: str) -> str:
        return str(
            client.get(f"/v1/apps/{NOTES}/versions/{version}", as_=alice).expect(200)["next_step"]
        )

    client.published(alice, NOTES)
    assert step("1.0.0") == "Published: devices are offered it."
    client.published(alice, NOTES, "1.1.0-beta.1", 2)
    assert (
        step("1.1.0-beta.1")
        == "Published: devices on the beta channel are offered it. The store's lists show stable versions."
    )
    client.published(alice, NOTES, "1.1.0", 3)
    assert [step(each) for each in ("1.0.0", "1.1.0-beta.1")] == [
        "Published; 1.1.0 is offered instead of it, until that is halted or yanked.",
    ] * 2
    root = client.admin()
    client.patch(
        f"/v1/admin/apps/{NOTES}", {"suspended": True, "reason": "It mines coins."}, as_=root
    ).expect(200)
    assert "the operator has suspended the app" in step("1.1.0")
    assert "It mines coins." in client.get("/v1/auth/me/audit", as_=alice).body.decode()


def test_the_queue_says_where_one_stands(client: Client, alice: Account, clock: FakeClock) -> None:
    client.published(alice, NOTES)
    for number in (2, 3):
        package = client.package(alice, version=f"1.{number}.0", code=number)
        client.upload(NOTES, package, as_=alice, query="?submit=true").expect(201)
        client.work()
    shown = client.get(f"/v1/apps/{NOTES}/versions/1.3.0", as_=alice)
    assert shown["next_step"].startswith("Waiting for a reviewer: 2nd of 2, usually about")
    client.post(f"/v1/apps/{NOTES}/versions/1.2.0/withdraw", as_=alice).expect(200)
    assert client.get(f"/v1/apps/{NOTES}/versions/1.3.0", as_=alice)["review"]["position"] == 1


def test_a_version_whose_check_was_given_up_does_not_wait_for_ever(
    client: Client, alice: Account
) -> None:
    client.upload(NOTES, client.package(alice), as_=alice).expect(201)
    version_checks.end_stuck_checks(client.env)
    assert (
        client.get(f"/v1/apps/{NOTES}/versions/1.0.0", as_=alice)["state"] == "checking"
    )  # its job waits
    db = client.env.db.connection()
    with db.write():
        db.change("UPDATE jobs SET state = 'dead' WHERE kind = 'check_version'")
    version_checks.end_stuck_checks(client.env)
    version_checks.end_stuck_checks(client.env)
    failed = client.get(f"/v1/apps/{NOTES}/versions/1.0.0", as_=alice)
    assert (failed["state"], [each["code"] for each in failed["findings"]]) == (
        "failed",
        ["check_crashed"],
    )
    assert [each["kind"] for each in client.notifications(alice)] == ["version.checked"]
    client.upload(NOTES, client.package(alice), as_=alice).expect(201)


def test_an_app_that_is_deleted_while_its_package_is_checked_ends_the_check(
    client: Client, alice: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = client.env.checks.run

    def run_and_delete(package: Any) -> Any:
        found = run(package)
        client.delete(f"/v1/apps/{NOTES}", as_=alice).expect(204)
        return found

    monkeypatch.setattr(client.env.checks, "run", run_and_delete)
    client.upload(NOTES, client.package(alice), as_=alice).expect(201)
    client.work()
    job = client.env.db.connection().one(
        "SELECT state, last_error FROM jobs WHERE kind = 'check_version'"
    )
    assert job == ("done", None)

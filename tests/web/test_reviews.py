"""The review desk over HTTP: claims, decisions, what changed, the conversation, and what the policy lets through."""

import threading
from typing import Any

import pytest

from mosis.publishing import review_notices, review_policy, versions
from tests.client import Account, Answer, Client
from tests.conftest import FakeClock

NOTES = "com.acme.notes"
TWO_HOURS = 2 * 3600


def submitted(
    client: Client,
    account: Account,
    version: str = "1.0.0",
    code: int = 1,
    query: str = "",
    **more: Any,
) -> Answer:
    """A version that has been uploaded, checked and submitted, as its developer sees it."""
    package = client.package(account, version=version, code=code, **more)
    client.upload(NOTES, package, as_=account, query="?submit=true" + query).expect(201)
    client.work()
    return client.get(f"/v1/apps/{NOTES}/versions/{version}", as_=account).expect(200)


def review_of(client: Client, account: Account, **more: Any) -> str:
    return f"/v1/reviews/{submitted(client, account, **more)['review']['id']}"


def messages_to(client: Client, account: Account) -> list[str]:
    return [
        each["text"] for each in client.notifications(account) if each["kind"] == "review.message"
    ]


def renewed(client: Client, account: Account) -> Account:
    """The same account with a token that is valid."""
    account.token = client.post(
        "/v1/auth/refresh", {"refresh_token": account.refresh_token}
    ).expect(200)["access_token"]
    return account


def ids(client: Client, account: Account, state: str) -> list[str]:
    return [
        "/v1/reviews/" + each["id"]
        for each in client.get(f"/v1/reviews?state={state}", as_=account).expect(200)["reviews"]
    ]


def test_a_claim_is_for_one(client: Client, alice: Account, rita: Account) -> None:
    review, bob = review_of(client, alice), client.reviewer("bob")
    claimed = client.post(review + "/claim", as_=rita).expect(200)
    assert (claimed["state"], claimed["claimed_by"], claimed["claimed_until"]) == (
        "claimed",
        rita.id,
        "2027-01-15T10:00:00Z",
    )
    assert (ids(client, bob, "waiting"), ids(client, bob, "claimed")) == ([], [review])
    for move, body in (
        ("claim", None),
        ("release", None),
        ("approve", None),
        ("reject", {"reasons": ["spam"], "comment": "no"}),
    ):
        assert (
            client.post(f"{review}/{move}", body, as_=bob).expect(409, code="already_decided")[
                "state"
            ]
            == "claimed"
        )
    assert client.post(review + "/claim", as_=rita).expect(200)["state"] == "claimed"
    shown = client.get(f"/v1/apps/{NOTES}/versions/1.0.0", as_=alice)
    assert (shown["next_step"], shown["review"]["state"]) == (
        "A reviewer is looking at it: 1st of 1.",
        "claimed",
    )
    assert client.post(review + "/approve", as_=rita).expect(200)["state"] == "approved"
    client.post(review + "/claim", as_=rita).expect(409, code="already_decided")
    client.post(review + "/release", as_=rita).expect(409, code="already_decided")
    assert ids(client, bob, "decided") == [review]


def test_a_released_review_waits_again_at_its_place(
    client: Client, alice: Account, rita: Account
) -> None:
    first, second = review_of(client, alice), review_of(client, alice, version="1.1.0", code=2)
    client.post(first + "/claim", as_=rita).expect(200)
    released = client.post(first + "/release", as_=rita).expect(200)
    assert (released["state"], released["claimed_by"], released["claimed_until"]) == (
        "waiting",
        None,
        None,
    )
    assert client.post(first + "/release", as_=rita).expect(200)["state"] == "waiting"
    assert ids(client, rita, "waiting") == [first, second]


def test_a_claim_lapses_after_two_hours(
    client: Client, alice: Account, rita: Account, clock: FakeClock
) -> None:
    review, bob = review_of(client, alice), client.reviewer("bob")
    client.post(review + "/claim", as_=rita).expect(200)
    clock.advance(TWO_HOURS - 1)
    client.work()
    assert ids(client, renewed(client, bob), "claimed") == [review]
    clock.advance(1)
    client.work()
    assert ids(client, bob, "waiting") == [review]
    client.post(review + "/claim", as_=bob).expect(200)


def test_a_prolonged_claim_does_not_lapse_at_its_first_end(
    client: Client, alice: Account, rita: Account, clock: FakeClock
) -> None:
    review = review_of(client, alice)
    client.post(review + "/claim", as_=rita).expect(200)
    clock.advance(600)
    client.post(review + "/claim", as_=rita).expect(200)
    clock.advance(TWO_HOURS - 600)
    client.work()
    assert ids(client, renewed(client, rita), "claimed") == [review]


def test_ones_own_app_is_out_of_reach(client: Client, rita: Account) -> None:
    client.app_of(rita)
    review = review_of(client, rita)
    assert ids(client, rita, "waiting") == []
    for method, rest in (
        ("GET", ""),
        ("GET", "/package"),
        ("GET", "/messages"),
        ("POST", "/claim"),
        ("POST", "/approve"),
    ):
        client.call(method, review + rest, as_=rita).expect(403, code="forbidden")
    client.post(review + "/messages", {"text": "nice"}, as_=rita).expect(403, code="forbidden")
    assert ids(client, client.reviewer("bob"), "waiting") == [review]


@pytest.mark.parametrize(("method", "rest"), [
    ("GET", ""), ("GET", "/package"), ("GET", "/messages"), ("POST", "/claim"), ("POST", "/release"), ("POST", "/approve"),
])  # fmt: skip
def test_the_desk_is_for_reviewers(
    client: Client, alice: Account, rita: Account, method: str, rest: str
) -> None:
    review = review_of(client, alice)
    client.call(method, review + rest, as_=alice).expect(403, code="forbidden")
    client.call(method, "/v1/reviews/nothing" + rest, as_=rita).expect(404, code="not_found")


def test_of_two_verdicts_at_once_one_wins(client: Client, alice: Account, rita: Account) -> None:
    bob = client.reviewer("bob")
    for number in range(5):
        review = review_of(client, alice, version=f"1.{number}.0", code=number + 1)
        answers: list[int] = []
        start = threading.Barrier(2)

        def decide(
            account: Account,
            move: str,
            review: str = review,
            start: Any = start,
            answers: list[int] = answers,
        ) -> None:
            start.wait()
            body = {"reasons": ["quality"], "comment": "no"} if move == "reject" else None
            answers.append(client.post(f"{review}/{move}", body, as_=account).status)

        both = [
            threading.Thread(target=decide, args=each)
            for each in ((rita, "approve"), (bob, "reject"))
        ]
        for each in both:
            each.start()
        for each in both:
            each.join()
        assert sorted(answers) == [200, 409]


def test_the_reviewer_sees_what_changed(client: Client, alice: Account, rita: Account) -> None:
    review = review_of(client, alice)
    first = client.get(review, as_=rita).expect(200)
    assert (first["because"], first["changes"]["since"]) == (["policy"], None)
    assert first["changes"]["permissions"] == {"added": ["storage"], "removed": []}
    assert len(first["changes"]["files"]["added"]) == 7
    client.post(review + "/approve", as_=rita).expect(200)
    client.post(f"/v1/apps/{NOTES}/versions/1.0.0/publish", as_=alice).expect(200)
    later = review_of(
        client,
        alice,
        version="1.1.0",
        code=2,
        manifest={"permissions": ["camera"]},
        files={
            "assets/main.lua": b"mosis.camera.open(os.time())",
            "assets/main.rcss": None,
            "assets/new.txt": b"new",
        },
    )
    shown = client.get(later, as_=rita).expect(200)["changes"]
    assert (shown["since"], shown["permissions"]) == (
        "1.0.0",
        {"added": ["camera"], "removed": ["storage"]},
    )
    assert shown["files"]["added"] == [{"path": "assets/new.txt", "size_bytes": 3}]
    assert [each["path"] for each in shown["files"]["removed"]] == ["assets/main.rcss"]
    assert [each["path"] for each in shown["files"]["changed"]] == [
        "assets/main.lua",
        "manifest.json",
    ]
    assert [each["code"] for each in shown["findings"]["added"]] == [
        "lua_dangerous",
        "reference_missing",
    ]
    assert set(shown["size_bytes"]) == {"before", "now"}


def test_the_reviewer_fetches_the_package(client: Client, alice: Account, rita: Account) -> None:
    package = client.package(alice)
    client.upload(NOTES, package, as_=alice, query="?submit=true").expect(201)
    client.work()
    review = ids(client, rita, "waiting")[0]
    got = client.get(review + "/package", as_=rita).expect(200)
    assert (got.body, got.headers["cache-control"]) == (package, "no-store")
    part = client.get(review + "/package", as_=rita, headers={"Range": "bytes=0-3"}).expect(206)
    assert part.headers["content-range"] == f"bytes 0-3/{len(package)}"


def test_a_package_that_was_uploaded_anew_is_gone(
    client: Client, alice: Account, rita: Account
) -> None:
    """A rejected version gives its version string back, and the next upload takes its place on disk."""
    review = review_of(client, alice)
    client.post(review + "/reject", {"reasons": ["quality"], "comment": "no"}, as_=rita).expect(200)
    client.get(review + "/package", as_=rita).expect(200)
    client.upload(NOTES, client.package(alice, files={"assets/b.txt": b"b"}), as_=alice).expect(201)
    client.get(review + "/package", as_=rita).expect(410, code="gone")
    assert client.get(review, as_=rita).expect(200)["state"] == "rejected"


def test_a_decided_review_shows_what_changed_then(
    client: Client, alice: Account, rita: Account, clock: FakeClock
) -> None:
    client.published(alice, NOTES)
    clock.advance(60)
    second = review_of(client, alice, version="1.1.0", code=2)
    client.post(second + "/approve", as_=rita).expect(200)
    clock.advance(60)
    client.post(f"/v1/apps/{NOTES}/versions/1.1.0/publish", as_=alice).expect(200)
    third = review_of(client, alice, version="1.2.0", code=3)
    first = next(each for each in ids(client, rita, "decided") if each != second)
    assert [client.get(each, as_=rita)["changes"]["since"] for each in (first, second, third)] == [
        None,
        "1.0.0",
        "1.1.0",
    ]


def test_the_conversation(client: Client, alice: Account, rita: Account) -> None:
    review, ours = review_of(client, alice), f"/v1/apps/{NOTES}/versions/1.0.0/messages"
    asked = client.post(review + "/messages", {"text": "Why storage?"}, as_=rita).expect(201)
    assert (asked["sender"], asked["author_id"], asked["internal"]) == ("reviewer", rita.id, False)
    client.post(review + "/messages", {"text": "Looks odd.", "internal": True}, as_=rita).expect(
        201
    )
    client.post(ours, {"text": "For the notes."}, as_=alice).expect(201)
    seen = client.get(ours, as_=alice).expect(200)["messages"]
    assert [(each["sender"], each["author_id"], each["text"]) for each in seen] == [
        ("reviewer", None, "Why storage?"),
        ("developer", alice.id, "For the notes."),
    ]
    assert [each["text"] for each in client.get(review + "/messages", as_=rita)["messages"]] == [
        "Why storage?",
        "Looks odd.",
        "For the notes.",
    ]
    found = [
        each["kind"]
        for each in client.get("/v1/notifications", as_=alice).expect(200)["notifications"]
    ]
    assert found.count("review.message") == 1
    client.post(ours, {"text": "secret", "internal": True}, as_=alice).expect(422)
    client.post(ours, {"text": "\n\t \u00a0Two\nlines\t"}, as_=alice).expect(201)
    for text in ("", "   ", "a" * 5001, "bell\a", "\x00nothing", "\a", " \x1c a"):
        client.post(ours, {"text": text}, as_=alice).expect(422)


def test_a_developers_answer_reaches_the_reviewer(
    client: Client, alice: Account, rita: Account
) -> None:
    review, ours = review_of(client, alice), f"/v1/apps/{NOTES}/versions/1.0.0/messages"
    client.post(ours, {"text": "Anybody there?"}, as_=alice).expect(201)
    assert messages_to(client, rita) == []  # nobody has taken it yet
    client.post(review + "/messages", {"text": "Why storage?"}, as_=rita).expect(201)
    client.post(ours, {"text": "For the notes."}, as_=alice).expect(201)
    assert messages_to(client, rita) == ["The developer wrote about com.acme.notes 1.0.0."]
    bob = client.reviewer("bob")
    client.post(review + "/claim", as_=bob).expect(200)
    client.post(ours, {"text": "And drafts."}, as_=alice).expect(201)
    client.post(review + "/messages", {"text": "Between us.", "internal": True}, as_=bob).expect(
        201
    )
    assert [len(messages_to(client, each)) for each in (rita, bob)] == [1, 1]
    client.role_of(bob, "developer")
    client.post(ours, {"text": "Hello?"}, as_=alice).expect(201)
    assert [len(messages_to(client, each)) for each in (rita, bob)] == [
        2,
        1,
    ]  # a former reviewer is not notified


def test_messages_come_in_pages(client: Client, alice: Account) -> None:
    submitted(client, alice)
    ours = f"/v1/apps/{NOTES}/versions/1.0.0/messages"
    for number in range(5):
        client.post(ours, {"text": str(number)}, as_=alice).expect(201)
    first = client.get(ours + "?limit=3", as_=alice)
    second = client.get(f"{ours}?limit=3&cursor={first['next_cursor']}", as_=alice)
    assert [each["text"] for each in first["messages"] + second["messages"]] == list("01234")
    assert second["next_cursor"] is None


def test_a_version_is_published_as_soon_as_it_is_approved_by_choice(
    client: Client, alice: Account, rita: Account
) -> None:
    shown = submitted(client, alice, query="&publish=true")
    assert shown["next_step"].endswith("It is published as soon as it is approved.")
    approved = client.post(f"/v1/reviews/{shown['review']['id']}/approve", as_=rita).expect(200)
    assert approved["state"] == "approved"
    at = f"/v1/apps/{NOTES}/versions/1.0.0"
    assert "being published" in client.get(at, as_=alice)["next_step"]
    client.work()
    assert client.get(at, as_=alice)["state"] == "published"


def test_a_time_takes_the_place_of_publishing_at_once(
    client: Client, alice: Account, rita: Account
) -> None:
    client.post(review_of(client, alice, query="&publish=true") + "/approve", as_=rita).expect(200)
    at, later = f"/v1/apps/{NOTES}/versions/1.0.0", client.env.clock.now(600)
    assert (
        later
        in client.post(at + "/publish", {"publish_at": later}, as_=alice).expect(200)["next_step"]
    )
    client.work()
    assert client.get(at, as_=alice)["state"] == "approved"


def test_the_choice_can_be_made_when_submitting(
    client: Client, alice: Account, rita: Account
) -> None:
    at = f"/v1/apps/{NOTES}/versions/1.0.0"
    client.upload(NOTES, client.package(alice), as_=alice, query="?publish=true").expect(201)
    client.work()
    client.post(at + "/submit", {"publish": False}, as_=alice).expect(200)
    client.post(ids(client, rita, "waiting")[0] + "/approve", as_=rita).expect(200)
    client.work()
    assert client.get(at, as_=alice)["state"] == "approved"
    client.upload(
        NOTES, client.package(alice, version="2.0.0", code=2), as_=alice, query="?publish=maybe"
    ).expect(422)


def test_publishing_by_itself_gives_way_to_a_higher_version(
    client: Client, alice: Account, rita: Account
) -> None:
    low = review_of(client, alice, query="&publish=true")
    high = review_of(client, alice, version="2.0.0", code=2, query="&publish=true")
    client.post(high + "/approve", as_=rita).expect(200)
    client.work()
    client.post(low + "/approve", as_=rita).expect(200)
    client.work()
    shown = client.get(f"/v1/apps/{NOTES}/versions/1.0.0", as_=alice)
    assert (shown["state"], shown["publish_at"]) == ("approved", None)
    assert shown["next_step"].startswith(
        "Approved, but 2.0.0, whose version_code is not lower, was published before it"
    )
    for body in (None, {"publish_at": client.env.clock.now(600)}):
        client.post(f"/v1/apps/{NOTES}/versions/1.0.0/publish", body, as_=alice).expect(
            409, code="version_code_not_higher"
        )


class TestThePolicyOfChanges:
    """REVIEW_POLICY=changes."""

    @pytest.fixture
    def settings(self) -> dict[str, str]:
        return {"REVIEW_POLICY": "changes", "REVIEW_SAMPLE_PERCENT": "0"}

    @pytest.fixture
    def published(self, client: Client, alice: Account, rita: Account) -> Account:
        """Alice, whose version 1.0.0 a reviewer has seen and who has published it."""
        client.published(alice, NOTES)
        return alice

    def test_a_first_version_needs_a_person(
        self, client: Client, alice: Account, rita: Account
    ) -> None:
        review = review_of(client, alice)
        assert client.get(review, as_=rita)["because"] == ["first_version"]

    def test_nothing_new_goes_through_to_the_store(
        self, client: Client, published: Account
    ) -> None:
        more = {"assets/main.lua": b"return mosis.storage.get('other')", "assets/new.txt": b"new"}
        shown = submitted(
            client, published, version="1.1.0", code=2, query="&publish=true", files=more
        )
        assert (shown["state"], shown["review"]["state"]) == ("published", "approved")
        assert shown["review"]["comment"].startswith("Approved by the policy")
        assert client.get(f"/v1/store/apps/{NOTES}")["version"] == "1.1.0"

    def test_without_the_choice_it_is_approved_only(
        self, client: Client, published: Account
    ) -> None:
        assert submitted(client, published, version="1.1.0", code=2)["state"] == "approved"

    @pytest.mark.parametrize(("more", "because"), [
        ({"manifest": {"permissions": ["storage", "network"]}, "files": {"a.lua": b"mosis.http.get()"}}, ["new_permissions"]),
        ({"files": {"assets/a.lua": b"os.exit()"}}, ["new_findings"]),
    ])  # fmt: skip
    def test_what_is_new_needs_a_person(
        self,
        client: Client,
        published: Account,
        rita: Account,
        more: dict[str, Any],
        because: list[str],
    ) -> None:
        review = review_of(
            client, published, version="1.1.0", code=2, query="&publish=true", **more
        )
        assert client.get(review, as_=rita)["because"] == because

    def test_after_a_rejection_a_person_looks_again(
        self, client: Client, published: Account, rita: Account
    ) -> None:
        review = review_of(
            client, published, version="1.1.0", code=2, files={"assets/a.lua": b"os.exit()"}
        )
        client.post(review + "/reject", {"reasons": ["quality"], "comment": "no"}, as_=rita).expect(
            200
        )
        again = review_of(client, published, version="1.1.1", code=3)
        assert client.get(again, as_=rita)["because"] == ["rejected_before"]

    def test_a_rejection_is_not_forgotten_by_publishing_an_older_version(
        self, client: Client, published: Account, rita: Account, clock: FakeClock
    ) -> None:
        clock.advance(60)
        submitted(
            client, published, version="1.1.0", code=2
        )  # approved by the policy, and ready to publish
        clock.advance(60)
        review = review_of(
            client, published, version="1.2.0", code=3, files={"assets/a.lua": b"os.exit()"}
        )
        client.post(review + "/reject", {"reasons": ["malware"], "comment": "no"}, as_=rita).expect(
            200
        )
        clock.advance(60)
        client.post(f"/v1/apps/{NOTES}/versions/1.1.0/publish", as_=published).expect(200)
        again = review_of(client, published, version="1.2.1", code=4)
        assert client.get(again, as_=rita)["because"] == ["rejected_before"]
        client.post(again + "/approve", as_=rita).expect(200)
        client.post(f"/v1/apps/{NOTES}/versions/1.2.1/publish", as_=published).expect(200)
        clock.advance(60)
        published = renewed(client, published)
        assert submitted(client, published, version="1.3.0", code=5)["state"] == "approved"

    def test_a_sample_that_was_drawn_is_not_escaped_by_another_number(
        self, client: Client, published: Account, rita: Account
    ) -> None:
        object.__setattr__(client.env.config, "review_sample_percent", 100)
        submitted(client, published, version="1.1.0", code=2)
        client.post(f"/v1/apps/{NOTES}/versions/1.1.0/withdraw", as_=published).expect(200)
        object.__setattr__(client.env.config, "review_sample_percent", 0)
        review = review_of(client, published, version="1.1.1", code=2)
        assert client.get(review, as_=rita)["because"] == ["sample"]

    def test_a_second_finding_of_a_kind_in_the_same_file_is_new(
        self, client: Client, published: Account, rita: Account
    ) -> None:
        review = review_of(
            client, published, version="1.1.0", code=2, files={"assets/a.lua": b"return os.time()"}
        )
        client.post(review + "/approve", as_=rita).expect(200)
        client.post(f"/v1/apps/{NOTES}/versions/1.1.0/publish", as_=published).expect(200)
        moved = submitted(
            client,
            published,
            version="1.2.0",
            code=3,
            files={"assets/a.lua": b"\n\nreturn os.clock()"},
        )
        assert moved["state"] == "approved"
        more = {"assets/a.lua": b"return os.time(), io.open('a')"}
        review = review_of(client, published, version="1.3.0", code=4, files=more)
        assert client.get(review, as_=rita)["because"] == ["new_findings"]
        assert [
            each["detail"] for each in client.get(review, as_=rita)["changes"]["findings"]["added"]
        ] == ["It uses io."]

    def test_a_sample_needs_a_person(
        self, client: Client, published: Account, rita: Account
    ) -> None:
        object.__setattr__(client.env.config, "review_sample_percent", 100)
        review = review_of(client, published, version="1.1.0", code=2)
        assert client.get(review, as_=rita)["because"] == ["sample"]

    def test_the_sample_is_the_same_again_and_fair(
        self, client: Client, published: Account
    ) -> None:
        db = client.env.db.connection()
        version = versions.by_id(
            db, client.get(f"/v1/apps/{NOTES}/versions/1.0.0", as_=published)["id"]
        )
        assert version is not None
        assert (
            review_policy.drawn("a", version)
            == review_policy.drawn("a", version)
            != review_policy.drawn("b", version)
        )
        few = sum(review_policy.drawn(str(number), version) < 0.05 for number in range(4000))
        assert 130 < few < 275


def about_the_queue(client: Client, account: Account) -> list[tuple[str, str]]:
    """(kind, text) of the notifications of a reviewer about the queue, the oldest first."""
    found = reversed(client.notifications(account))
    return [
        (each["kind"], each["text"])
        for each in found
        if each["kind"] in ("review.waiting", "review.digest")
    ]


def test_reviewers_are_notified_at_once_and_by_a_digest_of_what_still_waits(
    client: Client, alice: Account, rita: Account, clock: FakeClock
) -> None:
    bob = client.admin("bob")
    waiting = ("review.waiting", "com.acme.notes 1.0.0 waits for a review.")
    first = review_of(client, alice)
    assert about_the_queue(client, rita) == about_the_queue(client, bob) == [waiting]
    assert about_the_queue(client, alice) == []
    clock.advance(1800)
    rita, alice = client.sign_in(rita), client.sign_in(alice)
    second = review_of(client, alice, version="1.1.0", code=2)
    client.post(first + "/approve", as_=rita).expect(200)
    clock.advance(1801)
    client.work()
    rita, bob = client.sign_in(rita), client.sign_in(bob)
    digest = (
        "review.digest",
        "Versions and listing changes that wait for a review: 1; the oldest has waited for about 1 hour.",
    )
    for account in (rita, bob):
        assert about_the_queue(client, account)[-1] == digest
        (found,) = (
            each for each in client.notifications(account) if each["kind"] == "review.digest"
        )
        assert [each["version"] for each in found["data"]["reviews"]] == ["1.1.0"]
        assert "/v1/reviews/" + found["data"]["reviews"][0]["review"] == second
    folder = client.env.mailer.folder
    mails = [
        path.read_text() for path in folder.glob("*.eml") if "wait for a review" in path.read_text()
    ]
    assert len(mails) == 2
    assert all("/console/reviews" in each for each in mails)
    for _ in range(2):  # nothing new waits: no second digest
        review_notices.send_digests(client.env)
    assert about_the_queue(client, rita).count(digest) == 1


def test_a_reviewer_is_not_notified_of_an_app_of_their_own_nor_while_suspended(
    client: Client, alice: Account, rita: Account
) -> None:
    client.role_of(alice, "admin")
    with client.env.db.connection().write() as db:
        db.change("UPDATE developers SET suspended = 1 WHERE id = ?", rita.id)
    review_of(client, alice)
    assert about_the_queue(client, alice) == []
    with client.env.db.connection().write() as db:
        db.change("UPDATE developers SET suspended = 0 WHERE id = ?", rita.id)
    assert about_the_queue(client, rita) == []


def test_what_is_decided_within_the_hour_is_in_no_digest(
    client: Client, alice: Account, rita: Account, clock: FakeClock
) -> None:
    client.post(review_of(client, alice) + "/approve", as_=rita).expect(200)
    clock.advance(4000)
    client.work()
    rita = client.sign_in(rita)
    assert [kind for kind, _ in about_the_queue(client, rita)] == ["review.waiting"]


def test_the_digest_is_a_webhook_too(
    client: Client, alice: Account, rita: Account, clock: FakeClock
) -> None:
    hook = {"url": "https://93.184.216.34/x", "kinds": ["review.digest"]}
    made = client.post("/v1/webhooks", hook, as_=rita)
    made.expect(201)
    review_of(client, alice)
    clock.advance(3601)
    review_notices.send_digests(client.env)
    rita = client.sign_in(rita)
    deliveries = client.get(f"/v1/webhooks/{made['id']}/deliveries", as_=rita)["deliveries"]
    assert len(deliveries) == 1

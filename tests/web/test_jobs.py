"""The queue over HTTP, for administrators."""

import pytest

from mosis import jobs
from mosis.people import accounts
from tests.client import Account, Client


@pytest.fixture
def root(client: Client) -> Account:
    account = client.register("root")
    accounts.promote(client.env.db.connection(), account.email, "admin")
    return account


def dead_job(client: Client, kind: str = "sweep_packages", key: str | None = None) -> str:
    """A job that has failed for good."""
    client.work()
    db = client.env.db.connection()
    with db.write():
        job_id = jobs.add(db, kind, unique_key=key)
        db.change("UPDATE jobs SET attempts = ? WHERE id = ?", jobs.ATTEMPTS - 1, job_id)
    job = jobs.claim(db)
    assert job is not None
    jobs.fail(db, job, "it broke")
    return job.id


def test_jobs_are_listed_with_their_errors(client: Client, root: Account) -> None:
    dead = dead_job(client)
    shown = client.get("/v1/admin/jobs?state=dead", as_=root).expect(200)["jobs"]
    assert [
        (each["id"], each["state"], each["last_error"], each["attempts"]) for each in shown
    ] == [(dead, "dead", "it broke", 8)]
    assert set(shown[0]) == {
        "id",
        "kind",
        "state",
        "attempts",
        "run_at",
        "lease_until",
        "last_error",
        "created_at",
    }
    assert client.get("/v1/admin/jobs?state=waiting", as_=root)["jobs"] == []
    client.get("/v1/admin/jobs?state=odd", as_=root).expect(400)
    for _ in range(3):
        dead_job(client)
    first = client.get("/v1/admin/jobs?state=dead&limit=3", as_=root)
    rest = client.get(f"/v1/admin/jobs?state=dead&limit=3&cursor={first['next_cursor']}", as_=root)
    assert (len(first["jobs"]), [each["id"] for each in rest["jobs"]]) == (3, [dead])


def test_a_dead_job_gets_a_new_life_once(client: Client, root: Account) -> None:
    dead = dead_job(client)
    again = client.post(f"/v1/admin/jobs/{dead}/retry", as_=root).expect(200)
    assert (again["state"], again["attempts"]) == ("waiting", 0)
    client.post(f"/v1/admin/jobs/{dead}/retry", as_=root).expect(409, code="invalid_state")
    assert client.work() == 1
    client.post("/v1/admin/jobs/nothing/retry", as_=root).expect(404)


def test_a_dead_job_stays_dead_while_another_does_the_same(client: Client, root: Account) -> None:
    dead = dead_job(client, key="only one")
    db = client.env.db.connection()
    with db.write():
        assert jobs.add(db, "sweep_packages", unique_key="only one")
    client.post(f"/v1/admin/jobs/{dead}/retry", as_=root).expect(409, code="invalid_state")


def test_the_queue_is_the_administrators(client: Client) -> None:
    rita = client.reviewer()
    client.get("/v1/admin/jobs", as_=rita).expect(403, code="forbidden")
    client.post("/v1/admin/jobs/x/retry", as_=rita).expect(403, code="forbidden")

"""The queue of background jobs over HTTP (role admin)."""

import bottle

from mosis import jobs
from mosis.caller import Caller
from mosis.database import Connection
from mosis.jobs import Job
from mosis.validation import Json
from mosis.web.request import listed, read_choice, read_page
from mosis.web.schemas import EMPTY, list_of, one_of, only, operation, shape, shown

JOB = shape(
    "Job",
    "id kind state attempts:int run_at lease_until? last_error? created_at",
    state=one_of(*jobs.STATES),
)


def routes(app: bottle.Bottle) -> None:
    app.get("/admin/jobs", callback=index, scope="admin")
    app.post("/admin/jobs/<job>/retry", callback=retry, scope="admin", idempotent="yes")


@operation(list_of("jobs", JOB), query=only("state", jobs.STATES))
def index(db: Connection) -> Json:
    """The background jobs, newest first."""
    page = jobs.index(db, read_page(str), read_choice("state", *jobs.STATES))
    return listed("jobs", page, [public(job) for job in page.rows])


@operation(JOB, body=EMPTY, refuses="invalid_state")
def retry(db: Connection, caller: Caller, job: str) -> Json:
    """Run a dead job again."""
    return public(jobs.retry(db, caller, job))


def public(job: Job) -> Json:
    return shown(JOB, job)

"""Which state of the store this is: what was made from one state is right exactly as long as the state is the same."""

from mosis.context import Context

Revision = tuple[int, int]


def revision(env: Context) -> Revision:
    """(changes of what is offered, changes of the download counts). Read it before what is made from it.

    SQLite says in 3 us whether anything was committed since the last time, by any process; only then the row is read.
    """
    version = env.db.data_version()
    known = env.remembered.get("revision")
    if known is not None and known[0] == version:
        return known[1]  # type: ignore[no-any-return]
    found: Revision = env.db.connection().one("SELECT catalogue, counts FROM store_state")
    env.remembered["revision"] = (version, found)
    return found

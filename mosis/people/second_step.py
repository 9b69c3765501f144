"""The second step of a sign-in: a ticket and a code become a session."""

from dataclasses import replace

from mosis.caller import Caller
from mosis.context import Context
from mosis.database import Connection
from mosis.errors import Denied
from mosis.people import accounts, second_factor
from mosis.people.accounts import SignedIn


def sign_in(env: Context, db: Connection, caller: Caller, ticket: str, code: str) -> SignedIn:
    """Sign in. Raises Denied `invalid_token`, `invalid_code` (the owner is notified) or
    `suspended`."""
    developer_id = second_factor.account_of(env, db, ticket)
    try:
        with db.write():
            second_factor.account_of(env, db, ticket)  # the password may have changed meanwhile
            factor = second_factor.active(db, developer_id)
            if factor is not None:
                someone = replace(caller, developer_id=developer_id)
                second_factor.prove(env, db, someone, factor, code)
            developer = accounts.get(db, developer_id)
            return accounts.sign_in(env, db, caller, developer, proved=True)
    except Denied as refusal:
        if refusal.code == "invalid_code":
            second_factor.notify_of_failure(db, caller, developer_id)
        raise

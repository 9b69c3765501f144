"""Where finished answers are kept, and until when they are right: by the route's option `keep`, see mosis/web/plugins.py."""

import hashlib
import re
from collections.abc import Hashable
from dataclasses import dataclass

from mosis import store
from mosis.context import Context
from mosis.web.request import OTHER_PAGING

# What belongs to the key of an answer: parameters that nobody reads do not, or each random one would be another answer. Those of
# other APIs are refused.
_REFUSED = frozenset(OTHER_PAGING)
_LIST = _REFUSED | {"limit", "cursor"}
_SEARCH = _LIST | {"q", "category", "tag", "sort"}
_PLAIN = re.compile(r"[A-Za-z0-9_.-]*\Z")


@dataclass(frozen=True, slots=True)
class Place:
    """The room and the key of an answer, and the revision of what it is made from."""

    room: str
    key: Hashable
    revision: Hashable


def of_store(env: Context, path: str, query: str) -> Place:
    """The place of a public answer of the store: one about an app is right until that app changes, a list until the store does."""
    if path.startswith("/app/"):
        return Place("apps", path, store.app_revision(env, path[5:]))
    if path in ("/", "/feed.atom"):
        known = _SEARCH if path == "/" else frozenset()
        return Place("lists", _key(path, query, known), store.list_revision(env))
    words = path.partition("/store/")[2].split("/")
    if words[0] == "apps" and len(words) > 1:
        known = _LIST if len(words) > 2 else _REFUSED
        return Place("apps", _key(path, query, known), store.app_revision(env, words[1]))
    known = _SEARCH if words == ["apps"] else _LIST
    return Place("lists", _key(path, query, known), store.list_revision(env))


def of_all_time(path: str, query: str) -> Place:
    """The place of an answer that never changes."""
    return Place("always", _key(path, query, _REFUSED), None)


def of_account(path: str, query: str, token: str, revision: Hashable) -> Place:
    """The place of an answer to who has this access token."""
    digest = hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
    return Place("accounts", (digest, f"{path}?{query}"), revision)


def _key(path: str, query: str, known: frozenset[str]) -> str:
    """The path and the parameters that count, in one order. A query with a name twice, or one that is not written plainly, is
    taken as it is: it may be refused, or be another spelling of a name that counts."""
    if not query:
        return path
    parts = [(part.partition("=")[0], part) for part in query.split("&") if part]
    names = {name for name, _ in parts}
    if len(names) < len(parts) or not all(map(_PLAIN.match, names)):
        return f"{path}?{query}"
    kept = sorted(part for name, part in parts if name in known)
    return f"{path}?{'&'.join(kept)}" if kept else path

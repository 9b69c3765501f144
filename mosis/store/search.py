"""Lists and searches of the store. Pages are found by seeking in an index, not by counting rows.

A search is ranked by where the words occur, then by downloads:
    0  all as whole words in the name       2  in name, summary and tags
    1  as beginnings of words of the name   3  anywhere (description, package id, developer, category)
Scores such as bm25 are not used: adding an app changes the score of every other, so that pages would
repeat or skip apps; and scoring a common word takes 100 ms at 100,000 apps, against 6 ms here.
"""

import json
import unicodedata
from time import monotonic
from typing import Any

from mosis.database import Connection
from mosis.database.pagination import Page, PageRequest, cursor
from mosis.errors import Malformed
from mosis.records import dataclass
from mosis.store.listings import HAS_OLD_ENOUGH, Listing, old_enough

SORTS = ("relevance", "updated", "name", "downloads")
LONGEST_QUERY, MOST_WORDS = 200, 8
BUDGET_SECONDS = 0.1  # time limit of a search; what was found by then is returned
# At most this many apps of each rank are examined, newest first. A query that matches more of them
# is not ranked but browsed.
CANDIDATES = 1000
# sort: (column, direction, comparison for the rows behind the cursor)
_ORDERS = {
    "updated": ("updated_at", "DESC", "<"),
    "name": ("name", "ASC", ">"),
    "downloads": ("downloads", "DESC", "<"),
}
# Of these numbers, those with the category and the tag, if given; uses the index, which holds no
# texts.
_AMONG = (
    "listings INDEXED BY listings_places WHERE number IN (SELECT value FROM json_each(?)) AND (? = '' OR category = ?)"
    " AND (? = '' OR EXISTS (SELECT 1 FROM listing_tags t WHERE t.tag = ? AND t.number = listings.number))"
)
_TYPES: dict[str, tuple[type, ...]] = {
    "updated": (str, str, int),
    "name": (str, str, int),
    "downloads": (str, int, int),
    "relevance": (str, int, int, int, int),
}


@dataclass(frozen=True)
class Query:
    """A search. Text without letters and digits matches nothing; empty parts restrict nothing."""

    text: str = ""
    category: str = ""
    tag: str = ""
    sort: str = ""
    before: str = ""  # only what has a version that was published before, and as of that version

    @property
    def order(self) -> str:
        """The sort that applies: the requested one, else by rank for a text, else the default."""
        if not self.text.strip():
            return self.sort if self.sort in _ORDERS else "name"
        return self.sort or "relevance"


def position_types(query: Query) -> tuple[type, ...]:
    """The types of the parts of this list's cursor."""
    return _TYPES[query.order]


def index(db: Connection, paging: PageRequest, query: Query) -> Page[Listing]:
    """Published apps; pages neither repeat nor hide because of new rows. Raises `bad_cursor`."""
    if paging.after and paging.after[0] != query.order:
        detail = "This cursor belongs to a list with another sort; start again without it."
        raise Malformed("bad_cursor", detail)
    if not query.text.strip():
        return _browse(db, paging, query)
    words = spaced_words(query.text)
    if not words:
        return Page([], None)
    if query.order == "relevance":
        return _ranked(db, paging, query, words)
    until = monotonic() + BUDGET_SECONDS
    numbers = _numbers(db, _match(words, query), 1 << 62, CANDIDATES * 4, until)
    return _sorted(db, paging, query, numbers)


def spaced_words(text: str) -> list[str]:
    """The words of a text as FTS5 phrases, each letter of scripts without spaces (schema.sql)."""
    # FTS5 reads a C string, and treats a phrase without letters as one that matches nothing
    words = (
        text[:LONGEST_QUERY]
        .encode("utf-8", "ignore")
        .decode()
        .replace("\0", " ")
        .split()[:MOST_WORDS]
    )
    apart = (
        "".join(f" {letter} " if _stands_alone(letter) else letter for letter in word)
        for word in words
    )
    found = (
        '"' + word.replace('"', '""') + '"'
        for word in apart
        if any(_is_word_letter(letter) for letter in word)
    )
    return list(dict.fromkeys(found))  # each once: FTS5 would search for a repeated word again


def _stands_alone(letter: str) -> bool:
    code = ord(letter)
    return code >= 11904 or 3584 <= code <= 3839 or 4096 <= code <= 4255 or 6016 <= code <= 6143


def _is_word_letter(letter: str) -> bool:
    kind = unicodedata.category(letter)
    return kind[0] in "LN" or kind == "Co"


def _browse(db: Connection, paging: PageRequest, query: Query) -> Page[Listing]:
    """Without a text: walk an index. A rare tag is looked up instead, and its few apps are sorted."""
    column, direction, beyond = _ORDERS[query.order]
    where, values = ["true"], []
    if query.tag:
        sql = "SELECT number FROM listing_tags WHERE tag = ? LIMIT ?"
        tagged = db.all(sql, query.tag, CANDIDATES + 1)
        if len(tagged) <= CANDIDATES:
            return _sorted(db, paging, query, [number for (number,) in tagged])
        where.append(
            "EXISTS (SELECT 1 FROM listing_tags t WHERE t.tag = ? AND t.number = +listings.number)"
        )
        values.append(query.tag)
    if query.category:
        where.append("category = ?")
        values.append(query.category)
    if query.before:
        where.append(HAS_OLD_ENOUGH)
        values.append(query.before)
    # SQLite seeks by the first column of a row value only, and thousands of apps have equal
    # download counts: so the rows with an equal value are read first, then the others.
    seeks: list[tuple[str, tuple[Any, ...]]] = [("true", ())]
    if paging.after:
        _, value, number = paging.after
        seeks = [
            (f"{column} = ? AND number {beyond} ?", (value, number)),
            (f"{column} {beyond} ?", (value,)),
        ]
    rows: list[Listing] = []
    for seek, position in seeks:
        if len(rows) <= paging.limit:
            rows += db.select(
                Listing,
                f"{' AND '.join([*where, seek])} ORDER BY {column} {direction}, number {direction} LIMIT ?",
                *values,
                *position,
                paging.limit + 1 - len(rows),
            )
    return _aged(db, _page(rows, paging, query.order), query)


def _sorted(db: Connection, paging: PageRequest, query: Query, numbers: list[int]) -> Page[Listing]:
    """Up to a few thousand apps, filtered and sorted in memory."""
    column, direction, _ = _ORDERS[query.order]
    seek, position = _seek(paging, query)
    aged, before = _age(query)
    chosen = db.all(
        f"SELECT number FROM {' AND '.join([_AMONG, *aged, *seek])} ORDER BY +{column} {direction}, number {direction} LIMIT ?",
        json.dumps(numbers),
        query.category,
        query.category,
        query.tag,
        query.tag,
        *before,
        *position,
        paging.limit + 1,
    )
    found = _page(_listings(db, [number for (number,) in chosen]), paging, query.order)
    return _aged(db, found, query)


def _age(query: Query) -> tuple[list[str], list[str]]:
    """The condition of a cooldown, and its value."""
    return ([HAS_OLD_ENOUGH], [query.before]) if query.before else ([], [])


def _aged(db: Connection, found: Page[Listing], query: Query) -> Page[Listing]:
    return Page(old_enough(db, found.rows, query.before), found.next_cursor)


def _listings(db: Connection, numbers: list[int]) -> list[Listing]:
    """The listings with these numbers, in this order."""
    rows = db.select(Listing, "number IN (SELECT value FROM json_each(?))", json.dumps(numbers))
    found = {row.number: row for row in rows}
    return [found[number] for number in numbers if number in found]


def _seek(paging: PageRequest, query: Query) -> tuple[list[str], tuple[Any, ...]]:
    """The condition for the rows behind the cursor, and its values."""
    column, _, beyond = _ORDERS[query.order]
    return ([f"({column}, number) {beyond} (?, ?)"], paging.after[1:]) if paging.after else ([], ())


def _ranked(db: Connection, paging: PageRequest, query: Query, words: list[str]) -> Page[Listing]:
    """Best rank first; the cursor has the newest app of the first page, later ones are left out."""
    ceiling, *after = paging.after[1:] if paging.after else (1 << 62,)
    if not paging.after:
        ceiling = db.value("SELECT max(number) FROM listings") or 0
    ranks: dict[int, int] = {}
    until = monotonic() + BUDGET_SECONDS
    for rank in range(4):
        for number in _numbers(db, _match(words, query, rank), ceiling, CANDIDATES, until):
            ranks.setdefault(number, rank)
        if len(ranks) >= CANDIDATES or monotonic() > until:
            break
    aged, before = _age(query)
    sql = f"SELECT number, downloads FROM {' AND '.join([_AMONG, *aged])}"
    places = db.all(
        sql, json.dumps(list(ranks)), query.category, query.category, query.tag, query.tag, *before
    )
    order = sorted((ranks[number], -downloads, -number) for number, downloads in places)
    if after:
        place = (after[0], -after[1], -after[2])
        order = [each for each in order if each > place]
    chosen = order[: paging.limit]
    rows = old_enough(db, _listings(db, [-number for _, _, number in chosen]), query.before)
    if len(order) <= paging.limit:
        return Page(rows, None)
    rank, downloads, number = chosen[-1]
    return Page(rows, cursor(("relevance", ceiling, rank, -downloads, -number)))


def _match(words: list[str], query: Query, rank: int = 3) -> str:
    """The FTS5 expression of a rank; category and tag are only exact when the rows are read."""
    searched = {
        0: "{name}",
        1: "{name}",
        2: "{name summary tags}",
        3: "{name summary tags description about}",
    }[rank]
    narrow = [f"{{about}} : {word}" for word in spaced_words(query.category)] + [
        f"{{tags}} : {word}" for word in spaced_words(query.tag)
    ]
    # One letter begins most words: with other words it is matched as a whole word.
    begins = (
        word if rank == 0 or (len(words) > 1 and len(word) == len('"a"')) else word + " *"
        for word in words
    )
    return " AND ".join([f"{searched} : ({' AND '.join(begins)})", *narrow])


def _numbers(db: Connection, match: str, ceiling: int, most: int, until: float) -> list[int]:
    rows: list[Any] = db.all_until(
        until,
        "SELECT rowid FROM listing_words WHERE listing_words MATCH ? AND rowid <= ? ORDER BY rowid DESC LIMIT ?",
        match,
        ceiling,
        most,
    )
    return [number for (number,) in rows]


def _page(rows: list[Listing], paging: PageRequest, order: str) -> Page[Listing]:
    if len(rows) <= paging.limit:
        return Page(rows, None)
    last = rows[paging.limit - 1]
    return Page(
        rows[: paging.limit], cursor((order, getattr(last, _ORDERS[order][0]), last.number))
    )

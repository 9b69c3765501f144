"""Lists and searches of the store, by seeking: no page is counted to, and none is sorted that an index has in order.

A search is ranked by where the words are found, then by downloads:
    0  all of them as whole words in the name       2  in name, summary and tags
    1  beginning words of the name                  3  anywhere (description, package id, developer, category)
Scores such as bm25 are not used: they change for every app when one is added, so that pages would repeat or skip, and at
100,000 apps a common word takes 100 ms to score against 6 ms here.
"""

import json
import unicodedata
from dataclasses import dataclass
from time import monotonic
from typing import Any

from mosis.database import Connection, columns
from mosis.database.pagination import Page, PageRequest, cursor
from mosis.errors import Malformed
from mosis.store.listings import HAS_OLD_ENOUGH, Listing, old_enough

SORTS = ("relevance", "updated", "name", "downloads")
LONGEST_QUERY, MOST_WORDS = 200, 8
BUDGET_SECONDS = 0.1  # for the words of a search; what was found by then is the answer
# So many apps of each rank are looked at, the newest first; what fits more of them is not searched for but browsed.
CANDIDATES = 1000
# sort: (column, direction, beyond)
_ORDERS = {
    "updated": ("updated_at", "DESC", "<"),
    "name": ("name", "ASC", ">"),
    "downloads": ("downloads", "DESC", "<"),
}
# Of these numbers, those in a category and with a tag, where one is given; read from the index that has no texts.
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
    """What is looked for. Any text is fine; one without a letter or digit finds nothing. Empty parts ask for nothing."""

    text: str = ""
    category: str = ""
    tag: str = ""
    sort: str = ""
    before: str = ""  # only what has a version that was published before, and as of that version

    @property
    def order(self) -> str:
        """The sort that applies: a search is ranked unless said otherwise, and without a text there is nothing to rank by."""
        if not self.text.strip():
            return self.sort if self.sort in _ORDERS else "name"
        return self.sort or "relevance"


def position_types(query: Query) -> tuple[type, ...]:
    """The types of the parts of a cursor of this list."""
    return _TYPES[query.order]


def index(db: Connection, wanted: PageRequest, query: Query) -> Page[Listing]:
    """Published apps. Rows that come in while somebody pages neither repeat nor hide others. Raises Malformed `bad_cursor`."""
    if wanted.after and wanted.after[0] != query.order:
        raise Malformed(
            "bad_cursor", "This cursor belongs to a list in another order; start again without it."
        )
    if not query.text.strip():
        return _browse(db, wanted, query)
    words = spaced_words(query.text)
    if not words:
        return Page([], None)
    if query.order == "relevance":
        return _ranked(db, wanted, query, words)
    until = monotonic() + BUDGET_SECONDS
    numbers = _numbers(db, _match(words, query), 1 << 62, CANDIDATES * 4, until)
    return _sorted(db, wanted, query, numbers)


def spaced_words(text: str) -> list[str]:
    """The words of a text as FTS5 phrases. Letters of scripts without spaces stand alone, as in the index (schema.sql)."""
    # FTS5 reads a C string and takes a phrase without a letter for one that nothing contains
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
    return list(
        dict.fromkeys(found)
    )  # each once: FTS5 would look for a word as often as it is said


def _stands_alone(letter: str) -> bool:
    code = ord(letter)
    return code >= 11904 or 3584 <= code <= 3839 or 4096 <= code <= 4255 or 6016 <= code <= 6143


def _is_word_letter(letter: str) -> bool:
    kind = unicodedata.category(letter)
    return kind[0] in "LN" or kind == "Co"


def _browse(db: Connection, wanted: PageRequest, query: Query) -> Page[Listing]:
    """No text: walk an index. A rare tag is looked up instead, and its few apps sorted."""
    column, direction, beyond = _ORDERS[query.order]
    where, values = ["true"], []
    if query.tag:
        tagged = db.all(
            "SELECT number FROM listing_tags WHERE tag = ? LIMIT ?", query.tag, CANDIDATES + 1
        )
        if len(tagged) <= CANDIDATES:
            return _sorted(db, wanted, query, [number for (number,) in tagged])
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
    # SQLite seeks by the first column of a row value alone, and thousands of apps have as many downloads: so first what is left
    # of those that are equal, then the others.
    seeks: list[tuple[str, tuple[Any, ...]]] = [("true", ())]
    if wanted.after:
        _, value, number = wanted.after
        seeks = [
            (f"{column} = ? AND number {beyond} ?", (value, number)),
            (f"{column} {beyond} ?", (value,)),
        ]
    rows: list[Listing] = []
    for seek, position in seeks:
        if len(rows) <= wanted.limit:
            rows += db.all(
                f"SELECT {columns(Listing)} FROM listings WHERE {' AND '.join([*where, seek])}"
                f" ORDER BY {column} {direction}, number {direction} LIMIT ?",
                *values,
                *position,
                wanted.limit + 1 - len(rows),
                into=Listing,
            )
    return _aged(db, _page(rows, wanted, query.order), query)


def _sorted(db: Connection, wanted: PageRequest, query: Query, numbers: list[int]) -> Page[Listing]:
    """Some thousands of apps, narrowed and put in order."""
    column, direction, _ = _ORDERS[query.order]
    seek, position = _seek(wanted, query)
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
        wanted.limit + 1,
    )
    found = _page(_whole(db, [number for (number,) in chosen]), wanted, query.order)
    return _aged(db, found, query)


def _age(query: Query) -> tuple[list[str], list[str]]:
    """The condition of a cooldown, and its value."""
    return ([HAS_OLD_ENOUGH], [query.before]) if query.before else ([], [])


def _aged(db: Connection, found: Page[Listing], query: Query) -> Page[Listing]:
    return Page(old_enough(db, found.rows, query.before), found.next_cursor)


def _whole(db: Connection, numbers: list[int]) -> list[Listing]:
    """These listings, in this order."""
    rows = db.all(
        f"SELECT {columns(Listing)} FROM listings WHERE number IN (SELECT value FROM json_each(?))",
        json.dumps(numbers),
        into=Listing,
    )
    found = {row.number: row for row in rows}
    return [found[number] for number in numbers if number in found]


def _seek(wanted: PageRequest, query: Query) -> tuple[list[str], tuple[Any, ...]]:
    """The condition that goes on behind the last row, and its values."""
    column, _, beyond = _ORDERS[query.order]
    return ([f"({column}, number) {beyond} (?, ?)"], wanted.after[1:]) if wanted.after else ([], ())


def _ranked(db: Connection, wanted: PageRequest, query: Query, words: list[str]) -> Page[Listing]:
    """The best first. The cursor remembers the newest app of the first page: later ones are not let into this list."""
    ceiling, *after = wanted.after[1:] if wanted.after else (1 << 62,)
    if not wanted.after:
        ceiling = db.value("SELECT max(number) FROM listings") or 0
    ranks: dict[int, int] = {}
    until = monotonic() + BUDGET_SECONDS
    for rank in range(4):
        for number in _numbers(db, _match(words, query, rank), ceiling, CANDIDATES, until):
            ranks.setdefault(number, rank)
        if len(ranks) >= CANDIDATES or monotonic() > until:
            break
    aged, before = _age(query)
    places = db.all(
        f"SELECT number, downloads FROM {' AND '.join([_AMONG, *aged])}",
        json.dumps(list(ranks)),
        query.category,
        query.category,
        query.tag,
        query.tag,
        *before,
    )
    order = sorted((ranks[number], -downloads, -number) for number, downloads in places)
    if after:
        place = (after[0], -after[1], -after[2])
        order = [each for each in order if each > place]
    chosen = order[: wanted.limit]
    rows = old_enough(db, _whole(db, [-number for _, _, number in chosen]), query.before)
    if len(order) <= wanted.limit:
        return Page(rows, None)
    rank, downloads, number = chosen[-1]
    return Page(rows, cursor(("relevance", ceiling, rank, -downloads, -number)))


def _match(words: list[str], query: Query, rank: int = 3) -> str:
    """The FTS5 expression for a rank; category and tag narrow it here already, and exactly where the rows are read."""
    searched = {
        0: "{name}",
        1: "{name}",
        2: "{name summary tags}",
        3: "{name summary tags description about}",
    }[rank]
    narrow = [f"{{about}} : {word}" for word in spaced_words(query.category)] + [
        f"{{tags}} : {word}" for word in spaced_words(query.tag)
    ]
    # One letter begins most words: beside other words it is looked for as a word of its own.
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


def _page(rows: list[Listing], wanted: PageRequest, order: str) -> Page[Listing]:
    if len(rows) <= wanted.limit:
        return Page(rows, None)
    last = rows[wanted.limit - 1]
    return Page(
        rows[: wanted.limit], cursor((order, getattr(last, _ORDERS[order][0]), last.number))
    )

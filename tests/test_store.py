"""The store as a noun: what is listed, found and offered."""

import json
import random
import sqlite3
from collections.abc import Iterator
from dataclasses import replace

import pytest

from mosis.context import Context
from mosis.database import Connection
from mosis.database.pagination import PageRequest, position
from mosis.errors import Malformed
from mosis.store import search
from mosis.store.search import Query, spaced_words
from tests.campaign import seeded, short_and_full
from tests.catalogue import add_app, add_developer, add_listed, add_version


@pytest.fixture
def db(env: Context) -> Connection:
    return env.db.connection()


@pytest.fixture
def acme(db: Connection) -> str:
    with db.write():
        return add_developer(db)


def names(db: Connection, text: str = "", limit: int = 100, **more: str) -> list[str]:
    return [
        listing.name for listing in search.index(db, PageRequest(limit), Query(text, **more)).rows
    ]


def fetch(db: Connection, app: str, count: int) -> None:
    """Somebody fetched an app so many times."""
    version = db.value("SELECT version_id FROM listings WHERE app_id = ?", app)
    db.insert("downloads", version_id=version, day="2027-01-01", count=count)


def walked(db: Connection, query: Query, limit: int) -> Iterator[list[str]]:
    """The names of each page of a list."""
    paging = PageRequest(limit)
    while True:
        page = search.index(db, paging, query)
        yield [listing.name for listing in page.rows]
        if page.next_cursor is None:
            return
        paging = PageRequest(limit, position(page.next_cursor, *search.position_types(query)))


def test_the_listings_are_those_of_the_view_whatever_happens(db: Connection, acme: str) -> None:
    """Random changes of the three tables; after each, the table says what the view would."""
    rng, seed = seeded()
    with db.write():
        other = add_developer(db, "Other")
        apps = [
            add_app(db, rng.choice([acme, other]), f"a.b{number}", f"App {number}")
            for number in range(4)
        ]
    moves = [
        "UPDATE versions SET state = 'halted' WHERE id = :version", "UPDATE versions SET state = 'published' WHERE id = :version",
        "UPDATE versions SET state = 'yanked' WHERE id = :version", "DELETE FROM versions WHERE id = :version",
        "UPDATE versions SET rollout_percent = :share WHERE id = :version",
        "UPDATE apps SET suspended = :flag WHERE id = :app", "UPDATE apps SET tags = '[\"x\",\"x\"]' WHERE id = :app",
        "UPDATE apps SET name = :word, description = :word WHERE id = :app",
        "UPDATE developers SET suspended = :flag WHERE id = :developer", "UPDATE developers SET name = :word WHERE id = :developer",
        "INSERT INTO downloads VALUES (:version, :word, 3) ON CONFLICT DO UPDATE SET count = count + 2",
        "DELETE FROM apps WHERE id = :app",
    ]  # fmt: skip
    versions = [""]
    for step in range(400):
        chosen = {
            "version": rng.choice(versions),
            "app": rng.choice(apps),
            "share": rng.choice([10, 100]),
            "developer": rng.choice([acme, other]),
            "flag": rng.randrange(2),
            "word": rng.choice(["Notes", "天气预报", "Größe"]),
        }
        before = state(db)
        with db.write():
            if rng.random() < 0.3:
                living = [row[0] for row in db.all("SELECT id FROM apps")]
                owner, app = acme, rng.choice(living or [add_app(db, acme, f"n.a{step}", "New")])
                versions.append(
                    add_version(
                        db, owner, app, step + 1, channel=rng.choice(["stable", "stable", "beta"])
                    )
                )
            else:
                move = rng.choice(moves[:-1] if rng.random() < 0.95 else moves)
                if "INSERT" not in move or db.value(
                    "SELECT 1 FROM versions WHERE id = ?", chosen["version"]
                ):
                    db._run(move, chosen)  # type: ignore[arg-type]  # values by name
        wanted = db.all("SELECT * FROM listable ORDER BY app_id")
        shown = ", ".join(column for column in columns_of_view(db))
        assert db.all(f"SELECT {shown} FROM listings ORDER BY app_id") == wanted, seed
        if before[0] != wanted:
            assert state(db)[1] > before[1], (
                f"the catalogue changed and its number did not, seed {seed}"
            )
    with db.write():
        add_listed(db, add_developer(db, "Third"), "z.z", "天气 at last", tags='["x", "y"]')
    words_are_right(db)


def state(db: Connection) -> tuple[list[tuple[object, ...]], int]:
    return db.all("SELECT * FROM listable ORDER BY app_id"), int(
        db.value("SELECT catalogue FROM store_state")
    )


def columns_of_view(db: Connection) -> list[str]:
    return [row[1] for row in db.all("PRAGMA table_info(listable)")]


def words_are_right(db: Connection) -> None:
    """The index is the one that all texts would make if they were indexed anew."""
    raw = sqlite3.connect(db.database.path)
    made = raw.execute("SELECT sql FROM sqlite_master WHERE name = 'listing_words'").fetchone()[0]
    raw.execute(made.replace("listing_words", "temp.fresh"))
    raw.execute(
        "INSERT INTO fresh (rowid, name, summary, tags, description, about)"
        " SELECT number, name, summary, tags, description, about FROM listing_words_source"
    )
    instances = []
    for schema, table in (("main", "listing_words"), ("temp", "fresh")):
        raw.execute(
            f"CREATE VIRTUAL TABLE temp.{table}_found USING fts5vocab({schema}, {table}, instance)"
        )
        instances.append(
            raw.execute(
                f"SELECT doc, col, offset, term FROM {table}_found ORDER BY 1, 2, 3, 4"
            ).fetchall()
        )
    raw.execute("INSERT INTO listing_words (listing_words) VALUES ('integrity-check')")
    raw.close()
    assert instances[0] == instances[1]
    assert instances[0]
    assert db.all("SELECT tag, number FROM listing_tags ORDER BY 1, 2") == db.all(
        "SELECT DISTINCT t.value, l.number FROM listings l, json_each(l.tags) t ORDER BY 1, 2"
    )


def test_searches_find_beginnings_in_any_case_and_accent(db: Connection, acme: str) -> None:
    with db.write():
        add_listed(
            db,
            acme,
            "a.b",
            "Crème Brûlée",
            summary="Zażółć gęślą jaźń",
            tags='["offline"]',
            description="Ελληνικά",
        )
        add_listed(db, acme, "a.c", "Заметки")
    for text in (
        "crème",
        "CREME",
        "brul",
        "brulee creme",
        "zazo",
        "jazn",
        "offl",
        "ελλην",
        "a.b",
        "acme",
        "creme offline",
    ):
        assert "Crème Brûlée" in names(db, text), text
    assert names(db, "замет") == ["Заметки"]
    assert names(db, "creme nowhere") == []
    assert spaced_words("the app the app") == spaced_words("the app") == ['"the"', '"app"']
    assert names(db, "rème") == []


def test_scripts_without_spaces_are_found_by_any_part(db: Connection, acme: str) -> None:
    with db.write():
        add_listed(
            db, acme, "a.b", "天气预报", summary="東京の天気をお知らせ", description="날씨예보 앱"
        )
        add_listed(db, acme, "a.c", "บันทึกประจำวัน")
    for text in ("天气", "气预", "预报", "报", "東京", "知らせ", "天気を", "예보", "날씨"):
        assert names(db, text) == ["天气预报"], text
    assert names(db, "气天") == []
    for text in ("บันทึก", "ประจำ", "วัน"):
        assert names(db, text) == ["บันทึกประจำวัน"], text


def test_what_the_documents_say_of_other_scripts_holds(db: Connection, acme: str) -> None:
    found = ["İstanbul Rehberi", "ışık", "हिन्दी नोट्स", "شَمس", "שלום", "🙂 Smile", "C++"]
    with db.write():
        for number, name in enumerate(found):
            add_listed(db, acme, f"x.y{number}", name)
    for text, number in (
        ("istan", 0),
        ("İSTANBUL", 0),
        ("IŞIK", None),
        ("ışık", 1),
        ("हिन्दी", 2),
        ("नोट", 2),
        ("شَمس", 3),
        ("شمس", None),
        ("של", 4),
        ("smile 🙂", 5),
        ("🙂", None),
        ("C++", 6),
        ("+", None),
    ):
        assert names(db, text) == ([found[number]] if number is not None else []), text


def test_the_rank_is_where_the_words_are_then_downloads(db: Connection, acme: str) -> None:
    with db.write():
        add_listed(db, acme, "a.a", "Other", description="notes")
        add_listed(db, acme, "a.b", "Tagged", tags='["notes"]')
        add_listed(db, acme, "a.c", "Notespad")
        add_listed(db, acme, "a.d", "Notes")
        loved = add_listed(db, acme, "a.e", "My notes")
        fetch(db, loved, 9)
    assert names(db, "notes") == ["My notes", "Notes", "Notespad", "Tagged", "Other"]
    assert names(db, "notes", sort="name") == ["My notes", "Notes", "Notespad", "Other", "Tagged"]
    assert names(db, "notes", sort="downloads")[0] == "My notes"


def test_category_and_tag_narrow_lists_and_searches(db: Connection, acme: str) -> None:
    with db.write():
        add_listed(db, acme, "a.a", "Alpha notes", category="tools", tags='["c++", "e-mail"]')
        add_listed(db, acme, "a.b", "Beta notes", category="tools-extra", tags='["e", "mail"]')
        add_listed(db, acme, "a.c", "Gamma notes", category="tools", tags="[]")
    for text in ("", "notes"):
        for sort in ("", "updated", "name", "downloads"):
            assert sorted(names(db, text, category="tools", sort=sort)) == [
                "Alpha notes",
                "Gamma notes",
            ]
            assert names(db, text, tag="e-mail", sort=sort) == ["Alpha notes"]
            assert names(db, text, tag="c++", category="tools", sort=sort) == ["Alpha notes"]
            assert names(db, text, tag="c++", category="games", sort=sort) == []
            assert names(db, text, tag="mai", sort=sort) == []


def test_a_common_tag_is_walked_and_a_rare_one_looked_up(
    db: Connection, acme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mosis.store.search.CANDIDATES", 5)
    with db.write():
        for number in range(40):
            tags = ["common", *(["rare"] if number % 10 == 0 else [])]
            category = "tools" if number % 2 else "games"
            add_listed(
                db,
                acme,
                f"a.b{number}",
                f"App {number:02}",
                tags=json.dumps(tags),
                category=category,
            )
    assert [len(page) for page in walked(db, Query(tag="common", sort="name"), 15)] == [15, 15, 10]
    assert names(db, tag="common", category="tools", sort="name")[:3] == [
        "App 01",
        "App 03",
        "App 05",
    ]
    assert list(walked(db, Query(tag="rare", sort="name"), 3)) == [
        ["App 00", "App 10", "App 20"],
        ["App 30"],
    ]


@pytest.mark.parametrize("text", ["", "app"])
@pytest.mark.parametrize("sort", ["relevance", "updated", "name", "downloads"])
def test_pages_neither_repeat_nor_skip_while_apps_are_added(
    db: Connection, acme: str, sort: str, text: str
) -> None:
    rng = random.Random(5)
    with db.write():
        for number in range(60):
            stamp = f"2027-01-{rng.randrange(1, 28):02}T00:00:00Z"
            name = f"{rng.choice(['app', 'App', 'Äpp'])} {rng.randrange(30)}"
            app = add_listed(db, acme, f"a.b{number}", name, updated_at=stamp)
            if rng.random() < 0.5:
                fetch(db, app, rng.randrange(5))
    there = {
        listing.number
        for listing in search.index(db, PageRequest(100), Query(text, sort=sort)).rows
    }
    assert len(there) == 60
    seen: list[int] = []
    paging, query = PageRequest(7), Query(text, sort=sort)
    while True:
        page = search.index(db, paging, query)
        seen += [listing.number for listing in page.rows]
        with db.write():
            stamp = f"2027-01-{rng.randrange(1, 28):02}T00:00:00Z"
            add_listed(db, acme, f"a.c{len(seen)}", f"app {rng.randrange(30)}", updated_at=stamp)
        if page.next_cursor is None:
            break
        paging = PageRequest(7, position(page.next_cursor, *search.position_types(query)))
    assert len(seen) == len(set(seen))
    assert there <= set(seen)


def test_a_cursor_belongs_to_its_order(db: Connection, acme: str) -> None:
    with db.write():
        for number in range(3):
            add_listed(db, acme, f"a.b{number}", f"App {number}")
    cursor = search.index(db, PageRequest(1), Query(sort="name")).next_cursor
    assert cursor is not None
    with pytest.raises(Malformed):
        search.index(db, PageRequest(1, position(cursor, str, str, int)), Query(sort="updated"))


@pytest.mark.parametrize("searches", short_and_full(1_000, 100_000))
def test_no_text_makes_a_search_fail(db: Connection, acme: str, searches: int) -> None:
    """Random strings of everything that means something to FTS5, to SQL or to Unicode."""
    rng, seed = seeded()
    pieces = [
        '"', "'", "*", "(", ")", "{", "}", ":", "^", "-", "+", ",", "NEAR", "AND", "OR", "NOT", "name", "\0", "\ud800", "%", "_",
        "天", "é", "e\u0301", "\u200d", "🙂", "ﷺ", "\uffff", "\U0010ffff", "a", "note", "  ", "\n", ";", "--", "/*", "]]", "ก",
        "\u0e31", "\\",
    ]  # fmt: skip
    with db.write():
        add_listed(
            db,
            acme,
            "a.b",
            "note",
            description="".join(p for p in pieces if p not in ("\0", "\ud800")),
        )
    for _ in range(searches):
        text = "".join(
            rng.choice(pieces) if rng.random() < 0.8 else chr(rng.randrange(1, 0x10FFFF))
            for _ in range(rng.randrange(40))
        )
        query = Query(
            text, rng.choice(["", text]), rng.choice(["", text]), rng.choice(["", *search.SORTS])
        )
        try:
            search.index(
                db,
                PageRequest(5),
                replace(query, category=clean(query.category), tag=clean(query.tag)),
            )
        except Exception as error:
            raise AssertionError(f"seed {seed}, {query!r}") from error


def clean(text: str) -> str:
    """As the face hands it over: without lone surrogates, which no UTF-8 request can carry."""
    return text.encode("utf-8", "ignore").decode()


def test_a_query_is_tokenized_as_the_index_is(db: Connection, acme: str) -> None:
    rng = random.Random(7)
    ranges = [
        (0x61, 0x7A), (0xE00, 0xEFF), (0x1000, 0x10FF), (0x1780, 0x17FF), (0x2E00, 0x3100), (0xAC00, 0xAD00), (0x20000, 0x20100),
    ]  # fmt: skip
    with db.write():
        app = add_listed(db, acme, "a.b", "x")
    for _ in range(200):
        text = (
            "".join(chr(rng.randrange(*rng.choice(ranges))) for _ in range(12))
            .replace(" ", "")
            .strip()
        )
        with db.write():
            db.change("UPDATE apps SET summary = ? WHERE id = ?", text, app)
        stored = db.value("SELECT summary FROM listing_words_source")
        assert spaced_words(text) in ([f'"{stored}"'], []), text

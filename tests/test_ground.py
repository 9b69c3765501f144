"""The ground: settings, strict JSON, validation, cursors, the audit chain, the clock's text."""

import contextlib
import json
import stat
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mosis import audit
from mosis.caller import Caller, truncated
from mosis.config import Config, ConfigError
from mosis.context import Environment, kept_secret
from mosis.database import Database, pagination
from mosis.errors import Invalid, Malformed
from mosis.validation import MOST_FINDINGS, check
from mosis.validation.strict_json import load_json
from mosis.web.request import names_tag
from tests.client import Client

# settings


def test_all_complaints_come_at_once_and_never_show_a_secret() -> None:
    with pytest.raises(ConfigError) as wrong:
        Config.read(
            {
                "LISTEN_ADDR": "nowhere",
                "THREADS": "0",
                "JWT_SECRET": "hunter2",
                "BASE_URL": "ftp://x",
                "TRUSTED_PROXY": "a",
            }
        )
    assert len(wrong.value.complaints) == 5
    assert "hunter2" not in str(wrong.value)


@pytest.mark.parametrize(("name", "value"), [
    ("LISTEN_ADDR", "[::1]:80"), ("LISTEN_ADDR", "127.0.0.1:0"), ("BASE_URL", "https://apps.example.net/"), ("RATE_LIMITS", "off"),
    ("TRUSTED_PROXY", "10.0.0.0/8, ::1"), ("THREADS", "64"), ("REGISTRATION", "closed"), ("JWT_SECRET", "x" * 32), ("THREADS", ""),
])  # fmt: skip
def test_good_settings_are_taken(name: str, value: str) -> None:
    Config.read({name: value})


@pytest.mark.parametrize(("name", "value"), [
    ("LISTEN_ADDR", ":"), ("LISTEN_ADDR", "80"), ("LISTEN_ADDR", "localhost"), ("LISTEN_ADDR", ":65536"), ("LISTEN_ADDR", "::1:80"),
    ("LISTEN_ADDR", "[::1]"), ("LISTEN_ADDR", "http://localhost:80"), ("LISTEN_ADDR", ":\u0663"), ("LISTEN_ADDR", " :80"),
    ("BASE_URL", "http://x:99999"), ("BASE_URL", "http://"), ("ADMIN_EMAIL", "nobody"), ("SERVER", "apache"), ("THREADS", "\u0663"),
    ("TELEMETRY_DATABASE_PATH", "data/portal.db"), ("DATABASE_PATH", "data/telemetry.db"),
])  # fmt: skip
def test_bad_settings_are_said(name: str, value: str) -> None:
    with pytest.raises(ConfigError) as wrong:
        Config.read({name: value})
    assert len(wrong.value.complaints) == 1


def test_a_secret_is_made_once_and_kept_from_others(tmp_path: Path) -> None:
    path = tmp_path / "data/jwt_secret"
    secret = kept_secret(path)
    assert len(secret) >= 32
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o644)
    assert kept_secret(path) == secret
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.write_text("short")
    with pytest.raises(ConfigError):
        kept_secret(path)


# strict JSON


@pytest.mark.parametrize("body", [
    b"", b"{", b"{}x", b'{"a": 1, "a": 2}', b'{"a": {"b": 1, "b": 1}}', b"NaN", b"[Infinity]", b"[-Infinity]", b"1e400", b"\xff",
    b"\xef\xbb\xbf{}",
    b'"\\ud800"', b"[" * 33 + b"]" * 33, b'{"a":' * 33 + b"1" + b"}" * 33, b"1" * 65, b"[1,]", b"{'a': 1}", b'"\n"', b"[" * 100_000,
])  # fmt: skip
def test_what_is_not_strict_json_is_refused(body: bytes) -> None:
    with pytest.raises(Malformed) as refused:
        load_json(body)
    assert refused.value.code == "malformed_json"


@given(st.recursive(
    st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=4),
    max_leaves=20,
))  # fmt: skip
def test_what_others_write_is_read(value: object) -> None:
    assert load_json(json.dumps(value).encode()) == value
    assert load_json(json.dumps(value, ensure_ascii=False).encode()) == value


@given(st.binary(max_size=200))
def test_no_bytes_make_anything_but_a_value_or_our_error(body: bytes) -> None:
    with contextlib.suppress(Malformed):
        load_json(body)


def test_brackets_inside_texts_are_no_depth() -> None:
    assert load_json(json.dumps(["[" * 100 + '\\"']).encode()) == ["[" * 100 + '\\"']


# validation


def test_every_finding_comes_at_once_with_its_pointer() -> None:
    schema = {
        "name": {"type": "string", "required": True},
        "count": {"type": "integer", "min": 1},
        "tags": {"type": "list", "schema": {"type": "string", "maxlength": 3}},
        "author": {"type": "dict", "schema": {"email": {"type": "string", "required": True}}},
    }
    with pytest.raises(Invalid) as wrong:
        check({"count": True, "tags": ["ok", "long", 5], "author": {}, "a/b~c": 1}, schema)
    assert [(each["pointer"], each["code"]) for each in wrong.value.errors] == [
        ("/author/email", "required"), ("/a~1b~0c", "unknown_field"), ("/count", "wrong_type"), ("/name", "required"),
        ("/tags/1", "too_long"), ("/tags/2", "wrong_type"),
    ]  # fmt: skip
    assert all(each["detail"] for each in wrong.value.errors)


@pytest.mark.parametrize("rules", [
    {"type": "dict", "valuesrules": {"type": "integer"}}, {"type": "list", "schema": {"type": "integer"}},
    {"type": "dict", "keysrules": {"type": "string", "maxlength": 1}}, {"type": "dict", "schema": {"b": {"type": "string"}}},
])  # fmt: skip
def test_findings_beyond_what_anybody_reads_cost_nothing(rules: dict[str, object]) -> None:
    """A request of a mebibyte can be wrong in so many places; Cerberus alone would take minutes to say so."""
    schema = {"a": rules}
    wrong: dict[str, object] = {f"wrong{number}": "" for number in range(50_000)}
    for document in ({"a": list(wrong) if rules["type"] == "list" else wrong}, wrong):
        begun = time.process_time()
        with pytest.raises(Invalid) as refused:
            check(document, schema)
        assert len(refused.value.errors) == MOST_FINDINGS
        assert time.process_time() - begun < 5
    assert check({}, schema) == {}


def test_what_is_too_long_is_not_looked_into() -> None:
    for kind, value in (("list", ["x"] * 11), ("dict", {f"{number}": "x" for number in range(11)})):
        rules = {
            "type": kind,
            "schema" if kind == "list" else "valuesrules": {"type": "integer"},
            "maxlength": 10,
        }
        with pytest.raises(Invalid) as refused:
            check({"a": value}, {"a": rules})
        assert [each["code"] for each in refused.value.errors] == ["too_long"]


# cursors


@given(st.text(max_size=60))
def test_a_cursor_that_was_not_given_out_is_refused(text: str) -> None:
    with pytest.raises(Malformed) as refused:
        pagination.position(text, str, int)
    assert refused.value.code == "bad_cursor"


@pytest.mark.parametrize(("header", "matches"), [
    ('"a"', True), ('W/"a"', True), ('"b", "a"', True), ("*", True), ('"b"', False), ("a", False), ("", False),
])  # fmt: skip
def test_tags_are_compared_as_rfc_9110_says(header: str, matches: bool) -> None:
    assert names_tag(header, '"a"') is matches
    assert not names_tag('W/"a"', '"a"', strong=True)


# the audit chain


def entries(env: Environment, count: int) -> None:
    db = env.db.connection()
    with db.write():
        for number in range(count):
            audit.add(db, Caller(address="198.51.100.7"), "test.happened", number=number)


@pytest.mark.parametrize("change", [
    "UPDATE audit SET action = 'test.other' WHERE number = 2", "DELETE FROM audit WHERE number = 2",
    "UPDATE audit SET details = '{}' WHERE number = 1", "UPDATE audit SET previous_hash = hash WHERE number = 3",
])  # fmt: skip
def test_a_change_in_the_past_shows(env: Environment, change: str) -> None:
    entries(env, 3)
    db = env.db.connection()
    assert audit.verify(db) == 3
    with db.write():
        db.change(change)
    with pytest.raises(ValueError, match="broken at line"):
        audit.verify(db)


@pytest.mark.parametrize("more", [0, 1])
def test_lines_that_are_missing_at_the_end_show(env: Environment, more: int) -> None:
    """Also when others have come since."""
    entries(env, 3)
    db = env.db.connection()
    with db.write():
        db.change("DELETE FROM audit WHERE number = 3")
    entries(env, more)
    with pytest.raises(ValueError, match="broken"):
        audit.verify(db)


def test_many_that_append_at_once_make_one_chain(env: Environment) -> None:
    """Threads of one process, who queue on its lock, beside another process, which has a lock of its own."""
    other = Database(env.config.database_path, env.clock)

    def append(database: Database) -> None:
        db = database.connection()
        for number in range(25):
            with db.write():
                audit.add(db, Caller(), "test.happened", number=number)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(append, [env.db, other] * 3))
    other.close()
    assert audit.verify(env.db.connection()) == 150


def test_what_an_api_key_did_is_told_apart(env: Environment) -> None:
    db = env.db.connection()
    with db.write():
        audit.add(db, Caller("alice", key_id="key-1"), "test.happened", number=1)
    assert json.loads(db.value("SELECT details FROM audit")) == {"api_key_id": "key-1", "number": 1}


def test_the_trail_keeps_networks_and_not_addresses(env: Environment, client: Client) -> None:
    client.register()
    addresses = {row[0] for row in env.db.connection().all("SELECT DISTINCT address FROM audit")}
    assert addresses == {"198.51.100.0/24"}
    assert truncated("2001:db8:1:2::3") == "2001:db8:1::/48"
    assert truncated("rubbish") == ""

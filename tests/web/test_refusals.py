"""What a refusal says: everything that is wrong at once, in order, and what would be allowed; for every schema of every call."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from mosis import validation
from mosis.packages import manifest
from mosis.telemetry import schemas
from mosis.validation import Schema, escaped, findings
from mosis.validation.choices import SHOWN, closest, one_of
from tests import described
from tests.client import Account, Client
from tests.package_builder import manifest_of
from tests.web.test_inputs import path_of

VAGUE = "does not have the required form"


def bodies() -> dict[str, Schema]:
    """The schema of the body of every call, and those of parts that are checked alone."""
    found = {
        f"{route.method} {route.rule}": route.callback.operation.body
        for route in described.calls()
        if route.callback.operation.body
    }
    return found | {"event": schemas.EVENT, "batch": schemas.BATCH, "crash": schemas.CRASH}


BODIES = bodies()


def rules_of(schema: Mapping[str, Any], document: Any = None) -> Iterator[tuple[Any, Any]]:
    """(rules of a value, a function that makes a document with a value in that place) for every place of a schema."""
    for name, rules in schema.items():
        yield from _places(rules, lambda value, name=name: {name: value})


def _places(rules: Mapping[str, Any], made: Any) -> Iterator[tuple[Any, Any]]:
    yield rules, made
    inner = rules.get("schema")
    if inner and rules["type"] == "list":
        yield from _places(inner, lambda value: made([value]))
    elif inner:
        for name, each in inner.items():
            yield from _places(each, lambda value, name=name: made({name: value}))
    if "keysrules" in rules:
        yield from _places(rules["keysrules"], lambda value: made({value: None}))
    if "valuesrules" in rules:
        yield from _places(rules["valuesrules"], lambda value: made({"a": value}))


@pytest.mark.parametrize("name", BODIES)
def test_what_is_allowed_is_named_for_every_value_of_every_body(name: str) -> None:
    for rules, made in rules_of(BODIES[name]):
        allowed = rules.get("allowed", ())
        words = [str(each) for each in allowed]
        for wrong in ("nonsense", "", *(f"{word}s" for word in words), *map(str.upper, words)):
            if not allowed or wrong in words:
                continue
            found = [
                each
                for each in findings(made(wrong), BODIES[name])
                if each["code"] == "not_allowed"
            ]
            (detail,) = [each["detail"] for each in found]
            if len(words) <= SHOWN:
                assert ", ".join(words) in detail
            else:
                assert any(word in detail for word in words)
            if wrong not in ("nonsense", "") and len(words) > 3:
                assert wrong[:-1].lower() in detail.lower()


@pytest.mark.parametrize("name", BODIES)
def test_a_wrong_form_says_the_right_one(name: str) -> None:
    for rules, made in rules_of(BODIES[name]):
        if "regex" not in rules:
            continue
        details = [
            each["detail"]
            for text in ("\x00", "", "~ ~", "\x1b" * 20, "9" * 20)
            for each in findings(made(text), BODIES[name])
            if each["code"] == "wrong_format"
        ]
        assert details, rules
        assert not any(VAGUE in detail for detail in details), rules


@pytest.mark.parametrize("name", BODIES)
def test_an_unknown_field_names_the_known_ones(name: str) -> None:
    known = list(BODIES[name])
    for wrong in ("nonsense", *(f"{field}s" for field in known)):
        if wrong in known:
            continue
        (detail,) = [
            each["detail"]
            for each in findings({wrong: 1}, BODIES[name])
            if each["code"] == "unknown_field"
        ]
        assert (", ".join(known) if known else "nothing is allowed") in detail
        if len(known) > 3 and wrong != "nonsense":
            assert "Did you mean" in detail


@pytest.mark.parametrize("name", BODIES)
def test_every_finding_of_a_body_comes_at_once_and_in_order(name: str) -> None:
    """All fields wrong in one way or another, none of the fields, and one good field among wrong ones."""
    schema = BODIES[name]
    required = {field for field, rules in schema.items() if rules.get("required")}
    documents: list[dict[str, Any]] = [
        {field: {"x": []} if rules["type"] != "dict" else 1 for field, rules in schema.items()},
        {field: None if not rules.get("nullable") else {} for field, rules in schema.items()},
        {"zz": 1, "a/b": 2, "~": 3},
        {field: [] for field in list(schema)[::2]} | {"zz": 1},
    ]
    for document in documents:
        found = findings(document, schema)
        order = [(each["pointer"], each["code"]) for each in found]
        assert order == sorted(order)
        expected = {f"/{escaped(each)}" for each in document if each not in schema}
        expected |= {f"/{field}" for field in required - set(document)}
        expected |= {
            f"/{field}"
            for field in set(document) & set(schema)
            if not _may_be(document[field], schema[field])
        }
        pointers = {"/" + each["pointer"].split("/")[1] for each in found}
        assert expected <= pointers, expected - pointers


def _may_be(value: Any, rules: Mapping[str, Any]) -> bool:
    kinds = rules["type"] if isinstance(rules["type"], list) else [rules["type"]]
    name = {list: "list", dict: "dict", int: "integer", type(None): "null"}[type(value)]
    return name in kinds or (name == "integer" and "number" in kinds)


def test_what_is_allowed_is_named_for_every_parameter_of_every_query(client: Client) -> None:
    alice = client.register()
    client.role_of(alice, "admin")
    app, tried = client.app_of(alice), 0
    for route in described.calls():
        for name, rules in route.callback.operation.query.items():
            words = [str(each) for each in rules.get("allowed", ()) if each != ""]
            if route.method != "GET" or not words or "<review>" in route.rule:
                continue
            path = path_of(route).replace("/apps/none", f"/apps/{app}")
            for wrong in ("nonsense", words[0] + "s", words[0].upper(), words[0] + "%00"):
                refused = client.get(f"{path}?{name}={wrong}", as_=alice)
                if refused.status == 404 or wrong in words:
                    continue
                assert refused.status == 400, (path, name)
                assert f"{name} must be one of: {', '.join(words)}." in refused["detail"]
                tried += 1
    assert tried > 20


@pytest.mark.parametrize(
    "wrong", ["networks", "NETWORK", "", "camera ", 5, None, [], {}, *manifest.RESERVED_PERMISSIONS]
)
def test_an_unknown_permission_names_the_known_ones(wrong: Any) -> None:
    (found,) = manifest.check(manifest_of(permissions=[wrong]), "com.acme.notes", sizes())
    assert found.code in ("permission_unknown", "permission_reserved")
    assert ", ".join(manifest.PERMISSIONS) in found.detail
    if str(wrong).lower() in ("networks", "network", "camera "):
        assert "Did you mean" in found.detail


def sizes() -> dict[str, int]:
    icons = {f"icons/icon-{size}.png": 1 for size in manifest.ICON_SIZES}
    return {"assets/main.rml": 1, "manifest.json": 1} | icons


def test_an_unknown_field_of_a_manifest_names_the_known_ones() -> None:
    changes: dict[str, Any] = {
        "permission": [],
        "zz": 1,
        "aa": 1,
        "author": {"name": "A", "email": "a@example.net", "mail": 1},
        "icons": manifest_of()["icons"] | {"256": "x.png"},
        "locales": {"defaults": "en"},
        "entry": "assets/Main.rml",
    }
    found = manifest.check(manifest_of(**changes), "com.acme.notes", sizes())
    shown = {each.pointer: each.detail for each in found}
    assert list(shown) == [
        "/aa",
        "/author/mail",
        "/entry",
        "/icons/256",
        "/locales/defaults",
        "/permission",
        "/zz",
    ]
    assert "Did you mean permissions?" in shown["/permission"]
    assert "name, email, url" in shown["/author/mail"]
    assert "32, 64, 128" in shown["/icons/256"]
    assert "default, supported" in shown["/locales/defaults"]
    assert "Did you mean 'assets/main.rml'?" in shown["/entry"]


def test_every_field_of_a_manifest_is_wrong_at_once_and_in_the_same_order() -> None:
    for value in (None, -5, True, "", "\x00", [], [1, 1], {}, {"x": 1}):
        wrong = dict.fromkeys(manifest.FIELDS, value)
        found = [(each.pointer, each.code) for each in manifest.check(wrong, "com.acme.notes", {})]
        assert found == sorted(found)
        named = {str(pointer).split("/")[1] for pointer, _ in found}
        missing = set(manifest.FIELDS) - named
        # an empty list, object or text is good where nothing is required in it
        assert missing <= {"permissions", "screenshots", "locales", "description", "$schema"}, value
    nothing = manifest.check({}, "com.acme.notes", {})
    assert [each.pointer for each in nothing] == sorted(f"/{name}" for name in manifest.REQUIRED)


CROSSED: list[tuple[str, dict[str, Any], list[str]]] = [
    ("/v1/auth/register", {"password": "1234567890", "name": 1, "x": 1}, ["/email", "/name", "/password", "/x"]),
    ("/v1/auth/register", {"email": "carol@example.net", "password": "carol@example.net"}, ["/name", "/password"]),
    ("/v1/auth/password", {"new_password": "1234567890"}, ["/current_password", "/new_password"]),
    ("/v1/auth/password/reset", {"new_password": "1234567890"}, ["/new_password", "/token"]),
    ("/v1/apps", {"package_id": "Notes", "homepage": "https://[::g]/", "category": "X", "tags": ["a,b", 1]},
     ["/category", "/homepage", "/name", "/package_id", "/tags/0", "/tags/1"]),
    ("/v1/keys", {"scopes": ["apps:reed"], "expires_at": "2020-01-01T00:00:00Z", "role": "admin", "apps": ["x"]},
     ["/apps", "/expires_at", "/name", "/scopes/0"]),
    ("/v1/keys", {"name": "k", "scopes": [], "expires_at": "2027-02-30T00:00:00Z", "role": "boss"},
     ["/expires_at", "/role", "/scopes"]),
    ("/v1/signing-keys", {"public_key": "AAAA", "nam": "x"}, ["/nam", "/name", "/public_key"]),
    ("/v1/webhooks", {"url": "http://127.0.0.1/", "kinds": ["version.publish"]}, ["/kinds/0", "/url"]),
    ("/v1/auth/device", {"scope": "apps:read apps:reed all"}, ["/client_name", "/scope", "/scope"]),
    ("/v1/auth/device", {"client_name": "\u202e"}, ["/client_name", "/scopes"]),
    ("/v1/telemetry/crashes", {"timestamp": "2027-02-30T00:00:00Z", "device_id": "x"},
     ["/app_id", "/app_version", "/crash", "/device_id", "/mosis_version", "/timestamp"]),
]  # fmt: skip


@pytest.mark.parametrize(("path", "body", "pointers"), CROSSED)
def test_rules_that_no_schema_expresses_are_reported_with_the_others(
    client: Client, path: str, body: dict[str, Any], pointers: list[str]
) -> None:
    alice: Account = client.register()
    refused = client.post(path, body, as_=alice).expect(422, code="invalid")
    assert [each["pointer"] for each in refused["errors"]] == pointers
    assert not any(VAGUE in each["detail"] for each in refused["errors"])


def test_an_invalid_publication_time_is_reported_with_the_rest(client: Client) -> None:
    alice = client.register()
    app = client.app_of(alice)
    body = {"publish_at": "2027-02-30T00:00:00Z", "rollout_percent": 0}
    refused = client.post(f"/v1/apps/{app}/versions/1.0.0/publish", body, as_=alice).expect(422)
    assert [each["pointer"] for each in refused["errors"]] == ["/publish_at", "/rollout_percent"]


def test_of_a_long_list_the_closest_are_shown() -> None:
    words = [f"word.{number:03}" for number in range(100)] + ["version.published"]
    assert "closest are: version.published" in one_of("version.publish", words)
    assert "one of 101 values, such as: word.000" in one_of("\x00", words)
    assert closest("VERSION.published", words)[0] == "version.published"
    for odd in (None, 5, [], {}, "x" * 100_000, "\ud800"):
        assert one_of(odd, words).startswith("This must be one of 101 values")
    assert one_of("x", ["a" * 400, "b" * 400]).startswith("This must be one of 2 values")
    assert re.match("X must be one of: a, b[.]$", one_of("c", "ab", "X"))


def test_further_rules_see_only_what_fits() -> None:
    seen: list[dict[str, Any]] = []
    schema: Schema = {name: {"type": "integer", "max": 9} for name in ("a", "b/c", "d~e", "f")}

    def further(fields: Mapping[str, Any]) -> list[dict[str, Any]]:
        seen.append(dict(fields))
        return []

    assert (
        len(
            validation.findings_of(
                validation.check,
                {"a": "x", "b/c": 10, "d~e": None, "f": 1, "g": 1},
                schema,
                further,
            )
        )
        == 4
    )
    assert validation.check({"f": 2}, schema, further) == {"f": 2}
    assert seen == [{"f": 1}, {"f": 2}]

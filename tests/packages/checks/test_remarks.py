"""Remarks about any text: every kind of secret is found, wherever it stands."""

import pytest

from mosis.packages.checks import texts

SECRETS = {
    "a private key": "-----BEGIN RSA PRIVATE KEY-----",
    "a key of this portal": "mk_live_" + "a1" * 12,
    "an AWS key": "ASIA" + "A1" * 8,
    "a GitHub token": "ghs_" + "x" * 40,
    "a Google key": "AIza" + "z" * 35,
    "a Slack token": "xoxb-1234567890",
    "a Stripe key": "rk_live_" + "q" * 22,
    "a signed token (JWT)": "eyJ" + "a" * 12 + ".eyJ" + "b" * 12 + "." + "c" * 12,
    "a password in an address": "postgres://user:secret@db.example.net/x",
}


@pytest.mark.parametrize("what", texts._SECRETS)
def test_each_kind_of_secret_is_found(what: str) -> None:
    for before, after in (("", ""), ("local k = '", "'\n"), ("é\r\n" * 5, "\nrest")):
        found = list(texts.look("a.lua", f"{before}{SECRETS[what]}{after}".encode()))
        assert any(each.code == "secret_found" and what in each.detail for each in found), before


@pytest.mark.parametrize(
    "start", ["ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_"]
)  # fmt: skip
def test_every_form_of_a_github_token_is_found(start: str) -> None:
    assert [each.code for each in texts.look("a", (start + "x" * 44).encode())] == ["secret_found"]


def test_encoded_data_is_found_in_a_long_line_alone() -> None:
    def codes(text: str) -> list[str]:
        return [each.code for each in texts.look("a", text.encode())]

    assert codes("A" * (texts.BLOB - 1)) == []
    assert codes("A" * texts.BLOB) == ["base64_blob"]
    assert codes("\n".join(["A" * 300] * 10)) == []
    assert codes("x\n" + "A" * texts.BLOB + "\ny") == ["base64_blob"]


def test_addresses_are_found_whatever_their_case() -> None:
    found = [each.code for each in texts.look("a", b"HTTP://10.0.0.1/ ftp://example.net/")]
    assert found == ["url_private", "url_insecure"]

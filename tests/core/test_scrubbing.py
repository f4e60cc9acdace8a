"""What is kept of a call is kept without its secrets, and with everything else."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tabard.scrubbing import scrub

SECRET = "sk-abcdefghijklmnopqrstuvwx"
CARD = 4111111111111111

VALUES = [
    SECRET,
    "sk_live_abcdefghijklmnop",
    "Bearer abcdefghijklmnop",
    "AKIAABCDEFGHIJKLMNOP",
    "AIzaSyABCDEFGHIJKLMNOPQRSTUVWXYZ0123456",
    "glpat-abcdefghijklmnop",
    "github_pat_abcdefghijklmnopqrst",
    "xoxb-123456789012-abcdef",
    "hf_abcdefghijklmnopqrstuvwxyz",
    "postgres://u:hunter2@db/x",
    "redis://:hunter2@cache",
    "4111 1111 1111 1111",
    "4111-1111-1111-1111",
    "BE68 5390 0754 7034",
    "tbk_0123456789_abcdefghijklmnop",
    "eyJhbGciOiJFUzI1NiJ9.e30.AAAA",
    "ghp_abcdefghijklmnopqrst",
    "-----BEGIN PRIVATE KEY-----\nMIGH",
]
NAMES = [
    "password", "passwd", "Passphrase", "passcode", "pass", "pwd", "db_pwd", "userPass", "pin",
    "pinCode", "PIN", "cvv", "cvc", "card_cvv2", "otp", "api_key", "apikey", "apiKey", "x-api-key",
    "access_key", "secret", "client_secret", "secretKey", "SECRETS", "token", "accessToken",
    "refresh_token", "csrftoken", "X-Auth-Token", "auth", "Authorization", "cookie", "Set-Cookie",
    "credentials", "private_key", "signature", "session_id", "sessionId", "card_number", "cardNo",
    "IBAN", "toIban", "iban_text", "ssn", "jwt", "pass\nword", "AWS_SECRET_ACCESS_KEY",
]  # fmt: skip
ORDINARY: list[Any] = [
    {"table": "claims", "rows": [1, 2.5, None, True], "note": "POL-123456 of 2026-01-02"},
    {"author": "Mia", "authority": "acme", "secretary": "Jo", "passenger": "Jan", "compass": "N"},
    {"opinion": "good", "pinned": "yes", "tokenizer": "bpe", "compartment": 5, "shipping": "fast"},
    {"max_tokens": 4096, "input_tokens": 12, "tests": {"pass": 12, "fail": 0}},
    {"password": None, "private": True, "token": False},
    {"created_at": 1_700_000_000_000, "at_us": 1_700_000_000_000_000, "n": 1234567890123},
    {"text": "The bearer of this letter; a passport: valid. See https://acme.example/a?b=1:2"},
    {"text": "tokens: 512, total: 3", "ratio": 0.1, "big": 10**30, "inf": 1e300},
    '{"a" : [1, 2],  "b": "x"}',
    "[not json",
    "{also: not}",
]
TEXTS = [
    "password={}",
    "PASSWORD: {}",
    "note: password={}",
    "the pwd = '{}' ok",
    'login with "api_key": "{}"',
    "{{'password': '{}'}}",
    "Server=db;Uid=u;Pwd={};",
    "https://acme.example/?user=u&token={}&x=1",
    "export AWS_SECRET_ACCESS_KEY={}",
    "Authorization: Basic {}",
    "api key: {}",
    "pin: {}",
]


@pytest.mark.parametrize("text", VALUES)
def test_values(text: str) -> None:
    """By its form, wherever it stands: in a text, as a text, as a name, in JSON within a text."""
    for kept in (
        [f"see {text} here"],
        text,
        {text: {"deep": text}},
        json.dumps({"a": [{"note": f"see {text}"}]}),
        json.dumps({"b": json.dumps([text])}),
    ):
        assert json.dumps(text)[1:-1] not in json.dumps(scrub({"note": kept}))


@pytest.mark.parametrize("name", NAMES)
def test_names(name: str) -> None:
    """By its name, whatever stands under it."""
    for value in ("hunter2", {"deep": 1}, ["hunter2"]):
        assert list(scrub({"a": {name: value}})["a"].values()) == ["(scrubbed)"]  # type: ignore[index]
    assert "hunter2" not in str(scrub(json.dumps({"a": [{name: "hunter2"}]})))


@pytest.mark.parametrize("name", ["pin", "cvv", "password", "card_number"])
def test_numbers_by_their_name(name: str) -> None:
    assert scrub({name: 1234}) == {name: "(scrubbed)"}


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("secret", ["hunter2", "x9!k", "1234"])
def test_announced_in_a_text(text: str, secret: str) -> None:
    """A secret that a name announces within a text goes; what is around it stays."""
    said = text.format(secret)
    found = str(scrub(said))
    assert secret not in found
    assert found.startswith(said.partition(secret)[0].rstrip("'\"").removesuffix("Basic "))


@pytest.mark.parametrize(
    "number", [CARD, float(CARD), 378282246310005, 5555555555554444, 6011111111111117]
)
def test_cards_as_numbers(number: float) -> None:
    assert scrub({"n": [number], "t": json.dumps({"n": number})}) == {
        "n": ["(scrubbed)"],
        "t": '{"n": "(scrubbed)"}',
    }


def test_secrets_as_names_do_not_hide_one_another() -> None:
    found: Any = scrub({SECRET: "a", SECRET + "y": "b", "c": 1})
    assert sorted(map(str, found.values())) == ["1", "a", "b"]


def test_a_name_that_comes_twice_hides_nothing() -> None:
    """Read as JSON the second would be all there is, and the first would stay in the text."""
    assert SECRET not in str(scrub(f'{{"a": "{SECRET}", "a": 1}}'))
    assert "hunter2" not in str(scrub('{"password": "hunter2", "password": "x"}'))


def test_json_too_deep_to_read() -> None:
    assert SECRET not in str(scrub("[" * 100_000 + SECRET))


@pytest.mark.parametrize("value", ORDINARY)
def test_what_is_no_secret(value: Any) -> None:
    assert scrub(value) == value


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=20,
    )
)
def test_keeps_the_shape(value: Any) -> None:
    """Whatever it is given it gives back JSON, with as many members."""
    found = scrub(value)
    json.dumps(found)
    assert not isinstance(value, dict) or len(found) == len(value)  # type: ignore[arg-type]

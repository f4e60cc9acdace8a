# ruff: noqa: E501, RUF001
"""SPIFFE IDs: the exact grammar, and no normalising."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tabard.errors import InvalidSpiffeId
from tabard.identity import SpiffeId

VALID = [
    "spiffe://a",
    "spiffe://acme.example",
    "spiffe://acme.example/x",
    "spiffe://acme.example/.path",
    "spiffe://acme.example/..path",
    "spiffe://acme.example/...",
    "spiffe://acme.example/a/...x/b",
    "spiffe://acme.example/Mixed.Case_and-more/9",
    "spiffe://1.2.3.4/service",
    "spiffe://a-b_c.d/x",
    "spiffe://" + "a" * 255,
    "spiffe://a/" + "x" * (2048 - len("spiffe://a/")),
]
_LEGAL_IN_DOMAIN = set("abcdefghijklmnopqrstuvwxyz0123456789.-_")
_LEGAL_IN_PATH = _LEGAL_IN_DOMAIN | set("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
HOSTILE: list[object] = [
    "", "s", "spiffe", "spiffe:", "spiffe:/", "spiffe://", "spiffe:///", "spiffe:///x", "spiffe:////x",
    "spiffe:x", "//a/x", "a/x", "https://a/x", "SPIFFE://a/x", "Spiffe://a/x", "spiffe://A/x",
    "spiffe://a/", "spiffe://a//", "spiffe://a//x", "spiffe://a/x/", "spiffe://a/x//y",
    "spiffe://a/.", "spiffe://a/..", "spiffe://a/./x", "spiffe://a/../x", "spiffe://a/x/.", "spiffe://a/x/..",
    "spiffe://a/x/./y", "spiffe://a/x/../y", "spiffe://a%20b/x", "spiffe://a/x%20y", "spiffe://a/%2e%2e/x",
    "spiffe://a:80/x", "spiffe://u@a/x", "spiffe://u:p@a/x", "spiffe://a/x?q", "spiffe://a/x#f", "spiffe://a?q",
    "spiffe://[::1]/x", "spiffe://a\\x", "spiffe://a/x\\y", "spiffe://a/x\n", "spiffe://a\n", "spiffe://a\n/x",
    " spiffe://a/x", "spiffe://a/x ", "spiffe://a/x\x00", "spiffe://\u212a/x", "spiffe://а/x", "spiffe://a/а",
    "spiffe://a/x\u0661", "spiffe://a/x\uff11", "spiffe://a/x\ud800", "spiffe://" + "a" * 256,
    "spiffe://a/" + "x" * (2049 - len("spiffe://a/")), "spiffe://a/" + "x" * 1_000_000, "x" * 1_000_000,
    None, 1, b"spiffe://a/x", ["spiffe://a/x"], True,
    *(f"spiffe://a{chr(c)}" for c in range(256) if chr(c) not in _LEGAL_IN_DOMAIN and chr(c) != "/"),
    *(f"spiffe://a/x{chr(c)}" for c in range(256) if chr(c) not in _LEGAL_IN_PATH),
]  # fmt: skip


@pytest.mark.parametrize("text", VALID)
def test_valid(text: str) -> None:
    """A valid ID is taken as it is."""
    parsed = SpiffeId.parse(text)
    assert str(parsed) == text
    assert f"spiffe://{parsed.trust_domain}{parsed.path}" == text


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: ascii(text)[:40])
def test_hostile(text: object) -> None:
    """Everything else is refused, in bounded time and with a bounded message."""
    with pytest.raises(InvalidSpiffeId) as caught:
        SpiffeId.parse(text)  # type: ignore[arg-type]
    assert len(str(caught.value)) < 1000


def test_catalogue_is_whole() -> None:
    """At least three hundred hostile IDs."""
    assert len(set(map(repr, HOSTILE))) >= 300


def test_agent_id_cannot_be_stretched() -> None:
    """No part of an agent's name can put another path segment into its ID."""
    parsed = SpiffeId.for_agent(trust_domain="a.b", environment="prod", team="t", name="n")
    assert str(parsed) == "spiffe://a.b/env/prod/team/t/agent/n"
    with pytest.raises(InvalidSpiffeId, match="team"):
        SpiffeId.for_agent(trust_domain="a.b", environment="prod", team="t/agent/x", name="n")
    with pytest.raises(InvalidSpiffeId):
        SpiffeId.for_agent(trust_domain="a.b/x", environment="prod", team="t", name="n")


@settings(max_examples=500, deadline=None)
@given(st.text() | st.from_regex(r"spiffe://[\w./%-]*"))
def test_fuzz(text: str) -> None:
    """Whatever the text, it parses to itself or raises one of our errors."""
    try:
        parsed = SpiffeId.parse(text)
    except InvalidSpiffeId:
        return
    assert str(parsed) == text


@pytest.mark.parametrize("text", [*VALID[:3], *(h for h in HOSTILE if isinstance(h, str))][:60])
def test_no_way_around_the_parser(text: str) -> None:
    """The class itself checks, so that an ID that exists is an ID."""
    if text in VALID:
        assert SpiffeId(text) == SpiffeId.parse(text)
        return
    with pytest.raises(InvalidSpiffeId):
        SpiffeId(text)


def test_segments() -> None:
    """Segments are whole: a longer name does not match a shorter one."""
    parsed = SpiffeId.parse("spiffe://a/agent/claims")
    assert parsed.segments == ("agent", "claims")
    assert SpiffeId.parse("spiffe://a").segments == ()
    assert SpiffeId.parse("spiffe://a/agent/claims-admin").segments != parsed.segments


@pytest.mark.parametrize(
    "part", ["", ".", "..", "a/b", "a b", "a\n", "é", "a" * 129, "/" * 9999, None, 1, b"a"]
)
def test_part_that_may_not_stand_in_an_id(part: object) -> None:
    """Each part is named when it is wrong, with what was found, in a bounded message."""
    good: dict[str, str] = {"trust_domain": "a", "environment": "e", "team": "t", "name": "n"}
    for name in ("environment", "team", "name"):
        with pytest.raises(InvalidSpiffeId, match=rf"^{name}: expected .* found") as caught:
            SpiffeId.for_agent(**{**good, name: part})  # type: ignore[arg-type]
        assert len(str(caught.value)) < 300
    for domain in ("x" * 1_000_000, "/" * 1_000_000):
        with pytest.raises(InvalidSpiffeId) as caught:
            SpiffeId.for_agent(**{**good, "trust_domain": domain})
        assert len(str(caught.value)) < 300

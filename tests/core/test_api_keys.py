"""API keys: unique, expiring, shown once, kept as a hash, exchanged for a short session."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tabard import (
    AccessDenied,
    AuthenticationFailed,
    Authority,
    ConfigurationError,
    Guard,
    ToolCall,
)
from tabard.identity.api_key import id_of, new_api_key

ALLOWED = ToolCall("claims_db.query", {"table": "claims", "claimant_id": "C-1"})
SCOPE = {"claimant_id": "C-1"}


@pytest.fixture
def key(authority: Authority) -> str:
    """A key of the claims agent."""
    return authority.create_key("claims-agent")


def refused(guard: Guard, credential: Any) -> str:
    """The code of a refused login, which must be on record without the credential."""
    with pytest.raises(AuthenticationFailed) as caught:
        guard.login(credential)
    record = list(guard.records())[-1]
    assert (record["type"], record["decision"]["code"]) == ("auth.failed", caught.value.code)
    assert str(credential) not in str(record)
    assert str(credential) not in str(caught.value)
    return caught.value.code


class TestFormat:
    @pytest.mark.parametrize("text", [None, 5, b"tbk_", ["tbk_x"], object()])
    def test_no_text(self, text: object) -> None:
        """Another type is no key; and no foreign error comes of it."""
        with pytest.raises(AuthenticationFailed, match="malformed"):
            id_of(text)

    def test_shape(self, key: str) -> None:
        """`tbk_`, a public id, a secret with its checksum: one word to select, easy to scan for."""
        assert re.fullmatch(r"tbk_[0-9A-Za-z]{10}_[0-9A-Za-z]{49}", key)
        assert id_of(key) == key[:14]

    def test_unique(self) -> None:
        """No two keys are alike, in no part."""
        keys = [new_api_key() for _ in range(200)]
        assert len({key[:14] for key in keys}) == len({key[15:58] for key in keys}) == 200

    def test_every_typo_is_refused_before_the_store_is_asked(
        self, guard: Guard, key: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Any one character changed is a typo, found by the checksum."""
        monkeypatch.setattr(
            "tabard.store.SqliteStore.find_api_key", lambda *_: pytest.fail("the store was asked")
        )
        for position in range(4, len(key)):
            other = "A" if key[position] != "A" else "B"
            typo = key[:position] + other + key[position + 1 :]
            expected = "malformed" if key[position] == "_" else "bad_checksum"
            assert refused(guard, typo) == expected

    @pytest.mark.parametrize(
        "change",
        [lambda k: k[:-1], lambda k: k + "A", lambda k: k + "\n", lambda k: k.upper(),
         lambda k: "tbk_", lambda k: k + k,
         lambda k: k[:-1] + "é", lambda k: "tbk_" + "A" * 1_000_000],
    )  # fmt: skip
    def test_other_shapes(self, guard: Guard, key: str, change: Any) -> None:
        """Anything that is not exactly a key is malformed."""
        assert refused(guard, change(key)) in ("malformed", "too_long")

    def test_other_kind(self, guard: Guard, key: str) -> None:
        """A key is no join token: the prefix is under the checksum, and in the registry."""
        assert refused(guard, key.replace("tbk_", "tbj_")) == "bad_checksum"

    @settings(max_examples=100, deadline=None)
    @given(st.text(max_size=80))
    def test_fuzz(self, text: str) -> None:
        """Whatever the text, an id or a refusal comes out."""
        try:
            assert id_of("tbk_" + text).startswith("tbk_")
        except AccessDenied as refusal:
            assert refusal.code in ("malformed", "bad_checksum")  # noqa: PT017


class TestLogin:
    def test_session(self, guard: Guard, key: str) -> None:
        """A key opens a session of its agent; the log names the key by its public id."""
        session = guard.login(key, scope=SCOPE)
        assert guard.admit(ALLOWED, session=session)
        record = list(guard.records())[-1]
        assert record["cred"] == {
            "kind": "api-key", "kid": key[:14], "jti": key[:14], "exp": session.token.expires_at,
        }  # fmt: skip
        assert key not in str(list(guard.records()))
        assert key not in repr(session) + repr(session.source)

    def test_bytes_and_environment(
        self, guard: Guard, key: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A key may come as bytes, or from `$TABARD_CREDENTIAL` alone."""
        assert guard.login(key.encode()).agent.name == "claims-agent"
        monkeypatch.setenv("TABARD_CREDENTIAL", key)
        assert guard.login().agent.name == "claims-agent"

    def test_session_goes_on_until_the_key_expires(
        self, guard: Guard, authority: Authority, clock: Any
    ) -> None:
        """The session verifies the key again every few minutes, and ends with it."""
        session = guard.login(authority.create_key("claims-agent", days=1), scope=SCOPE)
        for _ in range(860):
            clock.now += 100
            guard.admit(ALLOWED, session=session)
        clock.now += 400
        with pytest.raises(AuthenticationFailed, match="token_expired"):
            guard.admit(ALLOWED, session=session)

    def test_unknown_key_and_wrong_secret_look_the_same(
        self, guard: Guard, authority: Authority, key: str, tmp_path: Path
    ) -> None:
        """A key of another home, and a known id with a wrong secret, get the same answer."""
        from tabard.identity import api_key

        head = f"{key[:15]}{new_api_key()[15:58]}"
        assert refused(guard, head + api_key._checksum(head)) == "unknown_key"
        assert refused(guard, new_api_key()) == "unknown_key"

    def test_key_is_kept_as_a_hash(self, home: Path, authority: Authority, key: str) -> None:
        """Neither the key nor its secret is anywhere in the home."""
        authority.close()
        for path in home.rglob("*"):
            if path.is_file():
                data = path.read_bytes()
                assert key.encode() not in data
                assert key[15:58].encode() not in data


class TestLifeOfAKey:
    def test_two_live_keys(self, guard: Guard, authority: Authority, key: str) -> None:
        """Two keys live side by side for rotation, a third waits until one is gone."""
        second = authority.create_key("claims-agent")
        assert guard.login(key).spiffe_id == guard.login(second).spiffe_id
        with pytest.raises(ConfigurationError, match="has 2 live keys") as caught:
            authority.create_key("claims-agent")
        assert key[:14] in str(caught.value)
        authority.revoke_key(key[:14], reason="rotated")
        authority.create_key("claims-agent")
        assert [k.revoked for k in authority.keys("claims-agent")].count(True) == 1

    def test_revoked_key(self, guard: Guard, authority: Authority, key: str) -> None:
        """A revoked key opens nothing, and its sessions end at once; the other key goes on."""
        session = guard.login(key, scope=SCOPE)
        other = guard.login(authority.create_key("claims-agent"), scope=SCOPE)
        authority.revoke_key(key[:14], reason="found in a repository", author="ada")
        with pytest.raises(AuthenticationFailed, match="token_revoked"):
            guard.admit(ALLOWED, session=session)
        assert refused(guard, key) == "token_revoked"
        assert guard.admit(ALLOWED, session=other)
        [record] = [r for r in guard.records() if r["type"] == "token.revoked"]
        assert (record["cred"]["jti"], record["author"]) == (key[:14], "ada")

    def test_eviction_takes_keys_too(self, guard: Guard, authority: Authority, key: str) -> None:
        """Everything issued until now includes keys; a new key counts."""
        authority.evict("claims-agent", reason="laptop lost")
        assert refused(guard, key) == "token_revoked"
        assert guard.login(authority.create_key("claims-agent"))

    def test_ban(self, guard: Guard, authority: Authority, key: str) -> None:
        """A banned agent's keys open nothing, and it gets no new ones."""
        authority.revoke("claims-agent", reason="compromised")
        assert refused(guard, key) == "token_revoked"
        with pytest.raises(AuthenticationFailed, match="token_revoked"):
            authority.create_key("claims-agent")

    def test_expired_key(self, guard: Guard, authority: Authority, clock: Any) -> None:
        """An expired key opens nothing, and makes room for another."""
        keys = [authority.create_key("claims-agent", days=1) for _ in range(2)]
        clock.now += 86_400
        assert [refused(guard, key) for key in keys] == ["token_expired", "token_expired"]
        assert authority.create_key("claims-agent")

    @pytest.mark.parametrize("days", [0, -1, 366, float("nan"), float("inf")])
    def test_lifetime_out_of_bounds(self, authority: Authority, days: float) -> None:
        """A key expires, within a year."""
        with pytest.raises(ConfigurationError, match="lifetime"):
            authority.create_key("claims-agent", days=days)

    @pytest.mark.parametrize(
        "wrong",
        [None, "1", b"1", [], {}, True, 10**400, 1j, object()],
        ids=lambda wrong: type(wrong).__name__,
    )
    def test_times_that_are_none(self, authority: Authority, wrong: Any) -> None:
        """A time of a wrong type or size is refused as what it is."""
        attempts: list[Callable[[], str]] = [
            lambda: authority.create_key("claims-agent", days=wrong),
            lambda: authority.rotate_key("claims-agent", days=wrong),
            lambda: authority.create_join_token("claims-agent", lifetime=wrong),
            lambda: authority.issue("claims-agent", lifetime=wrong),
        ]
        for make in attempts:
            with pytest.raises(ConfigurationError, match="lifetime"):
                make()
        if wrong is not None:
            with pytest.raises(ConfigurationError, match="grace"):
                authority.rotate_key("claims-agent", grace=wrong)
        assert authority.keys("claims-agent") == []

    @pytest.mark.parametrize(
        "key_id", ["", "tbk_", "tbk_AAAAAAAAAA", None, 7, 10**30, "\ud800", b"tbk_", []]
    )
    def test_revoking_what_is_not_there(self, authority: Authority, key_id: Any) -> None:
        """Revoking an unknown key is an error, not a silent nothing."""
        with pytest.raises(ConfigurationError, match="no API key of that id"):
            authority.revoke_key(key_id, reason="x")


@pytest.mark.parametrize("lever", ["evict", "ban"])
def test_keys_of_before_an_eviction_are_no_live_ones(
    authority: Authority, guard: Guard, lever: str
) -> None:
    """They count no more, so they neither pass for live nor keep new ones from being made."""
    old = [authority.create_key("claims-agent") for _ in range(2)]
    if lever == "evict":
        authority.evict("claims-agent", reason="laptop lost")
    else:
        authority.revoke("claims-agent", reason="x")
        authority.unban("claims-agent", reason="a mistake")
    assert [key.revoked for key in authority.keys("claims-agent")] == [True, True]
    new = [authority.create_key("claims-agent"), authority.rotate_key("claims-agent")]
    assert [refused(guard, key) for key in old] == ["token_revoked"] * 2
    for key in new:
        guard.login(key)

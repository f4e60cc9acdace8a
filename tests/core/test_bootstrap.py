"""Starting an agent from one thing: a join token, a file, an environment variable."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import pytest

from tabard import (
    AccessDenied,
    AuthenticationFailed,
    Authority,
    ConfigurationError,
    Guard,
    GuardUnavailable,
    ToolCall,
)
from tabard.identity.credential_file import CredentialFile

CALL = ToolCall("policy_lookup", {"policy_no": "POL-123456"})


def code_of(guard: Guard, credential: Any) -> str:
    with pytest.raises(AccessDenied) as caught:
        guard.login(credential)
    record = [r for r in guard.records() if r["type"] == "auth.failed"][-1]
    assert record["decision"]["code"] == caught.value.code
    return caught.value.code


MEGABYTE = 1_000_000


class TestJoinToken:
    @pytest.fixture
    def token(self, authority: Authority) -> str:
        return authority.create_join_token("claims-agent")

    def test_good_once(self, guard: Guard, token: str) -> None:
        """The first login uses it up; the second is refused, and the first goes on."""
        assert token.startswith("tbj_")
        session = guard.login(token)
        assert session.agent.name == "claims-agent"
        assert code_of(guard, token) == "token_revoked"
        guard.admit(CALL, session=session)

    def test_session_goes_on_for_days(self, guard: Guard, token: str, clock: Any) -> None:
        """What was started with a token of ten minutes renews itself."""
        session = guard.login(token)
        for _ in range(500):
            clock.now += 600
            guard.admit(CALL, session=session).settle()

    def test_ten_minutes(self, guard: Guard, token: str, clock: Any) -> None:
        """It has to be used in time, to the second."""
        clock.now += 600
        assert code_of(guard, token) == "token_expired"

    def test_expiry_does_not_use_it_up(self, guard: Guard, token: str, clock: Any) -> None:
        """A refused attempt leaves nothing behind."""
        clock.now += 600
        code_of(guard, token)
        clock.now -= 1
        assert guard.login(token)

    def test_only_one_of_many_at_once(self, guard: Guard, token: str) -> None:
        """Of many threads with one token exactly one gets in."""
        results: list[str] = []
        barrier = threading.Barrier(8)

        def join() -> None:
            barrier.wait()
            try:
                guard.login(token)
                results.append("in")
            except AuthenticationFailed as refusal:
                results.append(refusal.code)

        threads = [threading.Thread(target=join) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(results) == ["in"] + ["token_revoked"] * 7

    @pytest.mark.parametrize("lever", ["revoke", "evict"])
    def test_stopped_agent(
        self, guard: Guard, authority: Authority, token: str, lever: str
    ) -> None:
        """A token handed out before the agent was stopped lets nobody in, nor does its session."""
        session = guard.login(authority.create_join_token("claims-agent"))
        getattr(authority, lever)("claims-agent", reason="x")
        assert code_of(guard, token) == "token_revoked"
        with pytest.raises(AuthenticationFailed, match="token_revoked"):
            guard.admit(CALL, session=session)

    def test_taken_back(self, guard: Guard, authority: Authority, token: str) -> None:
        """It can be taken back by its id before it is used, and its session after."""
        authority.revoke_key(token[:14], reason="lost")
        assert code_of(guard, token) == "token_revoked"
        session = guard.login(authority.create_join_token("claims-agent"))
        authority.revoke_key(session.token.jti, reason="x")
        with pytest.raises(AuthenticationFailed, match="token_revoked"):
            guard.admit(CALL, session=session)

    def test_kinds_do_not_mix(self, guard: Guard, authority: Authority, token: str) -> None:
        """A join token is no API key and an API key no join token, whatever its prefix."""
        key = authority.create_key("claims-agent")
        assert code_of(guard, token.replace("tbj_", "tbk_")) == "bad_checksum"
        assert code_of(guard, key.replace("tbk_", "tbj_")) == "bad_checksum"
        assert guard.login(key)
        assert guard.login(token)

    def test_does_not_take_a_place_of_a_key(self, guard: Guard, authority: Authority) -> None:
        """Join tokens and their sessions are no API keys of which there are two."""
        for _ in range(3):
            guard.login(authority.create_join_token("claims-agent"))
        authority.create_key("claims-agent")
        authority.create_key("claims-agent")
        kinds = [key.kind for key in authority.keys("claims-agent")]
        assert (kinds.count("join"), kinds.count("joined"), kinds.count("key")) == (3, 3, 2)

    def test_on_record(self, guard: Guard, authority: Authority, token: str) -> None:
        """The log tells which token a session came from, and shows neither token nor key."""
        session = guard.login(token)
        issued = [r["cred"] for r in guard.records() if r["type"] == "agent.issued"]
        assert [(c["kind"], c["by"]) for c in issued] == [
            ("join-token", None), ("api-key", token[:14]),
        ]  # fmt: skip
        assert issued[-1]["jti"] == session.token.jti
        assert token[14:] not in str(list(guard.records()))

    @pytest.mark.parametrize("lifetime", [0, -1, 86_401, float("nan"), float("inf")])
    def test_lifetime(self, authority: Authority, lifetime: float) -> None:
        with pytest.raises(ConfigurationError, match="lifetime: expected 1 to 86400 seconds"):
            authority.create_join_token("claims-agent", lifetime=lifetime)

    def test_clock_behind(self, authority: Authority, guard: Guard, clock: Any) -> None:
        """A clock that has gone back makes no keys and no join tokens either."""
        authority.issue("claims-agent")
        clock.now -= 3600
        for make in (authority.create_join_token, authority.create_key, authority.issue):
            with pytest.raises(AccessDenied, match="clock"):
                make("claims-agent")


class TestRotateKey:
    def test_both_count_for_the_time_of_grace(
        self, authority: Authority, guard: Guard, clock: Any
    ) -> None:
        """The next key counts at once, the old one for another while."""
        old = authority.create_key("claims-agent")
        new = authority.rotate_key("claims-agent", grace=100)
        assert guard.login(old)
        assert guard.login(new)
        clock.now += 100
        assert code_of(guard, old) == "token_expired"
        assert guard.login(new)
        assert authority.rotate_key("claims-agent")

    def test_no_grace(self, authority: Authority, guard: Guard) -> None:
        """Without a time of grace the old key's sessions end at once, on record."""
        old = authority.create_key("claims-agent")
        session = guard.login(old)
        new = authority.rotate_key("claims-agent", grace=0)
        with pytest.raises(AuthenticationFailed, match="token_revoked"):
            guard.admit(CALL, session=session)
        assert code_of(guard, old) == "token_revoked"
        guard.admit(CALL, session=guard.login(new)).settle()
        [record] = [r for r in guard.records() if r["type"] == "token.revoked"]
        assert (record["cred"]["jti"], record["reason"]) == (old[:14], "rotated without grace")

    @pytest.mark.parametrize("days", [1e-9, 0.999 / 86_400, 0, -1, 365.01])
    def test_days(self, authority: Authority, days: float) -> None:
        """A key that is over when it is handed out is none."""
        for make in (authority.create_key, authority.rotate_key):
            with pytest.raises(ConfigurationError, match="lifetime: expected 1 s to 365 days"):
                make("claims-agent", days=days)

    def test_unfinished_rotation(self, authority: Authority) -> None:
        """A third key has to wait until one of two is gone; the answer names them."""
        keys = [authority.create_key("claims-agent"), authority.rotate_key("claims-agent")]
        with pytest.raises(ConfigurationError, match="has 2 live keys") as caught:
            authority.rotate_key("claims-agent")
        assert all(key[:14] in str(caught.value) for key in keys)

    @pytest.mark.parametrize("grace", [-1, float("nan"), float("inf")])
    def test_grace(self, authority: Authority, grace: float) -> None:
        with pytest.raises(ConfigurationError, match="grace: expected seconds"):
            authority.rotate_key("claims-agent", grace=grace)


class TestFile:
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        file = tmp_path / "credential"
        file.touch(mode=0o600)
        return file

    def test_every_kind_in_a_file(
        self, guard: Guard, authority: Authority, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A token, a key or a join token in a file, by path or from the environment."""
        for make in (authority.issue, authority.create_key, authority.create_join_token):
            path.write_text(make("claims-agent") + "\n")
            assert guard.login(path).agent.name == "claims-agent"
        path.write_text(authority.issue("claims-agent"))
        for spelling in (str(path), f"{path.parent}/./{path.name}"):
            monkeypatch.setenv("TABARD_CREDENTIAL", spelling)
            assert guard.login().agent.name == "claims-agent"

    def test_read_again_at_half_life(
        self, guard: Guard, authority: Authority, path: Path, clock: Any
    ) -> None:
        """Somebody else keeps the file fresh; the session goes on with what is in it."""
        path.write_text(authority.issue("claims-agent"))
        session = guard.login(path)
        for _ in range(10):
            clock.now += 200
            path.write_text(authority.issue("claims-agent"))
            guard.admit(CALL, session=session)

    def test_file_goes_stale_or_away(
        self, guard: Guard, authority: Authority, path: Path, clock: Any
    ) -> None:
        """Without a fresh one the old token goes on to its end, and not a second longer."""
        path.write_text(authority.issue("claims-agent"))
        session = guard.login(path)
        path.unlink()
        clock.now += 299
        guard.admit(CALL, session=session)
        clock.now += 1
        with pytest.raises(AccessDenied):
            guard.admit(CALL, session=session)

    def test_another_agents_credential_is_put_there(
        self, guard: Guard, authority: Authority, path: Path, clock: Any
    ) -> None:
        """A session does not change its identity, whatever the file says."""
        path.write_text(authority.issue("claims-agent"))
        session = guard.login(path)
        path.write_text(authority.issue("analytics-agent"))
        clock.now += 200
        with pytest.raises(AuthenticationFailed, match="identity_changed"):
            guard.admit(CALL, session=session)

    def test_what_is_no_credential_file(
        self, guard: Guard, authority: Authority, path: Path, tmp_path: Path
    ) -> None:
        """Missing, open to others, a folder, a pipe, empty, too long, not text: each a refusal."""
        token = authority.issue("claims-agent")
        assert code_of(guard, tmp_path / "missing") == "credential_file"
        assert code_of(guard, tmp_path) == "credential_file"
        assert code_of(guard, path / "below") == "credential_file"
        assert code_of(guard, path) == "malformed"
        path.write_bytes(b"\xff" * 10)
        assert code_of(guard, path) == "malformed"
        path.write_text("a" * 70_000)
        assert code_of(guard, path) == "too_long"
        path.write_text(token)
        for mode in (0o640, 0o604, 0o660):
            path.chmod(mode)
            with pytest.raises(AccessDenied, match=f"mode {mode:04o}, expected 0600"):
                guard.login(path)
        path.chmod(0o600)
        assert guard.login(path)

    def test_text_is_never_a_path(self, guard: Guard, authority: Authority, path: Path) -> None:
        """A path as text may come from a caller: only the environment and a `Path` name files."""
        path.write_text(authority.issue("claims-agent"))
        assert code_of(guard, str(path)) == "malformed"

    @pytest.mark.parametrize("variable", [True, False])
    def test_home_of_nobody(
        self, guard: Guard, monkeypatch: pytest.MonkeyPatch, variable: bool
    ) -> None:
        """A path that begins with a user there is not: a refusal of ours, on record."""
        monkeypatch.setenv("TABARD_CREDENTIAL", "~nosuchuser/tok")
        with pytest.raises(GuardUnavailable, match="no such user") as caught:
            guard.login(None if variable else Path("~nosuchuser/tok"))
        record = list(guard.records())[-1]
        assert record["type"] == "auth.failed"
        assert record["decision"]["code"] == caught.value.code == "credential_file"

    def test_path_that_is_none(self, guard: Guard) -> None:
        """A caller's own kind of path may be anything."""

        class Odd(os.PathLike[str]):
            def __init__(self, answer: Any) -> None:
                self.answer = answer

            def __fspath__(self) -> Any:
                if isinstance(self.answer, Exception):
                    raise self.answer
                return self.answer

        for answer in (b"x", 5, None, KeyError("x"), "a\0b", "\udcff", "x" * MEGABYTE):
            with pytest.raises(AccessDenied) as caught:
                guard.login(Odd(answer))
            record = list(guard.records())[-1]
            assert (record["type"], record["decision"]["code"]) == (
                "auth.failed", caught.value.code)  # fmt: skip
        with pytest.raises(AuthenticationFailed, match="malformed"):
            CredentialFile(5)  # type: ignore[arg-type]

    def test_repr(self, path: Path) -> None:
        """Names the file and nothing in it."""
        path.write_text("secret")
        assert "secret" not in repr(CredentialFile(path))


class TestEnvironment:
    @pytest.mark.parametrize("name", ["token", "key", "join token"])
    def test_one_variable(
        self, guard: Guard, authority: Authority, monkeypatch: pytest.MonkeyPatch, name: str
    ) -> None:
        """`TABARD_CREDENTIAL` is all it takes."""
        make: Any = {
            "token": authority.issue,
            "key": authority.create_key,
            "join token": authority.create_join_token,
        }[name]
        monkeypatch.setenv("TABARD_CREDENTIAL", make("claims-agent"))
        guard.admit(CALL, session=guard.login())

    def test_nothing(self, guard: Guard, monkeypatch: pytest.MonkeyPatch) -> None:
        """Without it there is no identity, and an empty one is none."""
        monkeypatch.delenv("SPIFFE_ENDPOINT_SOCKET", raising=False)
        assert code_of(guard, None) == "no_identity"
        monkeypatch.setenv("TABARD_CREDENTIAL", "")
        assert code_of(guard, None) == "no_identity"

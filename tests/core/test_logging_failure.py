"""While the log cannot be written: refused by default, unless an operator says else."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tabard import (
    AuthenticationFailed,
    Authority,
    ConfigurationError,
    Guard,
    GuardUnavailable,
    NotPermitted,
    Session,
    ToolCall,
    logging_failure,
)
from tabard.audit import verify_log
from tabard.audit.entries import find_calls

ALLOWED = ToolCall("claims_db.query", {"table": "claims", "claimant_id": "C-1"})
RATED = ToolCall("stats.rated", {})
POLICY_EXTRA = "    rates: [{tools: [stats.rated], limit: 9, per: 1h}]\n"


@pytest.fixture
def policy_text(policy_text: str) -> str:
    return policy_text.replace("deny:\n", f"{POLICY_EXTRA}deny:\n")


@pytest.fixture
def opened(
    home: Path, authority: Authority, policy_text: str, clock: Any, tmp_path: Path
) -> Callable[..., tuple[Guard, Session]]:
    """Opens a guard in a mode, with a session."""

    def open_guard(mode: Any, **more: Any) -> tuple[Guard, Session]:
        guard = Guard.open(home, policy=policy_text, clock=clock, on_audit_failure=mode, **more)
        guard._background = None
        guard._store.on_commit = None  # type: ignore[attr-defined]
        token = authority.issue("claims-agent")
        return guard, guard.login(token, scope={"claimant_id": "C-1"})

    return open_guard


@contextmanager
def unwritable(guard: Guard) -> Iterator[None]:
    """Somebody holds the database's lock: writing fails, and reading goes on."""
    store: Any = guard._store
    store._db.execute("PRAGMA busy_timeout = 5")
    other = sqlite3.connect(store.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        other.execute("ROLLBACK")
        other.close()
        store._db.execute("PRAGMA busy_timeout = 5000")


def kinds(guard: Guard) -> list[str]:
    return [record["type"] for record in guard.records()]


class TestDeny:
    def test_refused(self, opened: Callable[..., Any]) -> None:
        """Nothing runs that is not on record, and it goes on when the log is back."""
        guard, session = opened("deny")
        with unwritable(guard), pytest.raises(GuardUnavailable) as caught:
            guard.admit(ALLOWED, session=session)
        assert caught.value.code in ("audit", "store")
        guard.admit(ALLOWED, session=session).settle()
        assert "audit.recovered" not in kinds(guard)

    def test_outcome_that_cannot_be_written(self, opened: Callable[..., Any]) -> None:
        """The tool ran and its outcome is not on record: the next call is refused until it is."""
        guard, session = opened("deny")
        permit = guard.admit(ALLOWED, session=session)
        with unwritable(guard):
            permit.settle()
            with pytest.raises(GuardUnavailable):
                guard.admit(ALLOWED, session=session)
        guard.admit(ALLOWED, session=session)
        assert kinds(guard)[-3:] == ["tool.decision", "tool.outcome", "tool.decision"]


@pytest.mark.parametrize("mode", ["spool", "allow_and_alarm"])
class TestGoingAhead:
    def test_goes_ahead_and_is_on_record_later(
        self, opened: Callable[..., Any], mode: str, home: Path, caplog: Any
    ) -> None:
        guard, session = opened(mode)
        with unwritable(guard):
            calls = []
            for _ in range(3):
                permit = guard.admit(ALLOWED, session=session)
                calls.append(permit.call)
                permit.settle()
            assert "a call went ahead" in caplog.text
            assert len(list((home / "spool").glob("*"))) == (1 if mode == "spool" else 0)
        guard.admit(ALLOWED, session=session)
        records = list(guard.records())
        unlogged = [r for r in records if "unlogged" in r]
        assert [r["unlogged"]["call"] for r in unlogged] == calls
        [told] = [r["recovered"] for r in records if r["type"] == "audit.recovered"]
        assert (told["mode"], told["events"]) == (mode, 3)
        assert kinds(guard).count("tool.outcome") == 3
        assert not list((home / "spool").glob("*")) if mode == "spool" else True
        verify_log(guard._store)
        found = find_calls(guard._store, calls[0])
        assert len(found) == 1
        assert found[0].outcome is not None

    def test_who_is_revoked_is_still_refused(
        self, opened: Callable[..., Any], mode: str, authority: Authority
    ) -> None:
        guard, session = opened(mode)
        authority.revoke("claims-agent", reason="x")
        with unwritable(guard), pytest.raises(AuthenticationFailed):
            guard.admit(ALLOWED, session=session)

    def test_what_is_not_allowed_is_still_refused(
        self, opened: Callable[..., Any], mode: str
    ) -> None:
        guard, session = opened(mode)
        with unwritable(guard), pytest.raises((GuardUnavailable, NotPermitted)):
            guard.admit(ToolCall("other"), session=session)

    def test_what_needs_the_store_is_refused(
        self, opened: Callable[..., Any], mode: str, authority: Authority
    ) -> None:
        """A rate cannot be counted: the call is refused in every mode."""
        guard, _ = opened(mode)
        session = guard.login(authority.issue("analytics-agent"))
        guard.admit(RATED, session=session)
        with unwritable(guard), pytest.raises(GuardUnavailable):
            guard.admit(RATED, session=session)

    def test_unreadable_store(self, opened: Callable[..., Any], mode: str) -> None:
        """Where not even the agent's liveness can be read, nothing runs."""
        guard, session = opened(mode)
        guard._store.close()
        with pytest.raises(GuardUnavailable):
            guard.admit(ALLOWED, session=session)

    def test_too_many(
        self, opened: Callable[..., Any], mode: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        guard, session = opened(mode)
        monkeypatch.setattr(logging_failure, "LIMIT", 2)
        with unwritable(guard):
            for _ in range(2):
                guard.admit(ALLOWED, session=session)
            with pytest.raises(GuardUnavailable):
                guard.admit(ALLOWED, session=session)

    def test_many_threads(self, opened: Callable[..., Any], mode: str) -> None:
        """Every call that went ahead is on record afterwards, once."""
        guard, session = opened(mode)
        calls: list[str] = []

        def work() -> None:
            for _ in range(8):
                calls.append(guard.admit(ALLOWED, session=session).call)

        with unwritable(guard):
            threads = [threading.Thread(target=work) for _ in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        guard.admit(ALLOWED, session=session)
        told = [r["unlogged"]["call"] for r in guard.records() if "unlogged" in r]
        assert sorted(told) == sorted(calls)
        assert len(calls) == 64


class TestSpool:
    def test_process_that_died(
        self,
        opened: Callable[..., Any],
        home: Path,
        authority: Authority,
        policy_text: str,
        clock: Any,
    ) -> None:
        """What a process spooled and did not live to record is recorded by the next one."""
        guard, _ = opened("spool")
        guard.close()
        authority.close()
        child = os.fork()
        if child == 0:
            try:
                inner = Guard.open(home, policy=policy_text, on_audit_failure="spool", clock=clock)
                with Authority.open(home, clock=clock) as again:
                    one = inner.login(again.issue("claims-agent"), scope={"claimant_id": "C-1"})
                with unwritable(inner):
                    for _ in range(4):
                        inner.admit(ALLOWED, session=one)
                    os.kill(os.getpid(), 9)
            finally:
                os._exit(1)
        os.waitpid(child, 0)
        assert len(list((home / "spool").glob("*"))) == 1
        with (
            Guard.open(home, policy=policy_text, clock=clock) as later,
            Authority.open(home, clock=clock) as again,
        ):
            one = later.login(again.issue("claims-agent"), scope={"claimant_id": "C-1"})
            later.admit(ALLOWED, session=one)
            told = [r for r in later.records() if "unlogged" in r]
            assert len(told) == 4
            assert "audit.recovered" in kinds(later)
            verify_log(later._store)
        assert not list((home / "spool").glob("*"))

    def test_torn_last_line(self, opened: Callable[..., Any], home: Path) -> None:
        (home / "spool").mkdir()
        whole = '["tool.decision", "\\"x\\":1,\\"unlogged\\":{}", 5.0]\n'
        (home / "spool" / "1-a.jsonl").write_text(whole + whole[:20])
        guard, session = opened("spool")
        guard.admit(ALLOWED, session=session)
        assert len([r for r in guard.records() if "unlogged" in r]) == 1

    @pytest.mark.parametrize(
        "line",
        [
            "x",
            "[]",
            '["a"]',
            '["a", "b", 1]',
            "null",
            '["a", 5, 1]',
            '["a.b", "\\"x\\":\\"\u00e9\\"", 1]',
            '["a.b", "\\"x\\":1,\\n\\"y\\":2", 1]',
            '["A B", "\\"x\\":1", 1]',
        ],
    )
    def test_nonsense(self, opened: Callable[..., Any], home: Path, line: str) -> None:
        (home / "spool").mkdir()
        (home / "spool" / "1-a.jsonl").write_text(f"{line}\n")
        guard, session = opened("spool")
        guard.admit(ALLOWED, session=session)
        verify_log(guard._store)

    def test_file_of_a_living_process(self, opened: Callable[..., Any], home: Path) -> None:
        """What another guard of a living process has spooled is left to it."""
        first, session = opened("spool")
        with unwritable(first):
            first.admit(ALLOWED, session=session)
            assert len(list((home / "spool").glob("*"))) == 1
        other, another = opened("spool")
        other.admit(ALLOWED, session=another)
        assert not [r for r in other.records() if "unlogged" in r]
        first.admit(ALLOWED, session=session)
        assert len([r for r in other.records() if "unlogged" in r]) == 1

    def test_folder_elsewhere(self, opened: Callable[..., Any], tmp_path: Path) -> None:
        guard, session = opened("spool", spool=tmp_path / "other" / "spool")
        with unwritable(guard):
            guard.admit(ALLOWED, session=session)
        assert list((tmp_path / "other" / "spool").glob("*"))

    def test_spool_that_is_full_as_well(
        self, opened: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Neither the log nor the spool takes it: refused."""
        guard, session = opened("spool")

        def full(*_: Any) -> int:
            raise OSError(28, "No space left on device")

        with unwritable(guard):
            monkeypatch.setattr(os, "fsync", full)
            with pytest.raises(GuardUnavailable):
                guard.admit(ALLOWED, session=session)

    def test_what_is_no_folder(self, home: Path, policy_text: str, authority: Authority) -> None:
        (home / "spool").write_text("x")
        with pytest.raises(ConfigurationError, match="spool"):
            Guard.open(home, policy=policy_text, on_audit_failure="spool")

    @pytest.mark.parametrize("mode", ["", "allow", None, 5])
    def test_no_such_mode(
        self, home: Path, policy_text: str, authority: Authority, mode: Any
    ) -> None:
        with pytest.raises(ConfigurationError, match="on_audit_failure"):
            Guard.open(home, policy=policy_text, on_audit_failure=mode)


@pytest.mark.parametrize("mode", ["spool", "allow_and_alarm"])
def test_rates_of_a_parent(home: Path, authority: Authority, clock: Any, mode: Any) -> None:
    """A rate of an agent that is acted for cannot be counted either: the call is refused."""
    policy = """\
version: 1
agents:
  claims-agent:
    delegates_to: [analytics-agent]
    grants: [{tools: [t]}]
    rates: [{tools: [t], limit: 9, per: 1h}]
  analytics-agent: {grants: [{tools: [t]}]}
"""
    with Guard.open(home, policy=policy, clock=clock, on_audit_failure=mode) as guard:
        lead = guard.login(authority.issue("claims-agent"))
        child = lead.delegate("analytics-agent", tools=["t"])
        guard.admit(ToolCall("t"), session=child)
        with unwritable(guard), pytest.raises(GuardUnavailable):
            guard.admit(ToolCall("t"), session=child)

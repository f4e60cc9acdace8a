"""While the log cannot be written: refused by default, unless an operator says else."""

from __future__ import annotations

import json
import os
import resource
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
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
from tabard.audit.entries import Entry, find_calls
from tabard.audit.reports.dora import report_dora
from tabard.audit.reports.log_facts import read_log_facts
from tabard.audit.reports.markdown import to_markdown

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
        store._db.execute("PRAGMA busy_timeout = 2000")


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

    def test_what_was_refused_is_told(self, opened: Callable[..., Any], clock: Any) -> None:
        """How many calls were refused, from when to when and why, is on record once, afterwards."""
        guard, session = opened("deny")
        with unwritable(guard):
            for _ in range(3):
                with pytest.raises(GuardUnavailable):
                    guard.admit(ALLOWED, session=session)
                clock.now += 1
        for _ in range(2):
            guard.admit(ALLOWED, session=session).settle()
        [told] = [r["recovered"] for r in guard.records() if r["type"] == "audit.recovered"]
        assert (told["mode"], told["events"], told["refused"]) == ("deny", 0, 3)
        assert told["codes"] == ["store"]
        assert (told["since"][:19], told["until"][:19]) == (
            "2027-01-15T08:00:00",
            "2027-01-15T08:00:02",
        )
        entries = [Entry.of(record) for record in guard._store.stored_records()]
        facts = read_log_facts(guard._store, made_at=datetime.fromtimestamp(clock.now, UTC))
        text = to_markdown(report_dora(entries, facts))
        assert "0 calls ran without a record, 3 were refused" in text
        assert "the store could not be written" in text

    def test_errors_of_our_own_are_told(
        self, opened: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Whatever refused a call without a record is told, a bug or an unreadable policy too."""
        guard, session = opened("deny")
        with monkeypatch.context() as broken:
            broken.setattr(guard._pipeline._judge, "judge", None)
            with pytest.raises(GuardUnavailable, match="internal"):
                guard.admit(ALLOWED, session=session)
        guard.admit(ALLOWED, session=session)
        assert list(guard.records())[-1]["recovered"]["codes"] == ["internal"]

    def test_told_on_closing(self, opened: Callable[..., Any]) -> None:
        """Where no call is admitted any more, closing the guard tells it, and what is late."""
        guard, session = opened("deny")
        permit = guard.admit(ALLOWED, session=session)
        with unwritable(guard):
            permit.settle()
            with pytest.raises(GuardUnavailable):
                guard.admit(ALLOWED, session=session)
        guard.close()
        with sqlite3.connect(guard._store.path) as database:
            rows = database.execute("SELECT body ->> '$.type' FROM record ORDER BY id").fetchall()
        late = ["tool.outcome", "audit.recovered", "writer.close"]
        assert [kind for (kind,) in rows if kind in late][-3:] == late

    def test_outcome_that_cannot_be_written(self, opened: Callable[..., Any]) -> None:
        """The tool ran and its outcome is not on record: the next call is refused until it is."""
        guard, session = opened("deny")
        permit = guard.admit(ALLOWED, session=session)
        with unwritable(guard):
            permit.settle()
            with pytest.raises(GuardUnavailable):
                guard.admit(ALLOWED, session=session)
        guard.admit(ALLOWED, session=session)
        assert kinds(guard)[-4:] == [
            "tool.decision", "tool.outcome", "tool.decision", "audit.recovered",
        ]  # fmt: skip


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

    def test_end_comes_after_its_decision(self, opened: Callable[..., Any], mode: str) -> None:
        """What waited is written first: no outcome stands before the decision it is about."""
        guard, session = opened(mode)
        with unwritable(guard):
            permit = guard.admit(ALLOWED, session=session)
        guard._admissions._retry_at = 0.0
        permit.settle()
        assert kinds(guard)[-3:] == ["tool.decision", "tool.outcome", "audit.recovered"]

    def test_waits_once(self, opened: Callable[..., Any], mode: str) -> None:
        """A call waits for the log before it runs; its end does not wait a second time."""
        guard, session = opened(mode)
        with unwritable(guard):
            guard._store._db.execute("PRAGMA busy_timeout = 500")
            began = time.monotonic()
            guard.admit(ALLOWED, session=session).settle()
            assert 0.4 < time.monotonic() - began < 0.9
        guard.close()


def test_patience_is_short(
    home: Path, authority: Authority, policy_text: str, clock: Any, opened: Callable[..., Any]
) -> None:
    """Somebody holds the lock: the refusal comes after two seconds."""
    guard, session = opened("deny")
    other = sqlite3.connect(guard._store.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    began = time.monotonic()
    with pytest.raises(GuardUnavailable):
        guard.admit(ALLOWED, session=session)
    assert time.monotonic() - began < 3.5
    other.close()


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

    def test_disk_that_takes_a_part(self, opened: Callable[..., Any], home: Path) -> None:
        """A disk that takes the beginning of a line: that call is refused, its line gone."""
        guard, session = opened("spool")
        ran = []
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        with unwritable(guard):
            guard.admit(ALLOWED, session=session)
            [path] = (home / "spool").glob("*")
            line = path.stat().st_size
            resource.setrlimit(resource.RLIMIT_FSIZE, (3 * line + line // 2, before[1]))
            try:
                for _ in range(2):
                    ran.append(guard.admit(ALLOWED, session=session).call)
                for _ in range(2):
                    with pytest.raises(GuardUnavailable):
                        guard.admit(ALLOWED, session=session)
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, before)
            ran.append(guard.admit(ALLOWED, session=session).call)
            text = path.read_text()
            assert text.endswith("\n")
            spooled = [json.loads(one) for one in text.splitlines()]
            found = [json.loads(f"{{{fields}}}")["unlogged"]["call"] for _, fields, _ in spooled]
            assert found[1:] == ran
        guard.close()

    def test_written_on(self, opened: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
        """What a disk took a part of is written to its end."""
        guard, session = opened("spool")
        write = os.write
        with unwritable(guard), monkeypatch.context() as slow:
            slow.setattr(os, "write", lambda to, data: write(to, data[:7]))
            guard.admit(ALLOWED, session=session)
            spool = guard._admissions._failure._spool
            assert spool is not None
            assert spool._file is not None
            assert spool._file[1].read_text().endswith("\n")
        guard.close()

    def test_device_that_is_full(self) -> None:
        """`/dev/full` takes nothing."""
        descriptor = os.open("/dev/full", os.O_WRONLY)
        with pytest.raises(OSError, match="No space"):
            logging_failure._write_whole(descriptor, b"x")
        os.close(descriptor)

    def test_line_that_cannot_be_read_is_kept(self, opened: Callable[..., Any], home: Path) -> None:
        """Whatever is on no record stays for people to look at."""
        (home / "spool").mkdir()
        (home / "spool" / "1-a.jsonl").write_text("x\n")
        guard, session = opened("spool")
        guard.admit(ALLOWED, session=session)
        assert [path.name for path in (home / "spool").glob("*")] == ["1-a.unreadable"]

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

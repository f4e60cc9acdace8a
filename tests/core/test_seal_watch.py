"""A dead sealer is noticed: an alarm on record, or a refusal where an operator wants that."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tabard import Authority, Guard, GuardUnavailable, Session, ToolCall, seal_watch
from tabard.sealing import Seal

ALLOWED = ToolCall("claims_db.query", {"table": "claims", "claimant_id": "C-1"})


@pytest.fixture
def opened(
    home: Path, authority: Authority, policy_text: str, clock: Any
) -> Callable[..., tuple[Guard, Session, list[float]]]:
    """A guard of which nobody seals the log, and its stopwatch."""

    def open_guard(**asked: Any) -> tuple[Guard, Session, list[float]]:
        guard = Guard.open(home, policy=policy_text, clock=clock, **asked)
        guard._background = None
        guard._store.on_commit = None  # type: ignore[attr-defined]
        seconds = [1000.0]
        guard._admissions._watch._monotonic = lambda: seconds[0]
        token = authority.issue("claims-agent")
        return guard, guard.login(token, scope={"claimant_id": "C-1"}), seconds

    return open_guard


def alarms(guard: Guard) -> list[int]:
    return [r["unsealed"] for r in guard.records() if r["type"] == "audit.failure"]


def test_alarm(opened: Callable[..., Any], caplog: Any) -> None:
    """Once a minute, in the log and to the operator; calls go on."""
    guard, session, seconds = opened()
    for _ in range(5):
        guard.admit(ALLOWED, session=session)
        seconds[0] += 31
    assert len(alarms(guard)) == 2
    assert "nobody seals the log" in caplog.text


def test_strict(opened: Callable[..., Any], home: Path) -> None:
    """Calls are refused until somebody seals again."""
    guard, session, seconds = opened(strict_sealing=True)
    guard.admit(ALLOWED, session=session)
    seconds[0] += 61
    with pytest.raises(GuardUnavailable) as caught:
        guard.admit(ALLOWED, session=session)
    assert caught.value.code == "audit"
    Seal.open(home).seal()
    seconds[0] += 2
    guard.admit(ALLOWED, session=session)
    assert alarms(guard) == []


def test_too_many(opened: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    guard, session, seconds = opened(strict_sealing=True)
    monkeypatch.setattr(seal_watch, "MOST_WAITING", guard._store.extent()[1] + 3)
    for _ in range(3):
        guard.admit(ALLOWED, session=session)
        seconds[0] += 2
    guard.admit(ALLOWED, session=session)
    seconds[0] += 2
    with pytest.raises(GuardUnavailable):
        guard.admit(ALLOWED, session=session)


def test_sealed_in_time(opened: Callable[..., Any], home: Path) -> None:
    """A log that is sealed now and then is never overdue, and neither is an idle one."""
    guard, session, seconds = opened(strict_sealing=True)
    seal = Seal.open(home)
    for _ in range(4):
        guard.admit(ALLOWED, session=session)
        seal.seal()
        seconds[0] += 50
    seconds[0] += 5000
    guard.admit(ALLOWED, session=session)
    assert alarms(guard) == []

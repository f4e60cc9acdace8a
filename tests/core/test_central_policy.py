"""The central policy: applied once, in force in every process at its next call."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from tabard import AccessDenied, Authority, ConfigurationError, Guard, GuardUnavailable, ToolCall
from tabard.central import Policies

LENIENT = "version: 1\nagents: {claims-agent: {grants: [{id: a, tools: [t]}]}}\n"
STRICT = "version: 1\nagents: {claims-agent: {grants: [{id: b, tools: [u]}]}}\n"
CALL = ToolCall("t")


@pytest.fixture
def policies(home: Path, authority: Authority, clock: Any) -> Policies:
    return Policies.open(home, clock=clock)


def test_next_call(home: Path, authority: Authority, policies: Policies, clock: Any) -> None:
    """A policy that was applied decides the next call of a guard that is already open."""
    policies.apply(LENIENT, author="mia")
    with Guard.open(home, clock=clock) as guard:
        session = guard.login(authority.issue("claims-agent"))
        guard.admit(CALL, session=session).settle()
        policies.apply(STRICT, author="mia")
        with pytest.raises(AccessDenied, match="no_grant"):
            guard.admit(CALL, session=session)
        policies.rollback(author="noa")
        guard.admit(CALL, session=session).settle()
        digests = [r["decision"]["policy"] for r in guard.records() if "decision" in r]
        assert digests[0] == digests[2] != digests[1]


def test_changed_while_a_call_is_judged(
    home: Path, authority: Authority, policies: Policies, clock: Any, monkeypatch: Any
) -> None:
    """A policy applied between judgement and admission decides: the call is judged again."""
    policies.apply(LENIENT)
    with Guard.open(home, clock=clock) as guard:
        session = guard.login(authority.issue("claims-agent"))
        judge = guard._judge.judge
        applied: list[Any] = []

        def slow_judge(*arguments: Any) -> Any:
            judged = judge(*arguments)
            if not applied:
                applied.append(policies.apply(STRICT))
            return judged

        monkeypatch.setattr(guard._judge, "judge", slow_judge)
        with pytest.raises(AccessDenied, match="no_grant"):
            guard.admit(CALL, session=session)


def test_changed_by_another_thread_while_asked(
    home: Path, authority: Authority, policies: Policies, clock: Any
) -> None:
    """A policy is compared with its own number, and not with that of one loaded in between."""
    policies.apply(LENIENT)
    with Guard.open(home, clock=clock) as guard:
        source: Any = guard._policies
        earlier = source.current()

        class Slow:
            """A transaction in which another thread loads the new policy before the answer."""

            def policy_number(self) -> int:
                policies.apply(STRICT)
                source.current()
                return int(guard._store.policy_number())

        assert source.is_in_force(earlier, Slow()) is False


def test_history(policies: Policies, clock: Any) -> None:
    """Who applied what and when; a rollback is a change of its own, and on record."""
    first = policies.apply(LENIENT, author="mia", reason="start")
    clock.now += 60
    second = policies.apply(STRICT, author="noa")
    policies.rollback(author="mia", reason="too strict")
    assert [(c.number, c.digest, c.applied_by) for c in policies.history()] == [
        (1, first.digest, "mia"), (2, second.digest, "noa"), (3, first.digest, "mia"),
    ]  # fmt: skip
    records = [r.parse() for r in policies._store.stored_records()]
    changes = [r["policy"] for r in records if r["type"].startswith("policy.")]
    assert [(c["digest"], c["author"], c["reason"]) for c in changes] == [
        (first.digest, "mia", "start"), (second.digest, "noa", None),
        (first.digest, "mia", "too strict"),
    ]  # fmt: skip


def test_same_policy_again(policies: Policies) -> None:
    """Applying what is in force changes nothing."""
    policies.apply(LENIENT)
    policies.apply("# a comment\n" + LENIENT)
    assert len(policies.history()) == 1


def test_rollback_to_one(policies: Policies) -> None:
    """A rollback to any earlier policy, by the beginning of its digest."""
    first = policies.apply(LENIENT)
    policies.apply(STRICT)
    policies.apply(STRICT.replace("b", "c"))
    assert policies.rollback(first.digest[:12]).digest == first.digest


@pytest.mark.parametrize("to", ["", "zz", "0"])
def test_rollback_to_nothing(policies: Policies, to: str) -> None:
    """A rollback to what is not there, or not one policy, says so."""
    policies.apply(LENIENT)
    policies.apply(STRICT)
    with pytest.raises(ConfigurationError, match="policy"):
        policies.rollback(to)


def test_rollback_of_nothing(policies: Policies) -> None:
    """There is nothing before the first policy."""
    policies.apply(LENIENT)
    with pytest.raises(ConfigurationError, match="no earlier policy"):
        policies.rollback()


def test_none_applied(home: Path, authority: Authority) -> None:
    """Without any policy no guard opens: nothing would be allowed."""
    with pytest.raises(ConfigurationError, match="policy apply"):
        Guard.open(home)


def test_broken_policy_is_not_applied(policies: Policies) -> None:
    """A policy with a problem is refused whole, and the old one stays."""
    policies.apply(LENIENT)
    with pytest.raises(ConfigurationError, match="grnts"):
        policies.apply("version: 1\nagents: {a: {grnts: []}}\n")
    assert len(policies.history()) == 1


@pytest.mark.parametrize(
    "tampering",
    [
        f"UPDATE policy SET text = '{LENIENT.replace('t', 'x')}'",
        f"UPDATE policy SET text = '{LENIENT.replace('[t]', '[v]')}'",
        "UPDATE policy SET text = 'nonsense: ['",
    ],
)
def test_changed_in_the_database(
    home: Path, authority: Authority, policies: Policies, clock: Any, tampering: str
) -> None:
    """A text that does not fit its digest decides nothing: every call is refused."""
    policies.apply(LENIENT)
    with Guard.open(home, clock=clock) as guard:
        session = guard.login(authority.issue("claims-agent"))
        policies.apply(STRICT)
        with sqlite3.connect(home / "state.db") as db:
            db.execute(tampering)
        with pytest.raises(GuardUnavailable, match="policy"):
            guard.admit(ToolCall("u"), session=session)
        assert guard.check(ToolCall("u"), session=session).code == "policy"


def test_diff(policies: Policies) -> None:
    """What would change, by path."""
    policies.apply(LENIENT)
    assert policies.diff(STRICT) == [
        "agents.claims-agent.grants.0.id: a -> b",
        "agents.claims-agent.grants.0.tools.0: t -> u",
    ]
    assert policies.diff(LENIENT) == []


def test_given_policy_is_kept(home: Path, guard: Guard, authority: Authority) -> None:
    """A policy a guard was opened with is kept by its digest once it has decided."""
    session = guard.login(authority.issue("claims-agent"))
    with pytest.raises(AccessDenied):
        guard.admit(CALL, session=session)
    assert guard._store.policy_text(guard.policy.digest) == guard.policy.text

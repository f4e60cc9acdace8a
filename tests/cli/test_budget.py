"""`tabard budget`: what is spent and held, per agent and period; and starting anew, on record."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from tabard import Authority, BudgetExceeded, Guard, ModelCall
from tabard.budget.money import NANO
from tabard.central import Policies

POLICY = """\
version: 1
prices: {m/a: {input: "1", output: "1"}}
agents:
  claims-agent:
    models: {allow: ["m/*"]}
    budgets: [{per: session, limit: "10"}, {per: day, limit: "25"}, {per: month, limit: "0"}]
  analytics-agent:
    models: {allow: ["m/*"]}
    budgets: [{per: total, limit: "8", of: team}]
"""
CALL = ModelCall("m/a", input_tokens=3_000_000, max_output_tokens=3_000_000)


@pytest.fixture
def policy_text() -> str:
    return POLICY.replace(', {per: month, limit: "0"}', "")


@pytest.fixture
def clock() -> Any:
    """The command line goes by the real clock, and so has to its home."""
    return time.time


@pytest.fixture
def spent(home: Path, guard: Guard, authority: Authority, policy_text: str) -> Path:
    """A home in which one agent has spent 2 and holds 6, and the other holds 6."""
    Policies.open(home).apply(policy_text)
    session = guard.login(authority.issue("claims-agent"))
    used = {"input_tokens": 0, "output_tokens": 2_000_000}
    guard.admit(CALL, session=session).settle(usage=used)
    guard.admit(CALL, session=session)
    guard.admit(CALL, session=guard.login(authority.issue("analytics-agent")))
    return home


def test_show(tabard: Any, spent: Path) -> None:
    """Spent, held and limit of each budget, a session's own window among them."""
    rows = tabard("budget", "show", "--json").rows
    assert [(r["agent"].rpartition("/")[2], r["per"], r["of"], r["spent"] // NANO,
             r["held"] // NANO, r["limit"] // NANO) for r in rows] == [
        ("analytics-agent", "total", "team", 0, 6, 8),
        ("claims-agent", "session", "agent", 2, 6, 10),
        ("claims-agent", "day", "agent", 2, 6, 25),
    ]  # fmt: skip
    shown = tabard("budget", "show").out
    for part in ("claims-agent (prod)", "in EUR", " 2.00", " 25.00", "of the team", "━"):
        assert part in shown
    one = tabard("budget", "show", "--agent", "claims-agent", "--json").rows
    assert {row["agent"] for row in one} == {rows[1]["agent"]}


def test_show_under_another_policy(tabard: Any, spent: Path, tmp_path: Path) -> None:
    """`--policy` shows how things stand against the limits of a file, a limit of nothing too."""
    file = tmp_path / "policy.yaml"
    file.write_text(POLICY.replace('"8"', '"6"'))
    rows = tabard("budget", "show", "--policy", file, "--json").rows
    assert [(r["per"], r["limit"] // NANO) for r in rows] == [
        ("total", 6), ("session", 10), ("day", 25), ("month", 0),
    ]  # fmt: skip
    assert tabard("budget", "show", "--policy", file).code == 0


def test_no_session_yet(tabard: Any, home: Path, authority: Authority) -> None:
    """A session budget nobody has drawn on is shown, without a window."""
    Policies.open(home).apply(POLICY)
    rows = tabard("budget", "show", "--agent", "claims-agent", "--json").rows
    assert [(row["per"], row["key"] is None) for row in rows] == [
        ("session", True), ("day", False), ("month", False),
    ]  # fmt: skip
    assert "session, none yet" in tabard("budget", "show").out


def test_many_sessions(tabard: Any, spent: Path, guard: Guard, authority: Authority) -> None:
    """A table shows the fullest sessions and says how many more there are."""
    small = ModelCall("m/a", input_tokens=1, max_output_tokens=1)
    for _ in range(6):
        guard.admit(small, session=guard.login(authority.issue("claims-agent"))).settle()
    shown = tabard("budget", "show").out
    assert "and 2 more sessions" in shown
    rows = tabard("budget", "show", "--json").rows
    sessions = [row["spent"] + row["held"] for row in rows if row["per"] == "session"]
    assert len(sessions) == 7
    assert sessions == sorted(sessions, reverse=True)


def test_reset(tabard: Any, spent: Path, guard: Guard, authority: Authority) -> None:
    """What was spent is forgotten, what is held stays, and who did it and why is on record."""
    [key] = [r["key"] for r in tabard("budget", "show", "--json").rows if r["per"] == "day"]
    done = tabard("budget", "reset", key, "--reason", "refund", "--author", "mia")
    assert (done.code, "begins again" in done.out) == (0, True)
    [row] = [r for r in tabard("budget", "show", "--json").rows if r["per"] == "day"]
    assert (row["spent"], row["held"] // NANO) == (0, 6)
    [record] = [r for r in guard.records() if r["type"] == "budget.reset"]
    assert record["budget"] == {"key": key, "spent": 2 * NANO, "held": 6 * NANO}
    assert (record["reason"], record["author"]) == ("refund", "mia")
    guard.verify()


def test_reset_lets_calls_through(
    tabard: Any, spent: Path, guard: Guard, authority: Authority
) -> None:
    """A budget that was full has room at the next call of a guard that is open."""
    session = guard.login(authority.issue("claims-agent"))
    guard.admit(CALL, session=session).settle()
    with pytest.raises(BudgetExceeded):
        guard.admit(CALL, session=session)
    key = f"EUR agent {session.spiffe_id}|session:{session.id}"
    assert tabard("budget", "reset", key, "--reason", "more").code == 0
    guard.admit(CALL, session=session).settle()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("reset", "agent x|day:2020-01-01:UTC", "--reason", "r"), "nothing was taken"),
        (("reset", "k", "--reason", " "), "a reason is required"),
        (("reset", "k"), "Missing option"),
        (("show", "--agent", "ghost"), "no agent 'ghost' is registered"),
        (("show", "--policy", "missing.yaml"), "no readable policy file"),
    ],
)
def test_misuse(
    tabard: Any, spent: Path, guard: Guard, arguments: tuple[str, ...], message: str
) -> None:
    """One clear sentence each, exit 2, and nothing on record."""
    refused = tabard("budget", *arguments)
    assert (refused.code, message in refused.err) == (2, True), refused.err
    assert "budget.reset" not in [record["type"] for record in guard.records()]


def test_no_policy(tabard: Any, home: Path, authority: Authority) -> None:
    """Without a policy in force and without --policy there are no limits to show."""
    refused = tabard("budget", "show")
    assert (refused.code, "tabard policy apply" in refused.err) == (2, True)

"""Budgets: reserved before, settled after, in one place, and never overspent."""

from __future__ import annotations

import random
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from tabard import AccessDenied, Authority, BudgetExceeded, Guard, ModelCall, Session, ToolCall
from tabard.budget import Cost, TokenUsage
from tabard.budget.ledger import HOLD_LIFETIME
from tabard.budget.money import NANO

POLICY = """\
version: 1
currency: EUR
fx: {USD: {rate: "0.5", as_of: 2026-11-20}}
prices: {m/a: {input: "1", output: "1"}}
tools: {paid: {cost: "4"}}
agents:
  claims-agent:
    models: {allow: ["m/*"]}
    budgets: [{per: session, limit: "10"}, {per: day, limit: "25", tz: Europe/Brussels}]
    rates: [{tools: ["fast*"], limit: 3, per: 1m}]
    delegates_to: [analytics-agent]
    grants:
      - {id: paid, tools: [paid, fast, faster, free]}
  analytics-agent:
    models: {allow: ["m/*"]}
    budgets: [{per: session, limit: "10"}]
    grants: [{id: paid, tools: [paid]}]
"""
MILLION = 1_000_000


@pytest.fixture
def policy_text() -> str:
    return POLICY


@pytest.fixture
def login(guard: Guard, authority: Authority) -> Callable[..., Session]:
    def login(name: str = "claims-agent") -> Session:
        return guard.login(authority.source(name))

    return login


def call(euros: int) -> ModelCall:
    """A model call that can cost so many euros, half of it to read and half to write."""
    half = euros * MILLION // 2
    return ModelCall("m/a", input_tokens=half, max_output_tokens=half)


def usage(euros: float) -> dict[str, int]:
    return {"input_tokens": 0, "output_tokens": int(euros * MILLION)}


def balances(guard: Guard) -> dict[str, tuple[float, float]]:
    """What is spent and held, in euros, by the end of each window's key."""
    return {
        b.key.rpartition("|")[2].partition(":")[0]: (b.spent / NANO, b.held / NANO)
        for b in guard._store.balances()
    }


def refusal(guard: Guard, action: Any, session: Session) -> AccessDenied:
    with pytest.raises(AccessDenied) as caught:
        guard.admit(action, session=session)
    return caught.value


class TestModelCalls:
    def test_held_then_settled(self, guard: Guard, login: Callable[..., Session]) -> None:
        """The most a call can cost is set aside before it runs, what it did cost is charged."""
        session = login()
        permit = guard.admit(call(6), session=session)
        assert balances(guard) == {"session": (0, 6), "day": (0, 6)}
        permit.settle(usage=usage(2.5))
        assert balances(guard) == {"session": (2.5, 0), "day": (2.5, 0)}

    def test_stops_at_the_limit(self, guard: Guard, login: Callable[..., Session]) -> None:
        """Exactly the limit can be spent, and not one nano-unit more."""
        session = login()
        guard.admit(call(6), session=session).settle(usage=usage(6))
        guard.admit(call(4), session=session).settle(usage=usage(4))
        refused = refusal(guard, ModelCall("m/a", input_tokens=1, max_output_tokens=0), session)
        assert isinstance(refused, BudgetExceeded)
        assert (refused.code, refused.rule) == ("budget", "claims-agent/budgets[0]")
        assert "session budget of EUR 10.00" in refused.reason
        guard.admit(ModelCall("m/a", input_tokens=0, max_output_tokens=0), session=session)

    def test_what_is_held_counts(self, guard: Guard, login: Callable[..., Session]) -> None:
        """Calls in progress count: ten checks of 6 against 10 let one through."""
        session = login()
        permits = []
        for _ in range(10):
            try:
                permits.append(guard.admit(call(6), session=session))
            except BudgetExceeded:
                continue
        assert len(permits) == 1

    def test_refused_call_holds_nothing(self, guard: Guard, login: Callable[..., Session]) -> None:
        """All windows or none: what the day has no room for is not held in the session either."""
        for _ in range(2):
            guard.admit(call(10), session=login()).settle(usage=usage(10))
        before = guard._store.balances()
        assert refusal(guard, call(6), login()).rule == "claims-agent/budgets[1]"
        assert [b for b in guard._store.balances() if b.held] == []
        assert guard._store.balances() == before

    def test_next_day(self, guard: Guard, login: Callable[..., Session], clock: Any) -> None:
        """A day's budget is there again when the day begins in its own time zone."""
        for _ in range(2):
            guard.admit(call(10), session=login()).settle(usage=usage(10))
        refusal(guard, call(6), login())
        clock.now += 15 * 3600 - 1  # 23:59:59 in Brussels
        refusal(guard, call(6), login())
        clock.now += 1
        guard.admit(call(6), session=login())

    def test_one_agent_does_not_starve_another(
        self, guard: Guard, login: Callable[..., Session]
    ) -> None:
        """Each agent has its own budgets."""
        session, other = login(), login("analytics-agent")
        guard.admit(call(10), session=session).settle(usage=usage(10))
        refusal(guard, call(2), session)
        guard.admit(call(10), session=other).settle(usage=usage(1))

    def test_settled_once(self, guard: Guard, login: Callable[..., Session]) -> None:
        """The second settlement of a call changes nothing."""
        permit = guard.admit(call(6), session=login())
        assert permit.settle(usage=usage(1))
        assert not permit.settle(usage=usage(5))
        assert not permit.fail("late")
        with guard._store.transaction(guard._clock()) as transaction:
            assert not transaction.settle(permit.call, 5 * NANO)
        assert balances(guard)["session"] == (1, 0)

    @pytest.mark.parametrize("end", ["settle", "fail"])
    def test_unknown_usage(self, guard: Guard, login: Callable[..., Session], end: str) -> None:
        """Where nobody tells what was used, the estimate is charged, and marked as one."""
        permit = guard.admit(call(6), session=login())
        permit.settle() if end == "settle" else permit.fail(ConnectionError())
        assert balances(guard)["session"] == (6, 0)
        [*_, last] = guard.records()
        assert last["cost"] == {"amount": 6 * NANO, "currency": "EUR", "estimated": True}

    def test_failure_that_cost_nothing(self, guard: Guard, login: Callable[..., Session]) -> None:
        """A call the provider never began is charged at what it took: nothing."""
        guard.admit(call(6), session=login()).fail("http_401", usage=usage(0))
        assert balances(guard)["session"] == (0, 0)

    def test_dearer_than_estimated(self, guard: Guard, login: Callable[..., Session]) -> None:
        """More than was estimated is charged all the same, and the next call is refused."""
        session = login()
        guard.admit(call(8), session=session).settle(usage=usage(12))
        assert balances(guard)["session"] == (12, 0)
        refusal(guard, call(2), session)

    @pytest.mark.parametrize(
        ("action", "part"),
        [
            (ModelCall("m/a", input_tokens=5), "no limit to its output"),
            (ModelCall("m/a", max_output_tokens=5), "how much the call reads"),
            (ModelCall("m/b", input_tokens=5, max_output_tokens=5), "no price is known"),
            (ModelCall("m/a", input_tokens=10**30, max_output_tokens=5), "no price"),
        ],
    )
    def test_unknown_price(
        self, guard: Guard, login: Callable[..., Session], action: ModelCall, part: str
    ) -> None:
        """A call whose cost nobody can bound is refused, and on record."""
        refused = refusal(guard, action, login())
        assert (refused.code, type(refused)) == ("unknown_price", BudgetExceeded)
        assert part in refused.reason
        [*_, last] = guard.records()
        assert last["decision"]["code"] == "unknown_price"

    def test_broken_pricer(self, home: Path, authority: Authority, clock: Any) -> None:
        """A price list that fails is a refusal before the call, and the estimate after it."""

        class Pricer:
            broken = True

            def cost(self, model: str, usage: TokenUsage, now: float) -> Cost | None:
                if self.broken:
                    raise NotImplementedError
                return Cost(Fraction(1), "USD", "mine")

        pricer = Pricer()
        with Guard.open(home, policy=POLICY, clock=clock, pricer=pricer) as guard:
            session = guard.login(authority.issue("claims-agent"))
            action = ModelCall("m/b", input_tokens=1, max_output_tokens=1)
            assert refusal(guard, action, session).code == "internal"
            pricer.broken = False
            permit = guard.admit(action, session=session)
            pricer.broken = True
            permit.settle(usage=usage(1))
            assert balances(guard)["session"] == (0.5, 0)

    def test_on_record(self, guard: Guard, login: Callable[..., Session]) -> None:
        """The decision says what is held and on what price; the outcome what it was."""
        guard.admit(call(6), session=login()).settle(usage=usage(2))
        *_, decided, ended = guard.records()
        assert decided["charge"]["held"] == 6 * NANO
        assert decided["charge"]["basis"] == "policy"
        assert len(decided["charge"]["windows"]) == 2
        assert ended["cost"] == {"amount": 2 * NANO, "currency": "EUR", "estimated": False}

    def test_revoked_holds_nothing(
        self, guard: Guard, authority: Authority, login: Callable[..., Session]
    ) -> None:
        """A refused agent's money is not touched."""
        session = login()
        authority.revoke("claims-agent", reason="x")
        assert refusal(guard, call(2), session).code == "token_revoked"
        assert guard._store.balances() == []


class TestTools:
    def test_declared_cost(self, guard: Guard, login: Callable[..., Session]) -> None:
        """A tool with a price is paid for like a model; one without is free."""
        session = login()
        for _ in range(2):
            guard.admit(ToolCall("paid"), session=session).settle()
        guard.admit(ToolCall("free"), session=session).settle()
        assert balances(guard)["session"] == (8, 0)
        assert refusal(guard, ToolCall("paid"), session).code == "budget"
        guard.admit(ToolCall("free"), session=session)

    def test_delegation_opens_no_fresh_budget(
        self, guard: Guard, login: Callable[..., Session]
    ) -> None:
        """Whoever works for another pays itself, and once per run however often it is asked."""
        lead = login()
        for _ in range(2):
            child = lead.delegate("analytics-agent", tools=["paid"])
            guard.admit(ToolCall("paid"), session=child).settle()
        child = lead.delegate("analytics-agent", tools=["paid"])
        assert refusal(guard, ToolCall("paid"), child).rule == "analytics-agent/budgets[0]"
        assert {b.key.partition("|")[0].rpartition("/")[2] for b in guard._store.balances()} == {
            "analytics-agent"
        }


class TestShadow:
    @pytest.fixture
    def policy_text(self) -> str:
        return POLICY.replace("version: 1", "version: 1\nmode: shadow")

    def test_recorded_and_never_blocking(self, guard: Guard, login: Callable[..., Session]) -> None:
        """Shadow mode counts what is spent and says what it would have refused."""
        session = login()
        for _ in range(3):
            guard.admit(call(6), session=session).settle(usage=usage(6))
        guard.admit(ModelCall("m/b"), session=session).settle()
        for _ in range(4):
            guard.admit(ToolCall("fast"), session=session).settle()
        codes = [r["decision"]["code"] for r in guard.records() if r["type"].endswith(".decision")]
        assert codes == ["ok", "budget", "budget", "unknown_price", "ok", "ok", "ok", "rate"]
        assert balances(guard)["session"] == (18, 0)


class TestRates:
    def test_limit(self, guard: Guard, login: Callable[..., Session], clock: Any) -> None:
        """In no minute are there more calls than the limit, over all tools of the rule."""
        session = login()
        for tool, wait in (("fast", 0), ("faster", 20), ("fast", 20)):
            clock.now += wait
            guard.admit(ToolCall(tool), session=session).settle()
        refused = refusal(guard, ToolCall("fast"), session)
        assert (refused.code, refused.rule) == ("rate", "claims-agent/rates[0]")
        assert guard.check(ToolCall("fast"), session=session).code == "rate"
        guard.admit(ToolCall("free"), session=session)
        clock.now += 19.9
        refusal(guard, ToolCall("fast"), session)
        clock.now += 0.2
        guard.admit(ToolCall("fast"), session=session)
        refusal(guard, ToolCall("fast"), session)

    def test_refused_calls_do_not_count(
        self, guard: Guard, login: Callable[..., Session], clock: Any
    ) -> None:
        """Trying again and again does not push the end of the wait away."""
        session = login()
        for _ in range(3):
            guard.admit(ToolCall("fast"), session=session)
        for _ in range(59):
            clock.now += 1
            refusal(guard, ToolCall("fast"), session)
        clock.now += 1.1
        guard.admit(ToolCall("fast"), session=session)

    def test_over_all_sessions(self, guard: Guard, login: Callable[..., Session]) -> None:
        """The limit is the agent's, not the session's."""
        for _ in range(3):
            guard.admit(ToolCall("fast"), session=login())
        assert refusal(guard, ToolCall("fast"), login()).code == "rate"

    def test_only_the_latest_are_kept(
        self, guard: Guard, login: Callable[..., Session], clock: Any
    ) -> None:
        """The count takes no more room than the limit is high."""
        session = login()
        for _ in range(20):
            clock.now += 30
            guard.admit(ToolCall("fast"), session=session)
        assert guard._store._db is not None  # type: ignore[attr-defined]
        rows = guard._store._db.execute("SELECT count(*) FROM rate_call")  # type: ignore[attr-defined]
        assert rows.fetchone()[0] == 3


class TestExpiry:
    def test_charged_in_full(self, guard: Guard, login: Callable[..., Session], clock: Any) -> None:
        """A call nothing was heard of is charged in full; a late word puts that right, once."""
        session = login()
        lost = guard.admit(call(4), session=session)
        clock.now += HOLD_LIFETIME + 1
        guard.admit(call(2), session=session).settle(usage=usage(1))
        assert balances(guard)["session"] == (5, 0)
        [expired] = [r for r in guard.records() if r["type"] == "budget.expired"]
        assert (expired["call"], expired["charged"]["amount"]) == (lost.call, 4 * NANO)
        lost.settle(usage=usage(1.5))
        assert balances(guard)["session"] == (2.5, 0)
        lost.settle(usage=usage(1.5))
        assert balances(guard)["session"] == (2.5, 0)

    def test_check_changes_nothing(self, guard: Guard, authority: Authority, clock: Any) -> None:
        """A dry run sees the budget, and neither holds nor sweeps nor records."""
        session = guard.login(authority.issue("claims-agent", lifetime=3600))
        guard.admit(call(8), session=session)
        clock.now += HOLD_LIFETIME + 1
        before = (guard._store.balances(), len(list(guard.records())))
        assert guard.check(call(4), session=session).code == "budget"
        assert guard.check(call(2), session=session).code == "ok"
        assert (guard._store.balances(), len(list(guard.records()))) == before
        assert guard.verify()

    def test_outcome_that_could_not_be_written(
        self, guard: Guard, login: Callable[..., Session], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A settlement the store could not take is made before the next admission."""
        session = login()
        permit = guard.admit(call(6), session=session)
        with monkeypatch.context() as broken:
            broken.setattr(guard._store, "transaction", lambda now: 1 / 0)
            permit.settle(usage=usage(1))
        assert balances(guard)["session"] == (0, 6)
        guard.admit(call(8), session=session)
        assert balances(guard)["session"] == (1, 8)


WORKER = textwrap.dedent(
    """
    import random, sys, threading
    from tabard import AccessDenied, Guard, ModelCall
    home, token, policy = sys.argv[1:4]
    guard = Guard.open(home, policy=policy)
    session = guard.login(token)
    def work():
        while True:
            try:
                permit = guard.admit(
                    ModelCall("m/a", input_tokens=0, max_output_tokens=random.randint(1, 3000)),
                    session=session,
                )
            except AccessDenied as refusal:
                if refusal.code == "budget":
                    return
                raise
            most = permit.action.max_output_tokens
            permit.settle(usage={"input_tokens": 0, "output_tokens": random.randint(0, most)})
    print("ready", flush=True)
    threads = [threading.Thread(target=work) for _ in range(8)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    """
)


def test_many_processes_two_of_them_killed(home: Path, authority: Authority) -> None:
    """4 processes of 8 threads on one budget, two killed on the way: not a nano-unit too much.

    Every sum is that of its holds, and what the dead had held is charged in the end.
    """
    text = POLICY.replace('limit: "25"', 'limit: "1"').replace('{per: session, limit: "10"}, ', "")
    policy = home.parent / "policy.yaml"
    policy.write_text(text)
    with Authority.open(home) as real:
        token = real.issue("claims-agent", lifetime=3600)
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, str(home), token, str(policy)],
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    try:
        for worker in workers:
            assert worker.stdout is not None
            assert worker.stdout.readline() == "ready\n"
        most = 0.0
        for victim in workers[:2]:
            time.sleep(random.uniform(0.2, 0.8))
            victim.send_signal(signal.SIGKILL)
            most = max(most, _taken(home)[0])
        for worker in workers[2:]:
            assert worker.wait(120) == 0
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
            if worker.stdout is not None:
                worker.stdout.close()
    assert most <= NANO
    taken, spent, held = _taken(home)
    assert taken <= NANO
    with sqlite3.connect(home / "state.db") as db:
        rows = db.execute("SELECT state, amount FROM hold").fetchall()
        [on_record] = db.execute(
            "SELECT coalesce(sum(body ->> '$.cost.amount'), 0) FROM record "
            "WHERE body ->> '$.type' = 'model.outcome'"
        ).fetchone()
    assert held == sum(amount for state, amount in rows if state == "open")
    assert spent == on_record
    later = time.time() + HOLD_LIFETIME + 2
    with Guard.open(home, policy=str(policy), clock=lambda: later) as guard:
        session = guard.login(Authority.open(home, clock=lambda: later).issue("claims-agent"))
        with pytest.raises(BudgetExceeded):
            guard.admit(
                ModelCall("m/a", input_tokens=0, max_output_tokens=MILLION), session=session
            )
        [*_] = [r for r in guard.records() if r["type"] == "budget.expired"]
        assert _taken(home) == (taken, taken, 0)
        assert guard.verify()


def _taken(home: Path) -> tuple[int, int, int]:
    """Spent and held together, spent, and held, in the fullest window."""
    with sqlite3.connect(home / "state.db") as db:
        rows = db.execute("SELECT spent + held, spent, held FROM budget").fetchall()
    return max(rows, default=(0, 0, 0))


class TestReset:
    def test_late_word_after_a_reset(
        self, guard: Guard, login: Callable[..., Session], clock: Any
    ) -> None:
        """A late word about what was charged before a reset takes nothing off later spending."""
        session = login()
        lost = guard.admit(call(6), session=session)
        clock.now += HOLD_LIFETIME + 1
        guard.admit(call(2), session=session).settle(usage=usage(0))
        for balance in guard._store.balances():
            with guard._store.transaction(clock.now) as transaction:
                transaction.reset_budget(balance.key)
        guard.admit(call(8), session=session).settle(usage=usage(8))
        lost.settle(usage=usage(0))
        assert balances(guard)["session"] == (8, 0)
        assert refusal(guard, call(4), session).code == "budget"


class TestNonsense:
    @pytest.mark.parametrize("count", [10**13, 10**5000, 2**63], ids=["many", "more", "most"])
    def test_usage_beyond_belief(
        self, guard: Guard, login: Callable[..., Session], count: int
    ) -> None:
        """A report of more tokens than there are is none; the estimate counts, and work goes on."""
        session = login()
        for _ in range(2):
            permit = guard.admit(call(4), session=session)
            assert permit.settle(usage={"input_tokens": 0, "output_tokens": count})
        assert balances(guard)["session"] == (8, 0)
        guard.admit(call(2), session=session).settle(usage=usage(0))
        assert guard.verify()

    def test_call_dearer_than_any(self, guard: Guard, login: Callable[..., Session]) -> None:
        """What would cost more than a million has no price."""
        action = ModelCall("m/a", input_tokens=10**12, max_output_tokens=10**12)
        assert refusal(guard, action, login()).code == "unknown_price"


DEAR_WRITING = """\
version: 1
prices: {"p/m": {input: "1", output: "1", cache_write: "100"}}
agents:
  claims-agent:
    models: {allow: ["p/m"]}
    budgets: [{per: total, limit: "1.00"}]
"""
LIST_PRICES = """\
version: 1
currency: USD
agents:
  claims-agent:
    models: {allow: ["anthropic/**"]}
    budgets: [{per: total, limit: "0.61"}]
"""


class TestDearCacheWrites:
    @pytest.fixture(params=[(DEAR_WRITING, "p/m"), (LIST_PRICES, "anthropic/claude-sonnet-4-5")])
    def case(self, request: pytest.FixtureRequest) -> tuple[str, str]:
        return request.param  # type: ignore[no-any-return]

    @pytest.fixture
    def policy_text(self, case: tuple[str, str]) -> str:
        return case[0]

    def test_held_at_the_dearest_input(
        self, guard: Guard, login: Callable[..., Session], case: tuple[str, str]
    ) -> None:
        """Nothing that is written to a cache costs more than was held for the call."""
        session = login()
        with pytest.raises(BudgetExceeded, match="budget"):
            guard.admit(
                ModelCall(case[1], input_tokens=200_000, max_output_tokens=1), session=session
            )
        permit = guard.admit(
            ModelCall(case[1], input_tokens=5_000, max_output_tokens=1), session=session
        )
        held = guard._store.balances()[0].held
        used = {"input_tokens": 5_000, "output_tokens": 1, "cache_write_tokens": 4_999}
        permit.settle(usage=used)
        assert 0 < guard._store.balances()[0].spent <= held


class TestCacheBesideTheInput:
    @pytest.fixture
    def policy_text(self) -> str:
        return DEAR_WRITING

    def test_charged_at_the_estimate(self, guard: Guard, login: Callable[..., Session]) -> None:
        """A report that counts cached tokens beside the input is no usage, and never a bargain."""
        permit = guard.admit(
            ModelCall("p/m", input_tokens=5_000, max_output_tokens=1), session=login()
        )
        held = guard._store.balances()[0].held
        used = {"input_tokens": 5, "output_tokens": 1, "cache_write_tokens": 4_000}
        permit.settle(usage=used)
        *_, last = guard.records()
        assert last["cost"]["estimated"] is True
        assert guard._store.balances()[0].spent == held

"""What money costs: an admission that holds and settles a budget, and the ledger alone."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import count
from pathlib import Path

from tabard import Authority, Guard, ModelCall, Session, ToolCall
from tabard.budget import ListPricer, TokenUsage
from tabard.budget.ledger import Hold, Window
from tabard.store import SqliteStore
from timing import Row, measure

POLICY = """\
version: 1
tools: {{paid: {{cost: "0.000001"}}}}
prices: {{m/a: {{input: "0.001", output: "0.001"}}}}
agents:
  claims-agent:
    models: {{allow: ["m/*"]}}
    budgets: [{budgets}]
    rates: [{{tools: [counted], limit: 10000, per: 1s}}]
    grants: [{{id: all, tools: [free, paid, counted]}}]
"""
WINDOWS = [f'{{per: {per}, limit: "1000000"}}' for per in ("session", "day", "month")]
MODEL = ModelCall("m/a", input_tokens=1000, max_output_tokens=1000)
USED = {"input_tokens": 900, "output_tokens": 500}


def measure_spending(folder: Path) -> list[Row]:
    """Admissions side by side: free, counted, and paid from one budget and from three."""
    one, three = (_session(folder / f"spend{n}", WINDOWS[:n]) for n in (1, 3))
    works: dict[str, Callable[[], object]] = {
        "free": lambda: _call(three, "free"),
        "counted against a rate": lambda: _call(three, "counted"),
        "held and settled in 1 budget": lambda: _call(one, "paid"),
        "held and settled in 3 budgets": lambda: _call(three, "paid"),
        "a model call in 3 budgets": lambda: three.guard.admit(MODEL, session=three).settle(
            usage=USED
        ),
    }
    found = measure(works, calls=100)
    base = found.pop("free")
    rows = [
        (f"admission, {name} / free of charge", f"{cost / base:.2f} x = {cost:.0f} us", "")
        for name, cost in found.items()
    ]
    return [*rows, *_measure_ledger(folder / "spend3")]


def _session(home: Path, budgets: list[str]) -> Session:
    authority = Authority.open(home, trust_domain="acme.example")
    authority.register("claims-agent", team="claims", environment="prod")
    guard = Guard.open(home, policy=POLICY.format(budgets=", ".join(budgets)))
    return guard.login(authority.issue("claims-agent", lifetime=3600))


def _call(session: Session, name: str) -> object:
    return session.guard.admit(ToolCall(name), session=session).settle()


def _measure_ledger(home: Path) -> list[Row]:
    """The ledger's own part, a transaction each, and the price list."""
    store, numbers = SqliteStore(home / "state.db"), count()
    windows = [Window(key=f"w{n}", limit=10**18, rule="") for n in range(3)]
    keys = tuple(window.key for window in windows)

    def reserve() -> str:
        call = f"call{next(numbers)}"
        with store.transaction(time.time()) as transaction:
            transaction.sweep()
            assert transaction.first_overdrawn(windows, 1000) is None
            transaction.hold(Hold(call=call, amount=1000, keys=keys, expires=2**40))
        return call

    def settle() -> None:
        with store.transaction(time.time()) as transaction:
            transaction.settle(open_calls.pop(), 900)

    open_calls = [reserve() for _ in range(15 * 100)]
    pricer, usage = ListPricer(), TokenUsage(input_tokens=1000, output_tokens=500)
    found = measure(
        {
            "reserve over 3 windows": reserve,
            "settle over 3 windows": settle,
            "list price of a call": lambda: pricer.cost("openai/gpt-4o", usage, time.time()),
        },
        calls=100,
    )
    return [(name, f"{cost:.0f} us", "") for name, cost in found.items()]

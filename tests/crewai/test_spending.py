"""Model calls of a crew are held for and settled by the model's own count."""

from __future__ import annotations

from typing import Any

import pytest
from crewai import Agent, Crew, Task

from tabard import Authority, Guard
from tabard.budget.money import NANO
from tabard.testing.crewai import ScriptedLLM
from tabard_crewai import install

POLICY = """\
version: 1
prices: {"openai/gpt-4o": {input: "100", output: "100"}}
agents:
  claims-agent:
    models: {allow: ["openai/gpt-4o"], max_output_tokens: 100}
    budgets: [{per: session, limit: "0.25"}]
  analytics-agent:
    models: {allow: ["openai/gpt-4o"]}
    budgets: [{per: session, limit: "1000"}]
"""


@pytest.fixture
def policy_text() -> str:
    return POLICY


def kick_off(llm: ScriptedLLM) -> Any:
    clerk = Agent(role="Clerk", goal="g", backstory="b", llm=llm)
    task = Task(description="Say it.", expected_output="It.", agent=clerk)
    return Crew(agents=[clerk], tasks=[task]).kickoff()


def kick_off_for_ever(llm: ScriptedLLM) -> None:
    while True:
        kick_off(llm)


def spent(guard: Guard) -> tuple[float, float]:
    [balance] = guard._store.balances()
    return balance.spent / NANO, balance.held / NANO


def test_settled_by_the_models_count(guard: Guard, authority: Authority) -> None:
    """Fifteen tokens at the policy's price, and nothing stays held."""
    install()
    with guard.login(authority.issue("claims-agent")):
        kick_off(ScriptedLLM(model="gpt-4o", script=["done"], max_tokens=50))
    assert spent(guard) == (0.0015, 0)


@pytest.mark.parametrize(
    ("name", "max_tokens"),
    [("claims-agent", None), ("claims-agent", 101), ("analytics-agent", None)],
)
def test_no_bound_no_call(
    guard: Guard, authority: Authority, name: str, max_tokens: int | None
) -> None:
    """A model that sets no limit, or too high a one, is never called."""
    install()
    llm = ScriptedLLM(model="gpt-4o", script=["done"], max_tokens=max_tokens)
    with guard.login(authority.issue(name)), pytest.raises(Exception, match="limit"):
        kick_off(llm)
    assert llm.calls == 0


def test_stops_at_the_limit(guard: Guard, authority: Authority) -> None:
    """The crew goes on until a call could cost more than is left; that one is not made."""
    install()
    llm = ScriptedLLM(model="gpt-4o", script=["done"], max_tokens=100)
    with guard.login(authority.issue("claims-agent")), pytest.raises(Exception, match="budget"):
        kick_off_for_ever(llm)
    assert 0 < spent(guard)[0] <= 0.25
    assert spent(guard)[1] == 0

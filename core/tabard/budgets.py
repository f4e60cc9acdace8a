"""The operator's side of the ledger: what every budget has taken, and forgetting it.

```python
budgets = Budgets.open(".tabard")
for standing in budgets.standings(policy):
    print(standing.agent.name, standing.budget.per, standing.spent)
budgets.reset(standing.key, reason="refunded", author="mia")
```
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from tabard.audit.fields import encode
from tabard.budget.ledger import Balance
from tabard.clock import Clock, read_clock, system_clock
from tabard.errors import ConfigurationError
from tabard.home import Home
from tabard.identity import Agent, SpiffeId
from tabard.identity.agent import find_agent
from tabard.meter import key_of
from tabard.revocation import explain
from tabard.store import SqliteStore, Store
from tabard.store.holder import StoreHolder

if TYPE_CHECKING:
    from tabard.policy import Policy
    from tabard.policy.terms import BudgetLimit


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """One budget of one agent, in one period.

    Attributes:
        agent: Who pays.
        budget: The limit the policy sets.
        currency: ISO 4217; what all amounts are nano-units of.
        key: The window's name; None for a session budget that no session has drawn on yet.
        spent: Settled, or charged because nothing was heard of it.
        held: Set aside for calls in progress.
    """

    agent: Agent
    budget: BudgetLimit
    currency: str
    key: str | None
    spent: int = 0
    held: int = 0


class Budgets(StoreHolder):
    """The budgets of a home."""

    def __init__(self, store: Store, clock: Clock = system_clock) -> None:
        """Use a store; `Budgets.open` finds that of a home."""
        self._store = store
        self._clock = clock

    @classmethod
    def open(
        cls, home: str | os.PathLike[str] | None = None, *, clock: Clock = system_clock
    ) -> Self:
        """Open the budgets of a home; needs no signing key.

        Raises:
            ConfigurationError: There is no home, or it is not usable.
        """
        return cls(SqliteStore(Home.locate(home).database, synchronous="FULL"), clock)

    def standings(
        self, policy: Policy, *, agent: str | SpiffeId | Agent | None = None
    ) -> list[Standing]:
        """What the budgets of a policy have taken in their present periods.

        A session budget has one entry for every session that drew on it, the fullest first.

        Args:
            policy: Whose budgets.
            agent: One agent only; default every registered one.

        Raises:
            ConfigurationError: No such agent.
            StoreError: The store failed.
        """
        agents = self._store.agents()
        meant = agents if agent is None else [find_agent(agents, agent)]
        taken = {balance.key: balance for balance in self._store.balances()}
        now = read_clock(self._clock)
        return [one for each in meant for one in _standings(each, policy, taken, now)]

    def reset(self, key: str, *, reason: str, author: str | None = None) -> Balance:
        """Forget what a window has spent; what is held for calls in progress stays.

        Args:
            key: The window's name, as `standings` gives it.
            reason: Why, for the record.
            author: Who decided, for the record.

        Returns:
            What it had taken.

        Raises:
            ConfigurationError: Nothing was ever taken from such a window, or no reason was given.
            StoreError: The store failed; nothing has changed.
        """
        why = explain(reason, author)
        with self._store.transaction(read_clock(self._clock)) as transaction:
            was = transaction.reset_budget(key)
            if was is None:
                raise ConfigurationError(
                    f"budget reset: nothing was taken from a window {key!r}; "
                    "`tabard budget show --json` names those there are"
                )
            facts = {"key": was.key, "spent": was.spent, "held": was.held}
            transaction.append("budget.reset", f'"budget":{encode(facts)},{why}')
        return was


def _standings(
    agent: Agent, policy: Policy, taken: Mapping[str, Balance], now: float
) -> Iterator[Standing]:
    rules = policy.agents.get(agent.name)
    for budget in () if rules is None else rules.terms.budgets:
        key = key_of(agent, budget, now, run="")
        if budget.per == "session":
            drawn = [balance for name, balance in taken.items() if name.startswith(key)]
            drawn.sort(key=lambda balance: (-balance.spent - balance.held, balance.key))
        else:
            drawn = [taken.get(key, Balance(key=key, spent=0, held=0))]
        windows: list[tuple[str | None, int, int]] = [(b.key, b.spent, b.held) for b in drawn]
        for name, spent, held in windows or [(None, 0, 0)]:
            yield Standing(
                agent=agent,
                budget=budget,
                currency=policy.tariff.currency,
                key=name,
                spent=spent,
                held=held,
            )

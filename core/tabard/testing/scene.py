"""A real installation to try things in: a home, two agents, a policy, and a clock to turn."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tabard import Authority, Guard, Session

_RULES = """
    models: {allow: [openai/gpt-4o, openai/planner], max_output_tokens: 500}
    grants:
      - {id: lookup, tools: [lookup], args: {number: {enum: [1, 2]}}}
      - {id: outer, tools: [outer], args: {number: {}}}
      - {id: docs, tools: [retrieval.docs], args: {query: {max_length: 20}}}"""

POLICY = f"""\
version: 1
currency: EUR
tools: {{lookup: {{cost: "1.00"}}, retrieval.docs: {{cost: "1.00"}}}}
prices:
  openai/gpt-4o: {{input: "1000", output: "1000", currency: EUR}}
  openai/planner: {{input: "0", output: "0", currency: EUR}}
agents:
  able-agent:{_RULES}
  poor-agent:{_RULES}
    budgets: [{{per: session, limit: "1.00"}}]
"""
"""A call of `lookup` costs all the poor agent has; the model `planner` is free."""

START = 1_800_000_000.0


class TurnableClock:
    """A clock that stands still until it is turned.

    Attributes:
        now: POSIX seconds.
    """

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        """The time now, in POSIX seconds."""
        return self.now


class Scene:
    """An installation with an able agent and a poor one; whatever a fault breaks, it mends again.

    Attributes:
        home: The folder.
        authority: Issues and revokes.
        guard: Admits.
        clock: What both go by.
    """

    def __init__(
        self, *, home: Path, authority: Authority, guard: Guard, clock: TurnableClock
    ) -> None:
        self.home = home
        self.authority = authority
        self.guard = guard
        self.clock = clock
        self._seen = 0

    def log_in(self, name: str = "able-agent") -> Session:
        """A session of one of the agents, with a token of its own."""
        self.clock.now += 1  # a ban ends what was issued until its second
        return self.guard.login(self.authority.issue(name))

    def new_records(self) -> list[Mapping[str, Any]]:
        """The entries the log has got since this was last asked."""
        found = list(self.guard._store.stored_records(after=self._seen))
        self._seen = found[-1].index if found else self._seen
        return [record.parse() for record in found]


@contextmanager
def open_scene(folder: str | os.PathLike[str]) -> Iterator[Scene]:
    """Set up an installation in a folder, for as long as the block lasts."""
    home, clock = Path(folder) / "home", TurnableClock()
    with Authority.open(home, trust_domain="acme.example", clock=clock) as authority:
        for name in ("able-agent", "poor-agent"):
            authority.register(name, team="claims", environment="test")
        with Guard.open(home, policy=POLICY, clock=clock) as guard:
            yield Scene(home=home, authority=authority, guard=guard, clock=clock)

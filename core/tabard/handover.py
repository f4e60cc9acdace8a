"""Hands a part of a session's rights to another agent: a child session, born on record."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tabard.actions import Delegation
from tabard.admission import first_dead
from tabard.clock import Clock, read_clock
from tabard.delegation import Mandate, delegated_facts, issued_in
from tabard.failing import FailingClosed
from tabard.identity import Agent, SpiffeId
from tabard.identity.agent import find_agent
from tabard.login import Identified
from tabard.session import Session
from tabard.verdict import UNREGISTERED

if TYPE_CHECKING:
    from tabard.guard import Guard
    from tabard.judge import Judge
    from tabard.store import Store


class Handover:
    """Opens the sessions of agents that work for others."""

    def __init__(self, guard: Guard, store: Store, judge: Judge, clock: Clock) -> None:
        self._guard = guard
        self._store = store
        self._judge = judge
        self._clock = clock

    def hand_over(
        self,
        session: Session,
        agent: str | SpiffeId | Agent,
        *,
        mandate: Mandate,
        ttl: float,
        proof: str | None = None,
    ) -> Session:
        """Open the session of an agent that works for another.

        Raises:
            AccessDenied: The call of its parent, or of the one who takes over, is refused.
        """
        with FailingClosed("delegate"):
            agents, now = self._store.agents(), read_clock(self._clock)
        known = self._taker(agents, agent, session, proof)
        facts = delegated_facts(session, known, ttl=ttl, now=now)
        with (
            FailingClosed("delegate"),
            self._guard.admit(
                _handed_over(known, agent, mandate, ttl), session=session, proof=proof
            ),
        ):
            with self._store.transaction(now) as transaction:
                facts = issued_in(transaction, facts, now)
                child = Session(
                    guard=self._guard,
                    found=Identified(agent=known, token=facts, source=None, now=now),
                    scope=session.scope,
                    subject=session.subject,
                    parent=session,
                    mandate=mandate,
                )
                dead = first_dead(child, transaction.liveness)
                if dead is not None:
                    raise dead.refusal(agent=child.spiffe_id, action="delegate")
                transaction.append("session.open", child.fields(), child.count)
            self._judge.sessions.add(child)
        return child

    def _taker(
        self,
        agents: list[Agent],
        agent: str | SpiffeId | Agent,
        session: Session,
        proof: str | None,
    ) -> Agent:
        """Who takes over. An attempt with a name nobody bears is on record, like any other."""
        name = agent.name if isinstance(agent, Agent) else str(agent)
        if any(name in (one.name, str(one.spiffe_id)) for one in agents):
            return find_agent(agents, agent)
        self._guard.admit(Delegation(name), session=session, proof=proof).fail("unregistered")
        raise UNREGISTERED.refusal(agent=None, action=name)


def _handed_over(
    agent: Agent, asked: str | SpiffeId | Agent, mandate: Mandate, ttl: float
) -> Delegation:
    # A proof names the agent as it was asked for: a name does here, as only one agent bears it.
    by_name = not isinstance(asked, Agent) and str(asked) == agent.name
    facts = mandate.facts()
    models = facts["models"]
    return Delegation(
        agent.name,
        tools=tuple(facts["tools"] or ()),
        models=None if models is None else tuple(models),
        ttl=ttl,
        spiffe_id=None if by_name else str(agent.spiffe_id),
    )

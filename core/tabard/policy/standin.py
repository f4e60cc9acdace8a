"""An agent to try a policy on, where none is logged in."""

from __future__ import annotations

from tabard.identity.agent import Agent
from tabard.policy.rules import Policy

_TRUST_DOMAIN = "policy.test"
_ANYWHERE = "test"


def stand_in(
    policy: Policy, name: str, *, team: str | None = None, environment: str | None = None
) -> Agent:
    """An agent of some name, of the team and environment that the policy's `match` names first.

    Args:
        policy: What it is tried on.
        name: The agent's name.
        team: Its team, when it is to be another one.
        environment: Its environment, when it is to be another one.

    Raises:
        InvalidSpiffeId: A part may not stand in a SPIFFE ID.
    """
    rules = policy.agents.get(name)
    return Agent.named(
        name,
        team=team or _first(None if rules is None else rules.teams),
        environment=environment or _first(None if rules is None else rules.environments),
        trust_domain=_TRUST_DOMAIN,
    )


def _first(names: frozenset[str] | None) -> str:
    return min(names, default=_ANYWHERE) if names is not None else _ANYWHERE

"""A registered workload: who an agent is, as the authority knows it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from tabard.errors import ConfigurationError
from tabard.identity.spiffe_id import SpiffeId

Status = Literal["active", "revoked"]
Liveness = Literal["active", "unregistered", "banned", "evicted", "denied"]
"""Whether a token still counts: its agent is registered and not banned, the token was not issued
before the agent's cut-off, and it was not denied by itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Agent:
    """One identity: the same agent in two environments is two of them.

    Attributes:
        spiffe_id: The identity; never reused.
        name: The agent's name, unique within its team and environment.
        team: The owning team.
        environment: Where it runs, for example `prod`.
        purpose: What it is for, in the operator's words, or None.
        owner: Who answers for it, or None.
        attributes: Further labels for reports; no decision reads them.
        status: `active` or `revoked`, as of when it was read.
    """

    spiffe_id: SpiffeId
    name: str
    team: str
    environment: str
    purpose: str | None = None
    owner: str | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)
    status: Status = "active"

    @classmethod
    def named(cls, name: str, *, team: str, environment: str, trust_domain: str) -> Agent:
        """An agent with the SPIFFE ID that follows from its name, team and environment.

        Raises:
            InvalidSpiffeId: A part may not stand in a SPIFFE ID.
        """
        spiffe_id = SpiffeId.for_agent(
            trust_domain=trust_domain, environment=environment, team=team, name=name
        )
        return cls(spiffe_id=spiffe_id, name=name, team=team, environment=environment)


def find_agent(agents: list[Agent], wanted: str | SpiffeId | Agent) -> Agent:
    """The one of some agents that is meant by a name, a SPIFFE ID or an `Agent`.

    Raises:
        ConfigurationError: There is none, or the name is borne by several; lists them.
    """
    name = str(wanted.spiffe_id) if isinstance(wanted, Agent) else str(wanted)
    found = [agent for agent in agents if name in (agent.name, str(agent.spiffe_id))]
    if len(found) == 1:
        return found[0]
    if found:
        listed = ", ".join(str(agent.spiffe_id) for agent in found)
        raise ConfigurationError(
            f"{name!r} is the name of {len(found)} agents; name one of them: {listed}"
        )
    names = ", ".join(sorted({agent.name for agent in agents})) or "none yet"
    raise ConfigurationError(f"no agent {name!r} is registered; registered: {names}")

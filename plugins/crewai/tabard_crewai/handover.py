"""CrewAI's delegation to a coworker, as a hand-over between two identities.

The tool call is the boss's. The coworker then works in a session of its own agent that acts for the
boss, with the rights of both and no others; it ends with the tool call.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from crewai.tools.agent_tools.base_agent_tools import BaseAgentTool

from tabard import NotPermitted, Session
from tabard_crewai.bound import own_session

LASTS = 3600.0
"""Seconds a coworker may take; the hand-over ends with the tool call in any case."""


class Handover(NamedTuple):
    """What a coworker works under while it was asked to.

    Attributes:
        own: The session the coworker is bound to; None when nobody who is bound was asked.
        session: The session it works under meanwhile.
        opened: Whether that session was made for it, and ends with it.
    """

    own: Session | None
    session: Session
    opened: bool = False

    def close(self) -> None:
        """The coworker is done, or has taken too long: from now on it may do nothing for it."""
        if self.opened:
            self.session.close()


def is_handover(tool: Any) -> bool:
    """Whether a tool is one of those through which CrewAI lets an agent ask another."""
    return isinstance(tool, BaseAgentTool)


def coworker_of(tool: BaseAgentTool, arguments: Mapping[str, Any]) -> Any:
    """The agent CrewAI will choose: it takes the first whose role it reads the argument as."""
    wanted = tool.sanitize_agent_name(tool._get_coworker(arguments.get("coworker")) or "")
    found = (agent for agent in tool.agents if tool.sanitize_agent_name(agent.role) == wanted)
    return next(found, None)


def role_as_written(agent: Any) -> str:
    """The role before placeholders were filled in."""
    return str(getattr(agent, "_original_role", None) or agent.role)


def hand_over(coworker: Any, boss: Session, own_as_boss: Session | None) -> Handover:
    """Open the session a coworker works under.

    Args:
        coworker: The agent that was asked; None when there is no such agent.
        boss: The session of the one who asks.
        own_as_boss: What the coworker would work under by itself, where it was asked.

    Raises:
        AccessDenied: The policy does not allow the hand-over, or either session is at its end.
    """
    own = own_session(coworker)
    if own is None or own_as_boss is boss:  # nobody else's identity: nothing to hand over
        return Handover(own, boss)
    boss.guard.check_session(own)
    if any(boss.scope.get(name) != value for name, value in own.scope.items()):
        raise NotPermitted(
            code="scope",
            reason="the coworker is bound to another data scope",
            agent=boss.spiffe_id,
            action=own.agent.name,
        )
    return Handover(own, boss.delegate(own.agent, tools=["**"], ttl=LASTS), opened=True)

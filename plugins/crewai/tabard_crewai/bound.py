"""Which agents are bound to a session of their own.

CrewAI copies agents (`kickoff_for_each`), gives the copies new ids and fills placeholders into
their roles. What survives is `agent.key`, a hash of the role, goal and backstory as they were
written. It only tells agents apart; the identity comes from the session that was verified.
"""

from __future__ import annotations

import threading
import weakref
from typing import Any, NamedTuple

from crewai.agents.agent_builder.base_agent import BaseAgent

from tabard import ConfigurationError, Session, current_session


class _Binding(NamedTuple):
    agent: weakref.ref[Any]
    session: Session


_bindings: dict[str, _Binding] = {}
_lock = threading.Lock()


def remember(agent: Any, session: Session) -> None:
    """Let the agent, and every copy of it, work under this session.

    Raises:
        ConfigurationError: Another agent looks the same and works under another session.
    """
    key = key_of(agent) or ""
    with _lock:
        known = _bindings.get(key)
        other = known.agent() if known is not None else None
        if known is not None and other not in (None, agent) and known.session is not session:
            raise ConfigurationError(
                "bind: another agent with the same role, goal and backstory is bound to "
                f"{known.session.agent.name}; give them different roles"
            )
        _bindings[key] = _Binding(weakref.ref(agent), session)


def forget(agent: Any) -> None:
    """Let the current session count again for this agent."""
    with _lock:
        _bindings.pop(key_of(agent) or "", None)


def is_any_bound() -> bool:
    """Whether there is an agent whose calls are not the current session's."""
    return bool(_bindings)


def session_of(agent: Any) -> Session | None:
    """The session an agent works under: its own if it is bound, else the current one."""
    binding = _bindings.get(key_of(agent) or "")
    return binding.session if binding is not None else current_session()


def key_of(agent: Any) -> str | None:
    """What CrewAI's copies of an agent have in common; None for what is no agent."""
    key = agent.key if isinstance(agent, BaseAgent) else None
    return key if isinstance(key, str) and key else None

"""Which agents are bound to a session of their own.

A binding is of one agent object, and of the copies CrewAI makes of it (`kickoff_for_each`): they
come from its `copy`, which binds each of them as well. Another agent that merely looks the same, by
role, goal and backstory, is not bound. A binding only tells agents apart; the identity comes from
the session that was verified.
"""

from __future__ import annotations

import threading
import weakref
from typing import Any, NamedTuple

from crewai.agents.agent_builder.base_agent import BaseAgent

from tabard import Session, current_session


class _Bond:
    """What an agent and its copies share, until the agent itself is unbound."""

    __slots__ = ("_agent", "released", "session", "with_crew")

    def __init__(self, agent: Any, session: Session, with_crew: bool) -> None:
        self._agent = weakref.ref(agent)
        self.session = session
        self.with_crew = with_crew
        self.released = False

    def release(self, agent: Any) -> None:
        """The agent is unbound; where it is only a copy, the one it was made of is not."""
        self.released = self.released or self._agent() is agent


class _Binding(NamedTuple):
    agent: weakref.ref[Any]
    bond: _Bond


_bindings: dict[int, _Binding] = {}
_lock = threading.RLock()


def remember(agent: Any, session: Session, *, with_crew: bool = False) -> None:
    """Let the agent, and every copy CrewAI makes of it, work under this session.

    Args:
        agent: The agent.
        session: Its session.
        with_crew: Whether its whole crew was bound with it.
    """
    earlier = _find(agent)
    _tie(agent, _Bond(agent, session, with_crew))
    if earlier is not None:
        earlier.bond.release(agent)


def _tie(agent: Any, bond: _Bond) -> None:
    number = id(agent)
    with _lock:
        _bindings[number] = _Binding(weakref.ref(agent, lambda _: _drop(number)), bond)
    original = weakref.ref(agent)

    def copy() -> Any:
        found: Any = original()
        made = type(found).copy(found)
        binding = _find(found)
        if binding is not None:
            _tie(made, binding.bond)
        return made

    # On the object, past pydantic: the class is shared by agents that are not bound.
    object.__setattr__(agent, "copy", copy)


def _drop(number: int) -> None:
    with _lock:
        _bindings.pop(number, None)


def forget(agent: Any) -> None:
    """Let the current session count again for this agent.

    Copies that are at work go on as they are: they must not fall to a session that may be wider.
    """
    binding = _find(agent)
    if binding is not None:
        binding.bond.release(agent)
        _drop(id(agent))


def is_any_bound() -> bool:
    """Whether there is an agent that somebody has bound, and not unbound again."""
    with _lock:
        return any(not binding.bond.released for binding in _bindings.values())


def own_session(agent: Any) -> Session | None:
    """The session the agent is bound to, or None."""
    binding = _find(agent)
    return binding.bond.session if binding is not None else None


def session_of(agent: Any) -> Session | None:
    """The agent's own session if it is bound, else the current one."""
    return own_session(agent) or current_session()


def is_bound_whole(crew: Any) -> bool:
    """Whether the crew, or the one it is a copy of, was bound as a whole."""
    agents = [*(getattr(crew, "agents", None) or ()), getattr(crew, "manager_agent", None)]
    return any(binding is not None and binding.bond.with_crew for binding in map(_find, agents))


def owners_of_model(llm: Any) -> list[Session]:
    """The sessions of the bound agents whose model this is, each once."""
    with _lock:
        bound = [(b.agent(), b.bond.session) for b in _bindings.values()]
    return list({id(session): session for agent, session in bound if uses(agent, llm)}.values())


def uses(agent: Any, llm: Any) -> bool:
    """Whether it is the agent's model, or the one that converts its answers."""
    own = [getattr(agent, "llm", None), *models_in(agent, ("function_calling_llm",))]
    return llm is not None and any(model is llm for model in own)


def models_in(holder: Any, names: tuple[str, ...]) -> list[Any]:
    """The values of these fields; asking for some as attributes warns, or raises by that."""
    fields = getattr(holder, "__dict__", {})
    return [fields.get(name) for name in names]


def is_agent(thing: Any) -> bool:
    """Whether it is an agent of CrewAI."""
    return isinstance(thing, BaseAgent)


def _find(agent: Any) -> _Binding | None:
    with _lock:
        binding = _bindings.get(id(agent))
    return binding if binding is not None and binding.agent() is agent else None

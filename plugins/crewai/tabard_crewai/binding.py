"""Which agent of a crew works under which session.

CrewAI copies agents (`kickoff_for_each`), gives the copies new ids and fills placeholders into
their roles. What survives is `agent.key`, a hash of the role, goal and backstory as they were
written. It only tells agents apart; the identity comes from the session that was verified.
"""

from __future__ import annotations

import threading
import weakref
from typing import Any, NamedTuple

from tabard import (
    ConfigurationError,
    CredentialSource,
    Guard,
    Session,
    current_guard,
    current_session,
)


class _Binding(NamedTuple):
    agent: weakref.ref[Any]
    session: Session


_bindings: dict[str, _Binding] = {}
_lock = threading.Lock()


def bind(
    agent: Any, credential: Session | CredentialSource | str, *, guard: Guard | None = None
) -> Session:
    """Make an agent work under its own session, whatever session is current around the crew.

    Args:
        agent: A CrewAI agent. Its role, goal and backstory must differ from those of every other
            bound agent: they are how CrewAI's copies of it are recognised.
        credential: A session; or a source or token, which is logged in now.
        guard: Where to log in; default the guard opened last.

    Returns:
        The session the agent works under.

    Raises:
        ConfigurationError: It is no CrewAI agent, or another agent looks the same.
        AuthenticationFailed: The credential does not hold.
    """
    key = _key_of(agent)
    if key is None:
        raise ConfigurationError(f"bind: expected a CrewAI agent, found {type(agent).__name__}")
    if isinstance(credential, Session):
        session = credential
    else:
        session = (guard or current_guard()).login(credential)
    with _lock:
        known = _bindings.get(key)
        other = known.agent() if known is not None else None
        if known is not None and other not in (None, agent) and known.session is not session:
            raise ConfigurationError(
                "bind: another agent with the same role, goal and backstory is bound to "
                f"{known.session.agent.name}; give them different roles"
            )
        _bindings[key] = _Binding(weakref.ref(agent), session)
    return session


def unbind(agent: Any) -> None:
    """Forget an agent's session; from now on the current session counts."""
    with _lock:
        _bindings.pop(_key_of(agent) or "", None)


def session_of(agent: Any) -> Session | None:
    """The session an agent works under: its own if it is bound, else the current one."""
    binding = _bindings.get(_key_of(agent) or "")
    return binding.session if binding is not None else current_session()


def _key_of(agent: Any) -> str | None:
    key = getattr(agent, "key", None)
    return key if isinstance(key, str) and key else None

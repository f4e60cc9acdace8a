"""`bind`: an agent of a crew works under an identity of its own."""

from __future__ import annotations

from typing import Any

from tabard import ConfigurationError, CredentialSource, Guard, Session, current_guard
from tabard_crewai import bound
from tabard_crewai.hooks import hook_executor, install


def bind(
    agent: Any, credential: Session | CredentialSource | str, *, guard: Guard | None = None
) -> Session:
    """Make an agent work under its own session, whatever session is current around the crew.

    Only the hooks know which agent calls, so this installs them.

    Args:
        agent: A CrewAI agent; the copies CrewAI makes of it are bound as well.
        credential: A session; or a source or token, which is logged in now.
        guard: Where to log in; default the guard of the current session, else the one opened last.

    Returns:
        The session the agent works under.

    Raises:
        ConfigurationError: It is no CrewAI agent.
        AuthenticationFailed: The credential does not hold.
    """
    if not bound.is_agent(agent):
        raise ConfigurationError(f"bind: expected a CrewAI agent, found {type(agent).__name__}")
    if isinstance(credential, Session):
        session = credential
    else:
        session = (guard or current_guard()).login(credential)
    bound.remember(agent, session)
    install()
    hook_executor(agent)
    return session


def unbind(agent: Any) -> None:
    """Forget an agent's session; from now on the current session counts."""
    bound.forget(agent)

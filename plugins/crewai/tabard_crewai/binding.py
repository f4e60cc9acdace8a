"""`bind`: an agent of a crew, or each of a crew's agents, works under an identity of its own."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any, overload

from tabard import ConfigurationError, CredentialSource, Guard, Session, current_guard
from tabard_crewai import bound
from tabard_crewai.crews import agents_of, by_role, is_crew
from tabard_crewai.hooks import hook_executor, install

Credential = Session | CredentialSource | str
"""What an agent can be bound to."""


@overload
def bind(
    target: Any, credential: Mapping[str, Credential], *, guard: Guard | None = None
) -> dict[str, Session]: ...


@overload
def bind(target: Any, credential: Credential, *, guard: Guard | None = None) -> Session: ...


def bind(
    target: Any,
    credential: Credential | Mapping[str, Credential],
    *,
    guard: Guard | None = None,
) -> Session | dict[str, Session]:
    """Make agents work under sessions of their own, whatever session is current around the crew.

    Only the hooks know which agent calls, so this installs them.

    Args:
        target: A CrewAI agent; or a crew, whose every agent is bound, all of them or none. The
            copies CrewAI makes of an agent are bound as well.
        credential: A session; or a source or token, which is logged in now. For a crew a mapping
            from role to one of these: the role as it was written, before placeholders are filled
            in; that of the manager CrewAI makes for a hierarchical crew is "Crew Manager".
        guard: Where to log in; default the guard of the current session, else the one opened last.

    Returns:
        The session the agent works under; for a crew, each agent's by its role.

    Raises:
        ConfigurationError: It is neither; or a role is unknown, is borne by two agents, or has no
            credential.
        AuthenticationFailed: A credential does not hold.
    """
    if is_crew(target) and isinstance(credential, Mapping):
        return _bind_crew(target, credential, guard)
    if is_crew(target):
        raise ConfigurationError("bind: a crew is bound with a mapping from role to credential")
    if not bound.is_agent(target):
        raise ConfigurationError(
            f"bind: expected a CrewAI agent or crew, found {type(target).__name__}"
        )
    session = _log_in(credential, guard)
    install()
    _remember(target, session, with_crew=False)
    return session


def unbind(target: Any) -> None:
    """Forget an agent's session, or those of a crew; from now on the current session counts.

    Raises:
        ConfigurationError: It is neither an agent nor a crew.
    """
    if not bound.is_agent(target) and not is_crew(target):
        raise ConfigurationError(
            f"unbind: expected a CrewAI agent or crew, found {type(target).__name__}"
        )
    for agent in agents_of(target) if is_crew(target) else [target]:
        bound.forget(agent)


def _bind_crew(
    crew: Any, credentials: Mapping[str, Credential], guard: Guard | None
) -> dict[str, Session]:
    agents = by_role(crew, credentials)
    with contextlib.ExitStack() as undo:
        sessions = {}
        for role in agents:
            sessions[role] = _log_in(credentials[role], guard)
            if sessions[role] is not credentials[role]:
                undo.callback(sessions[role].close)
        install()
        undo.pop_all()
    for role, agent in agents.items():
        _remember(agent, sessions[role], with_crew=True)
    return sessions


def _log_in(credential: Any, guard: Guard | None) -> Session:
    """The session itself, if it is at work; or one opened with the credential.

    Raises:
        AuthenticationFailed: It does not hold.
        ConfigurationError: It is none.
    """
    if isinstance(credential, Session):
        credential.guard.check_session(credential)
        return credential
    if credential is None or isinstance(credential, Mapping):  # None would be the host's own
        raise ConfigurationError(
            f"bind: expected a session, a source or a token, found {type(credential).__name__}"
        )
    return (guard or current_guard()).login(credential)


def _remember(agent: Any, session: Session, *, with_crew: bool) -> None:
    bound.remember(agent, session, with_crew=with_crew)
    hook_executor(agent)

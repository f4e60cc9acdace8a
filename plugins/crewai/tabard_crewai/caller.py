"""Whose call it is, and its admission: a bound agent's, its boss's hand-over, or the session's."""

from __future__ import annotations

from typing import Any

from tabard import AccessDenied, Permit, Session, admit
from tabard.actions import Action
from tabard_crewai import progress
from tabard_crewai.bound import is_bound_whole, own_session, owner_of_model
from tabard_crewai.refusal import refuse_admitted

_TAKEN_BACK = ("token_revoked", "unregistered")


def admit_of_agent(action: Action, agent: Any, crew: Any) -> Permit:
    """Admit a call of an agent.

    Raises:
        AccessDenied: It is refused.
    """
    own = own_session(agent)
    if own is not None:
        return _admit_as(own, action)
    permit = admit(action)
    if is_bound_whole(crew or getattr(agent, "crew", None)):
        raise refuse_admitted(
            permit,
            code="unbound_agent",
            reason="its crew was bound as a whole, and this agent has been added since",
        )
    return permit


def admit_of_model(action: Action, llm: Any) -> Permit:
    """Admit a model call that names no agent.

    Raises:
        AccessDenied: It is refused.
    """
    own = owner_of_model(llm)
    return admit(action) if own is None else _admit_as(own, action)


def _admit_as(own: Session, action: Action) -> Permit:
    """Admit a call of a bound agent, narrowed while it works for another.

    Its own session has to be alive all the same: then that one is asked, and refused on record.
    """
    acting = progress.acting(own)
    if acting is None:
        raise refuse_admitted(
            admit(action, session=own),
            code="not_handed_over",
            reason="another agent was asked to do this",
        )
    narrowed = acting is not own and _is_alive(own, action)
    return admit(action, session=acting if narrowed else own)


def _is_alive(session: Session, action: Action) -> bool:
    try:
        session.guard.check_session(session)
    except AccessDenied:
        return False
    return session.guard.check(action, session=session).code not in _TAKEN_BACK

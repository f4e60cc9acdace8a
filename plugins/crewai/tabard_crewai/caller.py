"""Whose call it is, and its admission: a bound agent's, its boss's hand-over, or the session's."""

from __future__ import annotations

from typing import Any

from tabard import AccessDenied, Permit, Session, admit
from tabard.actions import Action
from tabard_crewai import progress
from tabard_crewai.at_work import agent_at_work, calls_around_task
from tabard_crewai.bound import is_bound_whole, own_session, owners_of_model, uses
from tabard_crewai.progress import Decided
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
    """Admit a model call that names no agent, such as one that converts an answer.

    It is of the agent at work here, if the model is its own; else of the bound agent whose it is.

    Raises:
        AccessDenied: It is refused; also where several own the model and none is known to work.
    """
    agent, owners = agent_at_work(), owners_of_model(llm)
    if uses(agent, llm) or len(owners) > 1:
        call = progress.innermost(calls_around_task())
        if call is not None:
            return _admit_within(call, owners, action)
        if uses(agent, llm):
            return admit_of_agent(action, agent, agent.crew)
        raise refuse_admitted(
            admit(action),
            code="ambiguous_model",
            reason="several bound agents share this model, and which of them calls is not certain",
        )
    return _admit_as(owners[0], action) if owners else admit(action)


def _admit_within(call: Decided, owners: list[Session], action: Action) -> Permit:
    """Admit a model call made inside a tool call: of whoever was asked, or has called the tool."""
    asked = call.handover.own if call.handover is not None else None
    if asked is not None and any(asked is owner for owner in owners):
        return _admit_as(asked, action)
    return admit(action, session=call.inside)


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

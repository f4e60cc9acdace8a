"""The agents of a crew, by the roles they were written with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from crewai import Crew, Process

from tabard import ConfigurationError
from tabard_crewai.bound import models_in, uses
from tabard_crewai.handover import role_as_written

_MODELS = ("manager_llm", "function_calling_llm", "planning_llm", "chat_llm")


def is_crew(thing: Any) -> bool:
    """Whether it is a crew of CrewAI."""
    return isinstance(thing, Crew)


def agents_of(crew: Crew) -> list[Any]:
    """Every agent that will work for the crew: its own, its manager, those of its tasks."""
    agents = [*crew.agents, crew.manager_agent, *(task.agent for task in crew.tasks)]
    return list({id(agent): agent for agent in agents if agent is not None}.values())


def has_model(crew: Crew, llm: Any) -> bool:
    """Whether a model is the crew's own, or one of its agents'."""
    own = models_in(crew, _MODELS)
    return any(model is llm for model in own) or any(uses(agent, llm) for agent in agents_of(crew))


def by_role(crew: Crew, roles: Mapping[str, Any]) -> dict[str, Any]:
    """The crew's agents by role, the manager CrewAI would make at kickoff among them.

    Raises:
        ConfigurationError: Roles and agents do not match one to one.
    """
    _make_manager(crew)
    agents = agents_of(crew)
    written = [role_as_written(agent) for agent in agents]
    listed = ", ".join(f"`{role}`" for role in written)
    twice = sorted({role for role in written if written.count(role) > 1})
    if twice:
        raise ConfigurationError(
            f"bind: several agents of the crew have the role {_named(twice)}, so that it does not "
            f"tell them apart; bind each of them by itself (roles: {listed})"
        )
    unknown = [role for role in roles if role not in written]
    if unknown:
        raise ConfigurationError(
            f"bind: no agent of the crew has the role {_named(unknown)} (roles: {listed})"
        )
    missing = [role for role in written if role not in roles]
    if missing:
        raise ConfigurationError(
            f"bind: no credential for {_named(missing)}; every agent of the crew needs one, and "
            "one that is to work under the current session is given that session"
        )
    return dict(zip(written, agents, strict=True))


def _make_manager(crew: Crew) -> None:
    """Let CrewAI make the manager now: kickoff uses one that is there, and could not bind its own.

    Raises:
        ConfigurationError: It could not be made.
    """
    if crew.process != Process.hierarchical or crew.manager_agent is not None:
        return
    try:
        crew._create_manager_agent()
        # CrewAI gives it the tools to delegate with for each task; up to 1.15.29 it takes those it
        # has put here itself for somebody's mistake at the kickoff.
        made: Any = crew.manager_agent
        made.tools = []
    except Exception as error:
        kind = type(error).__name__
        raise ConfigurationError(
            f"bind: CrewAI could not make the crew's manager: {kind}"
        ) from None


def _named(roles: list[Any]) -> str:
    return ", ".join(f"`{role}`" for role in roles)

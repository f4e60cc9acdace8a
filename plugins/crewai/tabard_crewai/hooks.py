"""`install`: every tool and model call of every crew in this process is admitted before it runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from crewai.events import LLMCallCompletedEvent, LLMCallFailedEvent, crewai_event_bus
from crewai.hooks import (
    InterceptionPoint,
    get_after_llm_call_hooks,
    get_before_llm_call_hooks,
    get_hooks,
    register_hook,
    unregister_hook,
)

from tabard import ConfigurationError
from tabard_crewai.at_work import before_step
from tabard_crewai.model_hooks import after_event, after_execution, after_model, before_model
from tabard_crewai.tool_hooks import after_tool, before_tool

HOOKS: dict[InterceptionPoint, Callable[[Any], Any]] = {
    InterceptionPoint.PRE_TOOL_CALL: before_tool,
    InterceptionPoint.POST_TOOL_CALL: after_tool,
    InterceptionPoint.PRE_MODEL_CALL: before_model,
    InterceptionPoint.POST_MODEL_CALL: after_model,
    InterceptionPoint.PRE_STEP: before_step,
    InterceptionPoint.EXECUTION_END: after_execution,
}
_EVENTS: tuple[type[Any], ...] = (LLMCallCompletedEvent, LLMCallFailedEvent)
"""What tells of the end of a model call that no hook follows; no more than that is left to them."""

_SNAPSHOTS: dict[str, Callable[[], list[Any]]] = {
    "before_llm_call_hooks": get_before_llm_call_hooks,
    "after_llm_call_hooks": get_after_llm_call_hooks,
}
"""The lists of model hooks that an executor takes a copy of when it is made."""


_wanted = False
"""Whether hooks that are gone were taken by somebody else."""


def install() -> None:
    """Register the hooks for this process; doing it again changes nothing.

    Call it before crews are built: CrewAI gives each executor the model hooks of that moment. From
    now until `uninstall()` protected tools refuse when a hook is gone: somebody has cleared it.
    """
    global _wanted
    _wanted = True
    for point, hook in HOOKS.items():
        if hook not in get_hooks(point):
            register_hook(point, hook)
    for event in _EVENTS:
        crewai_event_bus.register_handler(event, after_event)


def hook_executor(agent: Any) -> None:
    """Give an agent that has worked already the hooks of now: its executor holds those of then."""
    executor = getattr(agent, "agent_executor", None)
    for name, current in _SNAPSHOTS.items():
        held = getattr(executor, name, None)
        if isinstance(held, list):
            held.extend(hook for hook in current() if hook not in held)


def is_stale(agent: Any) -> bool:
    """Whether an agent has worked before the hooks were put, and goes on without them."""
    executor = getattr(agent, "agent_executor", None)
    held = [getattr(executor, name, None) for name in _SNAPSHOTS]
    return any(
        isinstance(hooks, list) and any(hook not in hooks for hook in current())
        for hooks, current in zip(held, _SNAPSHOTS.values(), strict=True)
    )


def uninstall() -> None:
    """Take exactly these hooks out again.

    Protected tools go on asking by themselves. While an agent is still bound they refuse, since
    nothing tells them any more which agent calls.
    """
    global _wanted
    _wanted = False
    for point, hook in HOOKS.items():
        unregister_hook(point, hook)
    for event in _EVENTS:
        crewai_event_bus.off(event, after_event)


def missing_hooks() -> list[str]:
    """The points at which somebody has taken a hook out, or none was ever put."""
    return [point.value for point, hook in HOOKS.items() if hook not in get_hooks(point)]


def are_gone() -> bool:
    """Whether hooks are missing that were installed, and that nobody has uninstalled."""
    return _wanted and bool(missing_hooks())


def assert_installed(*agents: Any) -> None:
    """Make sure that nobody has cleared the hooks.

    Args:
        agents: Agents to look at as well: one that has worked before `install()` was called goes
            on without the model hooks until it is bound.

    Raises:
        ConfigurationError: A hook is missing, or an agent works without.
    """
    missing = missing_hooks()
    if missing:
        raise ConfigurationError(f"hooks are not installed: {', '.join(missing)}; call install()")
    for agent in agents:
        if is_stale(agent):
            raise ConfigurationError(
                f"the agent `{agent.role}` has worked before install() and goes on without the "
                "hooks: build it anew, or bind it"
            )

"""`install`: every tool and model call of every crew in this process is admitted before it runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from crewai.hooks import InterceptionPoint, get_hooks, register_hook, unregister_hook

from tabard import ConfigurationError
from tabard_crewai.model_hooks import after_execution, after_model, before_model
from tabard_crewai.tool_hooks import after_tool, before_tool

HOOKS: dict[InterceptionPoint, Callable[[Any], Any]] = {
    InterceptionPoint.PRE_TOOL_CALL: before_tool,
    InterceptionPoint.POST_TOOL_CALL: after_tool,
    InterceptionPoint.PRE_MODEL_CALL: before_model,
    InterceptionPoint.POST_MODEL_CALL: after_model,
    InterceptionPoint.EXECUTION_END: after_execution,
}


def install() -> None:
    """Register the hooks for this process; doing it again changes nothing.

    Call it before crews are built: CrewAI gives each executor the model hooks of that moment.
    """
    for point, hook in HOOKS.items():
        if hook not in get_hooks(point):
            register_hook(point, hook)


def uninstall() -> None:
    """Take exactly these hooks out again.

    Protected tools go on asking by themselves. While an agent is still bound they refuse, since
    nothing tells them any more which agent calls.
    """
    for point, hook in HOOKS.items():
        unregister_hook(point, hook)


def missing_hooks() -> list[str]:
    """The points at which somebody has taken a hook out, or none was ever put."""
    return [point.value for point, hook in HOOKS.items() if hook not in get_hooks(point)]


def assert_installed() -> None:
    """Make sure that nobody has cleared the hooks.

    Raises:
        ConfigurationError: One is missing.
    """
    missing = missing_hooks()
    if missing:
        raise ConfigurationError(f"hooks are not installed: {', '.join(missing)}; call install()")

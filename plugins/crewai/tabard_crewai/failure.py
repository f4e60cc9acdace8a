"""How a tool call ended: on tabard's record, and in CrewAI's own report of the task."""

from __future__ import annotations

import contextlib
from typing import Any

from crewai.hooks import HookAborted
from crewai.tools.tool_failure import ToolExecutionFailedError, ToolFailure, handle_tool_failure

from tabard import AccessDenied, Permit

_FAILURES = {
    "Error executing tool: ": "tool_error",
    "Tool execution blocked by hook.": "blocked_by_another_hook",
}
"""How CrewAI begins the text that stands for a result when there is none."""


def failure_of(refusal: AccessDenied) -> ToolFailure:
    """A refusal in CrewAI's own form."""
    return ToolFailure(message=f"Denied: {refusal.reason}", code=refusal.code)


def end_call(permit: Permit, result: object, *, from_cache: bool = False) -> None:
    """Settle, or fail where the tool or CrewAI says that it failed or did not run.

    Args:
        permit: The call.
        result: What CrewAI has for a result.
        from_cache: Whether it comes from the crew's cache, so that the tool did not run.
    """
    if isinstance(result, ToolFailure):
        permit.fail(result.code or result.reason.value)
        return
    text = result if isinstance(result, str) else ""
    error = next((kind for start, kind in _FAILURES.items() if text.startswith(start)), None)
    if error is not None:
        permit.fail(error)
    else:
        permit.settle(result, usage={"from_cache": 1} if from_cache else None)


def report_refusal(context: Any, refusal: AccessDenied) -> None:
    """Put a refusal into the task's output, as CrewAI does with the failure of a tool.

    Raises:
        HookAborted: The host wants a run to end when a tool fails.
    """
    try:
        with contextlib.suppress(TypeError, AttributeError, ValueError):
            handle_tool_failure(
                failure_of(refusal),
                tool_name=context.tool_name,
                tool_args=context.tool_input,
                tool=context.tool,
                agent=context.agent,
                task=context.task,
                crew=context.crew,
            )
    except ToolExecutionFailedError:
        raise HookAborted(f"{refusal.code}: {refusal.reason}", "tabard") from None

"""The hooks around a tool call.

CrewAI lets a call through when a hook raises anything but `HookAborted`, so nothing else leaves.
"""

from __future__ import annotations

import re
from typing import Any

from crewai.hooks import HookAborted
from crewai.utilities.string_utils import sanitize_tool_name

from tabard import AccessDenied, Permit, ToolCall, admit
from tabard_crewai import progress
from tabard_crewai.bound import session_of
from tabard_crewai.model_hooks import model_calls
from tabard_crewai.refusal import refuse_admitted, refuse_unreadable, untranslatable
from tabard_crewai.ticket import Ticket

SOURCE = "tabard"
_FAILURES = {
    "Error executing tool: ": "tool_error",
    "Tool execution blocked by hook.": "blocked_by_another_hook",
}
"""How CrewAI begins the text that stands for a result when there is none."""


def before_tool(context: Any) -> None:
    """Admit a tool call, or abort it.

    Raises:
        HookAborted: It is refused, for whatever reason.
    """
    try:
        outcome = _decide(context)
        progress.begin(getattr(context, "tool_input", None), outcome)
    except Exception as error:
        raise HookAborted(untranslatable(error).reason, SOURCE) from None
    if isinstance(outcome, AccessDenied):
        raise HookAborted(outcome.reason, SOURCE)


def _decide(context: Any) -> Ticket | AccessDenied:
    try:
        model_calls.answered(context)  # this tool call is what the model has said
        return _admit(context)
    except AccessDenied as refusal:
        return refusal
    except Exception as error:
        name = getattr(context, "tool_name", None)
        return refuse_unreadable(
            error,
            tool=name if isinstance(name, str) and name else "(unreadable)",
            session=session_of(getattr(context, "agent", None)),
        )


def _admit(context: Any) -> Ticket:
    name = _name_of(context)
    action = ToolCall(name, _arguments_that_run(context))
    permit = admit(action, session=session_of(context.agent))
    if _is_ambiguous(context):
        raise refuse_admitted(
            permit,
            code="ambiguous_tool",
            reason=f"several tools are known to CrewAI as {context.tool_name}; rename one of them",
        )
    try:
        return Ticket(action, permit)
    except Exception as error:
        permit.fail(error)
        raise


def _arguments_that_run(context: Any) -> dict[str, Any]:
    """The arguments as CrewAI will pass them: validated, defaults filled in.

    Where they do not fit the schema CrewAI will not run the tool; then they are judged as they are.
    """
    schema = getattr(context.tool, "args_schema", None)
    if schema is None or not schema.model_fields:
        return dict(context.tool_input)
    try:
        validated: dict[str, Any] = schema.model_validate(context.tool_input).model_dump()
    except ValueError:
        return dict(context.tool_input)
    return validated


def _name_of(context: Any) -> str:
    """The tool's own name, as it was written; CrewAI knows it by a simplified one."""
    original = getattr(context.tool, "_original_tool", None) or context.tool
    name = getattr(original, "name", None) or context.tool_name
    if not isinstance(name, str):
        raise TypeError("a tool without a name")
    return name


def _is_ambiguous(context: Any) -> bool:
    """Whether tools share a simplified name here, so that which one runs is not certain.

    CrewAI may number them (`lookup`, `lookup_2`), and then take one for a tool of that very name.
    """
    holders = (context.agent, context.task, getattr(context.agent, "agent_executor", None))
    tools = [tool for holder in holders for tool in getattr(holder, "tools", None) or ()]
    names = {tool.name for tool in tools if isinstance(getattr(tool, "name", None), str)}
    root = _unnumbered(context.tool_name)
    near = [n for n in map(sanitize_tool_name, names) if _unnumbered(n) == root]
    return len(near) != len(set(near))


def _unnumbered(name: str) -> str:
    return re.sub(r"(_[0-9]+)+$", "", name)


def after_tool(context: Any) -> str | None:
    """Record how a tool call ended; tell the model why if it was refused."""
    outcome = progress.end(context.tool_input)
    if isinstance(outcome, AccessDenied):
        return f"Denied: {outcome.reason} (code: {outcome.code})"
    if outcome is not None:
        outcome.void()
        _record_outcome(outcome.permit, context.raw_tool_result)
    return None


def _record_outcome(permit: Permit, result: object) -> None:
    """Settle, or fail where CrewAI says in words that the tool failed or did not run."""
    text = result if isinstance(result, str) else ""
    error = next((kind for start, kind in _FAILURES.items() if text.startswith(start)), None)
    if error is None:
        permit.settle(result)
    else:
        permit.fail(error)

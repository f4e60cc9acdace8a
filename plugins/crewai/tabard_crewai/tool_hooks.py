"""The hooks around a tool call.

CrewAI lets a call through when a hook raises anything but `HookAborted`, so nothing else leaves.
"""

from __future__ import annotations

import json
import re
from typing import Any

from crewai.hooks import HookAborted
from crewai.utilities.string_utils import sanitize_tool_name

from tabard import AccessDenied, Permit, ToolCall
from tabard_crewai import progress
from tabard_crewai.bound import own_session, session_of
from tabard_crewai.caller import admit_of_agent
from tabard_crewai.failure import end_call, report_refusal
from tabard_crewai.handover import (
    Handover,
    coworker_of,
    hand_over,
    is_handover,
    role_as_written,
)
from tabard_crewai.model_hooks import model_calls
from tabard_crewai.progress import Decided
from tabard_crewai.refusal import refuse_admitted, refuse_unreadable, untranslatable
from tabard_crewai.ticket import Ticket

SOURCE = "tabard"


def before_tool(context: Any) -> None:
    """Admit a tool call, or abort it.

    Raises:
        HookAborted: It is refused, for whatever reason.
    """
    try:
        decided = _decide(context)
        progress.begin(getattr(context, "tool_input", None), *decided)
    except Exception as error:
        raise HookAborted(untranslatable(error).reason, SOURCE) from None
    if isinstance(decided.outcome, AccessDenied):
        raise HookAborted(decided.outcome.reason, SOURCE)


def _decide(context: Any) -> Decided:
    try:
        model_calls.answered(context)  # this tool call is what the model has said
        return _admit(context)
    except AccessDenied as refusal:
        return Decided(refusal)
    except Exception as error:
        name = getattr(context, "tool_name", None)
        unreadable = refuse_unreadable(
            error,
            tool=name if isinstance(name, str) and name else "(unreadable)",
            session=session_of(getattr(context, "agent", None)),
        )
        return Decided(unreadable)


def _admit(context: Any) -> Decided:
    tool = getattr(context.tool, "_original_tool", None) or context.tool
    arguments = _arguments_that_run(context)
    coworker = coworker_of(tool, arguments) if is_handover(tool) else None
    if coworker is not None:  # whom CrewAI reads the argument as, however the model spells it
        arguments["coworker"] = role_as_written(coworker)
    action = ToolCall(_name_of(context, tool), arguments)
    permit = admit_of_agent(action, context.agent, context.crew)
    if _is_ambiguous(context):
        raise refuse_admitted(
            permit,
            code="ambiguous_tool",
            reason=f"several tools are known to CrewAI as {context.tool_name}; rename one of them",
        )
    try:
        handover = _hand_over(tool, coworker, permit)
        return Decided(Ticket(action, permit), handover, _cached(context))
    except Exception as error:
        permit.fail(error.code if isinstance(error, AccessDenied) else error)
        raise


def _hand_over(tool: Any, coworker: Any, permit: Permit) -> Handover | None:
    if tool is None:  # CrewAI may run one it does not show here: it is lent nobody who is bound
        return Handover(None, permit.session)
    if not is_handover(tool):
        return None
    own = own_session(coworker)
    return hand_over(coworker, permit.session, None if own is None else progress.acting(own))


def _cached(context: Any) -> object:
    """What CrewAI will answer with instead of running the tool, if it keeps results."""
    cache = getattr(getattr(context.agent, "tools_handler", None), "cache", None)
    if cache is None:
        return None
    key = json.dumps(context.tool_input) if context.tool_input else ""
    return cache.read(tool=context.tool_name, input=key)


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


def _name_of(context: Any, tool: Any) -> str:
    """The tool's own name, as it was written; CrewAI knows it by a simplified one.

    CrewAI's own tools that ask a coworker go by the simplified one: nobody has written them.
    """
    name = context.tool_name if is_handover(tool) else getattr(tool, "name", context.tool_name)
    if not isinstance(name, str) or not name:
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
    """Record how a tool call ended; tell the model, and the task's output, why if it was refused.

    Raises:
        HookAborted: The host's `tool_failure_policy` is to abort when a tool fails.
    """
    decided = progress.end(context.tool_input)
    if decided is None:
        return None
    if isinstance(decided.outcome, AccessDenied):
        report_refusal(context, decided.outcome)
        return f"Denied: {decided.outcome.reason} (code: {decided.outcome.code})"
    decided.outcome.void()
    result = context.raw_tool_result
    from_cache = decided.cached is not None and result is decided.cached
    end_call(decided.outcome.permit, result, from_cache=from_cache)
    return None

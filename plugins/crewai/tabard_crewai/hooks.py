"""The process-wide hooks: every tool and model call of every crew is admitted before it runs.

CrewAI lets a call through when a hook raises anything but `HookAborted`, so nothing else ever
leaves one of these.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from crewai.hooks import (
    HookAborted,
    InterceptionPoint,
    get_hooks,
    register_hook,
    unregister_hook,
)
from crewai.utilities.string_utils import sanitize_tool_name

from tabard import (
    AccessDenied,
    ConfigurationError,
    GuardUnavailable,
    ModelCall,
    Permit,
    ToolCall,
    admit,
)
from tabard_crewai.binding import session_of
from tabard_crewai.progress import ModelCalls, ToolCalls
from tabard_crewai.ticket import Ticket, hand_over

_SOURCE = "tabard"
_FAILURES = {
    "Error executing tool: ": "tool_error",
    "Tool execution blocked by hook.": "blocked_by_another_hook",
}
"""How CrewAI begins the text that stands for a result when there is none."""

_tool_calls = ToolCalls()
_model_calls = ModelCalls()


def install() -> None:
    """Register the hooks for this process; doing it again changes nothing.

    Call it before crews are built: CrewAI gives each executor the model hooks of that moment.
    """
    for point, hook in _HOOKS.items():
        if hook not in get_hooks(point):
            register_hook(point, hook)


def uninstall() -> None:
    """Take exactly these hooks out again; protected tools go on asking by themselves."""
    for point, hook in _HOOKS.items():
        unregister_hook(point, hook)


def assert_installed() -> None:
    """Make sure that nobody has cleared the hooks.

    Raises:
        ConfigurationError: One is missing.
    """
    missing = [point.value for point, hook in _HOOKS.items() if hook not in get_hooks(point)]
    if missing:
        raise ConfigurationError(f"hooks are not installed: {', '.join(missing)}; call install()")


def _before_tool(context: Any) -> None:
    """Admit a tool call, or abort it."""
    try:
        hand_over(None)
        _model_calls.end(context)  # the model has answered: this tool call is what it said
        try:
            outcome: Ticket | AccessDenied = _admit_tool(context)
        except AccessDenied as refusal:
            outcome = refusal
        _tool_calls.begin(context.tool_input, outcome)
    except Exception as error:
        raise HookAborted(_internal(error).reason, _SOURCE) from None
    if isinstance(outcome, AccessDenied):
        raise HookAborted(outcome.reason, _SOURCE)
    hand_over(outcome)


def _admit_tool(context: Any) -> Ticket:
    name = _name_of(context)
    arguments = _arguments_that_run(context)
    permit = admit(ToolCall(name, arguments), session=session_of(context.agent))
    return Ticket(name, arguments, permit)


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
    """The tool's own name, as it was written; CrewAI knows it by a simplified one.

    Raises:
        AccessDenied: Several tools share the simplified name, so which one runs is not certain.
    """
    original = getattr(context.tool, "_original_tool", None) or context.tool
    name = getattr(original, "name", None) or context.tool_name
    if not isinstance(name, str):
        raise TypeError("a tool without a name")
    rivals = {
        other for other in _tool_names(context) if sanitize_tool_name(other) == context.tool_name
    }
    if rivals - {name}:
        raise GuardUnavailable(
            code="ambiguous_tool",
            reason=f"several tools are known to CrewAI as {context.tool_name}; rename one of them",
            action=name,
        )
    return name


def _tool_names(context: Any) -> set[str]:
    """The names of every tool that may be meant in this call."""
    holders = (context.agent, context.task, getattr(context.agent, "agent_executor", None))
    tools = [tool for holder in holders for tool in getattr(holder, "tools", None) or ()]
    return {tool.name for tool in tools if isinstance(getattr(tool, "name", None), str)}


def _after_tool(context: Any) -> str | None:
    """Record how a tool call ended; tell the model why if it was refused."""
    outcome = _tool_calls.end(context.tool_input)
    hand_over(None)
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
        permit.settle()
    else:
        permit.fail(error)


def _before_model(context: Any) -> None:
    """Admit a model call, or abort it."""
    try:
        permit = admit(_model_of(context.llm), session=session_of(context.agent))
        _model_calls.begin(context, permit)
    except AccessDenied as refusal:
        raise HookAborted(f"{refusal.code}: {refusal.reason}", _SOURCE) from None
    except Exception as error:
        raise HookAborted(_internal(error).reason, _SOURCE) from None


def _model_of(llm: Any) -> ModelCall:
    name = llm if isinstance(llm, str) else getattr(llm, "model", None)
    if not isinstance(name, str) or not name:
        return ModelCall("unknown")
    provider = getattr(llm, "provider", None)
    if "/" in name or not isinstance(provider, str) or not provider:
        return ModelCall(name)
    return ModelCall(name, provider=provider)


def _after_model(context: Any) -> None:
    """Record that the model has answered."""
    _model_calls.end(context)


def _internal(error: Exception) -> GuardUnavailable:
    kind = type(error).__name__
    return GuardUnavailable(
        code="hook", reason=f"the call could not be translated into an action: {kind}"
    )


_HOOKS: dict[InterceptionPoint, Callable[[Any], Any]] = {
    InterceptionPoint.PRE_TOOL_CALL: _before_tool,
    InterceptionPoint.POST_TOOL_CALL: _after_tool,
    InterceptionPoint.PRE_MODEL_CALL: _before_model,
    InterceptionPoint.POST_MODEL_CALL: _after_model,
}

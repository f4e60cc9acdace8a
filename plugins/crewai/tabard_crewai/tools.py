"""`protect`: a CrewAI tool that asks the guard itself, with the arguments that will run.

A refusal comes back as CrewAI's `ToolFailure`: the model is told why, the failure is in the task's
output, and nothing is retried. (An exception would make the ReAct path call the tool six times.)
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from crewai.tools import BaseTool
from crewai.tools.base_tool import Tool
from crewai.tools.mcp_native_tool import MCPNativeTool
from crewai.tools.mcp_tool_wrapper import MCPToolWrapper
from crewai.tools.tool_failure import ToolFailure

from tabard import AccessDenied, ConfigurationError, Permit, ToolCall, admit
from tabard.arguments import BoundCall, bind_call
from tabard_crewai.bound import is_any_bound
from tabard_crewai.failure import end_call, failure_of
from tabard_crewai.handover import is_handover
from tabard_crewai.hooks import are_gone, missing_hooks
from tabard_crewai.progress import redeem
from tabard_crewai.refusal import refuse_admitted, refuse_unreadable

_Tool = TypeVar("_Tool", bound=BaseTool)
_MARK = "__tabard_protected__"


def protect(tool: _Tool) -> _Tool:
    """A copy of a tool whose every call is admitted first; the original is left as it is.

    Put it above `@tool`, or call it on a tool object. The copy is of the same class with the same
    schema; results of it are never taken from the crew's cache, where they would skip the guard.

    Raises:
        ConfigurationError: It is not a CrewAI tool, or one whose work is not in `_run` or `_arun`.
    """
    if not isinstance(tool, BaseTool):
        raise ConfigurationError(
            f"protect: expected a CrewAI tool, found {type(tool).__name__}; put @protect above "
            "@tool, or call it on an instance of your tool class"
        )
    if is_handover(tool):
        raise ConfigurationError(
            f"protect: `{tool.name}` asks a coworker; install() admits it and narrows what the "
            "coworker may do, which a tool by itself cannot"
        )
    _refuse_other_entrances(type(tool))
    copy = tool.model_copy(update={"cache_function": _never_cache})
    # Set on the instance, past pydantic: the class may be shared by tools that are not protected.
    for attribute in _bodies(tool):
        object.__setattr__(copy, attribute, _wrap(getattr(copy, attribute), tool.name))
    return copy


def _never_cache(*_: object) -> bool:
    return False


def _refuse_other_entrances(kind: type[BaseTool]) -> None:
    """Refuse a class that runs in a way of its own: it would be guarded in appearance only."""
    for entrance in ("run", "arun", "to_structured_tool", "__call__"):
        owner = next((c for c in kind.__mro__ if entrance in vars(c)), BaseTool)
        if owner not in (BaseTool, Tool):
            raise ConfigurationError(
                f"protect: {kind.__name__} has a `{entrance}` of its own, which cannot be guarded; "
                "put the work into `_run` or `_arun`"
            )


def _bodies(tool: BaseTool) -> list[str]:
    """The attributes through which the tool's body can be reached."""
    kind = type(tool)
    for remote, body in _REMOTE_BODIES.items():
        if isinstance(tool, remote) and kind._run is remote._run:
            return [body]
    bodies = ["func"] if callable(getattr(tool, "func", None)) else []
    if kind._run is Tool._run and kind._arun is Tool._arun:
        return bodies  # they do nothing but call `func`
    return [*bodies, "_run"] + (["_arun"] if kind._arun is not BaseTool._arun else [])


_REMOTE_BODIES: dict[type[BaseTool], str] = {
    MCPNativeTool: "_run_async",
    MCPToolWrapper: "_execute_tool",
}
"""What asks the MCP server, once each time it is called: the rest of these classes leads to it."""


def _wrap(function: Callable[..., Any], name: str) -> Callable[..., Any]:
    """Guard one body; guarding it twice changes nothing."""
    # `functools.wraps` copies attributes: a function around a guarded one bears its mark, too.
    guarded_already: object = getattr(function, _MARK, None)
    if guarded_already is function:
        return function
    signature = inspect.signature(function)
    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def guarded_later(*args: Any, **kwargs: Any) -> Any:
            admitted = _ask(name, signature, args, kwargs)
            if isinstance(admitted, ToolFailure):
                return admitted
            permit, call = admitted
            with permit, permit.session:
                answer = await function(*call.args, **call.kwargs)
                end_call(permit, answer)
                return answer

        guarded: Callable[..., Any] = guarded_later
    else:

        @functools.wraps(function)
        def guarded(*args: Any, **kwargs: Any) -> Any:
            admitted = _ask(name, signature, args, kwargs)
            if isinstance(admitted, ToolFailure):
                return admitted
            permit, call = admitted
            try:
                with permit.session:
                    result = function(*call.args, **call.kwargs)
            except BaseException as error:
                permit.fail(error)
                raise
            if inspect.isawaitable(result):
                return _finish(result, permit)
            end_call(permit, result)
            return result

    setattr(guarded, _MARK, guarded)
    return guarded


async def _finish(result: Awaitable[Any], permit: Permit) -> Any:
    """Run what a function has only promised, still as the agent it was admitted for."""
    with permit, permit.session:
        answer = await result
        end_call(permit, answer)
        return answer


def _ask(
    name: str, signature: inspect.Signature, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Permit, BoundCall] | ToolFailure:
    """The permit and the arguments to run with, or the refusal in CrewAI's own form."""
    try:
        call = bind_call(signature, args, kwargs)
        return _admit(ToolCall(name, call.named)), call
    except AccessDenied as refusal:
        return failure_of(refusal)
    except Exception as error:
        return failure_of(refuse_unreadable(error, tool=name))


def _admit(action: ToolCall) -> Permit:
    """Use the hook's permit if it is for this very call, else ask for one of our own."""
    try:
        permit = redeem(action)
    except ValueError:
        permit = None  # the guard refuses these arguments itself, and puts that on record
    permit = permit or admit(action)
    if are_gone() or (is_any_bound() and missing_hooks()):
        raise refuse_admitted(
            permit,
            code="hooks_missing",
            reason="the hooks that tell which one calls are gone",
        )
    return permit

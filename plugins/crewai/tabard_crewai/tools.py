"""`protect`: a CrewAI tool that asks the guard itself, with the arguments that will run.

A refusal comes back as CrewAI's `ToolFailure`: the model is told why, the failure is in the task's
output, and nothing is retried. (An exception would make the ReAct path call the tool six times.)
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar, cast

from crewai.tools import BaseTool
from crewai.tools.base_tool import Tool
from crewai.tools.tool_failure import ToolFailure

from tabard import (
    AccessDenied,
    AuthenticationFailed,
    ConfigurationError,
    GuardUnavailable,
    Permit,
    ToolCall,
    admit,
    current_session,
)
from tabard.arguments import BoundCall, bind_call
from tabard_crewai.ticket import redeem, session_for

_Tool = TypeVar("_Tool", bound=BaseTool)
_MARK = "__tabard_protected__"


def protect(tool: _Tool) -> _Tool:
    """A copy of a tool whose every call is admitted first; the original is left as it is.

    Put it above `@tool`, or call it on a tool object. The copy is of the same class with the same
    schema; results of it are never taken from the crew's cache, where they would skip the guard.

    Raises:
        ConfigurationError: It is not a CrewAI tool.
    """
    if not isinstance(tool, BaseTool):
        raise ConfigurationError(
            f"protect: expected a CrewAI tool, found {type(tool).__name__}; put @protect above "
            "@tool, or call it on an instance of your tool class"
        )
    copy = tool.model_copy(update={"cache_function": _never_cache})
    # Set on the instance, past pydantic: the class may be shared by tools that are not protected.
    for attribute in _bodies(tool):
        object.__setattr__(copy, attribute, _wrap(getattr(copy, attribute), tool.name))
    return copy


def _never_cache(*_: object) -> bool:
    return False


def _bodies(tool: BaseTool) -> list[str]:
    """The attributes through which the tool's body can be reached."""
    kind = type(tool)
    bodies = ["func"] if callable(getattr(tool, "func", None)) else []
    if kind._run is Tool._run and kind._arun is Tool._arun and kind.run is Tool.run:
        return bodies  # they do nothing but call `func`
    return [*bodies, "_run"] + (["_arun"] if kind._arun is not BaseTool._arun else [])


def _wrap(function: Callable[..., Any], name: str) -> Callable[..., Any]:
    """Guard one body; guarding it twice changes nothing."""
    if getattr(function, _MARK, False):
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
                return await function(*call.args, **call.kwargs)

        guarded: Callable[..., Any] = guarded_later
    else:

        @functools.wraps(function)
        def guarded(*args: Any, **kwargs: Any) -> Any:
            admitted = _ask(name, signature, args, kwargs)
            if isinstance(admitted, ToolFailure):
                return admitted
            permit, call = admitted
            with permit, permit.session:
                return function(*call.args, **call.kwargs)

    setattr(guarded, _MARK, True)
    return guarded


def _ask(
    name: str, signature: inspect.Signature, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Permit, BoundCall] | ToolFailure:
    """The permit and the arguments to run with, or the refusal in CrewAI's own form."""
    try:
        call = bind_call(signature, args, kwargs)
        return _admit(ToolCall(name, call.named)), call
    except AccessDenied as refusal:
        return _failure(refusal)
    except Exception as error:
        return _failure(_refuse_unreadable(name, error))


def _admit(action: ToolCall) -> Permit:
    """Use the hook's permit if it is for this very call, else ask for one of our own."""
    caller = session_for(action.name) or current_session()
    try:
        permit = redeem(action)
    except ValueError:
        permit = None  # the guard refuses these arguments itself, and puts that on record
    return permit or admit(action, session=caller)


def _refuse_unreadable(name: str, error: Exception) -> AccessDenied:
    """The refusal of a call that cannot be put to the guard; the attempt is on record."""
    try:
        admit(ToolCall(name, cast(Any, None))).fail(error)  # no guard accepts no arguments
    except AuthenticationFailed as refusal:
        return refusal
    except AccessDenied:
        pass
    kind = type(error).__name__
    return GuardUnavailable(
        code="hook", reason=f"the call could not be translated into an action: {kind}"
    )


def _failure(refusal: AccessDenied) -> ToolFailure:
    return ToolFailure(message=f"Denied: {refusal.reason}", code=refusal.code)

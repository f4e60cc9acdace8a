"""`protect(tool)`: a tool that asks the guard itself, with the arguments that will run.

The guard sits around the tool's own function, behind LangChain's validation, so it decides on
validated and defaulted values, and no path around the callbacks (`.func`, threads, `callbacks=[]`)
leads past it.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from langchain_core.tools import BaseTool, StructuredTool, Tool
from pydantic import BaseModel

from tabard import (
    ConfigurationError,
    GuardUnavailable,
    Permit,
    ToolCall,
    admit,
    current_session,
)
from tabard.arguments import named_arguments, plain_arguments
from tabard.ticket import redeem, session_for

_Tool = TypeVar("_Tool", bound=BaseTool)
_MARK = "__tabard_protected__"
_FRAMEWORK = frozenset({"config", "run_manager", "callbacks"})


def protect(tool: _Tool) -> _Tool:
    """A copy of a tool whose every call is admitted first; the original is left as it is.

    The copy is of the same class with the same schema. Arguments that LangChain injects for the
    host (`InjectedToolArg`) may be constrained by a grant and are never refused as unknown;
    framework objects (config, callbacks, state) are left out of the decision.

    Raises:
        ConfigurationError: It is not a LangChain tool.
    """
    if not isinstance(tool, BaseTool):
        raise ConfigurationError(
            f"protect: expected a LangChain tool, found {type(tool).__name__}; put @tool below "
            "@protect, or use guard.protect for a plain function"
        )
    visible = _visible_arguments(tool)
    wrap = functools.partial(_wrap, name=tool.name, visible=visible)
    copy = tool.model_copy()
    # Set on the instance, past pydantic: the class may be shared by tools that are not protected.
    for attribute in _bodies(tool):
        object.__setattr__(copy, attribute, wrap(getattr(copy, attribute)))
    return copy


def _bodies(tool: BaseTool) -> list[str]:
    """The attributes through which the tool's body can be reached."""
    kind = type(tool)
    bodies = [name for name in ("func", "coroutine") if callable(getattr(tool, name, None))]
    if any(kind._run is base._run and kind._arun is base._arun for base in (StructuredTool, Tool)):
        return bodies  # `_run` does nothing but call `func`
    # An inherited `_arun` hands over to `_run`, which is guarded.
    return [*bodies, "_run"] + (["_arun"] if kind._arun is not BaseTool._arun else [])


def _visible_arguments(tool: BaseTool) -> frozenset[str]:
    """The arguments a model can send; every other parameter is supplied by the host."""
    if isinstance(tool, Tool) and tool.args_schema is None:
        # A classic one-text tool has no schema of its own: whatever its function takes is the text.
        bodies = [getattr(tool, name) for name in _bodies(tool)]
        return frozenset(name for body in bodies for name in inspect.signature(body).parameters)
    schema = tool.tool_call_schema
    if isinstance(schema, dict):
        return frozenset(schema.get("properties", {}))
    if issubclass(schema, BaseModel):
        return frozenset(schema.model_fields)
    return frozenset(schema.__fields__)


def _wrap(
    function: Callable[..., Any], *, name: str, visible: frozenset[str]
) -> Callable[..., Any]:
    """Guard one body; guarding it twice changes nothing."""
    if getattr(function, _MARK, False):
        return function
    signature = inspect.signature(function)

    def describe(args: tuple[Any, ...], kwargs: dict[str, Any]) -> ToolCall:
        return _describe(name, visible, signature, args, kwargs)

    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def guarded_later(*args: Any, **kwargs: Any) -> Any:
            with _admit(describe, args, kwargs):
                return await function(*args, **kwargs)

        guarded: Callable[..., Any] = guarded_later
    else:

        @functools.wraps(function)
        def guarded(*args: Any, **kwargs: Any) -> Any:
            with _admit(describe, args, kwargs):
                return function(*args, **kwargs)

    setattr(guarded, _MARK, True)
    return guarded


def _admit(
    describe: Callable[[tuple[Any, ...], dict[str, Any]], ToolCall],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Permit:
    """The handler's permit if it is for this very call, else one of our own.

    Raises:
        AccessDenied: The call is refused; arguments that do not fit the function are, too.
    """
    try:
        action = describe(args, kwargs)
    except Exception as error:
        raise GuardUnavailable(
            code="hook",
            reason=f"the call could not be translated into an action: {type(error).__name__}",
        ) from None
    try:
        permit = redeem(action.name, plain_arguments(action.arguments))
    except ValueError:
        permit = None  # the guard refuses these arguments itself, and puts that on record
    return permit or admit(action, session=session_for(action.name) or current_session())


def _describe(
    name: str,
    visible: frozenset[str],
    signature: inspect.Signature,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> ToolCall:
    """The call with its arguments by name, defaults filled in, framework objects left out."""
    given = named_arguments(signature, args, kwargs)
    from_host = (signature.parameters.keys() - visible) & given.keys()
    left_out = {
        key
        for key in given
        if key in _FRAMEWORK or (key in from_host and not _is_plain(given[key]))
    } - visible
    arguments = {key: value for key, value in given.items() if key not in left_out}
    return ToolCall(name, arguments, injected=frozenset(from_host - left_out))


def _is_plain(value: object) -> bool:
    """Whether a host's argument is data that a policy can speak of, not a framework's object."""
    if not isinstance(value, str | int | float | list | tuple | dict | None):
        return False
    try:
        plain_arguments({"value": value})
    except ValueError:
        return False
    return True

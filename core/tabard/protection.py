"""Guards plain Python functions: sync, async, and generators of both kinds."""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncIterator, Callable, Generator
from typing import TYPE_CHECKING, Any, TypeVar, cast

from tabard.actions import ToolCall
from tabard.arguments import BoundCall, bind_call
from tabard.errors import ConfigurationError

if TYPE_CHECKING:
    from tabard.guard import Guard

_Function = TypeVar("_Function", bound=Callable[..., Any])
_MARK = "__tabard_guard__"


def protect_function(guard: Guard, function: _Function, name: str | None) -> _Function:
    """Wrap a function so that each call of it is admitted first; see `Guard.protect`.

    Raises:
        ConfigurationError: It is not a function, or another guard protects it already.
    """
    if not inspect.isroutine(function):
        raise ConfigurationError(
            f"protect: expected a function, found {type(function).__name__}; "
            "decorate a class's methods one by one"
        )
    # `functools.wraps` copies attributes, so the mark counts only on the function it was put on.
    marked, protector = getattr(function, _MARK, (None, None))
    if marked is function:
        if protector is guard:
            return cast(_Function, function)
        raise ConfigurationError("protect: another guard protects this function already")
    wrapper = _wrap(guard, function, _read_calls(function, name))
    setattr(wrapper, _MARK, (wrapper, guard))
    return cast(_Function, wrapper)


def _read_calls(function: Any, name: str | None) -> _Calls:
    try:
        return _Calls(function, name)
    except (TypeError, ValueError):
        raise ConfigurationError(
            "protect: this function does not tell its parameters; wrap it in one that does"
        ) from None


class _Calls:
    """Turns a call of one function into an action, and into arguments to run with."""

    def __init__(self, function: Any, name: str | None) -> None:
        self._tool = name or str(getattr(function, "__name__", ""))
        self._signature = inspect.signature(function)
        first = next(iter(self._signature.parameters), None)
        self._receiver = first if first in ("self", "cls") and _is_method(function) else None

    def read(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[ToolCall, BoundCall]:
        """The action and the bound call; what cannot be read is an action that is refused.

        Raises:
            TypeError: The arguments do not fit the function, as without protection.
        """
        self._signature.bind(*args, **kwargs)
        try:
            call = bind_call(self._signature, args, kwargs, receiver=self._receiver)
        except Exception:
            # No guard accepts arguments that are no mapping: refused as `arg.type`, and on record.
            return ToolCall(self._tool, cast(Any, None)), BoundCall((), {}, {})
        return ToolCall(self._tool, call.named), call


def _is_method(function: Any) -> bool:
    """Whether it was written in a class: there its first parameter is no argument of the call."""
    parent = getattr(function, "__qualname__", "").rpartition(".")[0]
    return bool(parent) and not parent.endswith("<locals>")


def _wrap(guard: Guard, function: Any, calls: _Calls) -> Callable[..., Any]:
    """The wrapper for the function's kind; each admits before the body's first line."""
    if inspect.isasyncgenfunction(function):

        @functools.wraps(function)
        async def stream_later(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
            action, call = calls.read(args, kwargs)
            with await guard.aadmit(action):
                async for item in function(*call.args, **call.kwargs):
                    yield item

        return stream_later
    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def call_later(*args: Any, **kwargs: Any) -> Any:
            action, call = calls.read(args, kwargs)
            with await guard.aadmit(action) as permit:
                result = await function(*call.args, **call.kwargs)
                permit.settle(result)
                return result

        return call_later
    if inspect.isgeneratorfunction(function):

        @functools.wraps(function)
        def stream(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
            action, call = calls.read(args, kwargs)
            with guard.admit(action):
                return (yield from function(*call.args, **call.kwargs))

        return stream

    @functools.wraps(function)
    def call_now(*args: Any, **kwargs: Any) -> Any:
        action, call = calls.read(args, kwargs)
        with guard.admit(action) as permit:
            result = function(*call.args, **call.kwargs)
            permit.settle(result)
            return result

    return call_now

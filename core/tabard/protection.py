"""Guards plain Python functions: sync, async, and generators of both kinds."""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncIterator, Callable, Generator
from typing import TYPE_CHECKING, Any, TypeVar, cast

from tabard.actions import ToolCall
from tabard.arguments import named_arguments
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
    protector = getattr(function, _MARK, None)
    if protector is guard:
        return cast(_Function, function)
    if protector is not None:
        raise ConfigurationError("protect: another guard protects this function already")
    tool = name or str(getattr(function, "__name__", ""))
    signature = inspect.signature(function)
    first = next(iter(signature.parameters), None)
    receiver = first if first in ("self", "cls") else None

    def describe(args: tuple[Any, ...], kwargs: dict[str, Any]) -> ToolCall:
        arguments = named_arguments(signature, args, kwargs)
        if receiver is not None:
            arguments.pop(receiver)
        return ToolCall(tool, arguments)

    wrapper = _wrap(guard, function, describe)
    setattr(wrapper, _MARK, guard)
    return cast(_Function, wrapper)


Describe = Callable[[tuple[Any, ...], dict[str, Any]], ToolCall]


def _wrap(guard: Guard, function: Any, describe: Describe) -> Callable[..., Any]:
    """The wrapper for the function's kind; each admits before the body's first line."""
    if inspect.isasyncgenfunction(function):

        @functools.wraps(function)
        async def stream_later(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
            with await guard.aadmit(describe(args, kwargs)):
                async for item in function(*args, **kwargs):
                    yield item

        return stream_later
    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def call_later(*args: Any, **kwargs: Any) -> Any:
            with await guard.aadmit(describe(args, kwargs)):
                return await function(*args, **kwargs)

        return call_later
    if inspect.isgeneratorfunction(function):

        @functools.wraps(function)
        def stream(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
            with guard.admit(describe(args, kwargs)):
                return (yield from function(*args, **kwargs))

        return stream

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        with guard.admit(describe(args, kwargs)):
            return function(*args, **kwargs)

    return call

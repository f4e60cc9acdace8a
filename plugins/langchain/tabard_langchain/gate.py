"""The gate in front of one protected tool: admits a call of it, and records how the call ended."""

from __future__ import annotations

import functools
import inspect
import weakref
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar, cast

from tabard import AccessDenied, Permit, Session, ToolCall, admit, current_session
from tabard_langchain.handover import handed_over
from tabard_langchain.parameters import Parameters, Prepared, resolve_hints
from tabard_langchain.refusal import refuse_unreadable

_Wrapper = TypeVar("_Wrapper", bound=Callable[..., Any])
_guarded: weakref.WeakSet[Callable[..., Any]] = weakref.WeakSet()


class _Body:
    """An admitted call whose body is running now."""

    __slots__ = ("current", "gate", "running")

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self.current = current_session()
        self.running = True


_body: ContextVar[_Body | None] = ContextVar("tabard_tool_body", default=None)


class Gate:
    """Stands in front of every way into one tool.

    A tool's method that calls another of its own (`_arun` that calls `_run`) makes one call, not
    two, so a method called directly by the running body passes. What comes through the framework
    meanwhile, from an agent inside the tool for instance, is a call of its own: see `outside`.
    """

    def __init__(
        self, tool_name: Callable[[], str], *, session: Session | None, passes_self_calls: bool
    ) -> None:
        self._tool_name = tool_name
        self._session = session
        self._passes_self_calls = passes_self_calls

    def wrap(self, function: Callable[..., Any], parameters: Parameters) -> Callable[..., Any]:
        """A sync function that is admitted first."""

        @_dressed_as(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            if self._is_self_call():
                return function(*args, **kwargs)
            permit, prepared = self._admit(parameters, args, kwargs)
            try:
                with self._inside():
                    result = function(*prepared.args, **prepared.kwargs)
            except BaseException as error:
                permit.fail(error)
                raise
            return _watched(permit, result)

        _guarded.add(call)
        return call

    def wrap_async(
        self, function: Callable[..., Awaitable[Any]], parameters: Parameters
    ) -> Callable[..., Any]:
        """A coroutine function that is admitted first."""

        @_dressed_as(function)
        async def call(*args: Any, **kwargs: Any) -> Any:
            if self._is_self_call():
                return await function(*args, **kwargs)
            permit, prepared = self._admit(parameters, args, kwargs)
            try:
                with self._inside():
                    result = await function(*prepared.args, **prepared.kwargs)
            except BaseException as error:
                permit.fail(error)
                raise
            return _watched(permit, result)

        _guarded.add(call)
        return call

    def _admit(
        self, parameters: Parameters, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Permit, Prepared]:
        """Admit a call or raise a refusal; nothing else leaves, whatever goes wrong."""
        try:
            prepared = parameters.prepare(args, kwargs)
            action = ToolCall(self._tool_name(), prepared.decided, injected=prepared.injected)
            return self._handed_over(action) or admit(action, session=self._session), prepared
        except AccessDenied:
            raise
        except Exception as error:
            refuse_unreadable(error, tool=self._tool_name(), session=self._session)

    def _handed_over(self, action: ToolCall) -> Permit | None:
        """The handler's permit if it is for this very call, or one for whom the handler acts."""
        handover = handed_over(action.name) if self._session is None else None
        if handover is None:
            return None
        return handover.redeem(action.arguments) or admit(action, session=handover.session)

    def _is_self_call(self) -> bool:
        body = _body.get() if self._passes_self_calls else None
        return (
            body is not None
            and body.running
            and body.gate is self
            and body.current is current_session()
        )

    @contextmanager
    def _inside(self) -> Iterator[None]:
        body = _Body(self)
        token = _body.set(body)
        try:
            yield
        finally:
            body.running = False
            _body.reset(token)


def outside(function: Callable[..., Any]) -> Callable[..., Any]:
    """An entry of the framework (`run`): whatever tool body it is called in, this is a new call."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        token = _body.set(None)
        try:
            return function(*args, **kwargs)
        finally:
            _body.reset(token)

    _guarded.add(call)
    return call


def outside_async(function: Callable[..., Awaitable[Any]]) -> Callable[..., Any]:
    """The same for `arun`."""

    @functools.wraps(function)
    async def call(*args: Any, **kwargs: Any) -> Any:
        token = _body.set(None)
        try:
            return await function(*args, **kwargs)
        finally:
            _body.reset(token)

    _guarded.add(call)
    return call


def is_guarded(function: object) -> bool:
    """Whether it was made here; a mark on the function would be copied by `functools.wraps`."""
    return inspect.isfunction(function) and function in _guarded


def _dressed_as(function: Callable[..., Any]) -> Callable[[_Wrapper], _Wrapper]:
    """`functools.wraps`, and the annotations LangChain looks for where a partial has none."""

    def dress(wrapper: _Wrapper) -> _Wrapper:
        dressed = functools.wraps(function)(wrapper)
        if not hasattr(function, "__annotations__"):
            dressed.__annotations__ = resolve_hints(function)
        return cast(_Wrapper, dressed)

    return dress


def _watched(permit: Permit, result: Any) -> Any:
    """The result; when it is work still to be done, the call ends when that does."""
    if inspect.isgenerator(result):
        return _watch(permit, result)
    if inspect.isasyncgen(result):
        return _watch_async(permit, result)
    if inspect.iscoroutine(result):
        return _watch_coroutine(permit, result)
    permit.settle(result)
    return result


def _watch(permit: Permit, items: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
    with permit:
        return (yield from items)


async def _watch_async(permit: Permit, items: AsyncGenerator[Any, Any]) -> AsyncGenerator[Any, Any]:
    with permit:
        async for item in items:
            yield item


async def _watch_coroutine(permit: Permit, result: Awaitable[Any]) -> Any:
    with permit:
        return await result

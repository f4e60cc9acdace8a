"""A chain, agent or graph under an identity of its own: its own session, or one handed over."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from langchain_core.runnables import Runnable, RunnableConfig

from tabard import (
    AuthenticationFailed,
    ConfigurationError,
    CredentialSource,
    Guard,
    Session,
    current_guard,
    current_session,
)
from tabard.delegation import DEFAULT_TTL
from tabard_langchain.identity import work_as

Open = Callable[[], Session]
"""Gives the session one run works under."""


def bind(
    runnable: Runnable[Any, Any],
    credential: Session | CredentialSource | str,
    *,
    guard: Guard | None = None,
) -> Runnable[Any, Any]:
    """A runnable that works under its own session, whatever session is current around it.

    ```python
    graph.add_node("claims", bind(create_agent(model, tools), authority.source("claims-agent")))
    ```

    Args:
        runnable: A chain, an agent, a graph, or one node of a graph.
        credential: A session; or a source or token, which is logged in now.
        guard: Where to log in; default the guard of the current session, else the one opened last.

    Raises:
        ConfigurationError: It is nothing that can be run, or there is no credential.
        AuthenticationFailed: The credential does not hold.
    """
    _check(runnable, "bind")
    if credential is None:
        raise ConfigurationError("bind: there is no credential to bind to")
    if isinstance(credential, Session):
        session = credential
    else:
        session = (guard or current_guard()).login(credential)
    return Bound(runnable, lambda: session, closes=False)


def hand_over(
    runnable: Runnable[Any, Any],
    agent: str,
    *,
    tools: Iterable[str],
    models: Iterable[str] | None = None,
    ttl: float = DEFAULT_TTL,
) -> Runnable[Any, Any]:
    """A runnable that does the work of whoever calls it, as another agent and with less.

    Each run is a delegation of the session that is current then: it may do what both may, and of
    that only what is named here. It ends with the run.

    ```python
    payout = hand_over(create_agent(model, [pay]), "payout-agent", tools=["payments.transfer"])
    ```

    Args:
        runnable: A chain, an agent, a graph, or one node of a graph.
        agent: Who takes over; the caller's policy has to name it under `delegates_to`.
        tools: The tools and retrievers it may use, as names or patterns.
        models: The models it may use; default those both policies allow.
        ttl: Seconds a run may take, at most 3600.

    Raises:
        ConfigurationError: It is nothing that can be run.
    """
    _check(runnable, "hand_over")
    if not isinstance(agent, str) or not agent:
        raise ConfigurationError("hand_over: expected the name of the agent that takes over")
    granted, priced = _names("tools", tools), None if models is None else _names("models", models)

    def open_session() -> Session:
        caller = current_session()
        if caller is None:
            raise AuthenticationFailed(
                code="no_identity", reason="nobody is logged in who could hand work over"
            )
        return caller.delegate(agent, tools=granted, models=priced, ttl=ttl)

    return Bound(runnable, open_session, closes=True)


class Bound(Runnable[Any, Any]):
    """A runnable that runs under one session; made by `bind` and `hand_over`."""

    def __init__(self, inner: Runnable[Any, Any], open_session: Open, *, closes: bool) -> None:
        self._inner = inner
        self._open = open_session
        self._closes = closes
        self.name = inner.get_name()

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """Run it.

        Raises:
            AccessDenied: The work may not be handed over, or the caller has no identity.
        """
        with self._session() as session, work_as(session):
            return self._inner.invoke(input, config, **kwargs)

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """The same in an event loop."""
        with self._session() as session, work_as(session):
            return await self._inner.ainvoke(input, config, **kwargs)

    def stream(
        self, input: Any, config: RunnableConfig | None = None, **kwargs: Any
    ) -> Iterator[Any]:
        """The same, part by part. Between the parts the session is not current: the caller is."""
        with self._session() as session:
            parts = iter(self._inner.stream(input, config, **kwargs))
            try:
                while True:
                    with work_as(session):
                        part = next(parts, _END)
                    if part is _END:
                        return
                    yield part
            finally:
                with work_as(session):
                    getattr(parts, "close", _nothing)()  # broken off: tell the calls inside

    async def astream(
        self, input: Any, config: RunnableConfig | None = None, **kwargs: Any
    ) -> AsyncIterator[Any]:
        """The same in an event loop."""
        with self._session() as session:
            parts = aiter(self._inner.astream(input, config, **kwargs))
            try:
                while True:
                    with work_as(session):
                        part = await anext(parts, _END)
                    if part is _END:
                        return
                    yield part
            finally:
                if isinstance(parts, AsyncGenerator):
                    with work_as(session):
                        await parts.aclose()

    @contextmanager
    def _session(self) -> Iterator[Session]:
        """The session of one run; one that was opened for it ends with it."""
        session = self._open()
        try:
            yield session
        finally:
            if self._closes:
                session.close()


_END = object()


def _nothing() -> None:
    """For parts that come from no generator."""


def _names(what: str, names: object) -> list[str]:
    if isinstance(names, str) or not isinstance(names, Iterable):
        raise ConfigurationError(f"hand_over: {what}: expected a list of names")
    found = list(names)
    if not all(isinstance(name, str) for name in found):
        raise ConfigurationError(f"hand_over: {what}: expected a list of names")
    return found


def _check(runnable: object, who: str) -> None:
    if not isinstance(runnable, Runnable):
        found = type(runnable).__name__
        raise ConfigurationError(f"{who}: expected a chain, agent or graph, found {found}")

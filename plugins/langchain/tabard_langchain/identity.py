"""Whose calls a handler admits where agents run inside of agents: the innermost identity's.

A handler that was made for one session is handed down by LangChain to everything that runs inside,
also to a subagent with an identity of its own. There it steps back.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from tabard import ConfigurationError, Session

_bound: ContextVar[bool] = ContextVar("tabard_bound", default=False)


@contextmanager
def work_as(session: Session) -> Iterator[None]:
    """A block whose calls are this session's, whatever session a handler outside was made for."""
    token = _bound.set(True)
    try:
        with session:
            yield
    finally:
        _bound.reset(token)


def is_bound() -> bool:
    """Whether an agent with an identity of its own is at work here."""
    return _bound.get()


def check_session(who: str, session: object) -> None:
    """Make sure that what was given as a session, if anything, is one.

    Raises:
        ConfigurationError: It is not.
    """
    if session is not None and not isinstance(session, Session):
        found = type(session).__name__
        raise ConfigurationError(
            f"{who}: expected a session, as `guard.login` returns it, found {found}"
        )

"""Whose calls a handler admits where agents run inside of agents: the innermost identity's.

A handler that was made for one session is handed down by LangChain to everything that runs inside,
also to a subagent with an identity of its own. There it steps back: within `bind` and its like, and
wherever a session has become current (`with session:`) since the run around began.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from uuid import UUID

from tabard import ConfigurationError, Session, current_session
from tabard_langchain.progress import LIMIT

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


class CurrentSessions:
    """Which session was current when each run began that a handler has seen."""

    def __init__(self, *, watches: bool) -> None:
        """Set up.

        Args:
            watches: Whether it matters: not to a handler that goes by who is current anyway.
        """
        self._watches = watches
        self._current: dict[UUID, Session | None] = {}
        self._lock = threading.Lock()

    def begin(self, run_id: UUID) -> None:
        """A run begins."""
        if self._watches:
            with self._lock:
                if len(self._current) >= LIMIT:  # runs another handler has stopped never end
                    del self._current[next(iter(self._current))]
                self._current[run_id] = current_session()

    def end(self, run_id: UUID) -> None:
        """A run has ended."""
        with self._lock:
            self._current.pop(run_id, None)

    def has_changed(self, run_id: UUID | None) -> bool:
        """Whether another session has become current within a run; not if it was not seen."""
        now = current_session()
        with self._lock:
            return run_id is not None and self._current.get(run_id, now) is not now


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

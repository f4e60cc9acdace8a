"""Which model calls are underway in this context: admitted, and still without an outcome.

An admission is asked for in one place (a hook, a `with` block) and the request leaves from another,
deep inside a provider's SDK. What joins them is the context: it goes along into coroutines, tasks
and the threads of frameworks that copy it, and not into those of anybody else.
"""

from __future__ import annotations

import threading
from contextvars import ContextVar
from typing import TYPE_CHECKING, NamedTuple

from tabard.session import Session, current_session

if TYPE_CHECKING:
    from tabard.permit import Permit

LIMIT = 1_000
"""Calls that one context remembers; the oldest go first."""

MOST_ATTEMPTS = 8
"""Requests of one call that may go unanswered: an SDK's retries, and no endless loop."""


class Underway:
    """What is left of one admission: it is good for one answer, however often that is asked for.

    Attributes:
        permit: The admission.
    """

    __slots__ = ("_attempts", "_lock", "_taker", "permit")

    def __init__(self, permit: Permit) -> None:
        self.permit = permit
        self._attempts = 0
        self._taker: object = None
        self._lock = threading.Lock()

    def take(self, taker: object) -> bool:
        """Use the admission for one request; False when it is used up, in use, or over."""
        with self._lock:
            if self._taker is not None or self._attempts >= MOST_ATTEMPTS:
                return False
            if not self.permit.is_open:
                return False
            self._attempts += 1
            self._taker = taker
            return True

    def give_back(self, taker: object) -> None:
        """That request was not answered: the next attempt may leave."""
        with self._lock:
            if self._taker is taker:
                self._taker = None

    def keep(self, taker: object) -> None:
        """That request was answered: no other one leaves on this admission."""
        with self._lock:
            self._taker = taker


class _Entry(NamedTuple):
    """A call, and who was current when it began: under another identity it is not theirs."""

    call: Underway
    caller: Session | None


_entries: ContextVar[tuple[_Entry, ...]] = ContextVar("tabard_underway", default=())


def begin(call: Underway) -> None:
    """Let a call be underway in this context until it has an outcome."""
    caller = current_session()
    others = [e for e in _entries.get() if e.call is not call and e.call.permit.is_open]
    _entries.set((*others[1 - LIMIT :], _Entry(call, caller)))


def calls_underway() -> list[Underway]:
    """The calls underway here of whoever is current, the latest first."""
    caller = current_session()
    return [
        entry.call
        for entry in reversed(_entries.get())
        if entry.caller is caller and entry.call.permit.is_open
    ]

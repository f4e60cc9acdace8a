"""What it means to deliver a batch: all of it in time, or not."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from tabard.errors import TabardError

if TYPE_CHECKING:
    from tabard.audit.entries import Entry

ATTEMPT = 10.0
"""Seconds one attempt may take, from the first byte to the last."""


class Undelivered(TabardError):
    """A destination has not taken a batch.

    Attributes:
        lasting: Whether the same batch will be refused again.
    """

    def __init__(self, message: str, *, lasting: bool = False) -> None:
        super().__init__(message)
        self.lasting = lasting


class Destination(Protocol):
    """Takes batches.

    Attributes:
        name: What it is called in a message; without anything that may be a secret.
    """

    name: str

    def deliver(self, entries: Sequence[Entry], origin: str) -> None:
        """Take the events of entries, all of them.

        Raises:
            Undelivered: Not all of them are known to have been taken.
        """


def attempt(name: str, work: Callable[[], None]) -> None:
    """Do something in a thread of its own: a socket's time-out begins anew with every byte.

    Raises:
        Undelivered: It fails or takes too long; the thread ends when its socket does.
    """
    found: list[Exception | None] = []

    def run() -> None:
        try:
            work()
            found.append(None)
        except Exception as error:
            found.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(ATTEMPT)
    failure = found[0] if found else TimeoutError("it takes too long")
    if isinstance(failure, Undelivered):
        raise failure
    if failure is not None:
        raise Undelivered(f"{name} cannot be reached: {_why(failure)}") from None


def _why(error: Exception) -> str:
    reason = getattr(error, "reason", None) or error
    text = getattr(reason, "strerror", None) or (str(reason) if type(reason) is str else None)
    if isinstance(error, TimeoutError):
        return "it takes too long"
    return text or type(reason).__name__

"""Calls in progress, by LangChain's run id."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from uuid import UUID

from tabard import Permit
from tabard.ticket import Ticket

LIMIT = 10_000
"""Calls in progress that are remembered; LangChain tells nothing of a run another handler stopped,
so the oldest has to go at some point."""


class OpenCalls:
    """Calls waiting for their outcome. Safe for many threads."""

    def __init__(self) -> None:
        self._tickets: dict[UUID, Ticket] = {}
        self._lock = threading.Lock()

    def add(self, run_id: UUID, ticket: Ticket) -> None:
        """Remember a call; the oldest fails as abandoned when there are too many."""
        oldest = None
        with self._lock:
            if len(self._tickets) >= LIMIT:
                oldest = self._tickets.pop(next(iter(self._tickets)))
            self._tickets[run_id] = ticket
        if oldest is not None:
            oldest.void()
            oldest.permit.fail("abandoned")

    def settle(self, run_id: UUID, *, usage: Mapping[str, int] | None = None) -> None:
        """Record that a run has ended well, if it is one of ours."""
        permit = self._take(run_id)
        if permit is not None:
            permit.settle(usage=usage)

    def fail(self, run_id: UUID, error: BaseException) -> None:
        """Record that a run has failed, if it is one of ours."""
        permit = self._take(run_id)
        if permit is not None:
            permit.fail(error)

    def _take(self, run_id: UUID) -> Permit | None:
        """The permit of a run, once; what is left of its ticket is void."""
        with self._lock:
            ticket = self._tickets.pop(run_id, None)
        if ticket is None:
            return None
        ticket.void()
        return ticket.permit

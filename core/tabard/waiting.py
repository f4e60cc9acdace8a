"""Waits for a person's answer, for as long as the guard was told to."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from tabard.clock import Clock, read_clock
from tabard.errors import ApprovalRequired

if TYPE_CHECKING:
    from tabard.store import Store

POLL = 0.05
"""Seconds between two looks at the store."""


class Waiting:
    """One call's patience. The answer itself is judged when the call is tried again."""

    def __init__(self, store: Store, seconds: float, clock: Clock) -> None:
        self._store = store
        self._deadline = time.monotonic() + seconds
        self._clock = clock

    def until_answered(self, question: ApprovalRequired) -> bool:
        """Block until there is an answer; False when there is none in time."""
        while self._is_open(question):
            if not self._has_time():
                return False
            time.sleep(POLL)
        return self._has_time()

    async def auntil_answered(self, question: ApprovalRequired) -> bool:
        """The same for an event loop."""
        from asyncio import sleep  # who awaits this has loaded it already

        while self._is_open(question):
            if not self._has_time():
                return False
            await sleep(POLL)
        return self._has_time()

    def _has_time(self) -> bool:
        return time.monotonic() < self._deadline

    def _is_open(self, question: ApprovalRequired) -> bool:
        request = self._store.find_approval(question.request or "")
        return request is not None and request.standing(read_clock(self._clock)) == "pending"

"""Notices that nobody seals the log any more: an alarm, or a refusal where that is wanted."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from tabard.errors import StoreError

if TYPE_CHECKING:
    from tabard.store import Store

MOST_WAITING = 10_000
"""Entries that may wait for a checkpoint."""

LONGEST_WAIT = 60.0
"""Seconds without a new checkpoint while entries wait."""

_EVERY = 1.0
_ALARM_EVERY = 60.0


class SealWatch:
    """Looks once a second how far the log is sealed."""

    def __init__(
        self, store: Store, *, strict: bool, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        """Watch a store's log.

        Args:
            store: Where the log is.
            strict: Whether calls are refused while nobody seals.
            monotonic: Returns seconds that never go back.
        """
        self._store = store
        self._strict = strict
        self._monotonic = monotonic
        self._next = 0.0
        self._sealed = 0
        self._since: float | None = None
        self._overdue = 0
        self._alarm_at = 0.0

    def check(self) -> int | None:
        """How many entries wait where an alarm is due now; None where there is none.

        Raises:
            StoreError: The log is overdue for a checkpoint, and the operator wants no call then.
        """
        now = self._monotonic()
        if now >= self._next:
            self._next = now + _EVERY
            self._look(now)
        if not self._overdue:
            return None
        if self._strict:
            raise StoreError(
                f"{self._overdue} entries wait for a checkpoint: nobody seals the log", code="audit"
            )
        if now < self._alarm_at:
            return None
        self._alarm_at = now + _ALARM_EVERY
        return self._overdue

    def _look(self, now: float) -> None:
        """Compare what is written with what is sealed."""
        try:
            latest = self._store.latest_checkpoint()
        except ValueError:
            raise StoreError("the latest checkpoint was changed", code="audit") from None
        sealed = 0 if latest is None else latest.size
        waiting = self._store.extent()[1] - sealed
        if not waiting or sealed != self._sealed or self._since is None:
            self._sealed, self._since = sealed, now
        late = waiting > MOST_WAITING or (waiting and now - self._since > LONGEST_WAIT)
        self._overdue = waiting if late else 0

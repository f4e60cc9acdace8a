"""The permits of calls in progress, by LangChain's run id."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from uuid import UUID

from tabard import Permit

LIMIT = 10_000
"""Calls in progress that are remembered; LangChain tells nothing of a run another handler stopped,
so the oldest has to go at some point."""


class OpenPermits:
    """Permits waiting for their outcome. Safe for many threads."""

    def __init__(self) -> None:
        self._permits: dict[UUID, Permit] = {}
        self._lock = threading.Lock()

    def add(self, run_id: UUID, permit: Permit) -> None:
        """Remember a permit; the oldest fails as abandoned when there are too many.

        A caller may choose the run id, and one that is still open twice: then the older call has
        its outcome now, and is not forgotten.
        """
        with self._lock:
            displaced = [self._permits.pop(run_id)] if run_id in self._permits else []
            if len(self._permits) >= LIMIT:
                displaced.append(self._permits.pop(next(iter(self._permits))))
            self._permits[run_id] = permit
        for older in displaced:
            older.fail("abandoned")

    def get(self, run_id: UUID | None) -> Permit | None:
        """The permit of a run that is one of ours and still open."""
        with self._lock:
            return None if run_id is None else self._permits.get(run_id)

    def settle(
        self,
        run_id: UUID,
        result: object = None,
        *,
        usage: Mapping[str, int] | None = None,
        provider_id: str | None = None,
    ) -> None:
        """Record that a run has ended well, if it is one of ours."""
        permit = self._take(run_id)
        if permit is not None:
            permit.settle(result, usage=usage, provider_id=provider_id)

    def fail(
        self, run_id: UUID, error: BaseException, *, usage: Mapping[str, int] | None = None
    ) -> None:
        """Record that a run has failed, if it is one of ours."""
        permit = self._take(run_id)
        if permit is not None:
            permit.fail(error, usage=usage)

    def _take(self, run_id: UUID) -> Permit | None:
        with self._lock:
            return self._permits.pop(run_id, None)

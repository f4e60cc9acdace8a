"""The permits of calls in progress, by LangChain's run id."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from uuid import UUID

from tabard import GuardUnavailable, ModelCall, Permit, Session, current_session

LIMIT = 10_000
"""Calls in progress that are remembered; LangChain tells nothing of a run another handler stopped,
so the oldest has to go at some point."""

BYTES_PER_TOKEN = 4
"""Of English text, about; other languages have fewer."""


_everyones: dict[UUID, tuple[Permit, tuple[object, ...]]] = {}
"""The open permits of all handlers, so that a run several of them see is admitted once; each with
the objects of the event it was given for."""

_lock = threading.Lock()


class OpenPermits:
    """One handler's permits waiting for their outcome. Safe for many threads."""

    def __init__(self) -> None:
        self._permits: dict[UUID, Permit] = {}
        self._shared: set[UUID] = set()
        self._written: dict[UUID, tuple[int, int]] = {}
        self._lock = _lock

    def share(self, run_id: UUID, event: tuple[object, ...], session: Session | None) -> bool:
        """Whether another handler has admitted this very run, for the same caller.

        A run's id does not tell: a caller may choose it, and choose it twice. LangChain shows one
        event to all handlers of a run, and makes its objects anew for every run, so they do.

        Args:
            run_id: The run.
            event: Objects of the event, compared by identity.
            session: Whose calls this handler admits; None for whoever is current.

        Raises:
            GuardUnavailable: The other handler has admitted it for another session: whose call it
                is cannot be told, so it is nobody's.
        """
        caller = session if session is not None else current_session()
        with self._lock:
            permit, seen = _everyones.get(run_id, (None, ()))
            if permit is None or run_id in self._permits or run_id in self._shared:
                return False
            if not _are_the_same(event, seen):
                return False
            if caller is permit.session:
                self._remember_shared(run_id)
                return True
        permit.fail("two_identities")
        raise GuardUnavailable(
            code="two_identities",
            reason="handlers of two sessions see this call; give the inner agent its own by `bind`",
            agent=permit.session.spiffe_id,
            action=permit.action.name,
        )

    def _remember_shared(self, run_id: UUID) -> None:
        """Another handler ends this run; call it with the lock held."""
        if len(self._shared) >= LIMIT:
            self._shared.clear()
        self._shared.add(run_id)

    def add(self, run_id: UUID, event: tuple[object, ...], permit: Permit) -> None:
        """Remember a permit; the oldest fails as abandoned when there are too many.

        A caller may choose the run id, and one that is still open twice: then the older call has
        its outcome now, and is not forgotten.
        """
        displaced = []
        with self._lock:
            full = len(self._permits) >= LIMIT
            for old in {run_id, *([next(iter(self._permits))] if full else [])}:
                if old in self._permits:
                    displaced.append(self._permits.pop(old))
                    self._written.pop(old, None)
                    _forget(old, displaced[-1])
            self._permits[run_id] = permit
            if len(_everyones) >= LIMIT:  # of handlers that are gone; what is not shared is asked
                del _everyones[next(iter(_everyones))]
            _everyones[run_id] = (permit, event)
        for older in displaced:
            older.fail("abandoned")

    def get(self, run_id: UUID | None) -> Permit | None:
        """The permit of a run that is one of ours and still open."""
        with self._lock:
            return None if run_id is None else self._permits.get(run_id)

    def is_past_limit(self, run_id: UUID, part: str) -> bool:
        """Whether, with one more part, a model has written more than its call was admitted for.

        Nobody counts the tokens of a stream. A part is mostly one, and a token mostly four bytes:
        what is past the limit by both is past it, however a provider cuts its parts.
        """
        permit = self.get(run_id)
        action = None if permit is None else permit.action
        limit = action.max_output_tokens if isinstance(action, ModelCall) else None
        if limit is None or not part:
            return False
        with self._lock:
            parts, size = self._written.get(run_id, (0, 0))
            parts, size = parts + 1, size + len(part.encode(errors="replace"))
            self._written[run_id] = (parts, size)
        return parts > limit and size > BYTES_PER_TOKEN * limit

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
            self._shared.discard(run_id)
            self._written.pop(run_id, None)
            permit = self._permits.pop(run_id, None)
            if permit is not None:
                _forget(run_id, permit)
            return permit


def _are_the_same(event: tuple[object, ...], seen: tuple[object, ...]) -> bool:
    """Whether two handlers were shown the same objects; None is nobody's."""
    return len(event) == len(seen) and all(
        one is not None and one is other for one, other in zip(event, seen, strict=True)
    )


def _forget(run_id: UUID, permit: Permit) -> None:
    """Take a permit out of everybody's; call it with the lock held."""
    if _everyones.get(run_id, (None,))[0] is permit:
        del _everyones[run_id]

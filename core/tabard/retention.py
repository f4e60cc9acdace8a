"""Drops records whose time is over, and keeps what it takes to prove the rest."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Self

from tabard.audit.entries import Entry
from tabard.audit.fields import encode
from tabard.clock import Clock, read_clock, system_clock
from tabard.errors import ConfigurationError
from tabard.home import Home
from tabard.revocation import explain
from tabard.store import SqliteStore
from tabard.store.holder import StoreHolder

if TYPE_CHECKING:
    from tabard.audit.sealed import Sealed
    from tabard.store import Store

FLOOR = timedelta(days=183)
"""What the AI Act asks providers and deployers to keep logs for at least (Art. 19(1), 26(6))."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruning:
    """What can be dropped.

    Attributes:
        size: Records up to this one, which a checkpoint covers.
        records: How many of them are still there.
        before: All of them are older than this.
        below_floor: Whether some of them are younger than six months.
    """

    size: int
    records: int
    before: datetime
    below_floor: bool


class Retention(StoreHolder):
    """Prunes one home's log."""

    def __init__(self, *, store: Store, clock: Clock = system_clock) -> None:
        """Work on a store; `Retention.open` does it from a home."""
        self._store = store
        self._clock = clock

    @classmethod
    def open(cls, home: str | os.PathLike[str] | None = None) -> Self:
        """Open a home.

        Raises:
            ConfigurationError: There is none.
        """
        return cls(store=SqliteStore(Home.locate(home).database))

    def plan(self, before: datetime) -> Pruning:
        """What a pruning would drop: whole stretches that a checkpoint covers, oldest first.

        Args:
            before: Records from this moment on stay, with a time zone.

        Raises:
            ConfigurationError: There is nothing to drop.
            AuditError: An entry is not a record.
            StoreError: The log cannot be read.
        """
        pruned = self._store.pruned()
        start = 0 if pruned is None else pruned.size
        # Up to the first that has to stay: after a step of the clock younger ones may come before
        # older ones, and what is dropped is always a beginning.
        last, youngest = start, None
        for record in self._store.stored_records(after=start):
            moment = Entry.of(record).time
            if moment >= before:
                break
            last, youngest = record.index, max(moment, youngest or moment)
        found = self._store.latest_checkpoint(until=last) if last > start else None
        if found is None or found.size <= start or youngest is None:
            raise ConfigurationError("nothing to prune: no sealed records are that old")
        now = datetime.fromtimestamp(read_clock(self._clock), UTC)
        return Pruning(
            size=found.size,
            records=found.size - start,
            before=before,
            below_floor=youngest > now - FLOOR,
        )

    def prune(self, plan: Pruning, *, reason: str, author: str | None = None) -> Sealed | None:
        """Drop the records of a plan, and put that on record.

        Args:
            plan: What `plan` said.
            reason: Why; goes into the log.
            author: Who decided; goes into the log.

        Returns:
            The checkpoint that still proves what was there.

        Raises:
            ConfigurationError: There is no reason.
            StoreError: It could not be done; everything is still there.
        """
        why = explain(reason, author)
        facts = {
            "size": plan.size,
            "records": plan.records,
            "before": plan.before.astimezone(UTC).isoformat(),
            "below_floor": plan.below_floor,
        }
        with self._store.transaction(read_clock(self._clock)) as transaction:
            transaction.prune(plan.size)
            transaction.append("log.pruned", f'"pruned":{encode(facts)},{why}')
        self._store.forget()
        return self._store.pruned()

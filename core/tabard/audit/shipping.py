"""Ships the log on: reads what was committed, in order, and remembers how far it got.

It is a process of its own beside those that decide, and reads only what they have committed. So a
collector that is slow or dead delays nobody, and loses nothing: shipping lags, and goes on where it
stopped. An entry may arrive twice, never not at all.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from tabard.audit.delivery import Destination, Undelivered
from tabard.audit.entries import Entry
from tabard.audit.shipping_state import Position, StateFile
from tabard.errors import AuditError, StoreError

if TYPE_CHECKING:
    from tabard.store import Store

_MAX_ENTRIES = 1000
_MAX_BYTES = 1_000_000
"""Of records in a batch; a longer record goes alone."""
_POLL = 0.5
"""Seconds between two looks at the log."""
_FIRST_WAIT, _LONGEST_WAIT = 0.5, 60.0
"""Seconds after the first failed attempt, doubled each time, up to the longest."""
_ATTEMPTS = 6
"""Failed attempts in a row after which a shipping that does not follow the log gives up."""


@dataclass(kw_only=True)
class Shipping:
    """One log on its way to one destination.

    Attributes:
        store: Where the log is.
        destination: Where it goes.
        position: How far it got.
        state: Where that is kept; None keeps it nowhere.
        follow: Whether to go on as entries come, and for as long as the destination is away.
        tell: Called with a sentence for the operator when something is wrong.
        wait: Sleeps for some seconds.
    """

    store: Store
    destination: Destination
    position: Position
    state: StateFile | None = None
    follow: bool = False
    tell: Callable[[str], None]
    wait: Callable[[float], None] = time.sleep

    def run(self) -> Iterator[int]:
        """Ship batch by batch; yields how many entries each had.

        Raises:
            AuditError: The log is not the one that was shipped before, or lacks an entry.
            StoreError: The log cannot be read, and is not followed.
            Undelivered: The destination stays away, and the log is not followed.
            ConfigurationError: The state cannot be kept.
        """
        self._check_continuity()
        while True:
            if batch := self._read():
                self._deliver(batch)
                self._advance(batch[-1])
                yield len(batch)
            elif self.follow:
                self.wait(_POLL)
            else:
                return

    def _check_continuity(self) -> None:
        """Whether the log still has what was shipped last."""
        entry, leaf = self.position.entry, self.position.leaf
        count, _ = self.store.extent()
        if entry > count:
            raise AuditError(
                f"entry {entry} was shipped, and the log has only {count}: it was rolled back, "
                "or it is another one",
                entry=count + 1,
            )
        found = next(self.store.stored_records(after=entry - 1), None) if entry and leaf else None
        if found is not None and found.index == entry and found.leaf.hex() != leaf:
            raise AuditError(f"entry {entry} is not the one that was shipped", entry=entry)

    def _read(self) -> list[Entry]:
        """The next entries, without a gap; none when there are none yet."""
        batch: list[Entry] = []
        try:
            count, _ = self.store.extent()
            batch.extend(self._batch())
            if not batch and self.position.entry < count:
                raise AuditError(f"entries from {self.position.entry + 1} on are missing")
        except AuditError:
            if not batch:
                raise  # those before it go first
        except StoreError as error:
            if not self.follow:
                raise
            self.tell(f"{error}; it is read again")
        return batch

    def _batch(self) -> Iterator[Entry]:
        after, size = self.position.entry, 0
        records = self.store.stored_records(after=after)
        for record in islice(records, _MAX_ENTRIES):
            if record.index != after + 1:
                self._explain_gap(after, record.index)
            size += len(record.body)
            if size > _MAX_BYTES and size > len(record.body):
                return
            yield Entry.of(record)
            after = record.index

    def _explain_gap(self, after: int, index: int) -> None:
        """Say that entries were pruned too early.

        Raises:
            AuditError: They were not pruned.
        """
        pruned = self.store.pruned()
        if pruned is None or pruned.size < index - 1:
            raise AuditError(f"entry {after + 1} is missing from the log", entry=after + 1)
        self.tell(f"entries {after + 1} to {index - 1} were pruned before they were shipped")

    def _deliver(self, batch: list[Entry]) -> None:
        pause, failed = _FIRST_WAIT, 0
        while True:
            try:
                self.destination.deliver(batch, self.store.origin)
                break
            except Undelivered as error:
                failed += 1
                first = batch[0].index
                if not self.follow and (error.lasting or failed == _ATTEMPTS):
                    raise Undelivered(
                        f"{error}; entry {first} and later ones were not shipped, and stay in the "
                        "log"
                    ) from None
                self.tell(f"{error}; entry {first} and later ones wait, next try in {pause:g} s")
            self.wait(pause)
            pause = min(2 * pause, _LONGEST_WAIT)
        if failed:
            self.tell(f"{self.destination.name} takes entries again")

    def _advance(self, last: Entry) -> None:
        self.position = self.position.at(last)
        if self.state is not None:
            self.state.write(self.position)

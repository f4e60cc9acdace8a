"""What a store does with the tree over its log: leaves, checkpoints, what was pruned."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tabard.audit.sealed import Sealed

SEALED = "SELECT size, note, peaks, sealed_at FROM checkpoint"


class ProofRows:
    """The part of a transaction that is about checkpoints."""

    __slots__ = ()
    _db: sqlite3.Connection
    _now: float

    def latest_checkpoint(self) -> Sealed | None:
        """The checkpoint that covers most."""
        row = self._db.execute(f"{SEALED} ORDER BY size DESC LIMIT 1").fetchone()
        return None if row is None else to_sealed(row)

    def add_checkpoint(self, sealed: Sealed) -> None:
        """Keep a new checkpoint."""
        peaks = " ".join(peak.hex() for peak in sealed.peaks)
        self._db.execute(
            "INSERT INTO checkpoint VALUES (?, ?, ?, ?)",
            (sealed.size, sealed.note, peaks, sealed.sealed_at),
        )

    def prune(self, size: int) -> int:
        """Drop the records a checkpoint of that size covers; returns how many there were."""
        self._db.execute("INSERT INTO pruned VALUES (?, ?)", (size, int(self._now)))
        self._db.execute(
            "DELETE FROM payload WHERE call IN (SELECT body ->> '$.id' FROM record WHERE id <= ?)",
            (size,),
        )
        # A question goes with its record; if it is still open, the call will be asked about anew.
        self._db.execute(
            "DELETE FROM approval WHERE id IN "
            "(SELECT body ->> '$.approval.id' FROM record WHERE id <= ?)",
            (size,),
        )
        return self._db.execute("DELETE FROM record WHERE id <= ?", (size,)).rowcount


def to_sealed(row: tuple[int, str, str, int]) -> Sealed:
    """A checkpoint from its row.

    Raises:
        ValueError: The row was changed.
    """
    from tabard.audit.sealed import Sealed  # not needed to import tabard

    size, note, peaks, sealed_at = row
    return Sealed(
        size=size,
        note=note,
        peaks=tuple(bytes.fromhex(peak) for peak in peaks.split()),
        sealed_at=sealed_at,
    )

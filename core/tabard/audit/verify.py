"""Checks a store's log entry by entry: nothing changed, nothing missing, nothing out of order.

What that alone cannot show is listed in every answer (`Verification.not_proven`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Protocol

from tabard.audit.chain import leaf_hash
from tabard.audit.chains import Chains
from tabard.audit.checkpoint import Checkpoint, open_checkpoint
from tabard.audit.merkle import Frontier
from tabard.audit.note import Note, NoteError, NoteKey
from tabard.audit.sealed import Sealed
from tabard.audit.stored import StoredRecord
from tabard.errors import AuditError


class Log(Protocol):
    """A store's log, as far as verification needs it."""

    def stored_records(self, *, after: int = 0) -> Iterator[StoredRecord]:
        """Every stored entry, oldest first."""

    def extent(self) -> tuple[int, int]:
        """How many entries were ever written, and the index of the last one that is there."""

    def checkpoints(self) -> list[Sealed]:
        """Every checkpoint, the one that covers least first."""

    def pruned(self) -> Sealed | None:
        """The checkpoint up to which records were dropped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """What a check of a whole log has shown.

    Attributes:
        records: How many entries were checked.
        pruned: How many at the beginning are no longer there, because their time was over.
        sealed: How many the latest checkpoint covers.
        writers: How many processes (opened stores) wrote them.
        open_writers: Writers without a closing entry: still running, or ended without warning.
        not_proven: What this check could not show, one sentence each.
    """

    records: int
    pruned: int
    sealed: int
    writers: int
    open_writers: tuple[str, ...]
    not_proven: tuple[str, ...]


_UNSEALED = (
    "That nobody with write access to the database rewrote the log {span}: "
    "no checkpoint outside of it covers that."
)
_UNSIGNED = "That the checkpoints are the sealer's: no key was given to check their signatures."


def verify_log(
    log: Log, *, keys: Sequence[NoteKey] = (), outside: Iterable[str] = ()
) -> Verification:
    """Verify a store's log as it is now; entries written meanwhile are left for the next time.

    Args:
        log: The store.
        keys: The keys that sign its checkpoints; without one their signatures are not looked at.
        outside: Signed checkpoints that were kept outside of the database.

    Raises:
        AuditError: Naming the first entry that was changed, removed, inserted or moved.
        StoreError: The log cannot be read.
    """
    count, last = log.extent()
    if last > count:
        raise AuditError(f"entry {count + 1} was never written by tabard", entry=count + 1)
    try:
        notes = [sealed.note for sealed in log.checkpoints()]
        pruned = log.pruned()
        start = Frontier() if pruned is None else pruned.frontier()
    except ValueError:
        raise AuditError("a checkpoint was changed in the database") from None
    kept = set(outside)
    heads = _heads([*notes, *kept], keys, count)
    records = takewhile(lambda record: record.index <= count, log.stored_records())
    found = verify_records(records, count=count, start=start, heads=heads)
    sealed = max(heads, default=0)
    trusted = max((Checkpoint.parse(Note.parse(note).text).size for note in kept), default=0)
    limits = list(found.not_proven)
    if trusted < count:
        span = f"from entry {trusted + 1} to its end" if trusted else "from some entry to its end"
        limits.append(_UNSEALED.format(span=span))
    if heads and not keys:
        limits.append(_UNSIGNED)
    return Verification(
        records=found.records,
        pruned=0 if pruned is None else pruned.size,
        sealed=sealed,
        writers=found.writers,
        open_writers=found.open_writers,
        not_proven=tuple(limits),
    )


def verify_records(
    records: Iterable[StoredRecord],
    *,
    count: int,
    start: Frontier | None = None,
    heads: dict[int, bytes] | None = None,
) -> Verification:
    """Verify a log from its first entry to its last.

    Args:
        records: Every stored entry, in order.
        count: How many entries the store says it ever took.
        start: The tree over the entries that were pruned.
        heads: Roots that checkpoints state, by the number of entries they cover.

    Raises:
        AuditError: Naming the first entry that was changed, removed, inserted or moved.
    """
    frontier = Frontier() if start is None else start
    pruned, wanted = frontier.size, heads or {}
    chains = Chains(from_start=pruned == 0)
    _check_head(frontier, wanted)
    for record in records:
        if record.index != frontier.size + 1:
            raise AuditError(f"entry {frontier.size + 1} is missing", entry=frontier.size + 1)
        if leaf_hash(record.body) != record.leaf:
            raise AuditError(
                f"entry {record.index} was changed: its bytes do not match its hash",
                entry=record.index,
            )
        chains.follow(record.index, record.leaf.hex(), record.parse())
        frontier.append(record.leaf)
        if frontier.size in wanted:
            _check_head(frontier, wanted)
    if frontier.size != count:
        raise AuditError(
            f"entry {frontier.size + 1} is missing: the log ends at {frontier.size}, "
            f"and {count} were written",
            entry=frontier.size + 1,
        )
    return Verification(
        records=frontier.size - pruned,
        pruned=pruned,
        sealed=0,
        writers=len(chains.heads),
        open_writers=chains.open_writers,
        not_proven=(),
    )


def _check_head(frontier: Frontier, wanted: dict[int, bytes]) -> None:
    if frontier.size in wanted and wanted[frontier.size] != frontier.root():
        raise AuditError(
            f"an entry up to {frontier.size} is not the one that was sealed: "
            "the checkpoint states another root",
            entry=frontier.size or None,
        )


def _heads(notes: Iterable[str], keys: Sequence[NoteKey], count: int) -> dict[int, bytes]:
    """The roots checkpoints state, by size.

    Raises:
        AuditError: A checkpoint is not the sealer's, two contradict each other, or one covers more
            than there is.
    """
    heads: dict[int, bytes] = {}
    for note in dict.fromkeys(notes):
        try:
            head = (
                open_checkpoint(note, keys).checkpoint
                if keys
                else Checkpoint.parse(Note.parse(note).text)
            )
        except NoteError as error:
            raise AuditError(f"a checkpoint does not hold: {error}") from None
        if head.size > count:
            raise AuditError(
                f"entry {count + 1} is missing: a checkpoint covers {head.size}, "
                f"and {count} are there",
                entry=count + 1,
            )
        if heads.setdefault(head.size, head.root) != head.root:
            raise AuditError(f"two checkpoints of {head.size} entries contradict each other")
    return heads

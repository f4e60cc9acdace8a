"""Checks a store's log entry by entry: nothing changed, nothing missing, nothing out of order.

What that alone cannot show is listed in every answer (`Verification.not_proven`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Protocol

from tabard.audit.chain import leaf_hash
from tabard.audit.chains import Chains
from tabard.audit.checkpoint import Checkpoint, SignedCheckpoint, open_checkpoint
from tabard.audit.evidence import Evidence
from tabard.audit.log_limits import history_limits, pruning_limits, seal_limits
from tabard.audit.merkle import Frontier
from tabard.audit.note import Note, NoteError, merge_notes
from tabard.audit.sealed import Sealed
from tabard.audit.stored import StoredRecord
from tabard.errors import AuditError, StoreError


class Log(Protocol):
    """A store's log, as far as verification needs it."""

    def stored_records(self, *, after: int = 0) -> Iterator[StoredRecord]:
        """Every stored entry, oldest first."""

    def extent(self) -> tuple[int, int]:
        """How many entries were ever written, and the index of the last one that is there."""

    def first_index(self) -> int | None:
        """The lowest index there is."""

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
        witnesses: Who has cosigned the latest checkpoint.
        known: The sizes of the earlier checkpoints it was compared with.
        not_proven: What this check could not show, one sentence each.
    """

    records: int
    pruned: int
    sealed: int
    writers: int
    open_writers: tuple[str, ...]
    witnesses: tuple[str, ...] = ()
    known: tuple[int, ...] = ()
    not_proven: tuple[str, ...]


_TIMES = "That the times of the entries are right: they are the clock of the one who wrote."
_ONE_PIECE = (
    "That these are the records that were written: they are of one piece, and nobody's signature "
    "was looked at."
)


def verify_log(
    log: Log, *, given: Evidence | None = None, outside: Iterable[str] = ()
) -> Verification:
    """Verify a store's log as it is now; entries written meanwhile are left for the next time.

    Args:
        log: The store.
        given: The keys that sign its checkpoints, without which their signatures are not looked
            at; checkpoints from earlier on; and witnesses.
        outside: Signed checkpoints that were kept outside of the database.

    Raises:
        AuditError: Naming the first entry that was changed, removed, inserted or moved.
        ConfigurationError: An earlier checkpoint does not hold, or is of another log.
        StoreError: The log cannot be read.
    """
    given = given or Evidence()
    kept = list(dict.fromkeys(outside))
    # The checkpoints before the count: of a log that grows meanwhile none covers more than that.
    notes = [*_sealed_notes(log), *kept]
    count, pruned = _extent(log)
    heads, signed = _heads(notes, given, count)
    origin = signed.checkpoint.origin if signed else next((k.name for k in given.keys), "")
    earlier = given.earlier(origin, start=pruned.size, size=count)
    records = takewhile(lambda record: record.index <= count, log.stored_records())
    reading = _Reading(pruned, [heads, earlier.roots])
    try:
        reading.read(records, count)
    except AuditError:
        if _was_pruned(log, since=pruned.size):
            raise StoreError("the log was pruned while it was verified; verify it again") from None
        raise
    outer = max((Checkpoint.parse(Note.parse(note).text).size for note in kept), default=0)
    witnesses = () if signed is None else tuple(name for name, _ in signed.witnesses)
    sealed = max(heads, default=0)
    vouched = max(earlier.vouched, sealed if witnesses else 0)
    return replace(
        reading.conclude(),
        sealed=sealed,
        witnesses=witnesses,
        known=tuple(sorted(earlier.roots)),
        not_proven=(
            *history_limits(pruned.size, count, vouched, earlier),
            *seal_limits(count, outer, signed, unsigned=bool(heads) and not given.keys),
            *pruning_limits(pruned.size, reading.pruning, sealed),
            _TIMES,
        ),
    )


def _was_pruned(log: Log, *, since: int) -> bool:
    try:
        pruned = log.pruned()
    except ValueError:
        return False
    return pruned is not None and pruned.size > since


def _extent(log: Log) -> tuple[int, Frontier]:
    """How many entries there have to be, and the tree over those that were pruned."""
    try:
        pruned = log.pruned()
    except ValueError:
        raise AuditError("a checkpoint was changed in the database") from None
    count, last = log.extent()
    if last > count:
        raise AuditError(f"entry {count + 1} was never written by tabard", entry=count + 1)
    first = log.first_index()
    if first is not None and first < 1:
        raise AuditError(f"entry {first} was never written by tabard", entry=first)
    try:
        return count, Frontier() if pruned is None else pruned.frontier()
    except ValueError:
        raise AuditError("a checkpoint was changed in the database") from None


def _sealed_notes(log: Log) -> Iterator[str]:
    """The checkpoints in the database, each of which fits what is kept beside it."""
    try:
        for sealed in log.checkpoints():
            sealed.check()
            yield sealed.note
    except ValueError:
        raise AuditError("a checkpoint was changed in the database") from None


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
        start: The tree over the entries that were pruned; a record has to say that they were.
        heads: Roots that checkpoints state, by the number of entries they cover.

    Raises:
        AuditError: Naming the first entry that was changed, removed, inserted or moved.
    """
    reading = _Reading(start or Frontier(), [heads or {}])
    reading.read(records, count)
    return reading.conclude()


class _Reading:
    """One pass over the entries of a log.

    Attributes:
        pruning: The entry that says that what is gone was pruned, or None.
    """

    def __init__(self, start: Frontier, heads: list[dict[int, bytes]]) -> None:
        self._pruned = start.size
        self._frontier = Frontier(start.size, start.peaks)
        self._heads = heads
        self._sizes = frozenset().union(*heads)
        self._chains = Chains(from_start=start.size == 0)
        self.pruning: int | None = None

    def read(self, records: Iterable[StoredRecord], count: int) -> None:
        """Read every entry, and see that there are as many as there have to be."""
        self._compare()
        for record in records:
            self._follow(record)
            if self._frontier.size in self._sizes:
                self._compare()
        size = self._frontier.size
        if size != count:
            raise AuditError(
                f"entry {size + 1} is missing: the log ends at {size}, and {count} were written",
                entry=size + 1,
            )
        if self._pruned and self.pruning is None:
            raise AuditError(
                f"the first {self._pruned} entries are missing: no record says that they were "
                "pruned",
                entry=1,
            )

    def _follow(self, record: StoredRecord) -> None:
        index = self._frontier.size + 1
        if record.index != index:
            raise AuditError(f"entry {index} is missing", entry=index)
        if leaf_hash(record.body) != record.leaf:
            raise AuditError(
                f"entry {index} was changed: its bytes do not match its hash", entry=index
            )
        fields = record.parse()
        self._chains.follow(index, record.leaf.hex(), fields)
        self._frontier.append(record.leaf)
        if self._pruned and self.pruning is None and fields.get("type") == "log.pruned":
            facts = fields.get("pruned")
            if isinstance(facts, dict) and facts.get("size") == self._pruned:
                self.pruning = index

    def _compare(self) -> None:
        size = self._frontier.size
        for heads in self._heads:
            if heads.get(size, root := self._frontier.root()) != root:
                raise AuditError(
                    f"an entry up to {size} is not the one that was sealed: "
                    "the checkpoint states another root",
                    entry=size or None,
                )

    def conclude(self) -> Verification:
        """What the pass alone has shown."""
        return Verification(
            records=self._frontier.size - self._pruned,
            pruned=self._pruned,
            sealed=0,
            writers=len(self._chains.heads),
            open_writers=self._chains.open_writers,
            not_proven=(_ONE_PIECE,),
        )


def _heads(
    notes: Iterable[str], given: Evidence, count: int
) -> tuple[dict[int, bytes], SignedCheckpoint | None]:
    """The roots checkpoints state, by size, and the one that covers most, by whom it is signed.

    Raises:
        AuditError: A checkpoint is not the sealer's, two contradict each other, one covers more
            than there is, or too few witnesses have cosigned the last one.
    """
    heads: dict[int, bytes] = {}
    latest: dict[str, int] = {}
    for note in dict.fromkeys(notes):
        try:
            head = (
                open_checkpoint(note, given.keys).checkpoint
                if given.keys
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
        latest[note] = head.size
    return heads, _latest(latest, given)


def _latest(sizes: dict[str, int], given: Evidence) -> SignedCheckpoint | None:
    """The checkpoint that covers most, with all that was signed under any copy of it."""
    if not given.keys:
        return None
    if not sizes:
        if given.quorum:
            raise AuditError("no witness has cosigned anything: there is no checkpoint")
        if not given.known:
            raise AuditError("no checkpoint by the key that was given is there: nothing is signed")
        return None
    last = max(sizes.values())
    try:
        return given.open(merge_notes(note for note, size in sizes.items() if size == last))
    except AuditError as error:
        raise AuditError(f"{error}{_witnessed(sizes, given)}") from None


def _witnessed(sizes: dict[str, int], given: Evidence) -> str:
    """How far each witness has cosigned, for a last checkpoint that too few of them have."""
    until: dict[str, int] = {}
    for note, size in sizes.items():
        for key in given.witnesses:
            with suppress(NoteError):  # a line in its name that does not hold
                if Note.parse(note).signed_by(key) is not None:
                    until[key.name] = max(size, until.get(key.name, 0))
    told = ", ".join(f"up to {size} by {name}" for name, size in until.items())
    return f"; witnessed {told}" if told else ""

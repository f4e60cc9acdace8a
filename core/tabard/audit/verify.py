"""Checks a log entry by entry: nothing changed, nothing missing, nothing out of order.

What a chain alone cannot show is listed in every answer (`Verification.not_proven`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, Protocol

from tabard.audit.chain import GENESIS, leaf_hash
from tabard.audit.stored import StoredRecord
from tabard.errors import AuditError


class Log(Protocol):
    """A store's log, as far as verification needs it."""

    def stored_records(self, *, after: int = 0) -> Iterator[StoredRecord]:
        """Every stored entry, oldest first."""

    def extent(self) -> tuple[int, int]:
        """How many entries were ever written, and the index of the last one that is there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """What a check of a whole log has shown.

    Attributes:
        records: How many entries were checked.
        writers: How many processes (opened stores) wrote them.
        open_writers: Writers without a closing entry: still running, or ended without warning.
        not_proven: What this check could not show, one sentence each.
    """

    records: int
    writers: int
    open_writers: tuple[str, ...]
    not_proven: tuple[str, ...]


_OWNER_LIMIT = (
    "That nobody with write access to the database rewrote the log from some entry to its end: "
    "the chain carries no signature."
)


def verify_log(log: Log) -> Verification:
    """Verify a store's log as it is now; entries written meanwhile are left for the next time.

    Raises:
        AuditError: Naming the first entry that was changed, removed, inserted or moved.
        StoreError: The log cannot be read.
    """
    count, last = log.extent()
    if last > count:
        raise AuditError(f"entry {count + 1} was never written by tabard", entry=count + 1)
    return verify_records(
        takewhile(lambda record: record.index <= count, log.stored_records()), count=count
    )


def verify_records(records: Iterable[StoredRecord], *, count: int) -> Verification:
    """Verify a log from its first entry to its last.

    Args:
        records: Every stored entry, in order.
        count: How many entries the store says it ever took.

    Raises:
        AuditError: Naming the first entry that was changed, removed, inserted or moved.
    """
    heads: dict[str, tuple[int, str]] = {}
    closed: set[str] = set()
    last = 0
    for record in records:
        if record.index != last + 1:
            raise AuditError(f"entry {last + 1} is missing", entry=last + 1)
        last = record.index
        fields = _check_bytes(record)
        _check_link(record, fields, heads, closed)
    if last != count:
        raise AuditError(
            f"entry {last + 1} is missing: the log ends at {last}, and {count} were written",
            entry=last + 1,
        )
    return Verification(
        records=last,
        writers=len(heads),
        open_writers=tuple(writer for writer in heads if writer not in closed),
        not_proven=(_OWNER_LIMIT,),
    )


def _check_bytes(record: StoredRecord) -> dict[str, Any]:
    """The bytes are the ones that were hashed, and they are a record."""
    if leaf_hash(record.body) != record.leaf:
        raise AuditError(
            f"entry {record.index} was changed: its bytes do not match its hash",
            entry=record.index,
        )
    return record.parse()


def _check_link(
    record: StoredRecord,
    fields: dict[str, object],
    heads: dict[str, tuple[int, str]],
    closed: set[str],
) -> None:
    """The record follows its writer's last one, and nothing follows a writer's closing one."""
    writer = str(fields.get("w"))
    number, previous = heads.get(writer, (0, GENESIS))
    if fields.get("n") != number or fields.get("p") != previous or writer in closed:
        raise AuditError(
            f"entry {record.index} does not follow the last entry of writer {writer}: "
            f"expected number {number}, found {fields.get('n')!r}",
            entry=record.index,
        )
    if (fields.get("type") == "writer.open") != (number == 0):
        raise AuditError(
            f"entry {record.index} opens no chain of its own, or opens one twice",
            entry=record.index,
        )
    heads[writer] = (number + 1, record.leaf.hex())
    if fields.get("type") == "writer.close":
        closed.add(writer)

"""Writes the log, or one session of it, to a file that proves itself.

The first line says what is in it and carries the signed checkpoint; every other line is a record,
byte for byte, or, where only one session is told about, the hash of a record that is not shown.
`docs/audit-format.md` has the format in full.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from tabard.audit.merkle import Frontier
from tabard.audit.sealed import Sealed
from tabard.errors import AuditError, ConfigurationError

if TYPE_CHECKING:
    from tabard.audit.stored import StoredRecord
    from tabard.store import Store

FORMAT = "tabard-log/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """The first line of an export.

    Attributes:
        start: How many entries of the log come before the first line.
        size: How many entries the checkpoint covers; the last line is this entry.
        peaks: The roots of the full subtrees over the entries before, largest first.
        session: The one session that is shown; None shows every record.
        checkpoint: The signed note.
    """

    start: int
    size: int
    peaks: tuple[bytes, ...]
    session: str | None
    checkpoint: str

    def line(self) -> bytes:
        """The line, with its line break; there is one spelling only."""
        facts = {
            "format": FORMAT,
            "start": self.start,
            "size": self.size,
            "peaks": [peak.hex() for peak in self.peaks],
            "session": self.session,
            "checkpoint": self.checkpoint,
        }
        return json.dumps(facts, separators=(",", ":")).encode("ascii") + b"\n"


def hidden_line(leaf: bytes) -> bytes:
    """The line for a record that is not shown."""
    return b'{"leaf":"' + leaf.hex().encode("ascii") + b'"}\n'


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """What was written.

    Attributes:
        start: How many entries of the log come before.
        size: The last entry.
        shown: How many records are in it.
    """

    start: int
    size: int
    shown: int


def export_log(
    store: Store,
    file: BinaryIO,
    *,
    first: int = 1,
    last: int | None = None,
    session: str | None = None,
) -> Exported:
    """Write sealed entries to a file.

    Args:
        store: Where the log is.
        file: Where to write.
        first: The first entry; those that were pruned cannot be asked for.
        last: Go on at least to this entry: the export ends at the first checkpoint from there on.
            Default the latest checkpoint.
        session: Show the records of one session only, and the rest by their hashes.

    Raises:
        ConfigurationError: There is no checkpoint yet that far, no such session, or no such entry.
        AuditError: An entry is missing.
        StoreError: The log cannot be read.
    """
    end = _end(store, last)
    before = _before(store, first, end)
    writers = _writers_of(store, session) if session is not None else frozenset[str]()
    header = Header(
        start=before.size,
        size=end.size,
        peaks=before.peaks,
        session=session,
        checkpoint=end.note,
    )
    file.write(header.line())
    shown, position = 0, before.size
    for record in _until(store, before.size, end.size):
        position += 1
        if record.index != position:
            raise AuditError(f"entry {position} is missing", entry=position)
        is_shown = session is None or _concerns(record, session, writers)
        file.write(record.body + b"\n" if is_shown else hidden_line(record.leaf))
        shown += is_shown
    if position != end.size:
        raise AuditError(f"entry {position + 1} is missing", entry=position + 1)
    return Exported(start=before.size, size=end.size, shown=shown)


def _end(store: Store, last: int | None) -> Sealed:
    """The checkpoint an export ends at."""
    try:
        if last is None:
            found = store.latest_checkpoint()
        else:
            found = next((one for one in store.checkpoints() if one.size >= last), None)
    except ValueError:
        raise AuditError("a checkpoint was changed in the database") from None
    if found is None:
        what = "nothing is sealed" if last is None else f"entry {last} is not sealed"
        raise ConfigurationError(f"{what} yet; run `tabard audit checkpoint` first")
    return found


def _before(store: Store, first: int, end: Sealed) -> Frontier:
    """The tree over the entries before the first one."""
    if not 1 <= first <= end.size:
        raise ConfigurationError(f"no entry {first} among the {end.size} that are sealed")
    pruned = store.pruned()
    if pruned is not None and first <= pruned.size:
        if first > 1:
            raise ConfigurationError(f"the entries up to {pruned.size} were pruned")
        return pruned.frontier()
    frontier = Frontier() if pruned is None else pruned.frontier()
    for leaf in store.leaves(after=frontier.size, until=first - 1):
        frontier.append(leaf)
    return frontier


def _until(store: Store, after: int, last: int) -> Iterator[StoredRecord]:
    for record in store.stored_records(after=after):
        if record.index > last:
            return
        yield record


def _writers_of(store: Store, session: str) -> frozenset[str]:
    """The writers that have records of a session."""
    found = {
        str(fields.get("w"))
        for record in store.stored_records(holding=session)
        if (fields := record.parse()).get("session") == session
    }
    if not found:
        raise ConfigurationError(f"no session {session} in the log")
    return frozenset(found)


def _concerns(record: StoredRecord, session: str, writers: frozenset[str]) -> bool:
    """Whether a record is of a session, or the first or last of a writer that has some."""
    if session.encode() not in record.body and b'"type":"writer.' not in record.body:
        return False
    fields = record.parse()
    if fields.get("session") == session:
        return True
    return str(fields.get("type")).startswith("writer.") and fields.get("w") in writers


def open_export(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a new file for an export; it is never written over another.

    Raises:
        ConfigurationError: There is one already, or it cannot be written.
    """
    try:
        return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")
    except FileExistsError:
        raise ConfigurationError(f"{path}: there is a file already") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not a path"
        raise ConfigurationError(f"{path}: cannot be written: {reason}") from None

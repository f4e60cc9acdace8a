"""Writes the log, or one session of it, to a file that proves itself.

The first line says what is in it and carries the signed checkpoint; every other line is a record,
byte for byte, or, where only one session is told about, the hash of a record that is not shown.
`docs/audit-format.md` has the format in full.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from tabard.audit.chain import leaf_hash
from tabard.audit.merkle import Frontier
from tabard.audit.note import Note, NoteError
from tabard.audit.sealed import Sealed
from tabard.errors import AuditError, ConfigurationError

if TYPE_CHECKING:
    from tabard.audit.note import NoteKey
    from tabard.audit.stored import StoredRecord
    from tabard.store import Store

FORMAT = "tabard-log/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """The first line of an export.

    Attributes:
        start: How many entries of the log come before the first line.
        size: How many entries the checkpoint covers; the last line is this entry.
        is_part: Whether it was made to end before the log does, and not at the latest checkpoint;
            None in an export of before there was this member, which counts as no.
        peaks: The roots of the full subtrees over the entries before, largest first.
        session: The one session that is shown; None shows every record.
        checkpoint: The signed note.
    """

    start: int
    size: int
    is_part: bool | None = False
    peaks: tuple[bytes, ...]
    session: str | None
    checkpoint: str

    def line(self) -> bytes:
        """The line, with its line break; there is one spelling only."""
        facts = {
            "format": FORMAT,
            "start": self.start,
            "size": self.size,
            "part": self.is_part,
            "peaks": [peak.hex() for peak in self.peaks],
            "session": self.session,
            "checkpoint": self.checkpoint,
        }
        if self.is_part is None:
            del facts["part"]
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
    key: NoteKey | None = None,
    kept: str | None = None,
) -> Exported:
    """Write sealed entries to a file.

    Args:
        store: Where the log is.
        file: Where to write.
        first: The first entry; those that were pruned cannot be asked for.
        last: Go on at least to this entry: the export ends at the first checkpoint from there on.
            Default the latest checkpoint.
        session: Show the records of one session only, and the rest by their hashes.
        key: The log's public key, to see before that the export will hold.
        kept: A checkpoint from outside the database, which may have been cosigned since; taken in
            place of the database's where it states the same.

    Raises:
        ConfigurationError: There is no checkpoint yet that far, no such session, or no such entry.
        AuditError: An entry is missing, or is not the one that was sealed.
        StoreError: The log cannot be read.
    """
    end = _end(store, last, key)
    before = _before(store, first, end)
    writers = frozenset[str]()
    if session is not None:
        writers = _writers_of(store, session, before.size, end.size)
    header = Header(
        start=before.size,
        size=end.size,
        is_part=last is not None,
        peaks=before.peaks,
        session=session,
        checkpoint=_fuller(end.note, kept, key),
    )
    file.write(header.line())
    shown = 0
    for record in _until(store, before.size, end.size):
        if record.index != before.size + 1:
            raise AuditError(f"entry {before.size + 1} is missing", entry=before.size + 1)
        is_shown = session is None or _concerns(record, session, writers)
        file.write(record.body + b"\n" if is_shown else hidden_line(record.leaf))
        shown += is_shown
        before.append(leaf_hash(record.body))
    if before.size != end.size:
        raise AuditError(f"entry {before.size + 1} is missing", entry=before.size + 1)
    if before.root() != end.frontier().root():
        raise AuditError(
            "the entries are not those that were sealed; `tabard audit verify` says which"
        )
    return Exported(start=header.start, size=end.size, shown=shown)


def _end(store: Store, last: int | None, key: NoteKey | None) -> Sealed:
    """The checkpoint an export ends at."""
    try:
        if last is None:
            found = store.latest_checkpoint()
        else:
            found = next((one for one in store.checkpoints() if one.size >= last), None)
        if found is not None:
            found.check(() if key is None else (key,))
    except ValueError:
        raise AuditError("a checkpoint was changed in the database") from None
    if found is None:
        what = "nothing is sealed" if last is None else f"entry {last} is not sealed"
        raise ConfigurationError(f"{what} yet; run `tabard audit checkpoint` first")
    return found


def _fuller(note: str, kept: str | None, key: NoteKey | None) -> str:
    """The same checkpoint with more signatures, where one was kept."""
    if kept is None or key is None:
        return note
    try:
        ours, other = Note.parse(note), Note.parse(kept)
        fuller = len(other.signatures) > len(ours.signatures)
        return kept if fuller and ours.text == other.text and other.signed_by(key) == 0 else note
    except NoteError:
        return note


def _before(store: Store, first: int, end: Sealed) -> Frontier:
    """The tree over the entries before the first one."""
    if not 1 <= first <= end.size:
        raise ConfigurationError(f"no entry {first} among the {end.size} that are sealed")
    try:
        pruned = store.pruned()
        frontier = Frontier() if pruned is None else pruned.frontier()
    except ValueError:
        raise AuditError("a checkpoint was changed in the database") from None
    if first <= frontier.size:
        if first > 1:
            raise ConfigurationError(f"the entries up to {frontier.size} were pruned")
        return frontier
    for leaf in store.leaves(after=frontier.size, until=first - 1):
        frontier.append(leaf)
    return frontier


def _until(store: Store, after: int, last: int) -> Iterator[StoredRecord]:
    for record in store.stored_records(after=after):
        if record.index > last:
            return
        yield record


def _writers_of(store: Store, session: str, after: int, last: int) -> frozenset[str]:
    """The writers that have records of a session among the entries up to the last one."""
    ours = [
        (record.index, str(fields.get("w")))
        for record in store.stored_records(holding=session)
        if (fields := record.parse()).get("session") == session
    ]
    found = frozenset(writer for index, writer in ours if after < index <= last)
    if not ours:
        raise ConfigurationError(f"no session {session} in the log")
    if not found:
        raise ConfigurationError(
            f"no record of session {session} among the entries {after + 1} to {last}"
        )
    return found


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


@contextmanager
def new_export(path: Path) -> Iterator[BinaryIO]:
    """A new file for an export, of which nothing is left when it cannot be finished.

    Raises:
        ConfigurationError: There is one already, or it cannot be written.
    """
    file = open_export(path)
    try:
        with file:
            yield file
    except OSError as error:
        path.unlink(missing_ok=True)
        raise ConfigurationError(f"{path}: cannot be written: {error.strerror}") from None
    except BaseException:
        path.unlink(missing_ok=True)
        raise

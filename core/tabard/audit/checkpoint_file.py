"""Checkpoints outside the database: one JSON line each, chained by their hashes.

Whoever changes the database and not this file is found out; keep it, or copies of it, where the
writers of the database cannot reach.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from tabard.audit.checkpoint import Checkpoint
from tabard.audit.note import Note, NoteError, merge_notes
from tabard.errors import AuditError, StoreError

_START = "0" * 64
_LONGEST_LINE = 65_536


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A checkpoint in the file.

    Attributes:
        size: How many entries it covers.
        note: The signed note.
        sealed_at: POSIX seconds.
    """

    size: int
    note: str
    sealed_at: int


class CheckpointFile:
    """The file `checkpoints.log`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> list[Kept]:
        """Every checkpoint in it, oldest first; a last line that was cut short is left out.

        Raises:
            AuditError: A line was changed, removed or inserted.
            StoreError: It cannot be read.
        """
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            return []
        except OSError as error:
            raise StoreError(f"{self.path}: cannot be read: {error.strerror}") from None
        previous = _START
        found: list[Kept] = []
        for number, line in enumerate(data.split(b"\n")[:-1], start=1):
            kept = _read_line(line, previous)
            if kept is None or (found and kept.size < found[-1].size):
                raise AuditError(f"{self.path}: line {number} does not follow the one before it")
            previous = hashlib.sha256(line).hexdigest()
            found.append(kept)
        return found

    def origin(self) -> str | None:
        """The log its first checkpoint is of; None where there is none yet.

        Raises:
            AuditError: Its first line is no checkpoint.
            StoreError: It cannot be read.
        """
        try:
            with self.path.open("rb") as file:
                line = file.readline(_LONGEST_LINE)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StoreError(f"{self.path}: cannot be read: {error.strerror}") from None
        if not line.endswith(b"\n"):  # cut short by a crash: its checkpoint was never handed out
            return None
        kept = _read_line(line[:-1], _START)
        try:
            return Checkpoint.parse(Note.parse(kept.note if kept else "").text).origin
        except NoteError:
            raise AuditError(f"{self.path}: the first line is no checkpoint") from None

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other sealers out.

        Raises:
            StoreError: The file cannot be written.
        """
        try:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise StoreError(f"{self.path}: cannot be written: {error.strerror}") from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def append(self, kept: Kept) -> None:
        """Add a checkpoint, durably; call it with the lock held.

        A last line that was cut short by a crash is dropped: its checkpoint was never handed out.

        Raises:
            StoreError: The file cannot be written.
        """
        try:
            with self.path.open("r+b") as file:
                end = file.seek(0, os.SEEK_END)
                start = file.seek(max(0, end - _LONGEST_LINE))
                lines, _, torn = file.read().rpartition(b"\n")
                file.truncate(end - len(torn))
                last = lines.rpartition(b"\n")[2]
                previous = hashlib.sha256(last).hexdigest() if start or lines else _START
                file.seek(0, os.SEEK_END)
                file.write(_line(kept, previous))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise StoreError(f"{self.path}: cannot be written: {error.strerror}") from None

    def last(self) -> Kept | None:
        """The latest checkpoint, with what was signed under it on every line it is on.

        Those before it are not looked at.

        Raises:
            AuditError: Its line was changed.
            StoreError: It cannot be read.
        """
        try:
            with self.path.open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - _LONGEST_LINE))
                lines, _, _ = file.read().rpartition(b"\n")
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StoreError(f"{self.path}: cannot be read: {error.strerror}") from None
        if not lines:
            return None
        *before, line = lines.split(b"\n")
        kept = _read_line(line, None)
        if kept is None:
            raise AuditError(f"{self.path}: the last line is no checkpoint")
        return _merge(kept, before)


def _merge(kept: Kept, before: list[bytes]) -> Kept:
    """The last checkpoint with the signatures of the lines before it that state the same."""
    note = kept.note
    for line in reversed(before):
        other = _read_line(line, None)
        if other is None or other.size != kept.size:
            break
        try:
            note = merge_notes([note, other.note])
        except ValueError:  # another text, or none: for the verifier to say
            break
    return replace(kept, note=note)


def _line(kept: Kept, previous: str) -> bytes:
    facts = {
        "size": kept.size,
        "sealed_at": kept.sealed_at,
        "note": kept.note,
        "previous": previous,
    }
    return json.dumps(facts, separators=(",", ":")).encode() + b"\n"


def _read_line(line: bytes, previous: str | None) -> Kept | None:
    """A checkpoint from its line; None unless it is spelled as we spell it, and follows."""
    try:
        facts = json.loads(line)
        kept = Kept(size=facts["size"], note=facts["note"], sealed_at=facts["sealed_at"])
        follows = previous is None or facts["previous"] == previous
        is_kept = type(kept.size) is type(kept.sealed_at) is int and type(kept.note) is str
        if follows and is_kept and _line(kept, facts["previous"]) == line + b"\n":
            return kept
    except (ValueError, KeyError, TypeError, RecursionError):
        pass
    return None

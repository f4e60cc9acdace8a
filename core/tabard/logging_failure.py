"""What happens to calls while the log cannot be written: refused, unless an operator says else.

Only a call that needs nothing of the store but a record can go ahead: one that a budget, a rate, a
person or a proof has to be asked about is refused in every mode, and so is one whose agent's
liveness cannot be read.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import threading
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tabard.audit.chain import timestamp
from tabard.audit.fields import encode
from tabard.errors import ConfigurationError, StoreError
from tabard.notice import complain

if TYPE_CHECKING:
    from tabard.audit.chain import SessionCount
    from tabard.budget.ledger import Settlement
    from tabard.judge import Judgement
    from tabard.session import Session

OnAuditFailure = Literal["deny", "spool", "allow_and_alarm"]
"""`deny`: nothing runs that is not on record. `spool`: what ran is in a file until the log is back.
`allow_and_alarm`: what ran is remembered by the process only, and told to the operator."""

LIMIT = 10_000
"""Events that wait for the log at most; beyond that calls are refused in every mode."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something still to be written: for most, how a call has ended.

    Attributes:
        kind: The record's type.
        fields: Its members, as JSON without the braces.
        count: The session it belongs to.
        settlement: What a call has cost in the end.
        result: What the policy says to keep of it: the session, the call, the value.
        unlogged_at: POSIX seconds at which it went ahead without being on record; None when it did
            not have to.
    """

    kind: str
    fields: str
    count: SessionCount | None = None
    settlement: Settlement | None = None
    result: tuple[Session, str, object] | None = None
    unlogged_at: float | None = None


_KIND = re.compile(r"[a-z_]+\.[a-z_]+")


class LoggingFailure:
    """Lets calls go ahead that cannot be put on record, as far as the operator allows it.

    Attributes:
        has_failed: Whether something could not be recorded since `recovered` told of it.
    """

    def __init__(self, mode: OnAuditFailure, spool: Path | None, instance: str) -> None:
        """Be ready for it.

        Args:
            mode: What the operator wants; recorded when the log is back.
            spool: The folder for spooled records, best on another disk than the log.
            instance: Who writes, for the records.

        Raises:
            ConfigurationError: There is no such mode, or the folder cannot be used.
        """
        if mode not in ("deny", "spool", "allow_and_alarm"):
            raise ConfigurationError(
                "on_audit_failure: expected deny, spool or allow_and_alarm, found another value"
            )
        self.mode = mode
        self._instance = instance
        self._lock = threading.Lock()
        self.has_failed = False
        self._refused = 0
        self._codes: set[str] = set()
        self._moments: list[float] = []
        # Also where nothing new is spooled: what an earlier guard left is still put on record.
        used = spool is not None and (mode == "spool" or spool.is_dir())
        self._spool = Spool(spool) if used and spool is not None else None

    def allows(self, judged: Judgement) -> bool:
        """Whether a call may go ahead without a record, as far as it itself is concerned."""
        decision = judged.verdict.decision
        bound = [decision.terms, *(terms for _, terms in decision.above)]
        return (
            self.mode != "deny"
            and judged.session is not None
            and judged.verdict.permits
            and judged.charge is None
            and judged.proof is None
            and not any(terms is not None and terms.rates for terms in bound)
        )

    def keep(self, event: Event, queue: deque[Event]) -> None:
        """Remember an event until the log is back.

        Raises:
            StoreError: There are too many, or the spool cannot be written either.
        """
        with self._lock:
            if len(queue) >= LIMIT:
                raise StoreError("too many events wait for the log", code="audit")
            if self._spool is not None and self.mode == "spool":
                self._spool.append(event)
            queue.append(event)

    def leftovers(self) -> list[Event]:
        """What processes have spooled that ended before the log was back."""
        return [] if self._spool is None else self._spool.leftovers()

    def note(self, code: str, now: float, *, refused: bool) -> None:
        """Remember that the log could not be written, to tell it once it is back.

        Args:
            code: Why, as the refusal says it.
            now: POSIX seconds.
            refused: Whether a call was refused for it; else its record is only late.
        """
        with self._lock:
            self.has_failed = True
            self._refused += refused
            self._codes.add(code)
            self._moments = [min([now, *self._moments]), max([now, *self._moments])]

    def recovered(self, written: list[Event]) -> str | None:
        """The members of the record that the log is back; None when there is nothing to tell."""
        unlogged = [event.unlogged_at for event in written if event.unlogged_at is not None]
        with self._lock:
            moments = [*unlogged, *self._moments]
            if not moments:
                return None
            facts = {
                "mode": self.mode,
                "instance": self._instance,
                "events": len(unlogged),
                "refused": self._refused,
                "codes": sorted(self._codes),
                "since": timestamp(min(moments)),
                "until": timestamp(max(moments)),
            }
            self.has_failed, self._refused, self._moments = False, 0, []
            self._codes.clear()
        return f'"recovered":{encode(facts)}'

    def forget(self, queue: deque[Event]) -> None:
        """What was spooled is on record now, unless something waits again already."""
        with self._lock:
            if self._spool is not None and not queue:
                self._spool.clear()


class Spool:
    """A folder with one file of records for each process that could not write its log."""

    def __init__(self, folder: Path) -> None:
        """Take a folder into use.

        Raises:
            ConfigurationError: It cannot be made or written.
        """
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not os.access(folder, os.W_OK):
                raise OSError("not writable")
        except OSError:
            raise ConfigurationError(f"{folder}: cannot be used as a spool") from None
        self._folder = folder
        self._file: tuple[int, Path, int] | None = None
        self._taken: list[tuple[Path, int]] = []

    def append(self, event: Event) -> None:
        """Add an event, durably.

        Raises:
            StoreError: It cannot be written; nothing of it is left.
        """
        line = json.dumps([event.kind, event.fields, event.unlogged_at]) + "\n"
        try:
            descriptor = self._own()
            size = os.fstat(descriptor).st_size
            try:
                _write_whole(descriptor, line.encode())
            except BaseException:
                self._cut(descriptor, size)
                raise
        except OSError as error:
            raise StoreError(
                f"{self._folder}: the spool cannot be written: {error.strerror}", code="audit"
            ) from None

    def _cut(self, descriptor: int, size: int) -> None:
        """Take back what was begun: the call is refused, and the next line needs a line's start."""
        try:
            os.ftruncate(descriptor, size)
        except OSError:
            if self._file is not None:
                self._taken.append((self._file[1], descriptor))
                self._file = None  # what comes next goes into another file

    def _own(self) -> int:
        """This process's file, locked as long as the process lives."""
        if self._file is None or self._file[2] != os.getpid():
            path = self._folder / f"{os.getpid()}-{os.urandom(6).hex()}.jsonl"
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            self._file = (descriptor, path, os.getpid())
        return self._file[0]

    def leftovers(self) -> list[Event]:
        """The events of processes that are gone; their files go with the next `clear`."""
        found: list[Event] = []
        for path in sorted(self._folder.glob("*.jsonl")):
            try:
                descriptor = os.open(path, os.O_RDONLY)
            except OSError:
                continue
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os.close(descriptor)  # its process lives, and writes them itself
                continue
            self._taken.append((path, descriptor))
            found.extend(_read_events(path))
        return found

    def clear(self) -> None:
        """Remove what is on record now."""
        if self._file is not None and self._file[2] == os.getpid():
            self._taken.append((self._file[1], self._file[0]))
            self._file = None
        for path, descriptor in self._taken:
            with suppress(OSError):
                path.unlink(missing_ok=True)
                os.close(descriptor)
        self._taken.clear()


def _write_whole(descriptor: int, data: bytes) -> None:
    """Write all of it to the disk: a full one may take a part, and say how much.

    Raises:
        OSError: It cannot be.
    """
    while data:
        data = data[os.write(descriptor, data) :]
    os.fsync(descriptor)


def _read_events(path: Path) -> list[Event]:
    """The events of a spool file; a last line that was cut short was never acknowledged."""
    events = []
    *lines, torn = path.read_text("utf-8", "replace").split("\n")
    if torn:
        complain("the last line of %s was cut short; its call did not run", path.name)
    for line in lines:
        try:
            kind, fields, moment = json.loads(line)
            if not (_KIND.fullmatch(kind) and fields.isascii() and fields.isprintable()):
                raise ValueError("not written by tabard")
            json.loads(f"{{{fields}}}")
            events.append(Event(kind=kind, fields=fields, unlogged_at=moment))
        except (ValueError, TypeError, AttributeError):
            complain("a spooled record cannot be read: %s", path.name)
            with suppress(OSError):
                path.rename(path.with_suffix(".unreadable"))
    return events

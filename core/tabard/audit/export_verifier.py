"""Verifies an export with nothing but the file and a public key."""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO

from tabard.audit.chain import leaf_hash
from tabard.audit.chains import Chains, SessionTrail
from tabard.audit.checkpoint import SignedCheckpoint
from tabard.audit.evidence import Earlier, Evidence, earlier_limits, owner_limits
from tabard.audit.export import FORMAT, Header
from tabard.audit.merkle import Frontier
from tabard.audit.stored import parse_record
from tabard.errors import AuditError, ConfigurationError

MAX_LINE = 1_048_576
"""Bytes of the longest line that is read."""

_HIDDEN = re.compile(rb'\{"leaf":"([0-9a-f]{64})"\}')
_BEGINNING = b'{"format":"' + FORMAT.encode() + b'",'
_TYPES = {"start": int, "size": int, "part": bool, "peaks": list, "checkpoint": str}


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportVerification:
    """What a check of an export has shown.

    Attributes:
        start: How many entries of the log come before the export.
        size: How many entries the checkpoint covers: the export goes from `start + 1` to here.
        is_part: Whether it was made to end before the log does, so that a later checkpoint shows
            no rollback.
        records: How many of them are shown.
        session: The one session that is shown, or None.
        writers: How many processes wrote what is shown.
        checkpoint: The signed checkpoint it rests on.
        known: The sizes of the earlier checkpoints it was compared with.
        not_proven: What this check could not show, one sentence each.
    """

    start: int
    size: int
    is_part: bool
    records: int
    session: str | None
    writers: int
    checkpoint: SignedCheckpoint
    known: tuple[int, ...]
    not_proven: tuple[str, ...]


def verify_export(
    path: str | os.PathLike[str],
    *,
    keys: Sequence[str],
    known: Sequence[str] = (),
    witnesses: Sequence[str] = (),
    quorum: int | None = None,
) -> ExportVerification:
    """Verify an export offline.

    Args:
        path: The file.
        keys: The log's verifier keys (`name+hash+base64`); one has to have signed.
        known: Signed checkpoints of the same log that were kept from earlier on.
        witnesses: The verifier keys of witnesses.
        quorum: How many of them have to have cosigned; default all.

    Raises:
        AuditError: It does not hold, naming the entry where that is known.
        ConfigurationError: The file is no export, a key is none, or an earlier checkpoint does not
            hold or is of another log.
    """
    given = Evidence.read(keys=keys, known=known, witnesses=witnesses, quorum=quorum)
    if not given.keys:
        raise ConfigurationError("give the log's verifier key: without it nothing is proven")
    try:
        with _open(path) as file:
            header = _read_header(file, path)
            signed = given.open(header.checkpoint)
            if signed.checkpoint.size != header.size:
                raise AuditError(
                    f"the checkpoint covers {signed.checkpoint.size} entries, and the export "
                    f"claims {header.size}"
                )
            earlier = given.earlier(
                signed.checkpoint.origin,
                start=header.start,
                size=header.size,
                is_part=bool(header.is_part),
            )
            return _Reading(header, signed, earlier).verify(_lines(file))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not a path"
        raise ConfigurationError(f"{path}: cannot be read: {reason}") from None


class _Reading:
    """One pass over the lines of an export."""

    def __init__(self, header: Header, signed: SignedCheckpoint, earlier: Earlier) -> None:
        self._header = header
        self._signed = signed
        self._earlier = earlier
        self._frontier = Frontier(header.start, header.peaks)
        self._chains = Chains(from_start=header.start == 0, partial=header.session is not None)
        self._trail = (
            None
            if header.session is None
            else SessionTrail(header.session, from_start=header.start == 0)
        )
        self._records = 0

    def verify(self, lines: Iterable[bytes]) -> ExportVerification:
        """Read every line, and compare what comes out with the checkpoint."""
        self._compare()
        for line in lines:
            if self._frontier.size == self._header.size:
                raise AuditError("there are lines after the last entry")
            self._read(line)
            if self._frontier.size in self._earlier.roots:
                self._compare()
        size, expected = self._frontier.size, self._header.size
        if size != expected:
            raise AuditError(
                f"entry {size + 1} is missing: the export ends at {size} of {expected}",
                entry=size + 1,
            )
        if self._trail is not None and not self._trail.writers:
            raise AuditError(f"no record of session {self._trail.session} is shown")
        if self._frontier.root() != self._signed.checkpoint.root:
            raise AuditError("the entries are not those that were sealed: the root is another one")
        return self._conclude()

    def _read(self, line: bytes) -> None:
        index = self._frontier.size + 1
        hidden = None if self._trail is None else _HIDDEN.fullmatch(line)
        if hidden is not None:
            leaf = bytes.fromhex(hidden[1].decode())
            self._chains.hide(leaf.hex())
        else:
            leaf = leaf_hash(line)
            fields = parse_record(line, index)
            self._chains.follow(index, leaf.hex(), fields)
            if self._trail is not None:
                self._trail.follow(index, fields)
            self._records += 1
        self._frontier.append(leaf)

    def _compare(self) -> None:
        root = self._earlier.roots.get(self._frontier.size)
        if root is not None and root != self._frontier.root():
            raise AuditError(
                f"the log was rewritten: its first {self._frontier.size} entries are not those "
                "of the earlier checkpoint"
            )

    def _conclude(self) -> ExportVerification:
        return ExportVerification(
            start=self._header.start,
            size=self._header.size,
            is_part=bool(self._header.is_part),
            records=self._records,
            session=self._header.session,
            writers=len(self._chains.heads),
            checkpoint=self._signed,
            known=tuple(sorted(self._earlier.roots)),
            not_proven=tuple(self._limits()),
        )

    def _limits(self) -> Iterator[str]:
        signed, start, size = self._signed, self._header.start, self._header.size
        yield f"What came after entry {size}, or whether anything did: it is not in this export."
        vouched = size if signed.witnesses else self._earlier.vouched
        yield from owner_limits(vouched, size=size, owner="whoever holds the log's key")
        yield from earlier_limits(self._earlier, start=start, size=size)
        if signed.unknown:
            names = ", ".join(signed.unknown)
            yield f"The signatures of {names}: no key of theirs was given."
        if start:
            yield f"What is in the first {start} entries: they are not in this export."
        yield from self._writer_limits() if self._trail is None else _session_limits(self._trail)
        yield "That the times of the entries are right: they are the clock of the one who wrote."

    def _writer_limits(self) -> Iterator[str]:
        for writer in self._chains.open_writers:
            yield (
                f"That writer {writer} has ended as it should: it has no closing entry yet "
                "(it runs on, crashed, or its end is not in this export)."
            )


def _session_limits(trail: SessionTrail) -> Iterator[str]:
    yield (
        f"That no forked process went on with session {trail.session}: its records "
        "would be in a chain of their own."
    )
    for writer, number in trail.before.items():
        yield (
            f"What the first {number} records of session {trail.session} by writer {writer} are: "
            "they are not in this export."
        )
    for writer in trail.unended:
        yield (
            f"That session {trail.session} has no further record by writer {writer}: "
            "no closing entry of that writer in this export counts them."
        )


def _open(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a file to read; what is none (a pipe, say) could keep one waiting for ever.

    Raises:
        ConfigurationError: It is no file.
        OSError: It cannot be read.
    """
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise ConfigurationError(f"{path}: cannot be read: not a file")
    return open(path, "rb")


def _read_header(file: BinaryIO, path: str | os.PathLike[str]) -> Header:
    line = file.readline(MAX_LINE + 1)
    if not line.startswith(_BEGINNING):
        raise ConfigurationError(f"{path}: no export of a tabard log ({FORMAT})")
    try:
        facts = json.loads(line)
        if any(type(facts.get(name, False)) is not kind for name, kind in _TYPES.items()):
            raise ValueError("another type")
        if not isinstance(facts["session"], str | None):
            raise ValueError("another type")
        header = Header(
            start=facts["start"],
            size=facts["size"],
            is_part=facts.get("part"),
            peaks=tuple(bytes.fromhex(peak) for peak in facts["peaks"]),
            session=facts["session"],
            checkpoint=facts["checkpoint"],
        )
        Frontier(header.start, header.peaks)
    except (ValueError, KeyError, TypeError, RecursionError):
        raise AuditError("the first line was changed: it is no beginning of an export") from None
    if header.line() != line:
        raise AuditError("the first line was changed: it is not spelled as tabard spells it")
    return header


def _lines(file: BinaryIO) -> Iterator[bytes]:
    while line := file.readline(MAX_LINE + 1):
        if not line.endswith(b"\n"):
            raise AuditError("the last line is not whole, or longer than any entry")
        yield line[:-1]

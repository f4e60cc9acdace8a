"""Verifies an export with nothing but the file and a public key."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO

from tabard.audit.chain import leaf_hash
from tabard.audit.chains import Chains, SessionTrail
from tabard.audit.checkpoint import SignedCheckpoint, open_checkpoint
from tabard.audit.export import FORMAT, Header
from tabard.audit.merkle import Frontier
from tabard.audit.note import NoteError, NoteKey
from tabard.audit.stored import parse_record
from tabard.errors import AuditError, ConfigurationError

MAX_LINE = 1_048_576
"""Bytes of the longest line that is read."""

_HIDDEN = re.compile(rb'\{"leaf":"([0-9a-f]{64})"\}')


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportVerification:
    """What a check of an export has shown.

    Attributes:
        start: How many entries of the log come before the export.
        size: How many entries the checkpoint covers: the export goes from `start + 1` to here.
        records: How many of them are shown.
        session: The one session that is shown, or None.
        writers: How many processes wrote what is shown.
        checkpoint: The signed checkpoint it rests on.
        known: The sizes of the earlier checkpoints it was compared with.
        not_proven: What this check could not show, one sentence each.
    """

    start: int
    size: int
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
        ConfigurationError: The file is no export, a key is none, or an earlier checkpoint cannot
            be compared with it.
    """
    log_keys, witness_keys = _read_keys(keys), _read_keys(witnesses)
    if not log_keys:
        raise ConfigurationError("give the log's verifier key: without it nothing is proven")
    needed = len(witness_keys) if quorum is None else quorum
    if not 0 <= needed <= len(witness_keys):
        raise ConfigurationError(f"{needed} of {len(witness_keys)} witnesses cannot be asked for")
    try:
        with open(path, "rb") as file:
            header = _read_header(file, path)
            signed = _open(header, log_keys, witness_keys)
            if len(signed.witnesses) < needed:
                raise AuditError(
                    f"{len(signed.witnesses)} witnesses have cosigned the checkpoint, not {needed}"
                )
            earlier = _earlier(known, log_keys, header, signed)
            return _Reading(header, signed, earlier).verify(_lines(file))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not a path"
        raise ConfigurationError(f"{path}: cannot be read: {reason}") from None


class _Reading:
    """One pass over the lines of an export."""

    def __init__(self, header: Header, signed: SignedCheckpoint, earlier: dict[int, bytes]) -> None:
        self._header = header
        self._signed = signed
        self._earlier = earlier
        self._frontier = Frontier(header.start, header.peaks)
        self._chains = Chains(from_start=header.start == 0, partial=header.session is not None)
        self._trail = None if header.session is None else SessionTrail(header.session)
        self._records = 0

    def verify(self, lines: Iterable[bytes]) -> ExportVerification:
        """Read every line, and compare what comes out with the checkpoint."""
        self._compare()
        for line in lines:
            if self._frontier.size == self._header.size:
                raise AuditError("there are lines after the last entry")
            self._read(line)
            if self._frontier.size in self._earlier:
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
        hidden = _HIDDEN.fullmatch(line)
        if hidden and self._trail is not None:
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
        root = self._earlier.get(self._frontier.size)
        if root is not None and root != self._frontier.root():
            raise AuditError(
                f"the log was rewritten: its first {self._frontier.size} entries are not those "
                "of the earlier checkpoint"
            )

    def _conclude(self) -> ExportVerification:
        return ExportVerification(
            start=self._header.start,
            size=self._header.size,
            records=self._records,
            session=self._header.session,
            writers=len(self._chains.heads),
            checkpoint=self._signed,
            known=tuple(sorted(self._earlier)),
            not_proven=tuple(self._limits()),
        )

    def _limits(self) -> Iterator[str]:
        signed, header = self._signed, self._header
        yield f"What came after entry {header.size}: it is not in this export."
        if not signed.witnesses and not any(self._earlier):
            yield (
                "That whoever holds the log's key did not rewrite it or roll it back: "
                "give an earlier checkpoint (--known) or a witness's key (--witness)."
            )
        elif not signed.witnesses and max(self._earlier) < header.size:
            yield (
                f"That nothing after entry {max(self._earlier)} was rewritten by whoever holds "
                "the log's key."
            )
        if signed.unknown:
            names = ", ".join(signed.unknown)
            yield f"The signatures of {names}: no key of theirs was given."
        if header.start:
            yield f"What is in the first {header.start} entries: they are not in this export."
        if self._trail is None:
            for writer in self._chains.open_writers:
                yield (
                    f"That writer {writer} has ended as it should: it has no closing entry yet "
                    "(it runs on, crashed, or its end is not in this export)."
                )
        else:
            yield (
                f"That no forked process went on with session {header.session}: its records "
                "would be in a chain of their own."
            )
            for writer in self._trail.unended:
                yield (
                    f"That session {header.session} has no further record by writer {writer}: "
                    "neither the session nor the writer was closed within this export."
                )
        yield "That the times of the entries are right: they are the clock of the one who wrote."


def _read_keys(texts: Sequence[str]) -> list[NoteKey]:
    try:
        return [NoteKey.parse(text.strip()) for text in texts]
    except NoteError as error:
        raise ConfigurationError(str(error)) from None


def _open(
    header: Header, keys: Sequence[NoteKey], witnesses: Sequence[NoteKey]
) -> SignedCheckpoint:
    try:
        signed = open_checkpoint(header.checkpoint, keys, witnesses)
    except NoteError as error:
        raise AuditError(f"the checkpoint does not hold: {error}") from None
    if signed.checkpoint.size != header.size:
        raise AuditError(
            f"the checkpoint covers {signed.checkpoint.size} entries, and the export claims "
            f"{header.size}"
        )
    return signed


def _earlier(
    notes: Sequence[str], keys: Sequence[NoteKey], header: Header, signed: SignedCheckpoint
) -> dict[int, bytes]:
    """The roots of earlier checkpoints by size."""
    found: dict[int, bytes] = {}
    for note in notes:
        try:
            one = open_checkpoint(note, keys).checkpoint
        except NoteError as error:
            raise ConfigurationError(f"an earlier checkpoint does not hold: {error}") from None
        if one.origin != signed.checkpoint.origin:
            raise ConfigurationError("an earlier checkpoint is of another log")
        if one.size > header.size:
            raise AuditError(
                f"the log was rolled back, or the export is an old one: an earlier checkpoint "
                f"covers {one.size} entries, and this one {header.size}"
            )
        if one.size < header.start:
            raise ConfigurationError(
                f"an earlier checkpoint covers {one.size} entries, and the export begins after "
                f"{header.start}: they cannot be compared"
            )
        if found.setdefault(one.size, one.root) != one.root:
            raise AuditError(f"two checkpoints of {one.size} entries contradict each other")
    return found


def _read_header(file: BinaryIO, path: str | os.PathLike[str]) -> Header:
    line = file.readline(MAX_LINE + 1)
    try:
        facts = json.loads(line)
        if facts["format"] != FORMAT:
            raise ValueError("another format")
        header = Header(
            start=facts["start"],
            size=facts["size"],
            peaks=tuple(bytes.fromhex(peak) for peak in facts["peaks"]),
            session=facts["session"],
            checkpoint=facts["checkpoint"],
        )
        Frontier(header.start, header.peaks)
        if type(header.start) is not int or type(header.size) is not int:
            raise ValueError("not numbers")
        if header.session is not None and type(header.session) is not str:
            raise ValueError("not a session")
        spelling = header.line()
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise ConfigurationError(f"{path}: no export of a tabard log ({FORMAT})") from None
    if spelling != line:
        raise AuditError("the first line was changed: it is not spelled as tabard spells it")
    return header


def _lines(file: BinaryIO) -> Iterator[bytes]:
    while line := file.readline(MAX_LINE + 1):
        if not line.endswith(b"\n"):
            raise AuditError("the last line is not whole, or longer than any entry")
        yield line[:-1]

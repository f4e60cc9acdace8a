"""A witness (C2SP tlog-witness): cosigns the checkpoints of a log, and never one that goes back.

Small teams run it on a machine that those who are audited have no access to.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tabard.audit.checkpoint import Checkpoint, open_checkpoint
from tabard.audit.merkle import check_consistency
from tabard.audit.note import Note, NoteError, NoteKey, NoteSigner, decode_base64
from tabard.clock import Clock, read_clock
from tabard.errors import ConfigurationError

MAX_REQUEST = 65_536
MAX_PROOF = 63
_OLD = re.compile(r"old (0|[1-9][0-9]{0,18})")


@dataclass(frozen=True, slots=True)
class Answer:
    """What a witness replies.

    Attributes:
        status: The HTTP status.
        body: The text.
        kind: Its content type.
    """

    status: int
    body: str
    kind: str = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A checkpoint, and the proof that it goes on from an earlier one.

    Attributes:
        old: How many entries the earlier one covers.
        proof: The consistency proof.
        note: The signed checkpoint.
    """

    old: int
    proof: tuple[bytes, ...]
    note: str

    @classmethod
    def parse(cls, text: str) -> Request:
        """Read the body of a request.

        Raises:
            NoteError: It is none.
        """
        head, gap, note = text.partition("\n\n")
        first, *rest = head.split("\n")
        old = _OLD.fullmatch(first)
        proof = [decode_base64(line) for line in rest]
        if not gap or old is None or len(proof) > MAX_PROOF:
            raise NoteError("expected `old N`, proof lines, an empty line, and a checkpoint")
        if any(one is None or len(one) != 32 for one in proof):
            raise NoteError("expected each proof line to be a hash in base64")
        return cls(old=int(old[1]), proof=tuple(one for one in proof if one), note=note)

    def __str__(self) -> str:
        """The body of the request."""
        from base64 import b64encode

        lines = (f"{b64encode(one).decode()}\n" for one in self.proof)
        return f"old {self.old}\n{''.join(lines)}\n{self.note}"


class Witness:
    """Remembers how far it has seen each log, and cosigns what goes on from there."""

    def __init__(
        self, signer: NoteSigner, logs: Sequence[NoteKey], state: Path, *, clock: Clock
    ) -> None:
        """Take up a witness's work.

        Args:
            signer: Its key, of the kind `COSIGNATURE`.
            logs: The keys of the logs it stands for.
            state: The SQLite file with what it has seen; made when it is not there. A witness that
                lost this file must not go on under the same key.
            clock: Returns POSIX seconds.

        Raises:
            ConfigurationError: The file cannot be used.
        """
        self.key = signer.key
        self._signer = signer
        self._logs = tuple(logs)
        self._state = state
        self._clock = clock
        try:
            with self._connect() as db:
                db.execute(
                    "CREATE TABLE IF NOT EXISTS seen "
                    "(origin TEXT PRIMARY KEY, size INTEGER NOT NULL, root BLOB NOT NULL) STRICT"
                )
        except sqlite3.Error as error:
            raise ConfigurationError(f"{state}: cannot be used as a state: {error}") from None

    def _connect(self) -> sqlite3.Connection:
        db = sqlite3.connect(self._state, isolation_level=None, timeout=5)
        db.execute("PRAGMA synchronous = FULL")
        return db

    def add_checkpoint(self, body: str) -> Answer:
        """Answer one request; what is cosigned is remembered first."""
        try:
            request = Request.parse(body)
            checkpoint = Checkpoint.parse(Note.parse(request.note).text)
        except NoteError as error:
            return Answer(400, f"{error}\n")
        keys = [key for key in self._logs if key.name == checkpoint.origin]
        if not keys:
            return Answer(404, "not a log of this witness\n")
        try:
            open_checkpoint(request.note, keys)
        except NoteError as error:
            return Answer(403, f"{error}\n")
        if request.old > checkpoint.size:
            return Answer(400, "the old size is the larger one\n")
        return self._advance(request, checkpoint)

    def _advance(self, request: Request, checkpoint: Checkpoint) -> Answer:
        """Compare with what was seen, and remember, in one transaction."""
        db = self._connect()
        try:
            db.execute("BEGIN IMMEDIATE")
            row = db.execute(
                "SELECT size, root FROM seen WHERE origin = ?", (checkpoint.origin,)
            ).fetchone()
            size, root = row or (0, None)
            refusal = _check(request, checkpoint, size, root)
            if refusal is None:
                facts = (checkpoint.origin, checkpoint.size, checkpoint.root)
                db.execute("INSERT OR REPLACE INTO seen VALUES (?, ?, ?)", facts)
                db.execute("COMMIT")
        finally:
            db.close()
        if refusal is not None:
            return refusal
        return Answer(200, self._signer.cosign(checkpoint.text, int(read_clock(self._clock))))


def _check(
    request: Request, checkpoint: Checkpoint, size: int, root: bytes | None
) -> Answer | None:
    """The refusal of a checkpoint that does not go on from the last one; None if it does."""
    conflict = Answer(409, f"{size}\n", "text/x.tlog.size")
    if request.old != size:
        return conflict
    if root is None:
        return Answer(422, "a proof from an empty log is empty\n") if request.proof else None
    if size == checkpoint.size:
        if root != checkpoint.root:
            return conflict
        return Answer(422, "the same size needs no proof\n") if request.proof else None
    if check_consistency(size, checkpoint.size, request.proof, root, checkpoint.root):
        return None
    return Answer(422, "the proof does not hold\n")

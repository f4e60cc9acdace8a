"""Checkpoints (C2SP tlog-checkpoint): the size and the root of a log, signed.

>>> text = Checkpoint(origin="acme.example/log", size=0, root=bytes(32)).text
>>> text.splitlines()[:2]
['acme.example/log', '0']
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass

from tabard.audit.note import COSIGNATURE, Note, NoteError, NoteKey, NoteSigner, decode_base64

_SIZE = re.compile(r"0|[1-9][0-9]{0,18}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A tree head.

    Attributes:
        origin: Which log: its name on every checkpoint, a URL without its scheme.
        size: How many entries it covers.
        root: The root of the tree over them (RFC 6962).
    """

    origin: str
    size: int
    root: bytes

    @classmethod
    def parse(cls, text: str) -> Checkpoint:
        """Read the text of a note.

        Raises:
            NoteError: It is no checkpoint, or one with lines this version does not know.
        """
        lines = text.split("\n")
        if len(lines) != 4 or lines[3] or not lines[0] or not _SIZE.fullmatch(lines[1]):
            raise NoteError("expected a checkpoint: origin, size, and root, each on a line")
        root = decode_base64(lines[2])
        if root is None or len(root) != 32:
            raise NoteError("expected the root of a tree: 32 bytes in base64")
        return cls(origin=lines[0], size=int(lines[1]), root=root)

    @property
    def text(self) -> str:
        """The text of the note."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"

    def sign(self, signer: NoteSigner) -> str:
        """The signed note."""
        return f"{self.text}\n{signer.sign(self.text)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedCheckpoint:
    """A checkpoint whose signatures were checked.

    Attributes:
        checkpoint: The tree head.
        key: The log's key that signed it.
        witnesses: Names of the witnesses whose cosignature holds, and when they saw it.
        unknown: Names on signatures nobody gave a key for.
    """

    checkpoint: Checkpoint
    key: NoteKey
    witnesses: tuple[tuple[str, int], ...]
    unknown: tuple[str, ...]


def open_checkpoint(
    note: str, keys: Sequence[NoteKey], witnesses: Sequence[NoteKey] = ()
) -> SignedCheckpoint:
    """Read a checkpoint and check who signed it.

    Args:
        note: The signed note.
        keys: The log's keys; one of them has to have signed it.
        witnesses: The keys of witnesses.

    Raises:
        NoteError: It is no checkpoint, none of the log's keys has signed it, or a signature in the
            name of one of the keys does not hold.
    """
    read = Note.parse(note)
    checkpoint = Checkpoint.parse(read.text)
    own = [key for key in keys if key.algorithm != COSIGNATURE and key.name == checkpoint.origin]
    signed = [key for key in own if read.signed_by(key) is not None]
    if not signed:
        raise NoteError(f"no key that was given has signed the checkpoint of {checkpoint.origin}")
    stated = [(key.name, read.signed_by(key)) for key in witnesses]
    return SignedCheckpoint(
        checkpoint=checkpoint,
        key=signed[0],
        witnesses=tuple((name, when) for name, when in stated if when is not None),
        unknown=read.unknown_to((*own, *witnesses)),
    )

"""A checkpoint as it is kept, with what it takes to go on from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tabard.audit.checkpoint import Checkpoint, open_checkpoint
from tabard.audit.merkle import Frontier
from tabard.audit.note import Note, NoteKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealed:
    """Records up to `size` are sealed.

    Attributes:
        size: How many.
        note: The signed checkpoint.
        peaks: The roots of the full subtrees over them, largest first.
        sealed_at: POSIX seconds.
    """

    size: int
    note: str
    peaks: tuple[bytes, ...]
    sealed_at: int

    def frontier(self) -> Frontier:
        """The tree over the sealed records, to add further ones to.

        Raises:
            ValueError: The peaks do not fit the size.
        """
        return Frontier(self.size, self.peaks)

    def check(self, keys: Sequence[NoteKey] = ()) -> Checkpoint:
        """Make sure that the checkpoint states the size and the root of the tree beside it.

        Args:
            keys: The log's keys; without any, who has signed it is not looked at.

        Raises:
            ValueError: It does not, is none, or none of the keys has signed it.
        """
        if keys:
            stated = open_checkpoint(self.note, keys).checkpoint
        else:
            stated = Checkpoint.parse(Note.parse(self.note).text)
        if (stated.size, stated.root) != (self.size, self.frontier().root()):
            raise ValueError("the checkpoint states another tree")
        return stated

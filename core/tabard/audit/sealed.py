"""A checkpoint as it is kept, with what it takes to go on from it."""

from __future__ import annotations

from dataclasses import dataclass

from tabard.audit.merkle import Frontier


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

"""The tree over the log: RFC 6962 and RFC 9162 section 2.1, SHA-256.

A leaf is hashed behind 0x00 and a node behind 0x01, so that neither can be taken for the other.

>>> frontier = Frontier()
>>> for record in (b"one", b"two", b"three"):
...     frontier.append(leaf_hash(record))
>>> frontier.size, frontier.root().hex()[:16]
(3, '5aac771c899ac292')
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence

from tabard.audit.chain import leaf_hash as leaf_hash

HASH_SIZE = 32
EMPTY_ROOT = hashlib.sha256().digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of a node from those of its two halves."""
    return hashlib.sha256(b"\x01" + left + right).digest()


class Frontier:
    """What has to be known of a tree to go on with it: its full subtrees, largest first.

    Attributes:
        size: How many leaves it covers.
    """

    __slots__ = ("_peaks", "size")

    def __init__(self, size: int = 0, peaks: Iterable[bytes] = ()) -> None:
        """Begin empty, or where another frontier has stopped.

        Args:
            size: How many leaves there are already.
            peaks: The roots of their full subtrees, largest first: one per set bit of `size`.

        Raises:
            ValueError: They do not fit together.
        """
        self.size = size
        self._peaks = list(peaks)
        fits = size >= 0 and len(self._peaks) == size.bit_count()
        if not fits or any(len(peak) != HASH_SIZE for peak in self._peaks):
            raise ValueError("the frontier does not fit its size")

    @property
    def peaks(self) -> tuple[bytes, ...]:
        """The roots of the full subtrees, largest first."""
        return tuple(self._peaks)

    def append(self, leaf: bytes) -> None:
        """Add the hash of the next leaf."""
        size, node, peaks = self.size, leaf, self._peaks
        self.size += 1
        while size & 1:
            node = node_hash(peaks.pop(), node)
            size >>= 1
        peaks.append(node)

    def root(self) -> bytes:
        """The hash of the whole tree."""
        if not self._peaks:
            return EMPTY_ROOT
        root = self._peaks[-1]
        for peak in reversed(self._peaks[:-1]):
            root = node_hash(peak, root)
        return root


Subtree = Callable[[int, int], bytes]
"""The root over leaves `start` to `end` (exclusive)."""


def over(leaves: Sequence[bytes]) -> Subtree:
    """The roots of subtrees of leaves that are all at hand."""

    def root(start: int, end: int) -> bytes:
        frontier = Frontier()
        for leaf in leaves[start:end]:
            frontier.append(leaf)
        return frontier.root()

    return root


def grown_from(before: Frontier, leaves: Sequence[bytes]) -> Subtree:
    """The roots of subtrees of a tree that has grown, as far as a consistency proof needs them.

    Args:
        before: What the tree was.
        leaves: What was added since.
    """
    known: dict[tuple[int, int], bytes] = {}
    start = 0
    for peak, size in zip(before.peaks, _peak_sizes(before.size), strict=True):
        known[start, start + size] = peak
        start += size

    def root(start: int, end: int) -> bytes:
        if (start, end) in known:
            return known[start, end]
        return over(leaves)(start - before.size, end - before.size)

    return root


def _peak_sizes(size: int) -> list[int]:
    return [1 << bit for bit in reversed(range(size.bit_length())) if size >> bit & 1]


def prove_inclusion(index: int, size: int, subtree: Subtree) -> list[bytes]:
    """The path from a leaf to the root of the first `size` leaves (RFC 9162 section 2.1.3.1).

    Raises:
        ValueError: There is no such leaf.
    """
    if not 0 <= index < size:
        raise ValueError(f"no leaf {index} in a tree of {size}")
    path, start, end = [], 0, size
    while end - start > 1:
        middle = start + _left_size(end - start)
        if index < middle:
            path.append(subtree(middle, end))
            end = middle
        else:
            path.append(subtree(start, middle))
            start = middle
    return path[::-1]


def prove_consistency(old: int, size: int, subtree: Subtree) -> list[bytes]:
    """That a tree of `size` leaves begins with one of `old` (RFC 9162 section 2.1.4.1).

    Raises:
        ValueError: The old tree is not the smaller one.
    """
    if not 0 <= old <= size:
        raise ValueError(f"no tree of {old} leaves within one of {size}")
    if old in (0, size):
        return []
    path, start, end, whole = [], 0, size, True
    while old != end:
        middle = start + _left_size(end - start)
        if old <= middle:
            path.append(subtree(middle, end))
            end = middle
        else:
            path.append(subtree(start, middle))
            start, whole = middle, False
    if not whole:
        path.append(subtree(start, end))
    return path[::-1]


def check_inclusion(leaf: bytes, index: int, size: int, path: Sequence[bytes], root: bytes) -> bool:
    """Whether a path leads from a leaf to a root (RFC 9162 section 2.1.3.2)."""
    if not 0 <= index < size:
        return False
    place, last, node = index, size - 1, leaf
    for sibling in path:
        if last == 0:
            return False
        if place & 1 or place == last:
            node = node_hash(sibling, node)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            node = node_hash(node, sibling)
        place, last = place >> 1, last >> 1
    return last == 0 and node == root


def check_consistency(
    old: int, size: int, path: Sequence[bytes], old_root: bytes, root: bytes
) -> bool:
    """Whether one tree is the beginning of another (RFC 9162 section 2.1.4.2)."""
    if not 0 <= old <= size:
        return False
    if old == size:
        return not path and old_root == root
    if old == 0:
        return not path and old_root == EMPTY_ROOT
    # The root of a full old tree is a node of the new one, and left out of the path.
    steps = [old_root, *path] if old & (old - 1) == 0 else list(path)
    if not steps:
        return False
    shift = (~(old - 1) & old).bit_length() - 1
    place, last = (old - 1) >> shift, (size - 1) >> shift
    before = after = steps[0]
    for step in steps[1:]:
        if last == 0:
            return False
        if place & 1 or place == last:
            before, after = node_hash(step, before), node_hash(step, after)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            after = node_hash(after, step)
        place, last = place >> 1, last >> 1
    return last == 0 and before == old_root and after == root


def _left_size(size: int) -> int:
    """The leaves in the left half of a tree: the largest power of two below its size."""
    return 1 << ((size - 1).bit_length() - 1)

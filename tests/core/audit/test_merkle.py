"""The tree agrees with its definition and with an implementation that is not ours."""

from __future__ import annotations

import hashlib
from functools import cache
from typing import Any

import pytest
from pymerkle import InmemoryTree  # type: ignore[import-untyped]

from tabard.audit.merkle import (
    EMPTY_ROOT,
    Frontier,
    check_consistency,
    check_inclusion,
    grown_from,
    leaf_hash,
    over,
    prove_consistency,
    prove_inclusion,
)

RECORDS = [f"record {n}".encode() for n in range(300)]
LEAVES = [leaf_hash(record) for record in RECORDS]


@cache
def defined(start: int, end: int) -> bytes:
    """RFC 6962 section 2.1, as it is written."""
    if end - start == 0:
        return hashlib.sha256().digest()
    if end - start == 1:
        return hashlib.sha256(b"\x00" + RECORDS[start]).digest()
    half = 1
    while half * 2 < end - start:
        half *= 2
    left, right = defined(start, start + half), defined(start + half, end)
    return hashlib.sha256(b"\x01" + left + right).digest()


def half_of(size: int) -> int:
    half = 1
    while half * 2 < size:
        half *= 2
    return half


def defined_path(index: int, start: int, end: int) -> list[bytes]:
    """PATH(m, D[n]) of RFC 6962 section 2.1.1."""
    if end - start == 1:
        return []
    half = half_of(end - start)
    if index < half:
        return [*defined_path(index, start, start + half), defined(start + half, end)]
    return [*defined_path(index - half, start + half, end), defined(start, start + half)]


def defined_proof(old: int, start: int, end: int, whole: bool = True) -> list[bytes]:
    """SUBPROOF(m, D[n], b) of RFC 6962 section 2.1.2."""
    if old == end - start:
        return [] if whole else [defined(start, end)]
    half = half_of(end - start)
    if old <= half:
        return [*defined_proof(old, start, start + half, whole), defined(start + half, end)]
    return [*defined_proof(old - half, start + half, end, False), defined(start, start + half)]


@pytest.fixture(scope="module")
def other() -> Any:
    tree = InmemoryTree(algorithm="sha256")
    for record in RECORDS:
        tree.append_entry(record)
    return tree


def test_roots_of_all_sizes(other: Any) -> None:
    """Every size from 1 to 300."""
    frontier = Frontier()
    assert frontier.root() == EMPTY_ROOT == defined(0, 0)
    for size in range(1, 301):
        frontier.append(LEAVES[size - 1])
        assert frontier.root() == other.get_root(size) == defined(0, size)
        again = Frontier(size, frontier.peaks)
        assert (again.size, again.root()) == (size, frontier.root())


def test_every_inclusion_proof() -> None:
    """Every leaf of every tree up to 70, and the proof is for that leaf only."""
    for size in range(1, 71):
        root, subtree = defined(0, size), over(LEAVES[:size])
        for index in range(size):
            path = prove_inclusion(index, size, subtree)
            assert path == defined_path(index, 0, size)
            assert check_inclusion(LEAVES[index], index, size, path, root)
            assert not check_inclusion(LEAVES[(index + 1) % 300], index, size, path, root)
            assert not check_inclusion(LEAVES[index], index, size, path, defined(0, size + 1))
            assert not check_inclusion(LEAVES[index], index, size, [*path, root], root)
            if path:
                assert not check_inclusion(LEAVES[index], index, size, path[:-1], root)
    assert not check_inclusion(LEAVES[0], 1, 1, [], LEAVES[0])
    assert not check_inclusion(LEAVES[0], -1, 1, [], LEAVES[0])


def test_every_consistency_proof() -> None:
    """Every pair up to 130; another root, a longer or a shorter path do not hold."""
    for size in range(1, 131):
        subtree, root = over(LEAVES[:size]), defined(0, size)
        for old in range(1, size + 1):
            path, before = prove_consistency(old, size, subtree), defined(0, old)
            assert path == defined_proof(old, 0, size)
            assert check_consistency(old, size, path, before, root)
            assert not check_consistency(old, size, path, defined(0, old + 1), root)
            assert not check_consistency(old, size, [*path, root], before, root)
            if path:
                assert not check_consistency(old, size, path[1:], before, root)
                assert not check_consistency(old, size, path, before, defined(0, size + 1))
    assert check_consistency(0, 5, [], EMPTY_ROOT, defined(0, 5))
    assert not check_consistency(0, 5, [EMPTY_ROOT], EMPTY_ROOT, defined(0, 5))
    assert not check_consistency(6, 5, [], defined(0, 6), defined(0, 5))


def test_consistency_from_what_is_kept() -> None:
    """The peaks of the old tree and the leaves since are enough for the proof."""
    for size in range(1, 101):
        frontier = Frontier()
        for old in range(1, size + 1):
            frontier.append(LEAVES[old - 1])
            kept = grown_from(Frontier(old, frontier.peaks), LEAVES[old:size])
            expected = prove_consistency(old, size, over(LEAVES[:size]))
            assert prove_consistency(old, size, kept) == expected


@pytest.mark.parametrize(
    ("size", "peaks"),
    [(1, []), (0, [bytes(32)]), (3, [bytes(32)]), (2, [bytes(31)]), (-1, []), (4, [bytes(32)] * 2)],
)
def test_peaks_that_do_not_fit(size: int, peaks: list[bytes]) -> None:
    with pytest.raises(ValueError, match="does not fit"):
        Frontier(size, peaks)


@pytest.mark.parametrize(("index", "size"), [(0, 0), (5, 5), (-1, 5)])
def test_no_such_leaf(index: int, size: int) -> None:
    with pytest.raises(ValueError, match="no leaf"):
        prove_inclusion(index, size, over(LEAVES))


def test_no_such_tree() -> None:
    with pytest.raises(ValueError, match="no tree"):
        prove_consistency(6, 5, over(LEAVES))

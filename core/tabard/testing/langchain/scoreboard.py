"""Tries any guard on every path of LangChain, under everything that can go wrong."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

from tabard.testing.attempt import Attempt, Kind, attempt_of
from tabard.testing.board import ALLOWED, BLOCKED, HELD, RAN, TWICE, UNKNOWN, Board
from tabard.testing.faults import FAULTS
from tabard.testing.langchain.case import Case
from tabard.testing.langchain.guards import GuardUnderTest
from tabard.testing.langchain.model_paths import DROPPED_MODELS, MODELS, RETRIEVER
from tabard.testing.langchain.tool_paths import AGENTS, ALL, Path

COLUMNS = (ALLOWED, *FAULTS)
"""The control, and what goes wrong."""

_TABLES: Mapping[Kind, Mapping[str, Path]] = {
    "tool": ALL,
    "model": MODELS | DROPPED_MODELS,
    "retrieval": RETRIEVER,
}


def play(guard: GuardUnderTest) -> list[Board]:
    """Try a guard everywhere.

    Returns:
        A table for tools, one for models, one for retrievers.

    Raises:
        ConfigurationError: The guard is not what `load_guard` describes.
    """
    boards = []
    for kind, paths in _TABLES.items():
        board = Board(title=f"{kind} paths")
        for name, path in paths.items():
            for fault in COLUMNS:
                board.put(name, fault, _try(guard, kind, name, path, fault))
        boards.append(board)
    return boards


def _try(guard: GuardUnderTest, kind: Kind, name: str, path: Path, fault: str) -> str:
    attempt = attempt_of(kind, fault)
    with guard(fault) as fitting:
        if fitting is None:
            return UNKNOWN
        attempt.strike = fitting.strike
        if name not in AGENTS:
            attempt.strike_once()
        with suppress(Exception):  # whatever a guard refuses with: what counts is the body
            path(Case(attempt=attempt, fitting=fitting))
    return _mark(attempt, fault)


def _mark(attempt: Attempt, fault: str) -> str:
    if fault != ALLOWED:
        return RAN if attempt.ran else HELD
    return {0: BLOCKED, 1: HELD}.get(attempt.ran, TWICE)

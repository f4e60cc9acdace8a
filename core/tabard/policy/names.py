"""Finds the rules that name a tool or model, in time that does not grow with their number."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Generic, TypeVar

from tabard.policy.patterns import NamePattern

Rule = TypeVar("Rule")

_MEMO_LIMIT = 4096
"""Names remembered per index; a model that invents tool names must not fill the memory."""


class NameIndex(Generic[Rule]):
    """Maps a name to the rules whose patterns match it, in the order they were written.

    What matches a name never changes after construction, so the answer is remembered.
    """

    __slots__ = ("_exact", "_globs", "_memo")

    def __init__(self, entries: Iterable[tuple[NamePattern, Rule]]) -> None:
        self._exact: dict[str, list[tuple[int, Rule]]] = {}
        self._globs: list[tuple[int, NamePattern, Rule]] = []
        self._memo: dict[str, tuple[Rule, ...]] = {}
        for order, (pattern, rule) in enumerate(entries):
            if pattern.exact:
                self._exact.setdefault(pattern.text, []).append((order, rule))
            else:
                self._globs.append((order, pattern, rule))

    def matching(self, name: str) -> tuple[Rule, ...]:
        """The rules that name `name`, first written first, each once."""
        found = self._memo.get(name)
        if found is None:
            found = self._search(name)
            if len(self._memo) >= _MEMO_LIMIT:
                self._memo.clear()
            self._memo[name] = found
        return found

    def _search(self, name: str) -> tuple[Rule, ...]:
        hits = list(self._exact.get(name, ()))
        hits += [(order, rule) for order, pattern, rule in self._globs if pattern.matches(name)]
        return _in_order(hits)

    def rules(self) -> tuple[Rule, ...]:
        """Every rule, first written first, each once."""
        hits = [hit for exact in self._exact.values() for hit in exact]
        return _in_order(hits + [(order, rule) for order, _, rule in self._globs])


def _in_order(hits: list[tuple[int, Rule]]) -> tuple[Rule, ...]:
    hits.sort(key=lambda hit: hit[0])
    return tuple({id(rule): rule for _, rule in hits}.values())

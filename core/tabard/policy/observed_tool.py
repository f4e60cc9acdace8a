"""The shapes in which one tool was called, and the fewest grants that allow these and no other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from tabard.policy.observed import ObservedCall


@dataclass
class Shape:
    """Calls with arguments of the same names; after merging, some of these are optional.

    Attributes:
        calls: How many there were.
        types: The JSON types each argument had; none where the log does not have them.
        optional: The arguments that may be left out.
    """

    calls: int = 0
    types: dict[str, set[str]] = field(default_factory=dict)
    optional: frozenset[str] = frozenset()


class ObservedTool:
    """What was seen of one tool."""

    def __init__(self) -> None:
        self.nameless = 0
        self._shapes: dict[frozenset[str], Shape] = {}

    def add(self, call: ObservedCall) -> None:
        """Count one call; one whose arguments are not all known has no shape."""
        if not call.complete:
            self.nameless += 1
            return
        names = call.arguments - call.injected
        shape = self._shapes.setdefault(names, Shape())
        shape.calls += 1
        for name in names:
            kind = call.types.get(name)
            shape.types.setdefault(name, set()).update([kind] if kind else [])

    def shapes(self) -> Iterator[Shape]:
        """One shape for all calls if they came in every combination that it allows; else each.

        `t(a)` and `t(b)` are two: with both optional, `t()` and `t(a, b)` would be allowed, too.
        """
        if not self._shapes:
            return
        always, ever = frozenset.intersection(*self._shapes), frozenset.union(*self._shapes)
        if len(self._shapes) == 2 ** len(ever - always):
            yield self._merged(ever - always)
        else:
            for names in sorted(self._shapes, key=sorted):
                yield self._shapes[names]

    def _merged(self, optional: frozenset[str]) -> Shape:
        merged = Shape(optional=optional)
        for shape in self._shapes.values():
            merged.calls += shape.calls
            for name, kinds in shape.types.items():
                merged.types.setdefault(name, set()).update(kinds)
        return merged

"""The matrix as a table: paths down, faults across, one mark for each attempt."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

HELD = "ok"
"""The body did not run; an allowed one ran once."""
RAN = "RAN"
"""The body ran, though it was not allowed to."""
BLOCKED = "blocked"
"""The body did not run, though it was allowed to."""
TWICE = "twice"
"""An allowed body ran more than once."""
ALLOWED = "allowed"
"""The column of the control: a call that must run."""
UNKNOWN = "-"
"""The guard knows of no such thing."""


@dataclass(kw_only=True)
class Board:
    """One guard on all paths of one kind.

    Attributes:
        title: What the table is about.
        marks: By path, then by fault.
    """

    title: str
    marks: dict[str, dict[str, str]] = field(default_factory=dict)

    def put(self, path: str, fault: str, mark: str) -> None:
        """Enter what came of one attempt."""
        self.marks.setdefault(path, {})[fault] = mark

    def count(self, mark: str) -> int:
        """How many attempts ended so."""
        return sum(one == mark for row in self.marks.values() for one in row.values())

    @property
    def verdict(self) -> str:
        """One sentence on what must not run, and one on what must."""
        refused = [m for row in self.marks.values() for f, m in row.items() if f != ALLOWED]
        allowed = [row[ALLOWED] for row in self.marks.values() if ALLOWED in row]
        tried = len(refused) - refused.count(UNKNOWN)
        said = f"{refused.count(RAN)} of {tried} attempts ran the body against orders."
        asked = len(allowed) - allowed.count(UNKNOWN)
        if not asked:
            return said
        return f"{said} {allowed.count(HELD)} of {asked} allowed calls ran it, once."

    def lines(self, faults: Iterable[str]) -> list[str]:
        """The table, a line a row."""
        columns = list(faults)
        first = max([len(path) for path in self.marks] + [4])
        widths = [max(len(word) for word in [RAN, *column.split()]) + 1 for column in columns]
        return [
            self.title,
            *_heading(columns, widths, first),
            *(_row(path, row, columns, widths, first) for path, row in self.marks.items()),
            self.verdict,
        ]


def _heading(columns: list[str], widths: list[int], first: int) -> list[str]:
    """The columns' names, a word a line."""
    words = [column.split() for column in columns]
    tallest = max(map(len, words), default=0)
    padded = [[""] * (tallest - len(one)) + one for one in words]
    return [
        " " * first
        + "".join(one[line].rjust(width) for one, width in zip(padded, widths, strict=True))
        for line in range(tallest)
    ]


def _row(
    path: str, marks: Mapping[str, str], columns: list[str], widths: list[int], first: int
) -> str:
    cells = (
        marks.get(column, "").rjust(width) for column, width in zip(columns, widths, strict=True)
    )
    return path.ljust(first) + "".join(cells)

"""A report as a value: what it says, and which entries it says that from; nothing of its looks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

Standing = Literal["evidenced", "partly", "declared", "not evidenced"]
"""What a row rests on: entries; entries for a part of it; the policy's text alone; nothing."""

CITED = 5
"""Entries a row names one by one; of the others it tells how many there are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Money:
    """An amount in whole nano-units of a currency."""

    amount: int
    currency: str


Cell = str | int | Money | None
"""What a table has in one place; None for what there is none of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cites:
    """The entries a row rests on.

    Attributes:
        entries: The first of them.
        more: How many there are beside those.
    """

    entries: tuple[int, ...] = ()
    more: int = 0

    @classmethod
    def of(cls, entries: Iterable[int]) -> Cites:
        """Cite entries, in the order of the log."""
        every = sorted(set(entries))
        return cls(entries=tuple(every[:CITED]), more=max(0, len(every) - CITED))

    @property
    def text(self) -> str:
        """Such as `4, 9 and 12 more`; empty when there are none."""
        named = ", ".join(map(str, self.entries))
        return f"{named} and {self.more} more" if self.more else named


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of a table.

    Attributes:
        cells: One for each column.
        cites: The entries it rests on.
        standing: What it rests on.
    """

    cells: tuple[Cell, ...]
    cites: Cites = Cites()
    standing: Standing = "evidenced"


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows under named columns; the entries and the standing of a row are no columns of it."""

    columns: tuple[str, ...]
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One bar of a chart: its value, the most it may be if there is such, and both in words."""

    label: str
    value: int
    words: str
    limit: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Bars:
    """A bar for each of several things."""

    title: str
    bars: tuple[Bar, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Matrix:
    """Counts of one thing by another; `counts[row][column]`."""

    title: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """How many decisions of each effect there were in each of equal stretches of time."""

    title: str
    began: datetime
    ended: datetime
    buckets: tuple[tuple[int, int, int], ...]
    """Allowed, asked and denied."""


Chart = Bars | Matrix | Timeline


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A part of a report: a table, or a statement alone.

    Attributes:
        heading: What it is about.
        intro: One sentence about what follows.
        table: The rows, or None.
        statement: What there is to say in place of rows, or beside them; empty for nothing.
        charts: The same again for the eye; they say nothing that a table does not.
    """

    heading: str
    intro: str
    table: Table | None = None
    statement: str = ""
    charts: tuple[Chart, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LogFacts:
    """What is known of the log beside the entries a report is made from.

    Attributes:
        origin: Its name, as on its checkpoints.
        size: How many entries it ever took.
        made_at: When the report is made.
        sealed: How many entries the latest checkpoint covers; 0 without one.
        root: The root hash on it, in base64.
        pruned: Up to which entry it was pruned; 0 for never.
        oldest: The number and the time of its oldest entry; None when there is none.
    """

    origin: str
    size: int
    made_at: datetime
    sealed: int = 0
    root: str = ""
    pruned: int = 0
    oldest: tuple[int, datetime] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """What a report covers.

    Attributes:
        since: The earliest time that was asked for; None for all there is.
        until: The time before which it was; None for all there is.
        session: The one session that was asked for, or None.
    """

    since: datetime | None = None
    until: datetime | None = None
    session: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Extent:
    """The entries that were found in a span: how many, the first, the last, and their times."""

    entries: int = 0
    first: int = 0
    last: int = 0
    began: datetime | None = None
    ended: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A report.

    Attributes:
        name: What the command calls it.
        title: Its title.
        question: The one question it answers.
        law: The texts it refers to, with their articles.
        span: What was asked for.
        extent: What was found.
        log: The log it was made from.
        policy: The digest of the policy it was compared with; None for none.
        sections: Its parts.
    """

    name: str
    title: str
    question: str
    law: tuple[str, ...]
    span: Span
    extent: Extent
    log: LogFacts
    policy: str | None
    sections: tuple[Section, ...]

    @property
    def unsealed(self) -> int:
        """How many entries up to its last one no checkpoint covers."""
        return max(0, self.extent.last - max(self.log.sealed, self.extent.first - 1))

"""What a text asks for, point by point, and how much of it the log shows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tabard.audit.reports.reading import Tally
from tabard.audit.reports.report import Row, Section, Standing, Table

_LOG = "tabard, once there are such entries in the span"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One point.

    Attributes:
        point: Where it is asked, for example `(b)`.
        what: What is asked for.
        shown: What the entries show of it; empty where no log ever could.
        supplier: Who has to supply what they do not; empty when nobody has to.
        tally: The entries that show it.
    """

    point: str
    what: str
    shown: str = ""
    supplier: str = ""
    tally: Tally | None = None

    @property
    def row(self) -> Row:
        """Its row: evidenced by entries only; without any, whoever has to supply it is named."""
        if self.tally is None or not self.shown or not self.tally.count:
            who = self.supplier if not self.shown else self.supplier or _LOG
            return Row(cells=(self.point, self.what, None, who), standing="not evidenced")
        standing: Standing = "partly" if self.supplier else "evidenced"
        cells = (self.point, self.what, self.shown, self.supplier or None)
        return Row(cells=cells, cites=self.tally.cites, standing=standing)


def asked_section(heading: str, points: Iterable[Asked], intro: str = "") -> Section:
    """The section with every point."""
    told = "What is asked for, what entries show of it, and who has to supply the rest."
    columns = ("point", "asked for", "what the log shows", "to be supplied by")
    rows = tuple(point.row for point in points)
    return Section(heading=heading, intro=intro or told, table=Table(columns=columns, rows=rows))


def nothing_section(what: str) -> Section:
    """The only thing to say of a log without entries."""
    return Section(
        heading="Nothing on record",
        intro="An empty log proves nothing.",
        statement=f"There is no {what} on record in this span. That is no sign that nothing was "
        "done, and nothing is concluded from it.",
    )

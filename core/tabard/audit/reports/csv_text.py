"""A report as CSV (RFC 4180), one block of lines for each section, all lines of one width."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator

from tabard.audit.reports.plain import cell_text, header, visible
from tabard.audit.reports.report import Report, Row, Section

_FORMULA = ("=", "+", "-", "@", "＝", "＋", "－", "＠")  # noqa: RUF001  a spreadsheet takes both
_BEFORE = ("section", "line", "standing", "entries", "more entries")
_HEADER = "column names"


def to_csv(report: Report) -> str:
    """The report; no cell can begin a formula of a spreadsheet.

    The first column of each line is its section; the second says whether it has the names of the
    columns, a row, or a statement.
    """
    lines = [line for section in report.sections for line in _section(section)]
    facts = [("report", "row", "", "", "", *pair) for pair in header(report)]
    every = [(*_BEFORE, report.title), *facts, *lines]
    width = max(map(len, every))
    target = io.StringIO()
    writer = csv.writer(target, lineterminator="\r\n")
    for line in every:
        writer.writerow([_defused(cell) for cell in line] + [""] * (width - len(line)))
    return target.getvalue()


def _section(section: Section) -> Iterator[tuple[str, ...]]:
    name = section.heading
    if section.statement:
        yield (name, "statement", "", "", "", section.statement)
    if section.table is not None:
        yield (name, _HEADER, *_BEFORE[2:], *section.table.columns)
        yield from (_row(name, row) for row in section.table.rows)


def _row(name: str, row: Row) -> tuple[str, ...]:
    entries = " ".join(map(str, row.cites.entries))
    more = str(row.cites.more) if row.cites.more else ""
    return (name, "row", row.standing, entries, more, *map(cell_text, row.cells))


def _defused(cell: str) -> str:
    """A cell that a spreadsheet takes for text, also after spaces it may drop."""
    text = visible(cell)
    return f"'{text}" if text.lstrip(" '\"").startswith(_FORMULA) else text

"""A report as Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tabard.audit.reports.plain import cell_text, header, visible
from tabard.audit.reports.report import Report, Section, Table

_SPECIAL = re.compile(r"([\\`*_\[\]<>#!|~&@$])|(:)(?=/)|(?<=www)(\.)", re.IGNORECASE)


def to_markdown(report: Report) -> str:
    """The report; no name in it can begin a link, a tag, code, or another cell."""
    lines = [f"# {_escape(report.title)}", ""]
    lines += [f"* {name}: {_escape(words)}" for name, words in header(report)]
    for section in report.sections:
        lines += ["", *_section(section)]
    return "\n".join(lines) + "\n"


def _section(section: Section) -> Iterator[str]:
    yield f"## {_escape(section.heading)}"
    yield ""
    yield _escape(section.intro)
    if section.statement:
        yield ""
        yield _escape(section.statement)
    if section.table is not None and (section.table.rows or not section.statement):
        yield ""
        yield from _table(section.table)


def _table(table: Table) -> Iterator[str]:
    if not table.rows:
        yield "(none)"
        return
    columns = (*table.columns, "standing", "entries")
    yield _line(columns)
    yield "|" + " --- |" * len(columns)
    for row in table.rows:
        yield _line((*map(cell_text, row.cells), row.standing, row.cites.text))


def _line(cells: tuple[str, ...]) -> str:
    return "| " + " | ".join(map(_escape, cells)) + " |"


def _escape(text: str) -> str:
    r"""Text that Markdown shows as it is.

    >>> print(_escape("a|b`c [x](https://y) <z>"))
    a\|b\`c \[x\](https\://y) \<z\>
    """
    return _SPECIAL.sub(r"\\\g<0>", visible(text))

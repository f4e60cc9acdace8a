"""Words of a report as plain text, the same for every form that people read."""

from __future__ import annotations

from collections.abc import Iterator

from tabard.audit.reports.reading import moment
from tabard.audit.reports.report import Cell, Money, Report
from tabard.budget.money import format_amount


def visible(text: str) -> str:
    r"""Text with nothing unseen in it: control and bidi characters, line breaks are spelled out.

    >>> visible("a\nb")
    'a\\u000ab'
    """
    return "".join(
        one
        if one.isprintable()
        else f"\\u{ord(one):04x}"
        if ord(one) < 0x10000
        else f"\\U{ord(one):08x}"
        for one in text
    )


def cell_text(cell: Cell) -> str:
    """A cell in words."""
    if cell is None:
        return ""
    if isinstance(cell, Money):
        return format_amount(cell.amount, visible(cell.currency))
    return visible(str(cell))


def header(report: Report) -> Iterator[tuple[str, str]]:
    """The facts above the first section: question, law, span, log, checkpoint."""
    span, extent, log = report.span, report.extent, report.log
    yield "question", report.question
    yield "refers to", "; ".join(report.law)
    asked = f"from {moment(span.since) or 'the beginning'} to {moment(span.until) or 'now'} (UTC)"
    yield "asked for", asked if span.session is None else f"{asked}, session {span.session}"
    yield "found", _found(report)
    yield (
        "log",
        f"{log.origin}, {log.size} entries"
        + (f", pruned up to entry {log.pruned}" if log.pruned else ""),
    )
    yield "checkpoint", _checkpoint(report)
    if report.policy is not None:
        yield "policy", report.policy
    yield "made", f"{moment(log.made_at)} (UTC)"
    if extent.entries:
        said = "this report is no evidence; `tabard audit verify` proves the entries it cites"
        yield "to verify", said


def _found(report: Report) -> str:
    extent = report.extent
    if not extent.entries:
        return "no entries; nothing is evidenced"
    return (
        f"{extent.entries} entries, {extent.first} to {extent.last}, written "
        f"{moment(extent.began)} to {moment(extent.ended)} (UTC)"
    )


def _checkpoint(report: Report) -> str:
    log = report.log
    if not log.sealed:
        return "none: no entry is sealed"
    said = f"covers entries 1 to {log.sealed}, root {log.root}"
    return f"{said}; {report.unsealed} entries after it are not sealed" if report.unsealed else said

"""For how long a log was kept, as far as it shows that: by its oldest entry, and its prunings."""

from __future__ import annotations

from collections.abc import Iterable

from tabard.audit.entries import Entry
from tabard.audit.reports.reading import moment, time_of, whole
from tabard.audit.reports.report import Cites, LogFacts, Row, Section, Table

SIX_MONTHS = 183
"""Days; the least that Art. 19(1) and 26(6) ask for."""


def keeping(prunings: Iterable[Entry], log: LogFacts) -> Section:
    """How far back the log goes, whether six months are shown, and what was dropped from it."""
    rows = []
    if log.oldest is not None:
        index, written = log.oldest
        days = (log.made_at - written).days
        cells = ("oldest entry of the log", moment(written), f"{days} days ago")
        rows.append(Row(cells=cells, cites=Cites.of([index])))
        rows.append(_kept(index, days, pruned=log.pruned > 0))
    for entry in prunings:
        kept = "younger ones among them" if entry.get("pruned.below_floor") else "all older"
        what = f"{whole(entry, 'pruned.records')} records; than six months: {kept}"
        cells = ("pruned", moment(time_of(entry)), what)
        rows.append(Row(cells=cells, cites=Cites.of([entry.index])))
    rows.append(
        Row(
            cells=("the period that is appropriate", None, "the provider and the deployer"),
            standing="not evidenced",
        )
    )
    return Section(
        heading="Retention",
        intro="Art. 19(1) and 26(6) ask for logs of at least six months.",
        table=Table(columns=("what", "found", "note"), rows=tuple(rows)),
    )


def _kept(index: int, days: int, *, pruned: bool) -> Row:
    """Whether six months are shown; what is younger shows nothing, be it by pruning or by age."""
    what = f"at least {SIX_MONTHS} days"
    if days >= SIX_MONTHS:
        return Row(cells=(what, "yes, by the oldest entry", None), cites=Cites.of([index]))
    if pruned:
        said = "no: the log was pruned, and what is left is younger"
    else:
        said = "not shown yet: the log is younger, and was never pruned"
    who = "the provider and the deployer: older exports or backups, if there are any"
    return Row(cells=(what, said, who), standing="not evidenced")

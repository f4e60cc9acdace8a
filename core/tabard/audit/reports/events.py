"""Events that are no calls: who did what to whom, and why, as a row."""

from __future__ import annotations

from collections.abc import Iterable

from tabard.audit.entries import Entry
from tabard.audit.reports.reading import action_of, agent_of, is_decision, moment, text, time_of
from tabard.audit.reports.report import Cites, Row, Section, Table

_SUBJECTS = (
    "approval.tool",
    "approval.id",
    "read.call",
    "call",
    "cred.jti",
    "key.kid",
    "policy.digest",
    "bundle.trust_domain",
    "budget.key",
    "erased.pseudonym",
    "credential.sha256",
)

COLUMNS = ("time (UTC)", "event", "about", "by", "code or state", "reason")
"""What `event_row` has in its cells."""


def event_row(entry: Entry) -> Row:
    """An entry as a row of events."""
    code = next(
        (c for p in ("decision.code", "approval.code", "key.state") if (c := text(entry, p))), ""
    )
    reason = next(
        (
            r
            for p in ("decision.reason", "reason", "approval.reason", "policy.reason")
            if (r := text(entry, p))
        ),
        "",
    )
    cells = (moment(time_of(entry)), entry.kind, _about(entry), _by(entry), code, reason)
    return Row(cells=cells, cites=Cites.of([entry.index]))


def _about(entry: Entry) -> str:
    if is_decision(entry):
        return action_of(entry)
    named = text(entry, "subject.name")
    found = next((one for path in _SUBJECTS if (one := text(entry, path))), "")
    return ", ".join(filter(None, (named, found)))


def _by(entry: Entry) -> str:
    if text(entry, "agent.name"):
        return agent_of(entry)
    return text(entry, "author") or text(entry, "policy.author")


def events_section(heading: str, intro: str, entries: Iterable[Entry]) -> Section:
    """A section of events; it says so when there are none."""
    rows = tuple(map(event_row, entries))
    return Section(
        heading=heading,
        intro=intro,
        table=Table(columns=COLUMNS, rows=rows),
        statement="" if rows else "Among the entries of this span there is none.",
    )

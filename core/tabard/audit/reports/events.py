"""Events that are no calls: who did what to whom, and why, as a row."""

from __future__ import annotations

from collections.abc import Iterable

from tabard.audit.entries import Entry
from tabard.audit.reports.reading import (
    action_of,
    agent_of,
    is_decision,
    is_unlogged,
    moment,
    text,
    texts,
    time_of,
    whole,
)
from tabard.audit.reports.report import Cites, Row, Section, Table

_SUBJECTS = (
    "approval.tool",
    "approval.id",
    "read.call",
    "erased.call",
    "call",
    "cred.jti",
    "key.kid",
    "policy.digest",
    "bundle.trust_domain",
    "budget.key",
    "erased.pseudonym",
    "credential.sha256",
)

_CODES = ("decision.code", "approval.code", "key.state", "recovered.mode")
_REASONS = ("decision.reason", "reason", "approval.reason", "policy.reason")
_CAUSES = {"audit": "a record could not be kept", "store": "the store could not be written"}

COLUMNS = ("time (UTC)", "event", "about", "by", "code or state", "reason")
"""What `event_row` has in its cells."""


def event_row(entry: Entry) -> Row:
    """An entry as a row of events."""
    code, reason = _first(entry, _CODES), _first(entry, _REASONS) or _cause(entry)
    cells = (moment(time_of(entry)), entry.kind, _about(entry), _by(entry), code, reason)
    return Row(cells=cells, cites=Cites.of([entry.index]))


def _first(entry: Entry, paths: Iterable[str]) -> str:
    """The first of several members that is there."""
    return next((one for path in paths if (one := text(entry, path))), "")


def _about(entry: Entry) -> str:
    if is_unlogged(entry):
        return f"{action_of(entry)}, made {text(entry, 'unlogged.at')}"
    if is_decision(entry):
        return action_of(entry)
    if entry.kind == "audit.recovered":
        since, until = text(entry, "recovered.since"), text(entry, "recovered.until")
        ran, refused = whole(entry, "recovered.events"), whole(entry, "recovered.refused")
        return f"{ran} calls ran without a record, {refused} were refused, {since} to {until}"
    if entry.kind == "audit.failure":
        return f"{whole(entry, 'unsealed')} entries that nobody seals"
    named = text(entry, "subject.name")
    return ", ".join(filter(None, (named, _first(entry, _SUBJECTS))))


def _cause(entry: Entry) -> str:
    """Why the log could not be written, where the entry is about that."""
    codes = texts(entry, "recovered.codes")
    return "; ".join(_CAUSES.get(code, f"an error inside tabard ({code})") for code in codes)


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

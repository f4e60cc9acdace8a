"""`report art12`: what the logs of AI Act Art. 12, 19 and 26 are for, of a session or a period."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from tabard.audit.entries import Entry
from tabard.audit.reports.asked import Asked, asked_section, nothing_section
from tabard.audit.reports.buckets import timeline
from tabard.audit.reports.events import event_row, events_section
from tabard.audit.reports.keeping import keeping
from tabard.audit.reports.reading import Reading, Tally, by_count, moment, text, time_of
from tabard.audit.reports.report import (
    Bar,
    Bars,
    Cites,
    LogFacts,
    Report,
    Row,
    Section,
    Span,
    Table,
)
from tabard.audit.reports.supervision import Supervision

_BIOMETRICS = (
    "Art. 12(3) (period of each use, reference database, match, verifying persons) applies to "
    "remote biometric identification of Annex III, point 1(a), only; tabard records none of it. "
    "Art. 12 does not ask for logs that are tamper-evident; these are, as far as they are sealed."
)


def report_art12(
    entries: Iterable[Entry], log: LogFacts, *, span: Span | None = None, policy: str | None = None
) -> Report:
    """The timeline of a session or a period, with risks, oversight, gaps and retention.

    Args:
        entries: Those of the period, oldest first; with a session in `span` those of others are
            left out here, so that the answers of approvers are found.
        log: The log they come from.
        span: What was asked for.
        policy: The digest of the policy in force, to be named.

    Raises:
        AuditError: An entry has no time.
    """
    asked = span or Span()
    found = Supervision(asked.session)
    reading = Reading(entry for entry in entries if found.admits(entry))
    for entry in reading:
        found.add(entry)
    parts = [*_sections(found, log)] if found.all.count else [nothing_section("entry")]
    return Report(
        name="art12",
        title="Event logs of an AI system: use, risks, oversight, retention",
        question="What happened in this period, who decided it, and is it all on record?",
        law=("AI Act (Regulation (EU) 2024/1689) Art. 12(1), 12(2), 14, 19(1), 26(5), 26(6)",),
        span=asked,
        extent=reading.extent,
        log=log,
        policy=policy,
        sections=(_asked(found), *parts),
    )


def _asked(found: Supervision) -> Section:
    """The points of the articles; whether they apply at all is not for a log to say."""
    risks = _tally([e for some in found.risks.values() for e in some] + found.changes)
    points = [
        Asked(
            point="scope",
            what="whether the system is high-risk, who is its provider and who its deployer",
            supplier="the provider and the deployer",
        ),
        Asked(
            point="12(1)",
            what="automatic recording of events over the lifetime of the system",
            shown="the entries of this span, written by tabard before and after each call",
            supplier="the provider: that all of the system is under a guard, and the time before",
            tally=found.all,
        ),
        Asked(
            point="12(2)(a)",
            what="events relevant for risks (Art. 79(1)) or a substantial modification",
            shown="refusals, revocations, stops, failed logins, changes of the policy",
            supplier="the provider: which of them is such a risk, and changes outside the policy",
            tally=risks,
        ),
        Asked(
            point="12(2)(b)",
            what="events for post-market monitoring (Art. 72)",
            shown="the decisions and their outcomes",
            supplier="the provider: the monitoring plan, and whether results were right",
            tally=found.decisions,
        ),
        Asked(
            point="12(2)(c), 26(5)",
            what="events for monitoring the operation",
            shown="the timeline",
            supplier="the deployer: that somebody looks at it",
            tally=found.decisions,
        ),
        Asked(
            point="14",
            what="human oversight",
            shown="questions to people, and their answers",
            supplier="the provider and the deployer: who oversees, and their competence",
            tally=found.oversight,
        ),
    ]
    section = asked_section("What the articles ask for", points)
    return Section(
        heading=section.heading,
        intro=section.intro,
        table=section.table,
        statement=_BIOMETRICS if found.all.count else "",
    )


def _tally(entries: Iterable[Entry]) -> Tally:
    found = Tally()
    for entry in sorted(entries, key=lambda one: one.index):
        found.add(entry)
    return found


def _sections(found: Supervision, log: LogFacts) -> Iterator[Section]:
    yield _use(found)
    yield _timeline(found)
    yield from _risks(found)
    yield _oversight(found)
    yield events_section(
        "Changes of the policy",
        "Which policy came into force, and who put it there.",
        found.changes,
    )
    yield found.gaps.section()
    yield keeping(found.prunings, log)


def _use(found: Supervision) -> Section:
    rows = [
        Row(
            cells=(
                session,
                use.agent,
                use.instance,
                use.user,
                use.calls,
                moment(time_of(use.first)),
                moment(time_of(use.last)),
                "closed" if use.closed else "no end on record",
            ),
            cites=Cites.of([use.first.index, use.last.index]),
        )
        for session, use in found.uses.items()
    ]
    columns = ("session", "agent", "instance", "user (pseudonym)", "calls", "first", "last", "end")
    return Section(
        heading="Period of use",
        intro="Each session with its first and last entry in this span.",
        table=Table(columns=columns, rows=tuple(rows)),
    )


def _timeline(found: Supervision) -> Section:
    chart = timeline("Decisions over time", found.moments)
    columns = ("time (UTC)", "agent", "action", "decision", "rule", "approver", "outcome")
    policies = ", ".join(f"{digest} ({t.count})" for digest, t in by_count(found.policies))
    return Section(
        heading="Timeline",
        intro="Each call: what was decided before it, by which rule, and how it ended.",
        table=Table(columns=columns, rows=tuple(found.calls())),
        statement=f"Decided by the policies (decisions): {policies}." if policies else "",
        charts=() if chart is None else (chart,),
    )


def _risks(found: Supervision) -> Iterator[Section]:
    counted = {what: _tally(some) for what, some in found.risks.items()}
    rows = [
        Row(cells=(what, tally.count, moment(tally.last)), cites=tally.cites)
        for what, tally in by_count(counted)
    ]
    bars = tuple(
        Bar(label=what, value=tally.count, words=str(tally.count))
        for what, tally in by_count(counted)
    )
    yield Section(
        heading="Risk events",
        intro="What may be a sign of a risk; whether it is one is for people to say.",
        table=Table(columns=("what", "count", "last"), rows=tuple(rows)),
        statement="" if rows else "Among the entries of this span there is none.",
        charts=(Bars(title="Risk events", bars=bars),) if bars else (),
    )
    if rows:
        every = sorted((e for s in found.risks.values() for e in s), key=lambda one: one.index)
        yield events_section("Risk events, one by one", "In the order of the log.", every)


def _oversight(found: Supervision) -> Section:
    asked = [row for row in found.calls() if str(row.cells[3]).startswith("ask")]
    rows = [
        Row(
            cells=("asked", row.cells[0], row.cells[2], row.cells[1], row.cells[4]), cites=row.cites
        )
        for row in asked
    ]
    for entry in found.answers:
        row = event_row(entry)
        what, about = entry.kind.rpartition(".")[2], text(entry, "approval.tool")
        cells = (what, row.cells[0], f"tool {about}", row.cells[3], text(entry, "approval.rule"))
        rows.append(Row(cells=cells, cites=row.cites))
    return Section(
        heading="Human oversight",
        intro="Calls a person was asked about, and what people answered.",
        table=Table(columns=("what", "time (UTC)", "action", "by", "rule"), rows=tuple(rows)),
        statement="" if rows else "No person was asked about a call in this span.",
    )

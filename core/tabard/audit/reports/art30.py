"""`report art30`: a draft of the register of GDPR Art. 30(1), declared against observed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from tabard.audit.entries import Entry
from tabard.audit.reports.asked import Asked, asked_section, nothing_section
from tabard.audit.reports.deviations import deviations
from tabard.audit.reports.processing import Processing
from tabard.audit.reports.reading import Reading, moment, text, time_of, whole
from tabard.audit.reports.report import Cites, LogFacts, Report, Row, Section, Span, Table

if TYPE_CHECKING:
    from tabard.audit.reports.declared import Declared

_CONTROLLER = "the controller"


def report_art30(
    entries: Iterable[Entry],
    log: LogFacts,
    declared: Declared | None = None,
    *,
    span: Span | None = None,
) -> Report:
    """What the register needs of what agents did: a draft for the controller to complete.

    Args:
        entries: Those of the span, oldest first.
        log: The log they come from.
        declared: The policy that declares purposes and tools; None for none.
        span: What was asked for.

    Raises:
        AuditError: An entry has no time.
    """
    reading, seen = Reading(entries), Processing()
    for entry in reading:
        seen.add(entry)
    parts = (
        [*_sections(seen, declared)]
        if seen.decisions.count
        else [nothing_section("call, and so no processing,")]
    )
    return Report(
        name="art30",
        title="Record of processing activities: draft for the controller to complete",
        question="For which purposes did agents process which data, and is that what was declared?",
        law=("GDPR (Regulation (EU) 2016/679) Art. 30(1)",),
        span=span or Span(),
        extent=reading.extent,
        log=log,
        policy=None if declared is None else declared.policy.digest,
        sections=(_asked(seen), *parts),
    )


def _asked(seen: Processing) -> Section:
    """The points of Art. 30(1); a log of events has something to say to (b) to (d), (f) and (g)."""
    points = [
        Asked(
            point="(a)",
            what="name and contact of the controller, joint controllers, representative, data "
            "protection officer",
            supplier=_CONTROLLER,
        ),
        Asked(
            point="(b)",
            what="the purposes of the processing",
            shown="the purposes on record with the calls that ran",
            supplier=f"{_CONTROLLER}: what agents do not do, and what each purpose means",
            tally=seen.with_purpose,
        ),
        Asked(
            point="(c)",
            what="the categories of data subjects and of personal data",
            shown="data subjects of the purpose, and the class of the tool's data",
            supplier=f"{_CONTROLLER}: a data class is how sensitive data is, no category of it",
            tally=seen.with_data,
        ),
        Asked(
            point="(d)",
            what="the categories of recipients, also in third countries",
            shown="the assets, tools and model providers that were called",
            supplier=f"{_CONTROLLER}: which of them are recipients, and in which countries",
            tally=seen.ran,
        ),
        Asked(
            point="(e)",
            what="transfers to third countries, and their safeguards",
            supplier=f"{_CONTROLLER}; no entry tells where a system is",
        ),
        Asked(
            point="(f)",
            what="where possible, the time limits for erasure",
            shown="erasures and prunings of this log itself",
            supplier=f"{_CONTROLLER}: the limits, and that the systems behind the tools keep them",
            tally=seen.erasure,
        ),
        Asked(
            point="(g)",
            what="where possible, a general description of the measures of Art. 32(1)",
            shown="that calls were decided by a policy, and put on record",
            supplier=f"{_CONTROLLER}: all other measures",
            tally=seen.decisions,
        ),
    ]
    return asked_section(
        "What Art. 30(1) asks for",
        points,
        "A register is about activities, not events: the log can support some points, and "
        "completes none. For processors Art. 30(2) asks for other points.",
    )


def _sections(seen: Processing, declared: Declared | None) -> Iterator[Section]:
    if declared is not None:
        yield _declared(declared)
    yield _observed(seen)
    yield _deviations(seen, declared)
    yield _erasures(seen)


def _declared(declared: Declared) -> Section:
    rows = []
    for name, purpose in declared.document.purposes.items():
        tools = declared.tools_for(name)
        classes = dict.fromkeys(f.data_class for f in tools.values() if f.data_class)
        assets = dict.fromkeys(f.asset for f in tools.values() if f.asset)
        agents = [a for a, section in declared.document.agents.items() if section.purpose == name]
        cells = (
            name,
            purpose.legal_basis,
            ", ".join(purpose.data_subjects),
            ", ".join(classes),
            ", ".join(assets),
            ", ".join(agents),
            purpose.retention_days,
        )
        rows.append(Row(cells=cells, standing="declared"))
    columns = ("purpose", "legal basis", "data subjects", "data classes", "assets", "agents",
               "retention, days")  # fmt: skip
    return Section(
        heading="Declared",
        intro="What the policy says of each purpose; that it is so is nothing the policy can show.",
        table=Table(columns=columns, rows=tuple(rows)),
    )


def _observed(seen: Processing) -> Section:
    rows = []
    for name, one in seen.purposes.items():
        cells = (
            name,
            ", ".join(one.bases),
            ", ".join(one.subjects),
            ", ".join(one.classes),
            ", ".join(one.reached),
            ", ".join(one.agents),
            one.tally.count,
            moment(one.tally.first),
            moment(one.tally.last),
        )
        rows.append(Row(cells=cells, cites=one.tally.cites))
    columns = ("purpose", "legal basis", "data subjects", "data classes", "assets and recipients",
               "agents", "calls", "first seen", "last seen")  # fmt: skip
    return Section(
        heading="Observed",
        intro="The calls that ran, by the purpose on record with them; basis and subjects are "
        "those that the policy of the day declared.",
        table=Table(columns=columns, rows=tuple(rows)),
    )


def _deviations(seen: Processing, declared: Declared | None) -> Section:
    heading, intro = "Deviations", "What was seen and is not declared; and what is declared and "
    intro += "was not seen in this span."
    if declared is None:
        said = "No policy was given, so nothing is declared to compare with: not evidenced."
        return Section(heading=heading, intro=intro, statement=said)
    table = Table(columns=("what", "name", "finding"), rows=tuple(deviations(seen, declared)))
    return Section(heading=heading, intro=intro, table=table)


def _erasures(seen: Processing) -> Section:
    rows = []
    for entry in seen.erasures:
        what = text(entry, "erased.pseudonym")
        if entry.kind == "log.pruned":
            what = f"{whole(entry, 'pruned.records')} records before {text(entry, 'pruned.before')}"
        cells = (moment(time_of(entry)), entry.kind, what, text(entry, "reason"))
        rows.append(Row(cells=cells, cites=Cites.of([entry.index])))
    return Section(
        heading="Erasures and prunings of this log",
        intro="They say nothing about the data in the systems behind the tools.",
        table=Table(columns=("time (UTC)", "type", "what", "reason"), rows=tuple(rows)),
    )

"""`report dora`: which agent reaches which ICT asset, and what happened to access and logging."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from tabard.audit.entries import Entry
from tabard.audit.reports.asked import Asked, asked_section, nothing_section
from tabard.audit.reports.events import events_section
from tabard.audit.reports.ict import IctAccess
from tabard.audit.reports.reading import (
    Reading,
    Tally,
    moment,
    together,
)
from tabard.audit.reports.report import LogFacts, Matrix, Report, Row, Section, Span, Table

if TYPE_CHECKING:
    from tabard.audit.reports.declared import Declared

_ENTITY = "the financial entity"
_CHART_ROWS, _CHART_COLUMNS = 25, 8


def report_dora(
    entries: Iterable[Entry],
    log: LogFacts,
    declared: Declared | None = None,
    *,
    span: Span | None = None,
) -> Report:
    """Access to ICT assets, changes to who may have it, and failures of logging.

    Args:
        entries: Those of the span, oldest first.
        log: The log they come from.
        declared: The policy that names the assets; None for none.
        span: What was asked for.

    Raises:
        AuditError: An entry has no time.
    """
    reading, found = Reading(entries), IctAccess(declared)
    for entry in reading:
        found.add(entry)
    parts = [*_sections(found)] if found.all.count else [nothing_section("entry")]
    return Report(
        name="dora",
        title="ICT assets and agents: access, changes, logging",
        question="Which agent reached which ICT asset, who changed that, and did logging fail?",
        law=(
            "DORA (Regulation (EU) 2022/2554) Art. 8, 28(3)",
            "RTS (Delegated Regulation (EU) 2024/1774) Art. 12",
        ),
        span=span or Span(),
        extent=reading.extent,
        log=log,
        policy=None if declared is None else declared.policy.digest,
        sections=(_asked(found), *parts, _register(found)),
    )


def _asked(found: IctAccess) -> Section:
    points = [
        Asked(
            point="RTS 12(2)(c)(i)",
            what="logical and physical access control, and identity management",
            shown="logins, credentials, revocations and approvals of agents",
            supplier=f"{_ENTITY}: physical access, people's accounts, the systems themselves",
            tally=found.counts["access"],
        ),
        Asked(point="RTS 12(2)(c)(ii)", what="capacity management", supplier=_ENTITY),
        Asked(
            point="RTS 12(2)(c)(iii)",
            what="change management",
            shown="changes of the policy, of keys and of trusted domains",
            supplier=f"{_ENTITY}: all other changes",
            tally=found.counts["changes"],
        ),
        Asked(
            point="RTS 12(2)(c)(iv)",
            what="ICT operations",
            shown="the calls of agents",
            supplier=f"{_ENTITY}: everything else that runs",
            tally=found.decisions,
        ),
        Asked(point="RTS 12(2)(c)(v)", what="network traffic", supplier=_ENTITY),
        Asked(
            point="RTS 12(2)(d)",
            what="protection of the logs against tampering",
            shown="entries that are linked by hashes; sealed as far as the checkpoint goes",
            supplier=f"{_ENTITY}: the result of `tabard audit verify`, and who holds the key",
            tally=found.all,
        ),
        Asked(
            point="RTS 12(2)(e)",
            what="detection of failures of logging",
            shown="failures and prunings that are on record",
            supplier=f"{_ENTITY}: alarms for a log that is silent",
            tally=found.counts["logging"],
        ),
        Asked(
            point="RTS 12(2)(f)",
            what="synchronisation of clocks with a reliable source",
            supplier=f"{_ENTITY}; steps back that the entries show are listed below",
        ),
        Asked(
            point="DORA 8(1), (4), (6)",
            what="inventory of assets, their criticality, owners, locations, dependencies",
            shown="assets that agents reached",
            supplier=f"{_ENTITY}: the inventory; an asset nobody reached is not seen here",
            tally=together(found.calls.values()),
        ),
    ]
    return asked_section("What is asked for", points)


def _sections(found: IctAccess) -> Iterator[Section]:
    yield _matrix(found)
    yield events_section(
        "Access control",
        "Registrations, credentials, revocations, failed logins, approvals; logins are counted "
        "above.",
        found.access,
    )
    yield events_section(
        "Changes", "Policies, keys of the issuer, trusted domains, budgets.", found.changes
    )
    yield events_section(
        "Logging",
        "Failures of logging and what followed; records that were dropped.",
        found.logging,
    )
    steps = tuple(found.gaps.steps)
    yield Section(
        heading="Steps of the clock",
        intro="Where a writer's time went back by more than a second.",
        table=Table(columns=("writer", "step", "before", "after"), rows=steps),
        statement="" if steps else "Among the entries of this span there is none.",
    )
    yield found.gaps.section()


def _matrix(found: IctAccess) -> Section:
    none = Tally()
    pairs = sorted({**found.calls, **found.denials})
    rows = []
    for key in pairs:
        calls, denials = found.calls.get(key, none), found.denials.get(key, none)
        cells = (*key, calls.count, denials.count, moment(calls.last))
        rows.append(Row(cells=cells, cites=together((calls, denials)).cites))
    return Section(
        heading="ICT assets and agents",
        intro="The asset is the one the policy names for a tool; without one it is the tool or the "
        "model itself. A refusal that shadow mode let pass is a call as well.",
        table=Table(
            columns=("asset", "agent", "calls", "denials", "last access"), rows=tuple(rows)
        ),
        charts=_chart(found) if pairs else (),
    )


def _chart(found: IctAccess) -> tuple[Matrix, ...]:
    """Who called what, the busiest first, as far as there is room."""
    counts = {key: tally.count for key, tally in found.calls.items()}
    assets = _busiest(counts, 0)[:_CHART_ROWS]
    agents = _busiest(counts, 1)[:_CHART_COLUMNS]
    if not assets:
        return ()
    lines = tuple(tuple(counts.get((asset, agent), 0) for agent in agents) for asset in assets)
    return (Matrix(title="Calls by asset and agent", rows=assets, columns=agents, counts=lines),)


def _busiest(counts: dict[tuple[str, str], int], place: int) -> tuple[str, ...]:
    sums: defaultdict[str, int] = defaultdict(int)
    for key, count in counts.items():
        sums[key[place]] += count
    return tuple(sorted(sums, key=lambda name: (-sums[name], name)))


def _register(found: IctAccess) -> Section:
    """The keys of the register of information that only the operator has."""
    keys = (
        ("B_02.01", "reference number of the contractual arrangement"),
        ("B_05.01", "identification code (LEI or EUID) of the ICT third-party service provider"),
        ("B_06.01", "identifier of the function"),
    )
    rows = [Row(cells=(*one, None, _ENTITY), standing="not evidenced") for one in keys]
    for name, tally in found.providers.items():
        cells = ("B_05.01", "model provider seen, by its name only", name, f"{_ENTITY}: its code")
        rows.append(Row(cells=cells, cites=tally.cites, standing="partly"))
    return Section(
        heading="Keys of the register of information (ITS 2024/2956)",
        intro="This report feeds the register; it is none of its templates.",
        table=Table(
            columns=("template", "key", "what the log shows", "to be supplied by"), rows=tuple(rows)
        ),
    )

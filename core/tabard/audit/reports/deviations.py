"""Where what was seen and what is declared differ, both ways."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING

from tabard.audit.reports.processing import NO_PURPOSE, Observed, Processing
from tabard.audit.reports.reading import Tally, together
from tabard.audit.reports.report import Row

if TYPE_CHECKING:
    from tabard.audit.reports.declared import Declared


def deviations(seen: Processing, declared: Declared) -> Iterator[Row]:
    """A row for each: seen and not declared first, then declared and never seen."""
    document = declared.document
    purposes = {k: one.tally for k, one in seen.purposes.items() if k != NO_PURPOSE}
    assets = _joined([one.assets for one in seen.purposes.values()])
    declared_assets = [t.asset for t in document.tools.values() if t.asset]
    told: tuple[tuple[str, Mapping[str, Tally], Collection[str]], ...] = (
        ("purpose", purposes, document.purposes),
        ("agent", seen.agents, document.agents),
        ("asset", assets, declared_assets),
    )
    for what, found, known in told:
        yield from _not_declared(what, found, known)
    for tool, tally in seen.tools.items():
        if declared.policy.tools.facts(tool) is None:
            yield _seen("tool", tool, tally, "seen, and `tools` says nothing of its data")
    if NO_PURPOSE in seen.purposes:
        yield from _aimless(seen.purposes[NO_PURPOSE])
    for name, one in seen.purposes.items():
        if name in document.purposes:
            yield from _other_than(name, one, declared)
    for what, found, known in told:
        for name in dict.fromkeys(known):
            if name not in found:
                finding = "declared, not seen in this span"
                yield Row(cells=(what, name, finding), standing="declared")


def _seen(what: str, name: str, tally: Tally, finding: str) -> Row:
    return Row(cells=(what, name, finding), cites=tally.cites)


def _not_declared(what: str, found: Mapping[str, Tally], known: Collection[str]) -> Iterator[Row]:
    for name, tally in found.items():
        if name not in known:
            yield _seen(what, name, tally, "seen, not declared")


def _aimless(one: Observed) -> Iterator[Row]:
    """Calls on classified data for no purpose."""
    for data_class, tally in one.classes.items():
        yield _seen("data class", data_class, tally, "seen in calls without a purpose")


def _other_than(name: str, one: Observed, declared: Declared) -> Iterator[Row]:
    """What is on record under a purpose, and is not what is declared of it now."""
    purpose, tools = declared.document.purposes[name], declared.tools_for(name)
    known: tuple[tuple[str, Mapping[str, Tally], Collection[str]], ...] = (
        ("legal basis", one.bases, [purpose.legal_basis or ""]),
        ("data subjects", one.subjects, purpose.data_subjects),
        ("data class", one.classes, [f.data_class or "" for f in tools.values()]),
    )
    for what, found, declared_ones in known:
        for value, tally in found.items():
            if value not in declared_ones:
                yield _seen(what, value, tally, f"seen, not declared for {name}")


def _joined(several: list[dict[str, Tally]]) -> dict[str, Tally]:
    names = dict.fromkeys(name for one in several for name in one)
    return {name: together(one[name] for one in several if name in one) for name in names}

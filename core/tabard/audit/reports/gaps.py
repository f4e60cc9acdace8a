"""Where a log is silent, or its clock is not to be believed: what reports say about itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from tabard.audit.entries import Entry
from tabard.audit.fate import went_ahead
from tabard.audit.reports.reading import (
    action_of,
    agent_of,
    is_decision,
    is_outcome,
    moment,
    text,
    time_of,
)
from tabard.audit.reports.report import Cites, Row, Section, Table

_TOLERANCE = timedelta(seconds=1)
"""Threads of a process read the clock before they wait for the log; a step is longer than that."""
_MOST = 1e10
"""Seconds; a step of more than centuries is none."""


@dataclass(slots=True)
class _Writer:
    """One process that wrote; `number` is that of its latest record, or of the session's."""

    first: int
    last: int
    written: datetime
    closed: bool = False
    number: int | None = None


class Gaps:
    """Finds writers without an end, calls without one, steps of the clock, and missing numbers."""

    def __init__(self, session: str | None = None) -> None:
        """Begin; with a session, its records are all there is, but for answers to it."""
        self._session = session
        self._writers: dict[str, _Writer] = {}
        self._calls: dict[str, Entry] = {}
        self._steps: list[Row] = []
        self._missing: list[Row] = []

    def knows(self, writer: str) -> bool:
        """Whether there was an entry of a writer."""
        return writer in self._writers

    def add(self, entry: Entry) -> None:
        """Take an entry into account."""
        self._follow(entry)
        if is_decision(entry) and went_ahead(entry):
            self._calls[str(entry.call)] = entry
        elif is_outcome(entry):
            self._calls.pop(str(entry.call), None)

    def _follow(self, entry: Entry) -> None:
        name, now = text(entry, "w"), time_of(entry)
        known = self._writers.get(name)
        if known is None:
            known = self._writers[name] = _Writer(entry.index, entry.index, now)
        elif entry.kind == "clock.step" or known.written - now > _TOLERANCE:
            back = _back(entry) or (known.written - now).total_seconds()
            cells = (name, f"{back:.0f} s back", moment(known.written), moment(now))
            self._steps.append(Row(cells=cells, cites=Cites.of([known.last, entry.index])))
        self._count(known, entry)
        known.last, known.written = entry.index, now
        known.closed = entry.kind == "writer.close"

    def _count(self, writer: _Writer, entry: Entry) -> None:
        """A writer numbers its records, and those of each session; one left out is missing."""
        if self._session is None:
            what, number = "records of a writer are missing", entry.get("n")
        elif text(entry, "session") == self._session:
            what, number = "records of a session are missing", entry.get("sn")
        else:
            return
        if type(number) is not int:
            return
        if writer.number is not None and number != writer.number + 1:
            said = f"number {writer.number} is followed by {number}; or outside the span"
            cells = (what, self._session or text(entry, "w"), said)
            self._missing.append(Row(cells=cells, cites=Cites.of([writer.last, entry.index])))
        writer.number = number

    @property
    def steps(self) -> list[Row]:
        """A row for each time a writer's clock went back: writer, how far, before, after."""
        return self._steps

    def rows(self) -> Iterator[Row]:
        """A row for each gap: what, where, and what can be said of it."""
        yield from self._missing
        for name, one in self._writers.items():
            if name and not one.closed:
                said = "runs, crashed or was cut off: cannot be told from here"
                cells = ("writer without a closing record", name, said)
                yield Row(cells=cells, cites=Cites.of([one.first, one.last]))
        for entry in self._calls.values():
            said = "runs, or its process died in it, or it ended after the span"
            cells = (
                "call without an outcome",
                f"{action_of(entry)} by {agent_of(entry)}, call {entry.call}",
                said,
            )
            yield Row(cells=cells, cites=Cites.of([entry.index]))
        for step in self._steps:
            cells = ("clock went back", str(step.cells[0]), str(step.cells[1]))
            yield Row(cells=cells, cites=step.cites)

    def section(self) -> Section:
        """All of that as a section."""
        rows = tuple(self.rows())
        return Section(
            heading="Gaps",
            intro="Where the entries of this span do not tell the whole story.",
            table=Table(columns=("what", "where", "what can be said"), rows=rows),
            statement=""
            if rows
            else "Among these entries there is none of the gaps tabard looks "
            "for: writers or calls without an end, missing numbers, steps of the clock.",
        )


def _back(entry: Entry) -> float:
    """How far the clock went back, in seconds, where the writer has noticed; else 0."""
    found = entry.get("back_s")
    return found if type(found) is float and 0 < found < _MOST else 0.0

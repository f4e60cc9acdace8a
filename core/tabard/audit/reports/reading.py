"""Reads the entries of a report once, and what they say without trusting its form."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from tabard.audit.entries import Entry
from tabard.audit.reports.report import CITED, Cites, Extent
from tabard.errors import AuditError

NOBODY = "(nobody)"
"""Who calls where no identity was established."""


class Reading:
    """The entries, each once; afterwards it knows what they were.

    Attributes:
        extent: How many there were so far, the first and the last.
    """

    def __init__(self, entries: Iterable[Entry]) -> None:
        self._entries = entries
        self.extent = Extent()

    def __iter__(self) -> Iterator[Entry]:
        """Each entry.

        Raises:
            AuditError: One of them has no time.
        """
        for entry in self._entries:
            now, seen = time_of(entry), self.extent
            self.extent = Extent(
                entries=seen.entries + 1,
                first=seen.first or entry.index,
                last=entry.index,
                began=min(now, seen.began or now),
                ended=max(now, seen.ended or now),
            )
            yield entry


def time_of(entry: Entry) -> datetime:
    """When an entry was written.

    Raises:
        AuditError: It does not say.
    """
    try:
        return entry.time.astimezone(UTC)
    except OverflowError:  # the first or the last day there is, in another time zone
        raise AuditError(f"entry {entry.index} has no time", entry=entry.index) from None


def text(entry: Entry, path: str) -> str:
    """A member that is text; empty when there is none."""
    found = entry.get(path)
    return found if isinstance(found, str) else ""


def whole(entry: Entry, path: str) -> int:
    """A member that is a whole number; 0 when there is none."""
    found = entry.get(path)
    return found if type(found) is int else 0


def texts(entry: Entry, path: str) -> list[str]:
    """The texts of a member that is a list of them."""
    found = entry.get(path)
    return [one for one in found if isinstance(one, str)] if isinstance(found, list) else []


def agent_of(entry: Entry) -> str:
    """Who calls, or is spoken of: the name, and the environment where the entry tells it."""
    name = text(entry, "agent.name") or text(entry, "subject.name") or NOBODY
    environment = text(entry, "agent.environment")
    return f"{name} ({environment})" if environment else name


def action_of(entry: Entry) -> str:
    """What was called, such as `tool claims_db.query`."""
    return f"{text(entry, 'action.kind')} {text(entry, 'action.name')}".strip()


def is_decision(entry: Entry) -> bool:
    """Whether it is what was decided before a call."""
    return entry.kind.endswith(".decision")


def is_outcome(entry: Entry) -> bool:
    """Whether it is how a call has ended."""
    return entry.kind.endswith(".outcome")


def is_unlogged(entry: Entry) -> bool:
    """Whether a call ran while the log could not be written, and was put on record later."""
    return is_decision(entry) and isinstance(entry.get("unlogged"), dict)


def effect_of(entry: Entry) -> str:
    """`allow`, `deny` or `ask`."""
    return text(entry, "decision.effect")


def moment(when: datetime | None) -> str:
    """A time as a person reads it, in UTC, to the second."""
    return "" if when is None else when.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")


@dataclass(slots=True)
class Tally:
    """Counts entries of one sort, and remembers which to cite.

    Attributes:
        count: How many.
        first: The time of the first of them.
        last: That of the latest.
    """

    count: int = 0
    first: datetime | None = None
    last: datetime | None = None
    _cited: list[int] = field(default_factory=list)
    _more: int = 0

    def add(self, entry: Entry) -> None:
        """Count an entry."""
        now = time_of(entry)
        self.count += 1
        self.first = min(now, self.first or now)
        self.last = max(now, self.last or now)
        self.cite(entry.index)

    def cite(self, index: int) -> None:
        """Cite an entry without counting it."""
        if len(self._cited) < CITED:
            self._cited.append(index)
        else:
            self._more += 1

    @property
    def cites(self) -> Cites:
        """The entries."""
        return Cites(entries=tuple(self._cited), more=self._more)


def together(tallies: Iterable[Tally]) -> Tally:
    """Several tallies as one; an entry that is in more than one of them counts in each."""
    whole, cited = Tally(), []
    for one in tallies:
        whole.count += one.count
        whole._more += one._more
        cited += one._cited
        whole.first = min(filter(None, (whole.first, one.first)), default=None)
        whole.last = max(filter(None, (whole.last, one.last)), default=None)
    for index in sorted(set(cited)):
        whole.cite(index)
    return whole


def by_count(tallies: Mapping[str, Tally]) -> list[tuple[str, Tally]]:
    """The most frequent first, those of one count by name."""
    return sorted(tallies.items(), key=lambda item: (-item[1].count, item[0]))

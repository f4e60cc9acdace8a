"""What data agents worked on: the calls that ran, by the purpose on record with them."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from tabard.audit.entries import Entry
from tabard.audit.fate import went_ahead
from tabard.audit.reports.reading import (
    Tally,
    action_of,
    agent_of,
    is_decision,
    text,
    texts,
)

NO_PURPOSE = "(none on record)"


@dataclass(slots=True)
class Observed:
    """What was seen under one purpose; each a mapping from a name to the entries that have it."""

    tally: Tally = field(default_factory=Tally)
    bases: defaultdict[str, Tally] = field(default_factory=lambda: defaultdict(Tally))
    subjects: defaultdict[str, Tally] = field(default_factory=lambda: defaultdict(Tally))
    classes: defaultdict[str, Tally] = field(default_factory=lambda: defaultdict(Tally))
    assets: defaultdict[str, Tally] = field(default_factory=lambda: defaultdict(Tally))
    reached: defaultdict[str, Tally] = field(default_factory=lambda: defaultdict(Tally))
    agents: defaultdict[str, Tally] = field(default_factory=lambda: defaultdict(Tally))


class Processing:
    """The calls of a log, as far as they are about data.

    Attributes:
        decisions: Every decision.
        ran: Those that let a call pass.
        with_purpose: Those of them with a purpose.
        with_data: Those of them with data subjects or a data class.
        purposes: What was seen, by purpose.
        agents: Who made calls that ran, by name.
        tools: The tools and retrievers that ran.
        erasure: Erasures and prunings.
        erasures: The same, entry by entry.
    """

    def __init__(self) -> None:
        self.decisions, self.ran = Tally(), Tally()
        self.with_purpose, self.with_data, self.erasure = Tally(), Tally(), Tally()
        self.purposes: defaultdict[str, Observed] = defaultdict(Observed)
        self.agents: defaultdict[str, Tally] = defaultdict(Tally)
        self.tools: defaultdict[str, Tally] = defaultdict(Tally)
        self.erasures: list[Entry] = []

    def add(self, entry: Entry) -> None:
        """Take an entry into account; a call that was refused has processed nothing."""
        if entry.kind in ("subject.erased", "payload.erased", "log.pruned"):
            self.erasure.add(entry)
            self.erasures.append(entry)
        if not is_decision(entry):
            return
        self.decisions.add(entry)
        if went_ahead(entry):
            self._add_call(entry)

    def _add_call(self, entry: Entry) -> None:
        purpose, data_class = text(entry, "data.purpose"), text(entry, "data.data_class")
        subjects, asset = texts(entry, "data.data_subjects"), text(entry, "data.asset")
        basis = text(entry, "data.legal_basis")
        self.ran.add(entry)
        self.agents[text(entry, "agent.name")].add(entry)
        if purpose:
            self.with_purpose.add(entry)
        if subjects or data_class:
            self.with_data.add(entry)
        if text(entry, "action.kind") in ("tool", "retrieval"):
            self.tools[text(entry, "action.name")].add(entry)
        one = self.purposes[purpose or NO_PURPOSE]
        one.tally.add(entry)
        one.agents[agent_of(entry)].add(entry)
        one.reached[_reached(entry, asset)].add(entry)
        for subject in subjects:
            one.subjects[subject].add(entry)
        for name, found in ((basis, one.bases), (data_class, one.classes), (asset, one.assets)):
            if name:
                found[name].add(entry)


def _reached(entry: Entry, asset: str) -> str:
    """What got the data: the asset, the provider of a model, or just the tool."""
    if entry.kind == "model.decision":
        return f"model provider {text(entry, 'action.name').partition('/')[0]}"
    return asset or action_of(entry)

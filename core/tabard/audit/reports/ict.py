"""Which agent reached which ICT asset, and the events around that, gathered entry by entry."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from tabard.audit.entries import Entry
from tabard.audit.fate import went_ahead
from tabard.audit.reports.gaps import Gaps
from tabard.audit.reports.reading import (
    Tally,
    action_of,
    agent_of,
    effect_of,
    is_decision,
    is_unlogged,
    text,
)

if TYPE_CHECKING:
    from tabard.audit.reports.declared import Declared

_ACCESS = ("agent.", "token.", "auth.", "session.", "approval.", "payload.")
_CHANGES = ("policy.", "bundle.", "issuer.", "budget.reset", "subject.")
_LOGGING = ("audit.", "log.")


class IctAccess:
    """The calls by asset and agent, and the events.

    Attributes:
        all: Every entry.
        decisions: The decisions among them.
        calls: Those that let a call pass, by asset and agent.
        denials: Those that refused one, by asset and agent.
        access: Events of access control, but for sessions, which are only counted.
        changes: Events of change.
        logging: What happened to the log itself, and calls that ran while it could not be written.
        providers: The decisions about models, by provider.
        counts: All of `access`, `changes` and `logging`, sessions too.
        gaps: What the entries do not tell.
    """

    def __init__(self, declared: Declared | None) -> None:
        self._declared = declared
        self.all, self.decisions = Tally(), Tally()
        self.calls: defaultdict[tuple[str, str], Tally] = defaultdict(Tally)
        self.denials: defaultdict[tuple[str, str], Tally] = defaultdict(Tally)
        self.access: list[Entry] = []
        self.changes: list[Entry] = []
        self.logging: list[Entry] = []
        self.providers: defaultdict[str, Tally] = defaultdict(Tally)
        self.counts: defaultdict[str, Tally] = defaultdict(Tally)
        self.gaps = Gaps()

    def add(self, entry: Entry) -> None:
        """Take an entry into account."""
        self.all.add(entry)
        self.gaps.add(entry)
        if is_decision(entry):
            self._decide(entry)
            return
        for some, kinds, name in (
            (self.access, _ACCESS, "access"),
            (self.changes, _CHANGES, "changes"),
            (self.logging, _LOGGING, "logging"),
        ):
            if entry.kind.startswith(kinds):
                self.counts[name].add(entry)
                if not entry.kind.startswith("session."):
                    some.append(entry)

    def _decide(self, entry: Entry) -> None:
        self.decisions.add(entry)
        if is_unlogged(entry):
            self.counts["logging"].add(entry)
            self.logging.append(entry)
        key = (self._asset(entry), agent_of(entry))
        if went_ahead(entry):
            self.calls[key].add(entry)
        if effect_of(entry) == "deny":
            self.denials[key].add(entry)
        if entry.kind == "model.decision":
            self.providers[text(entry, "action.name").partition("/")[0]].add(entry)

    def _asset(self, entry: Entry) -> str:
        """What it reaches, by the record, else by the policy, else the bare name of the tool."""
        asset = text(entry, "data.asset")
        if not asset and self._declared is not None and entry.kind != "model.decision":
            asset = self._declared.asset(text(entry, "action.name")) or ""
        return asset or action_of(entry)

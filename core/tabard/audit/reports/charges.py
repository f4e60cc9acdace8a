"""What calls were to cost and did: follows each charge from its decision to its settlement."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field, replace

from tabard.audit.entries import Entry
from tabard.audit.reports.reading import (
    Tally,
    action_of,
    agent_of,
    is_decision,
    is_outcome,
    text,
    texts,
    whole,
)


@dataclass(slots=True)
class Account:
    """The money of one budget period, agent or model, in nano-units.

    Attributes:
        held: What was set aside before the calls: the most they could cost.
        settled: What they have cost.
        estimated: What was charged at the most they could cost, since their usage is not known.
        expired: What was charged in full, since nothing was heard of the call.
        open: What is still set aside.
        input_tokens: Tokens read, as far as they were reported.
        output_tokens: Tokens written, as far as they were reported.
        tally: The calls, and the entries to cite.
    """

    held: int = 0
    settled: int = 0
    estimated: int = 0
    expired: int = 0
    open: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    tally: Tally = field(default_factory=Tally)

    @property
    def used(self) -> int:
        """What it takes from a limit."""
        return self.settled + self.estimated + self.expired + self.open


@dataclass(frozen=True, slots=True, kw_only=True)
class _Charge:
    """What is held for a call, or was written off in full since nothing was heard of it."""

    held: int
    accounts: tuple[Account, ...]
    written_off: int = 0


class Charges:
    """The accounts of a log.

    Attributes:
        windows: By the name of the budget period.
        drawn_by: Which agents (name) have drawn on a budget period.
        agents: By currency, agent and team.
        actions: By currency and model or tool.
        unpriced: Model calls that ran and were paid from no budget.
        late: Ends of calls that were decided before the span.
        stopped: Calls refused for want of money, or of a price.
        resets: Periods that were begun anew.
    """

    def __init__(self) -> None:
        self.windows: defaultdict[str, Account] = defaultdict(Account)
        self.drawn_by: defaultdict[str, set[str]] = defaultdict(set)
        self.agents: defaultdict[tuple[str, str, str], Account] = defaultdict(Account)
        self.actions: defaultdict[tuple[str, str], Account] = defaultdict(Account)
        self.unpriced, self.late, self.stopped = Tally(), Tally(), Tally()
        self.resets: list[Entry] = []
        self._open: dict[str, _Charge] = {}

    def add(self, entry: Entry) -> None:
        """Take an entry into account."""
        if is_decision(entry):
            self._decide(entry)
        elif is_outcome(entry):
            self._settle(entry)
        elif entry.kind == "budget.expired":
            self._expire(entry)
        elif entry.kind == "budget.reset":
            self.resets.append(entry)

    def _decide(self, entry: Entry) -> None:
        if text(entry, "decision.code") in ("budget", "unknown_price"):
            self.stopped.add(entry)
        if not isinstance(entry.get("charge"), dict):
            if entry.kind == "model.decision" and text(entry, "decision.effect") == "allow":
                self.unpriced.add(entry)
            return
        held, currency = whole(entry, "charge.held"), text(entry, "charge.currency")
        windows = texts(entry, "charge.windows")
        for window in windows:
            self.drawn_by[window].add(text(entry, "agent.name"))
        accounts = (
            *(self.windows[window] for window in dict.fromkeys(windows)),
            self.agents[currency, agent_of(entry), text(entry, "agent.team")],
            self.actions[currency, action_of(entry)],
        )
        for account in accounts:
            account.held += held
            account.open += held
            account.tally.add(entry)
        self._open[str(entry.call)] = _Charge(held=held, accounts=accounts)

    def _settle(self, entry: Entry) -> None:
        charge = self._open.pop(str(entry.call), None)
        if charge is None:
            if isinstance(entry.get("cost"), dict):
                self.late.add(entry)
            return
        amount = whole(entry, "cost.amount")
        for account in charge.accounts:
            account.open -= charge.held
            account.expired -= charge.written_off
            account.tally.cite(entry.index)
            account.input_tokens += whole(entry, "usage.input_tokens")
            account.output_tokens += whole(entry, "usage.output_tokens")
            if entry.get("cost.estimated"):
                account.estimated += amount
            else:
                account.settled += amount

    def _expire(self, entry: Entry) -> None:
        """A call nothing was heard of is charged in full, until it ends after all."""
        call, amount = text(entry, "call"), whole(entry, "charged.amount")
        charge = self._open.get(call)
        if charge is None:
            self.late.add(entry)
            return
        self._open[call] = replace(charge, held=0, written_off=amount)
        for account in charge.accounts:
            account.open -= charge.held
            account.expired += amount
            account.tally.cite(entry.index)

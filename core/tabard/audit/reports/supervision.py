"""What the entries of a span say about use, risk and oversight of agents."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime

from tabard.audit.entries import Entry
from tabard.audit.fate import Fates, went_ahead
from tabard.audit.reports.gaps import Gaps
from tabard.audit.reports.reading import (
    Tally,
    action_of,
    agent_of,
    effect_of,
    is_decision,
    is_unlogged,
    moment,
    text,
    time_of,
)
from tabard.audit.reports.report import Cites, Row

_STOPPED = frozenset({"agent.revoked", "agent.evicted", "token.revoked", "bundle.distrusted"})
_CHANGES = frozenset({"policy.apply", "policy.rollback"})
_ANSWERS = frozenset({"approval.granted", "approval.denied", "approval.refused"})


@dataclass(slots=True)
class Use:
    """One session: who, for whom, from when to when."""

    agent: str
    instance: str
    user: str
    first: Entry
    last: Entry
    closed: bool = False
    calls: int = 0


class Supervision:
    """Everything `report art12` tells, gathered entry by entry.

    With a session it takes only what is about that one: its own records, the answers to its
    questions, the processes that wrote them, and whatever stopped it.
    """

    def __init__(self, session: str | None = None) -> None:
        self._session = session
        self._asked: set[str] = set()
        self._names: set[str] = set()
        self._calls: dict[str, Entry] = {}
        self._fates = Fates()
        self.gaps = Gaps(session)
        self.all, self.decisions, self.oversight = Tally(), Tally(), Tally()
        self.risks: defaultdict[str, list[Entry]] = defaultdict(list)
        self.answers: list[Entry] = []
        self.prunings: list[Entry] = []
        self.changes: list[Entry] = []
        self.uses: dict[str, Use] = {}
        self.policies: defaultdict[str, Tally] = defaultdict(Tally)
        self.moments: list[tuple[datetime, str]] = []

    def admits(self, entry: Entry) -> bool:
        """Whether an entry is about what was asked for."""
        if self._session is None or text(entry, "session") == self._session:
            return True
        if entry.kind in ("writer.close", "clock.step"):
            return self.gaps.knows(text(entry, "w"))
        if entry.kind in _STOPPED:
            return self._is_stopped_by(entry)
        return entry.kind in _ANSWERS and text(entry, "approval.id") in self._asked

    def _is_stopped_by(self, entry: Entry) -> bool:
        """Whether a revocation is of the session's agent or credential, and came before its end."""
        use = self.uses.get(self._session or "")
        stopped = {text(entry, "subject.id"), text(entry, "cred.jti")} - {""}
        return use is not None and not use.closed and bool(stopped & self._names)

    def add(self, entry: Entry) -> None:
        """Take an entry into account."""
        self.all.add(entry)
        self.gaps.add(entry)
        self._fates.add(entry)
        self._use(entry)
        if is_decision(entry):
            self._decide(entry)
        elif entry.kind in _ANSWERS:
            self.answers.append(entry)
            self.oversight.add(entry)
        elif entry.kind in _CHANGES:
            self.changes.append(entry)
        elif entry.kind == "log.pruned":
            self.prunings.append(entry)
        if (risk := _risk(entry)) is not None:
            self.risks[risk].append(entry)

    def _use(self, entry: Entry) -> None:
        session = text(entry, "session")
        if not session or entry.kind in _ANSWERS:
            return
        found = self.uses.get(session)
        if found is None:
            user, instance = text(entry, "on_behalf_of"), text(entry, "agent.instance")
            found = self.uses[session] = Use(agent_of(entry), instance, user, entry, entry)
        if session == self._session:
            self._names |= {text(entry, "agent.id"), text(entry, "cred.jti")}
        found.last = entry
        found.closed = found.closed or entry.kind == "session.close"
        found.calls += is_decision(entry)

    def _decide(self, entry: Entry) -> None:
        self.decisions.add(entry)
        self.moments.append((time_of(entry), effect_of(entry)))
        self._calls[str(entry.call)] = entry
        if digest := text(entry, "decision.policy"):
            self.policies[digest].add(entry)
        if request := text(entry, "approval.id"):
            self._asked.add(request)
            self.oversight.add(entry)

    def calls(self) -> list[Row]:
        """A row for each call: when, who, what, decision, rule, approver, outcome."""
        return [self._row(decision) for decision in self._calls.values()]

    def _row(self, decision: Entry) -> Row:
        call, indexes = str(decision.call), [decision.index]
        beside = (self._fates.outcome(call), self._fates.answer(call), self._fates.rerun(call))
        asked = effect_of(decision) == "ask"
        indexes += [one.index for one in (beside if asked else beside[:1]) if one is not None]
        return Row(cells=_cells(decision, self._fates.of(call)), cites=Cites.of(indexes))


def _risk(entry: Entry) -> str | None:
    """What sort of a risk event an entry is; None when it is none."""
    if entry.kind == "auth.failed":
        return "failed login"
    if entry.kind in _STOPPED:
        return "revocation"
    if entry.kind == "issuer.key" and text(entry, "key.state") == "killed":
        return "issuer key killed"
    if entry.kind.startswith("audit.") or entry.kind == "budget.expired":
        return "failure on record"
    if is_unlogged(entry):
        return "ran while the log could not be written"
    if is_decision(entry) and effect_of(entry) == "deny":
        if text(entry, "decision.code") in ("budget", "rate", "unknown_price"):
            return "stopped by budget or rate"
        return "denied, let pass in shadow mode" if went_ahead(entry) else "denied"
    return None


def _cells(decision: Entry, ending: str) -> tuple[str, ...]:
    effect, code = effect_of(decision), text(decision, "decision.code")
    mark = " (shadow)" if text(decision, "decision.mode") == "shadow" else ""
    if is_unlogged(decision):
        mark += f" (written later; made {text(decision, 'unlogged.at')})"
    return (
        moment(time_of(decision)),
        agent_of(decision),
        action_of(decision),
        f"{effect}{mark}" if code in ("ok", effect) else f"{effect}{mark}: {code}",
        text(decision, "decision.rule"),
        text(decision, "approval.by"),
        ending,
    )

"""What became of calls: how they ended, or whether they still wait for a person's answer."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tabard.audit.entries import Entry

NO_OUTCOME = "none on record: it runs, or its process died in it"
"""Of a call that was let run."""


def went_ahead(decision: Entry) -> bool:
    """Whether a decision let the call pass: allowed, or stopped in shadow mode only."""
    allowed: bool = decision.get("decision.effect") == "allow"
    shadow: bool = decision.get("decision.mode") == "shadow"
    return allowed or shadow


class Fates:
    """Follows calls through the entries about them."""

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        """Begin with entries, in the order of the log."""
        self._decisions: dict[str, Entry] = {}
        self._outcomes: dict[str, Entry] = {}
        self._answers: dict[str, Entry] = {}
        self._agreed: defaultdict[tuple[Any, ...], list[Entry]] = defaultdict(list)
        for entry in entries:
            self.add(entry)

    def add(self, entry: Entry) -> None:
        """Take the next entry into account."""
        request = entry.get("approval.id")
        if entry.kind.endswith(".decision"):
            self._decisions[str(entry.call)] = entry
            if request is not None and entry.get("decision.effect") == "allow":
                self._agreed[_same(entry)].append(entry)
        elif entry.kind.endswith(".outcome"):
            self._outcomes[str(entry.call)] = entry
        elif entry.kind in ("approval.granted", "approval.denied"):
            self._answers[str(request)] = entry

    def outcome(self, call: str) -> Entry | None:
        """The record of how a call has ended; None when there is none."""
        return self._outcomes.get(call)

    def answer(self, call: str) -> Entry | None:
        """What a person has answered to a call that had to be asked about; None if nobody has."""
        return self._answers.get(str(self._decisions[call].get("approval.id")))

    def rerun(self, call: str) -> Entry | None:
        """The decision under which a call ran that a person has agreed to; None if it did not."""
        answer = self.answer(call)
        if answer is None or answer.kind != "approval.granted":
            return None
        ran = self._agreed.get(_same(self._decisions[call]), [])
        return next((one for one in ran if one.index > answer.index), None)

    def of(self, call: str) -> str:
        """What became of a call, in words."""
        decision = self._decisions[call]
        if went_ahead(decision) or self.outcome(call) is not None:
            return self._of_run(call)
        if decision.get("decision.effect") != "ask":
            return "did not run"
        return self._of_question(call, str(decision.get("approval.id")))

    def _of_run(self, call: str) -> str:
        outcome = self.outcome(call)
        if outcome is None:
            return NO_OUTCOME
        error = outcome.get("outcome.error_type")
        return "ok" if error is None else f"error ({error})"

    def _of_question(self, call: str, request: str) -> str:
        answer, ran = self.answer(call), self.rerun(call)
        if answer is None:
            return f"waits for an approval, or nobody answered in time ({request})"
        if answer.kind == "approval.denied":
            return f"did not run: a person refused it at {_moment(answer)} ({request})"
        agreed = f"was asked about, agreed to at {_moment(answer)} ({request})"
        if ran is None:
            return f"{agreed}, and not called again so far"
        return f"{agreed}, ran as call {ran.call}: {self._of_run(str(ran.call))}"


def _same(decision: Entry) -> tuple[Any, ...]:
    """What a yes is bound to: the session, what is called, and the exact arguments."""
    paths = ("session", "action.kind", "action.name", "action.args.commit")
    return tuple(str(decision.get(path)) for path in paths)


def _moment(entry: Entry) -> str:
    return str(entry.get("ts"))[:19].replace("T", " ") + " UTC"

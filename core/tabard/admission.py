"""The one transaction of an admission: liveness, approval, rates, budgets, record. All or nothing.

What is read here is read under the store's write lock: a revocation, a new policy or a spent
budget that has been written by any process is seen.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from tabard.asking import Answer, look_for_answer
from tabard.audit.chain import timestamp
from tabard.audit.fields import action_field, approval_field, decision_field, encode, hold_field
from tabard.budget.ledger import HOLD_LIFETIME, Hold
from tabard.clock import Clock, read_clock
from tabard.errors import GuardUnavailable, StoreError
from tabard.logging_failure import Event, LoggingFailure
from tabard.notice import complain
from tabard.payload import keep_arguments, keep_result
from tabard.verdict import PROOF_REPLAYED, Verdict, verdict_on

if TYPE_CHECKING:
    from tabard.audit.chain import SessionCount
    from tabard.identity.agent import Liveness
    from tabard.judge import Judgement
    from tabard.policies import PolicySource
    from tabard.policy.terms import RateCap, Terms
    from tabard.seal_watch import SealWatch
    from tabard.session import Session
    from tabard.store import Store, Transaction


_PATIENCE = 10.0
"""Seconds in which the end of a call does not wait for a log that could not be written again."""

_NOBODY = '"agent":null,"session":null'


class Admission(NamedTuple):
    """What has become of a judged call.

    Attributes:
        verdict: The last word.
        answer: What a person has said to it, or was asked; None when nobody had to be.
        call: The id of its record; empty in a preview.
    """

    verdict: Verdict
    answer: Answer | None = None
    call: str = ""


class PolicyChanged(Exception):
    """Another policy came into force while the call was judged; it has to be judged again."""


class _NothingIsKept(Exception):
    """Rolls a transaction back on purpose."""


class Admissions:
    """Admits judged calls, and writes down how they ended."""

    def __init__(
        self,
        *,
        store: Store,
        policies: PolicySource,
        failure: LoggingFailure,
        watch: SealWatch,
        clock: Clock,
    ) -> None:
        self._store = store
        self._policies = policies
        self._failure = failure
        self._watch = watch
        self._clock = clock
        self._unwritten: deque[Event] = deque(failure.leftovers())
        self._retry_at = 0.0

    def admit(self, judged: Judgement) -> Admission:
        """Put a call on record, and set aside what it needs.

        Raises:
            PolicyChanged: It was judged by a policy that is no longer in force.
            StoreError: The store failed; nothing is kept.
        """
        waiting = self._watch.check()
        if waiting is not None:
            self._tell_unsealed(waiting)
        late: list[Event] = []
        try:
            with self._store.transaction(judged.now) as transaction:
                if not self._policies.is_in_force(judged.policy, transaction):
                    raise PolicyChanged
                self._write_late(transaction, late)
                found = self._conclude(judged, transaction)
                call = transaction.append(*self._describe(judged, found))
                found = Admission(verdict=found.verdict, answer=found.answer, call=call)
                if found.verdict.permits:
                    _take(judged, found, transaction)
                elif found.answer is not None and found.answer.is_new:
                    transaction.add_approval(found.answer.request)
        except BaseException as error:
            self._unwritten.extendleft(reversed(late))
            if isinstance(error, StoreError) and self._failure.allows(judged):
                self.note_failure(error, refused=False)
                return self._admit_unlogged(judged)
            raise
        if late or self._failure.has_failed:
            self._tell_recovery(late)
        return found

    def note_failure(self, error: Exception, *, refused: bool = True) -> None:
        """Remember that a call was refused, or an event is late, for want of a record of it."""
        self._retry_at = time.monotonic() + _PATIENCE
        try:
            now = read_clock(self._clock)
        except GuardUnavailable:
            now = time.time()
        code = error.code if isinstance(error, StoreError) else "internal"
        self._failure.note(code, now, refused=refused)

    def _admit_unlogged(self, judged: Judgement) -> Admission:
        """Let a call go ahead that cannot be put on record now; everything else still holds.

        Raises:
            StoreError: The rest cannot be read either, or the operator's limits are reached.
        """
        session = judged.session
        assert session is not None  # noqa: S101  the operator's mode has looked
        dead = first_dead(session, self._store.liveness)
        if dead is not None:
            return Admission(verdict=dead)
        if self._policies.current() is not judged.policy:
            raise PolicyChanged
        kind, fields, count = self._describe(judged, Admission(verdict=judged.verdict))
        # The record that is written later has another id and time: these are those of the call.
        call = f"unlogged-{os.urandom(12).hex()}"
        facts = {"call": call, "at": timestamp(judged.now)}
        fields = f'{fields},"unlogged":{encode(facts)}'
        event = Event(kind=kind, fields=fields, count=count, unlogged_at=judged.now)
        self._failure.keep(event, self._unwritten)
        complain("the log cannot be written (%s): a call went ahead", self._failure.mode)
        return Admission(verdict=judged.verdict, call=call)

    def _tell_unsealed(self, waiting: int) -> None:
        """Tell the operator, and the log, that nobody seals it."""
        complain("%s entries wait for a checkpoint: nobody seals the log", waiting)
        self.write(Event(kind="audit.failure", fields=f'"unsealed":{waiting}'))

    def _tell_recovery(self, written: list[Event]) -> None:
        """Put on record that the log is back, and what went ahead or was refused without it."""
        self._failure.forget(self._unwritten)
        fields = self._failure.recovered(written)
        if fields is not None:
            self.write(Event(kind="audit.recovered", fields=fields))

    def preview(self, judged: Judgement) -> Verdict:
        """What `admit` would conclude now; nothing is kept."""
        found: list[Verdict] = []
        with suppress(_NothingIsKept), self._store.transaction(judged.now) as transaction:
            found.append(self._conclude(judged, transaction).verdict)
            raise _NothingIsKept
        return found[0]

    def _conclude(self, judged: Judgement, transaction: Transaction) -> Admission:
        """The verdict with everything the store knows; a spent proof is all it writes of the call.

        The order is that of the questions: who, may it, does a person agree, how often, who pays.
        """
        session, verdict = judged.session, judged.verdict
        if session is None:
            return Admission(verdict=verdict)
        dead = first_dead(session, transaction.liveness)
        if dead is not None:
            return Admission(verdict=dead)
        answer = None
        if verdict.is_question:
            answer = look_for_answer(judged, transaction, self._store.secret)
            verdict = answer.verdict
        for check in (_check_proof, _check_rates, _check_budgets):
            if verdict.permits:
                verdict = check(judged, transaction) or verdict
        return Admission(verdict=verdict, answer=answer)

    def _describe(
        self, judged: Judgement, found: Admission
    ) -> tuple[str, str, SessionCount | None]:
        """The decision's record: its type, its members, and the session it is counted in."""
        session, action = judged.session, judged.action
        who = _NOBODY if session is None else session.fields()
        key = self._store.secret if session is None else session.commit_key
        shadow = judged.verdict.decision.mode == "shadow"
        what = action_field(action, judged.arguments, key, with_types=shadow)
        why = decision_field(found.verdict.decision, judged.policy.digest)
        if found.answer is not None:
            why += "," + approval_field(found.answer.request)
        if judged.charge is not None and found.verdict.permits:
            why += "," + judged.charge.field()
        count = None if session is None else session.count
        return f"{action.kind}.decision", f"{who},{what},{why}", count

    def _write_late(self, transaction: Transaction, late: list[Event]) -> None:
        while self._unwritten:
            late.append(self._unwritten.popleft())
            _write(late[-1], transaction)

    def write(self, event: Event) -> None:
        """Put an event on record; if that fails, before the next admission."""
        if self._unwritten and time.monotonic() < self._retry_at:
            self._wait(event)  # its call has waited for the log already
            return
        late: list[Event] = []
        try:
            with self._store.transaction(read_clock(self._clock)) as transaction:
                self._write_late(transaction, late)
                _write(event, transaction)
        except Exception as error:
            # The next admission writes it first, or is refused: nothing runs unlogged meanwhile.
            self._unwritten.extendleft(reversed(late))
            self._wait(event)
            self.note_failure(error, refused=False)
            complain("an event could not be recorded yet: %s", error)
            return
        if late:
            self._tell_recovery(late)

    def close(self) -> None:
        """Write what still waits for the log, and that it could not be written, if it now can."""
        late: list[Event] = []
        if not self._unwritten and not self._failure.has_failed:
            return
        try:
            with self._store.transaction(read_clock(self._clock)) as transaction:
                self._write_late(transaction, late)
        except Exception as error:
            self._unwritten.extendleft(reversed(late))
            if self._unwritten:
                complain("%s events could not be recorded: %s", len(self._unwritten), error)
            return
        self._tell_recovery(late)

    def _wait(self, event: Event) -> None:
        """Keep an event for later; what the spool cannot take is remembered all the same."""
        if self._failure.mode == "spool":
            with suppress(StoreError):
                self._failure.keep(event, self._unwritten)
                return
        self._unwritten.append(event)


def first_dead(session: Session, liveness: Callable[..., Liveness]) -> Verdict | None:
    """The refusal of the first credential in a chain that no longer counts; None if all do."""
    for one in session.chain:
        verdict = verdict_on(liveness(one.spiffe_id, **one.token_facts))
        if verdict is not None:
            return verdict if one is session else verdict.of_another()
    # What was handed over under a credential ends with it, also where its agent goes on.
    for spiffe_id, facts in session.rests_on:
        verdict = verdict_on(liveness(spiffe_id, **facts))
        if verdict is not None:
            return verdict.of_another()
    return None


def _check_proof(judged: Judgement, transaction: Transaction) -> Verdict | None:
    proof = judged.proof
    if proof is None or transaction.refuse(proof.name, expires=proof.expires_at):
        return None
    return PROOF_REPLAYED


def _check_rates(judged: Judgement, transaction: Transaction) -> Verdict | None:
    """The first limit that blocks, else the first that is only recorded."""
    recorded: Verdict | None = None
    for key, cap, terms in _rates(judged):
        if transaction.is_over_rate(key, limit=cap.limit, per=cap.per):
            reason = f"more than {cap.limit} calls in {cap.per} seconds"
            over = judged.verdict.beyond(terms, "rate", cap.rule, reason)
            if not over.permits:
                return over
            recorded = recorded or over
    return recorded


def _rates(judged: Judgement) -> Iterator[tuple[str, RateCap, Terms]]:
    """The limits of the caller and of every agent it acts for, each for its own agent."""
    session, decision = judged.session, judged.verdict.decision
    if session is None:
        return
    for spiffe_id, terms in ((session.spiffe_id, decision.terms), *decision.above):
        if terms is not None:
            yield from ((f"{spiffe_id}|{cap.key}", cap, terms) for cap in terms.rates)


def _check_budgets(judged: Judgement, transaction: Transaction) -> Verdict | None:
    charge, terms = judged.charge, judged.verdict.decision.terms
    if charge is None or terms is None:
        return None
    for hold in transaction.sweep():
        transaction.append("budget.expired", hold_field(hold))
    full = transaction.first_overdrawn(charge.windows, charge.amount)
    if full is None:
        return None
    return judged.verdict.beyond(terms, "budget", full.rule, charge.describe(full))


def _take(judged: Judgement, found: Admission, transaction: Transaction) -> None:
    """Use up the yes, count the call, and set its money aside."""
    for request in () if found.answer is None else found.answer.agreed:
        transaction.use_approval(request)
    for key, cap, _ in _rates(judged):
        transaction.count_call(key, limit=cap.limit)
    terms, session = judged.verdict.decision.terms, judged.session
    if terms is not None and terms.kept_arguments and session is not None:
        keep_arguments(transaction, session, found.call, judged.arguments, terms.kept_arguments)
    charge = judged.charge
    if charge is not None:
        keys = tuple(window.key for window in charge.windows)
        expires = int(judged.now) + HOLD_LIFETIME
        transaction.hold(Hold(call=found.call, amount=charge.amount, keys=keys, expires=expires))


def _write(event: Event, transaction: Transaction) -> None:
    if event.settlement is not None:
        transaction.settle(event.settlement.call, event.settlement.amount)
    transaction.append(event.kind, event.fields, event.count)
    if event.result is not None:
        keep_result(transaction, *event.result)

"""The pipeline of one call: judge it, record it, wait for a person, let it run or refuse it."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from tabard.actions import Action
from tabard.admission import Admissions, PolicyChanged, first_dead
from tabard.clock import Clock
from tabard.errors import AccessDenied, ApprovalRequired, StoreError
from tabard.failing import FailingClosed
from tabard.judge import Judge
from tabard.login import TAKEN_BACK
from tabard.permit import Permit
from tabard.session import Session, current_session
from tabard.verdict import Verdict
from tabard.waiting import Waiting

if TYPE_CHECKING:
    from tabard.guard import Guard
    from tabard.policy import Decision
    from tabard.store import Store


class Pipeline:
    """Takes the calls of one guard through; what it promises is said there."""

    def __init__(
        self,
        guard: Guard,
        *,
        store: Store,
        judge: Judge,
        admissions: Admissions,
        wait: float,
        clock: Clock,
    ) -> None:
        self._guard = guard
        self._store = store
        self._judge = judge
        self._admissions = admissions
        self._wait = wait
        self._clock = clock

    def admit(self, action: Action, session: Session | None, proof: str | None) -> Permit:
        """Admit one call, or refuse it."""
        waiting = self._waiting()
        with FailingClosed(action=action):
            caller = session if session is not None else current_session()
            while True:
                try:
                    return self._admit(action, caller, proof)
                except ApprovalRequired as question:
                    if not waiting.until_answered(question):
                        raise

    async def aadmit(self, action: Action, session: Session | None, proof: str | None) -> Permit:
        """The same from an event loop."""
        waiting = self._waiting()
        caller = session if session is not None else current_session()
        with FailingClosed(action=action):
            if type(caller) is Session and self._judge.is_renewal_due(caller):
                from asyncio import to_thread  # who awaits this has loaded it already

                await to_thread(self._judge.renew_early, caller)
            while True:
                try:
                    return self._admit(action, caller, proof)
                except ApprovalRequired as question:
                    if not await waiting.auntil_answered(question):
                        raise

    def _waiting(self) -> Waiting:
        return Waiting(self._store, self._wait, self._clock)

    def _admit(self, action: Action, caller: object, proof: str | None) -> Permit:
        """Judge and record; once more if another policy came into force in between."""
        try:
            while True:
                judged = self._judge.judge(action, caller, proof)
                with suppress(PolicyChanged):
                    found = self._admissions.admit(judged)
                    break
        except Exception as error:
            self._admissions.note_failure(error)
            raise
        session, verdict = judged.session, found.verdict
        if session is None or not verdict.permits:
            agent = None if session is None else session.spiffe_id
            request = None if found.answer is None else found.answer.request.id
            if session is not None and verdict.decision.code in TAKEN_BACK:
                session.ask_again()
            raise verdict.refusal(agent=agent, action=judged.action.name, request=request)
        session.was_refused = False
        return Permit(
            guard=self._guard,
            session=session,
            action=judged.action,
            decision=verdict.decision,
            call=found.call,
            charge=judged.charge,
        )

    def check(self, action: Action, session: Session | None, proof: str | None) -> Decision:
        """Decide without side effects."""
        caller = session if session is not None else current_session()
        try:
            judged = self._judge.judge(action, caller, proof)
            if judged.session is None or not judged.verdict.is_about_policy:
                return judged.verdict.decision
            decision = judged.verdict.decision
            if decision.terms is not None or decision.above or judged.verdict.is_question:
                return self._admissions.preview(judged).decision
            return (first_dead(judged.session, self._store.liveness) or judged.verdict).decision
        except StoreError as error:
            return Verdict.undecidable(error.code, "the store failed").decision
        except Exception as error:
            reason = f"tabard could not decide: {type(error).__name__}"
            return Verdict.undecidable("internal", reason).decision

    def check_alive(self, session: Session) -> None:
        """Make sure that a session still counts."""
        with FailingClosed():
            verdict = self._judge.check_alive(session)
            verdict = verdict or first_dead(session, self._store.liveness)
            if verdict is not None:
                raise verdict.refusal(agent=session.spiffe_id)

    def refuse(
        self, action: Action, refusal: AccessDenied, session: Session | None
    ) -> AccessDenied:
        """Put a refusal on record that is not the policy's; returns what to raise."""
        with FailingClosed(action=action):
            while True:
                with suppress(PolicyChanged):
                    judged = self._judge.refuse(action, session, refusal)
                    verdict = self._admissions.admit(judged).verdict
                    break
        agent = None if session is None else session.spiffe_id
        return verdict.refusal(agent=agent, action=judged.action.name)

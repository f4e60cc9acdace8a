"""Looks at one call before the store is asked: the session, its credential, the policy."""

from __future__ import annotations

import time
import weakref
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tabard.actions import Action, ToolCall
from tabard.arguments import plain_arguments
from tabard.clock import CLOCK_SKEW, Clock, read_clock
from tabard.credentials import CredentialVerifier
from tabard.delegation import decide_for
from tabard.errors import AccessDenied, BudgetExceeded, GuardUnavailable
from tabard.form import is_well_formed, named
from tabard.identity.proof import VerifiedProof, verify_proof
from tabard.login import renew
from tabard.meter import Charge, Meter
from tabard.notice import complain
from tabard.policies import PolicySource
from tabard.session import Session
from tabard.verdict import (
    FOREIGN_SESSION,
    MALFORMED,
    NO_IDENTITY,
    PROOF_REQUIRED,
    SESSION_CLOSED,
    UNEXAMINABLE,
    UNEXPECTED_PROOF,
    Verdict,
)

if TYPE_CHECKING:
    from tabard.policy import Policy

_NOTHING: Mapping[str, object] = {}


@dataclass(frozen=True, slots=True)
class Judgement:
    """What is known of a call before the store has its say.

    Attributes:
        verdict: The conclusion so far.
        action: The action as it is recorded.
        arguments: Its arguments as plain values, or None when they could not be examined.
        session: Whose call it is; None when that is not established.
        now: POSIX seconds.
        policy: The policy it was judged by.
        proof: The proof of possession to use up with the call, or None when none is needed.
        charge: What it may cost, and who pays; None when no budget does.
    """

    verdict: Verdict
    action: Action
    arguments: Mapping[str, object] | None
    session: Session | None
    now: float
    policy: Policy
    proof: VerifiedProof | None = None
    charge: Charge | None = None


class Judge:
    """Decides about calls; holds no state but which sessions are its guard's own."""

    def __init__(
        self,
        *,
        policies: PolicySource,
        verifier: CredentialVerifier,
        meter: Meter,
        clock: Clock,
    ) -> None:
        self._policies = policies
        self._meter = meter
        self.sessions: weakref.WeakSet[Session] = weakref.WeakSet()
        self._verifier = verifier
        self._clock = clock

    def judge(self, action: Action, session: object, proof: str | None = None) -> Judgement:
        """Judge a call without any side effect but the renewal of a credential.

        Raises:
            StoreError: Which policy is in force cannot be read.
        """
        policy = self._policies.current()
        known = session if type(session) is Session and session in self.sessions else None
        try:
            now = read_clock(self._clock)
        except GuardUnavailable as refusal:
            now = time.time()
            return Judgement(Verdict.of(refusal), named(action), None, known, now, policy)
        if not is_well_formed(action):
            return Judgement(MALFORMED, named(action), None, known, now, policy)
        try:
            arguments = plain_arguments(getattr(action, "arguments", _NOTHING))
        except Exception:
            # Even a mapping that raises on purpose is an argument that cannot be examined.
            arguments = None
        if known is None:
            verdict = NO_IDENTITY if session is None else FOREIGN_SESSION
            return Judgement(verdict, action, arguments, None, now, policy)
        if type(action) is ToolCall and arguments is not None:
            # Decided on the copy: what the caller does to its own arguments meanwhile is nothing.
            action = ToolCall(
                action.name, arguments, injected=action.injected, call_id=action.call_id
            )
        judged = Judgement(UNEXAMINABLE, action, arguments, known, now, policy)
        return self._judge_session(judged, proof)

    def _judge_session(self, judged: Judgement, proof: str | None) -> Judgement:
        """Who first, then what: the session, the proof of its key, the policy."""
        session, action, now = judged.session, judged.action, judged.now
        assert session is not None  # noqa: S101  the caller has looked
        verdict = self._check_chain(session, now)
        if verdict is not None or judged.arguments is None:
            return replace(judged, verdict=verdict or UNEXAMINABLE)
        held: VerifiedProof | None = None
        try:
            held = _check_proof(session, action, proof, now)
        except AccessDenied as refusal:
            return replace(judged, verdict=Verdict.of(refusal))
        verdict = self._decide(action, session, judged.policy, now)
        verdict, charge = self._price(session, action, verdict, judged.policy, now)
        return Judgement(
            verdict, action, judged.arguments, session, now, judged.policy, held, charge
        )

    def _price(
        self, session: Session, action: Action, verdict: Verdict, policy: Policy, now: float
    ) -> tuple[Verdict, Charge | None]:
        """Work out what an allowed call may cost, where a budget pays for it."""
        terms = verdict.decision.terms
        if terms is None or not terms.budgets:
            return verdict, None
        try:
            return verdict, self._meter.estimate(session, action, terms, policy.tariff, now)
        except BudgetExceeded as refusal:
            rule = terms.budgets[0].rule
            return verdict.beyond(terms, refusal.code, rule, refusal.reason), None

    def check_session(self, session: object) -> None:
        """Make sure that a session is one of ours, and at work; for what is no call.

        Raises:
            AuthenticationFailed: It is not, or every use of it needs a proof.
            GuardUnavailable: The clock failed.
        """
        if type(session) is not Session or session not in self.sessions:
            raise FOREIGN_SESSION.refusal(agent=None)
        verdict = self._check_chain(session, read_clock(self._clock))
        if verdict is None and session.token.bound_to is not None:
            verdict = PROOF_REQUIRED
        if verdict is not None:
            raise verdict.refusal(agent=session.spiffe_id)

    def refuse(self, action: Action, session: Session | None, refusal: AccessDenied) -> Judgement:
        """The judgement on a call that is refused for no reason of the policy's.

        Raises:
            StoreError: Which policy is in force cannot be read.
            GuardUnavailable: The clock failed.
        """
        known = session if type(session) is Session and session in self.sessions else None
        policy, now = self._policies.current(), read_clock(self._clock)
        return Judgement(Verdict.of(refusal), named(action), _NOTHING, known, now, policy)

    def check_alive(self, session: Session) -> Verdict | None:
        """What has ended a session of ours since it was admitted; the store is not asked."""
        if session not in self.sessions:
            return FOREIGN_SESSION
        return self._check_chain(session, read_clock(self._clock))

    def is_renewal_due(self, session: Session) -> bool:
        """Whether a credential in the chain is past half its life."""
        now = read_clock(self._clock)
        return any(one.source is not None and now >= one.renew_at for one in session.chain)

    def renew_early(self, session: Session) -> None:
        """Renew what is due in the calling thread; a failure shows when the call is judged."""
        if session in self.sessions:
            self._check_chain(session, read_clock(self._clock))

    def _check_chain(self, session: Session, now: float) -> Verdict | None:
        """The session is at work, and so is that of every agent it acts for."""
        for one in session.chain:
            verdict = self._check_session(one, now)
            if verdict is not None:
                return verdict if one is session else verdict.of_another()
        return None

    def _check_session(self, session: Session, now: float) -> Verdict | None:
        """The session is open, the clock has not gone back, and the credential is alive."""
        if session.closed:
            return SESSION_CLOSED
        if now < session.seen_at - CLOCK_SKEW:
            return Verdict.undecidable("clock", "the clock has gone back during the session")
        session.seen_at = max(session.seen_at, now)
        try:
            due = min(session.renew_at, session.token.expires_at)
            if session.source is not None and now >= due:
                renew(session, self._verifier, now)
        except AccessDenied as refusal:
            return Verdict.of(refusal)
        if now >= session.token.expires_at:
            return Verdict.unidentified("token_expired", "the session's credential has expired")
        return None

    def _decide(self, action: Action, session: Session, policy: Policy, now: float) -> Verdict:
        try:
            return Verdict(decide_for(session, action, policy, now))
        except Exception as error:
            kind = type(error).__name__
            complain("a call was refused because the policy could not be evaluated: %s", kind)
            if policy.on_error == "close_session":
                session.close()
            return Verdict.undecidable("policy", f"the policy could not be evaluated: {kind}")


def _check_proof(
    session: Session, action: Action, proof: str | None, now: float
) -> VerifiedProof | None:
    """Where the token is bound to a key, the call comes with a proof of it; else with none.

    Whoever works for an agent with such a token needs that agent's proof for each call.

    Raises:
        AuthenticationFailed: It is missing, does not hold, or is not wanted.
    """
    bound = next((one for one in session.chain if one.token.bound_to is not None), None)
    if bound is None:
        if proof is not None:
            raise UNEXPECTED_PROOF.refusal(agent=session.spiffe_id)
        return None
    if proof is None:
        raise PROOF_REQUIRED.refusal(agent=session.spiffe_id)
    return verify_proof(proof, token=bound.token, action=action, now=now)

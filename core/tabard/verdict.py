"""What the guard concludes about one call, and the refusal that follows from it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from tabard.errors import (
    AccessDenied,
    ApprovalRequired,
    AuthenticationFailed,
    BudgetExceeded,
    GuardUnavailable,
    NotPermitted,
)
from tabard.identity.agent import Liveness
from tabard.policy import Decision

if TYPE_CHECKING:
    from tabard.policy.terms import Terms


class Verdict(NamedTuple):
    """A decision and, for a denial, the class of the refusal to raise."""

    decision: Decision
    error: type[AccessDenied] = NotPermitted

    @property
    def permits(self) -> bool:
        """Whether the call goes ahead. Only what the policy denies is softened by shadow mode."""
        return self.decision.permits

    @property
    def is_question(self) -> bool:
        """Whether a person has to agree before the call goes ahead."""
        return self.decision.effect == "ask" and not self.decision.permits

    @property
    def is_about_policy(self) -> bool:
        """Whether the policy spoke, so that only the agent's liveness is still open."""
        return self.error is NotPermitted

    @classmethod
    def unidentified(cls, code: str, reason: str) -> Verdict:
        """Who is calling is not established; never softened by shadow mode."""
        return cls(Decision(effect="deny", code=code, reason=reason), AuthenticationFailed)

    @classmethod
    def undecidable(cls, code: str, reason: str) -> Verdict:
        """Tabard itself could not decide; never softened by shadow mode."""
        return cls(Decision(effect="deny", code=code, reason=reason), GuardUnavailable)

    @classmethod
    def of(cls, refusal: AccessDenied) -> Verdict:
        """The verdict that a refusal raised further down stands for."""
        return cls(Decision(effect="deny", code=refusal.code, reason=refusal.reason), type(refusal))

    def beyond(self, terms: Terms, code: str, rule: str, reason: str) -> Verdict:
        """What is allowed as such, but too often or too expensive; shadow mode only records it.

        The mode is that of the agent whose limit it is, not of who had the last word.
        """
        decision = replace(
            self.decision, effect="deny", code=code, rule=rule, reason=reason, mode=terms.mode
        )
        return Verdict(decision, BudgetExceeded)

    def of_another(self) -> Verdict:
        """The same about an agent that the caller acts for."""
        reason = f"an agent that this one acts for: {self.decision.reason}"
        return self._replace(decision=replace(self.decision, reason=reason))

    def refusal(
        self, *, agent: str | None, action: str | None = None, request: str | None = None
    ) -> AccessDenied:
        """The exception to raise for this denial; `request` names the question to a person."""
        decision = self.decision
        if self.is_question:
            return ApprovalRequired(
                code=decision.code,
                reason=decision.reason,
                rule=decision.rule,
                agent=agent,
                action=action,
                request=request,
            )
        return self.error(
            code=decision.code,
            reason=decision.reason,
            rule=decision.rule,
            agent=agent,
            action=action,
        )


UNREGISTERED = Verdict.unidentified("unregistered", "the identity is not registered in this home")
_DEAD: dict[Liveness, Verdict] = {
    "unregistered": UNREGISTERED,
    "banned": Verdict.unidentified("token_revoked", "the agent's identity has been revoked"),
    "evicted": Verdict.unidentified(
        "token_revoked", "every credential the agent had until then has been revoked"
    ),
    "denied": Verdict.unidentified("token_revoked", "this credential has been revoked"),
}
NO_IDENTITY = Verdict.unidentified(
    "no_identity", "no agent is logged in here; use `with guard.login(...)` around the call"
)
FOREIGN_SESSION = Verdict.unidentified(
    "foreign_session", "the session was not made by this guard's login"
)
SESSION_CLOSED = Verdict.unidentified("session_closed", "the session has been closed")
PROOF_REQUIRED = Verdict.unidentified(
    "proof_required", "the credential is bound to a key; the call needs a proof made with it"
)
PROOF_REPLAYED = Verdict.unidentified("proof_replayed", "the proof has been used before")
UNEXPECTED_PROOF = Verdict.unidentified(
    "unexpected_proof", "a proof was given for a credential that is not bound to a key"
)
MALFORMED = Verdict(
    Decision(effect="deny", code="malformed_action", reason="the action is not one tabard knows")
)
UNEXAMINABLE = Verdict(
    Decision(
        effect="deny", code="arg.type", reason="an argument has no plain JSON form to be examined"
    )
)


def verdict_on(liveness: Liveness) -> Verdict | None:
    """The refusal of a token that no longer counts; None for one that does."""
    return _DEAD.get(liveness)

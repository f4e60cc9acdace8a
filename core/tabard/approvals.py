"""The people's side of an approval: which questions there are, and answering them.

Whoever answers is an identity like any other: logged in, alive, and registered with the role that
the policy asks for (`attributes={"roles": "claims-supervisor"}`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from tabard.admission import first_dead
from tabard.approval import ApprovalRequest
from tabard.audit.fields import encode
from tabard.clock import Clock, read_clock
from tabard.errors import NotPermitted
from tabard.failing import FailingClosed
from tabard.identity import Agent
from tabard.remark import remark
from tabard.session import Session

if TYPE_CHECKING:
    from tabard.guard import Guard
    from tabard.store import Store, Transaction

ROLES = "roles"
"""The attribute of an identity that names its roles, separated by commas."""


def roles_of(agent: Agent) -> frozenset[str]:
    """What an identity may answer for."""
    return frozenset(filter(None, (r.strip() for r in agent.attributes.get(ROLES, "").split(","))))


class Approvals:
    """Questions to people, and their answers."""

    def __init__(self, guard: Guard, store: Store, clock: Clock) -> None:
        self._guard = guard
        self._store = store
        self._clock = clock

    def requests(self) -> list[ApprovalRequest]:
        """Every question there ever was, oldest first.

        Raises:
            StoreError: They cannot be read.
        """
        return self._store.approvals()

    def grant(
        self, request_id: str, *, session: Session, reason: str | None = None
    ) -> ApprovalRequest:
        """Agree to one call; it goes ahead once, within the rule's `ttl`.

        Args:
            request_id: The question.
            session: Whoever agrees, logged in.
            reason: Goes into the log.

        Raises:
            NotPermitted: They may not answer it, it is over or answered already, or there is none.
            AuthenticationFailed: Their session is at its end, or they are revoked.
            ConfigurationError: The reason is no text.
            GuardUnavailable: The store failed.
        """
        return self._answer(request_id, "granted", session, reason)

    def deny(
        self, request_id: str, *, session: Session, reason: str | None = None
    ) -> ApprovalRequest:
        """Refuse one call; the same one is not asked about again within the rule's `ttl`.

        Raises:
            As `grant`.
        """
        return self._answer(request_id, "denied", session, reason)

    def _answer(
        self,
        request_id: str,
        state: Literal["granted", "denied"],
        session: Session,
        reason: str | None,
    ) -> ApprovalRequest:
        reason = remark("approval: reason", reason)
        refusal: NotPermitted | None = None
        with FailingClosed("approval"):
            self._guard.check_session(session)
            with self._store.transaction(read_clock(self._clock)) as transaction:
                request = self._find(request_id, session, transaction)
                refusal = self._objection(request, session)
                self._write(request, state, session, reason, refusal, transaction)
        if refusal is not None:
            raise refusal
        found = self._store.find_approval(request_id)
        assert found is not None  # noqa: S101  it was there, and requests stay
        return found

    def _find(self, request_id: str, session: Session, transaction: Transaction) -> ApprovalRequest:
        dead = first_dead(session, transaction.liveness)
        if dead is not None:
            raise dead.refusal(agent=session.spiffe_id, action="approval")
        request = transaction.find_approval(request_id)
        if request is None:
            raise NotPermitted(code="no_request", reason="there is no such request")
        return request

    def _objection(self, request: ApprovalRequest, session: Session) -> NotPermitted | None:
        """Why this person may not answer this question now; None if they may."""
        standing = request.standing(read_clock(self._clock))
        if standing != "pending":
            code, reason = "approval_over", f"the request is {standing} already"
        elif session.mandate is not None:
            code, reason = "approval_delegated", "an answer cannot be delegated to another agent"
        elif session.spiffe_id in request.chain:
            code, reason = "approval_own", "nobody answers a request of their own"
        elif request.role not in roles_of(session.agent):
            code, reason = "approval_role", f"this needs the role `{request.role}`"
        else:
            return None
        return NotPermitted(
            code=code, reason=reason, agent=session.spiffe_id, action="approval", rule=request.rule
        )

    def _write(
        self,
        request: ApprovalRequest,
        state: Literal["granted", "denied"],
        session: Session,
        reason: str | None,
        refusal: NotPermitted | None,
        transaction: Transaction,
    ) -> None:
        facts = {"id": request.id, "tool": request.tool, "rule": request.rule, "reason": reason}
        kind = f"approval.{state}"
        if refusal is None:
            transaction.answer_approval(
                request.id,
                state,
                by=session.spiffe_id,
                reason=reason,
                expires_at=int(read_clock(self._clock)) + request.ttl,
            )
        else:
            kind, facts["code"] = "approval.refused", refusal.code
        transaction.append(kind, f'{session.fields()},"approval":{encode(facts)}', session.count)

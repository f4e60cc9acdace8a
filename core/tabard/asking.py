"""Looks for a person's answer to exactly one call, and puts the question when there is none."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from tabard.approval import ApprovalRequest, new_request_id
from tabard.audit.fields import commit_to
from tabard.errors import NotPermitted
from tabard.policy import Decision
from tabard.verdict import Verdict

if TYPE_CHECKING:
    from tabard.judge import Judgement
    from tabard.policy.terms import Approval
    from tabard.session import Session
    from tabard.store import Transaction


class Answer(NamedTuple):
    """What has come of a question so far, or of several.

    Attributes:
        verdict: What it makes of the call.
        request: The question; where there are several, the first that is not answered yet.
        is_new: Whether it still has to be put.
        agreed: The ids of every yes, to be used up with the call.
    """

    verdict: Verdict
    request: ApprovalRequest
    is_new: bool = False
    agreed: tuple[str, ...] = ()


def look_for_answer(judged: Judgement, transaction: Transaction, secret: bytes) -> Answer:
    """The answer to a call that needs one; the question, while there is none.

    Where an agent works for another, the rules of both may ask. Then both have to be answered.
    """
    agreed: list[ApprovalRequest] = []
    for approval in judged.verdict.decision.approvals:
        answer = _ask(judged, approval, transaction, secret)
        if not answer.verdict.permits:
            return answer
        agreed.append(answer.request)
    ids = tuple(request.id for request in agreed)
    verdict = Verdict(_agreed(judged.verdict.decision))
    return Answer(verdict=verdict, request=agreed[0], agreed=ids)


def _ask(judged: Judgement, approval: Approval, transaction: Transaction, secret: bytes) -> Answer:
    session, decision = judged.session, judged.verdict.decision
    assert session is not None  # noqa: S101  the caller has looked
    binding = binding_of(session, judged, approval, secret)
    known = transaction.latest_approval(binding)
    standing = None if known is None else known.standing(judged.now)
    if known is None or standing in ("used", "expired"):
        request = _new_request(session, judged, approval, binding)
        return Answer(verdict=judged.verdict, request=request, is_new=True)
    if standing == "pending":
        return Answer(verdict=judged.verdict, request=known)
    if standing == "denied":
        reason = "a person has refused this call"
        refused = replace(decision, effect="deny", code="approval_denied", reason=reason)
        return Answer(verdict=Verdict(refused, NotPermitted), request=known)
    return Answer(verdict=Verdict(_agreed(decision)), request=known)


def _agreed(decision: Decision) -> Decision:
    return replace(decision, effect="allow", code="ok", reason="a person has agreed")


def binding_of(session: Session, judged: Judgement, approval: Approval, secret: bytes) -> str:
    """Keyed digest (hex) of the agent, the session, the tool, the exact arguments, and who asks.

    So a yes given in one role is none where the policy has come to ask for another.
    """
    arguments = dict(judged.arguments or {})
    about = [session.spiffe_id, session.id, judged.action.name, arguments]
    return commit_to(secret, [*about, approval.rule, approval.role])


def _new_request(
    session: Session, judged: Judgement, approval: Approval, binding: str
) -> ApprovalRequest:
    arguments = judged.arguments or {}
    return ApprovalRequest(
        id=new_request_id(),
        binding=binding,
        spiffe_id=session.spiffe_id,
        chain=tuple(one.spiffe_id for one in session.chain),
        session=session.id,
        tool=judged.action.name,
        rule=approval.rule,
        role=approval.role,
        ttl=approval.ttl,
        shown={name: arguments[name] for name in approval.shown if name in arguments},
        requested_at=int(judged.now),
        expires_at=int(judged.now) + approval.ttl,
        pseudonym=session.on_behalf_of,
    )

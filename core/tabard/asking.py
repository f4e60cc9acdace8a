"""Looks for a person's answer to exactly one call, and puts the question when there is none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tabard.approval import ApprovalRequest, new_request_id
from tabard.audit.fields import commit_to
from tabard.errors import NotPermitted
from tabard.policy import Decision
from tabard.verdict import Verdict

if TYPE_CHECKING:
    from tabard.judge import Judgement
    from tabard.session import Session
    from tabard.store import Transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What has come of a question so far.

    Attributes:
        verdict: What it makes of the call.
        request: The question.
        is_new: Whether it still has to be put.
    """

    verdict: Verdict
    request: ApprovalRequest
    is_new: bool = False


def look_for_answer(judged: Judgement, transaction: Transaction, secret: bytes) -> Answer:
    """The answer to a call that needs one; the question, while there is none."""
    session = judged.session
    assert session is not None  # noqa: S101  the caller has looked
    binding = binding_of(session, judged.action.name, judged.arguments or {}, secret)
    known = transaction.latest_approval(binding)
    standing = None if known is None else known.standing(judged.now)
    decision = judged.verdict.decision
    if known is None or standing in ("used", "expired"):
        request = _new_request(judged, binding)
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


def binding_of(session: Session, tool: str, arguments: Mapping[str, object], secret: bytes) -> str:
    """Keyed digest (hex) of the agent, the session, the tool and the exact arguments."""
    return commit_to(secret, [session.spiffe_id, session.id, tool, dict(arguments)])


def _new_request(judged: Judgement, binding: str) -> ApprovalRequest:
    session, approval = judged.session, judged.verdict.decision.approval
    assert session is not None  # noqa: S101  an `ask` has both
    assert approval is not None  # noqa: S101
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
    )

"""Which admission of this context a request belongs to."""

from __future__ import annotations

from tabard.actions import ModelCall
from tabard.errors import AuthenticationFailed
from tabard.session import current_session
from tabard.transport.body import refusal
from tabard.underway import Underway, calls_underway


def fitting(call: ModelCall) -> list[Underway]:
    """The calls underway here that a request can belong to, the latest first; at least one.

    Args:
        call: What the request asks for.

    Raises:
        AuthenticationFailed: Nobody is logged in here (`no_identity`).
        NotPermitted: Nothing was admitted here (`not_admitted`), another model was (`model`), or a
            shorter answer (`model.max_output_tokens`).
    """
    underway = calls_underway()
    if not underway and current_session() is None:
        reason = "no agent is logged in where the request comes from"
        raise AuthenticationFailed(code="no_identity", reason=reason)
    if not underway:
        reason = "no call of a model was admitted where the request comes from"
        raise refusal("not_admitted", reason)
    named = [one for one in underway if one.permit.action.name == call.name]
    if not named:
        raise refusal("model", "the request asks for another model than was admitted")
    within = [one for one in named if _is_within(call.max_output_tokens, one)]
    if not within:
        reason = "the request lets the model write more than was admitted"
        raise refusal("model.max_output_tokens", reason)
    return within


def _is_within(most: int | None, admitted: Underway) -> bool:
    action = admitted.permit.action
    limit = action.max_output_tokens if isinstance(action, ModelCall) else 0
    return limit is None or (most is not None and most <= limit)

"""Refusals that do not come from the policy, and still leave a record."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from tabard import (
    AccessDenied,
    AuthenticationFailed,
    GuardUnavailable,
    Permit,
    Session,
    ToolCall,
    admit,
)

_UNREADABLE = cast(Mapping[str, object], None)  # arguments no guard accepts


def refuse_unreadable(
    error: Exception, *, tool: str = "(unreadable)", session: Session | None = None
) -> AccessDenied:
    """The refusal of a call that could not be translated into an action.

    The guard is asked about arguments it cannot accept, so that the attempt is on record (as
    `arg.type`).
    """
    try:
        admit(ToolCall(tool, _UNREADABLE), session=session).fail(error)
    except AuthenticationFailed as refusal:
        return refusal
    except Exception as refusal:
        error = error if isinstance(refusal, AccessDenied) else refusal
    return untranslatable(error)


def untranslatable(error: Exception) -> GuardUnavailable:
    """The refusal for an error of our own."""
    kind = type(error).__name__
    return GuardUnavailable(
        code="hook", reason=f"the call could not be translated into an action: {kind}"
    )


def refuse_admitted(permit: Permit, *, code: str, reason: str) -> AccessDenied:
    """The refusal of a call the policy allows, where it is not certain what would run or for whom.

    The outcome on record bears the code.
    """
    permit.fail(code)
    agent = permit.session.spiffe_id
    return GuardUnavailable(code=code, reason=reason, agent=agent, action=permit.action.name)

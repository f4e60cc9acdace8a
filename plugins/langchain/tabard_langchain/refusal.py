"""Refuses what cannot be put to the guard as an action, and still leaves a record."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import NoReturn, cast

from tabard import AuthenticationFailed, GuardUnavailable, Session, ToolCall, admit

_UNREADABLE = cast(Mapping[str, object], None)  # arguments no guard accepts


def refuse_unreadable(
    error: Exception, *, tool: str = "(unreadable)", session: Session | None
) -> NoReturn:
    """Refuse a call that could not be translated into an action.

    The guard is asked about arguments it cannot accept, so that the attempt is on record (as
    `arg.type`).

    Raises:
        AuthenticationFailed: The caller has no live identity in the first place.
        GuardUnavailable: Otherwise.
    """
    refusal: AuthenticationFailed | None = None
    with suppress(Exception):
        try:
            admit(ToolCall(tool, _UNREADABLE), session=session).fail(error)
        except AuthenticationFailed as stopped:
            refusal = stopped
    if refusal is not None:
        raise refusal
    kind = type(error).__name__
    raise GuardUnavailable(
        code="hook", reason=f"the call could not be translated into an action: {kind}"
    ) from None

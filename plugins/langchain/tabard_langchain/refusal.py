"""Refuses what cannot be put to the guard as an action, and still leaves a record."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import NoReturn, cast

from tabard import AuthenticationFailed, GuardUnavailable, Session, ToolCall, admit

_log = logging.getLogger("tabard")
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
    try:
        admit(ToolCall(tool, _UNREADABLE), session=session).fail(error)
    except AuthenticationFailed:
        raise
    except Exception as refusal:
        _log.debug("an unreadable call was refused: %s", type(refusal).__name__)
    kind = type(error).__name__
    raise GuardUnavailable(
        code="hook", reason=f"the call could not be translated into an action: {kind}"
    ) from None

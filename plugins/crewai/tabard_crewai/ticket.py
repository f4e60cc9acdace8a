"""What the tool hook hands to a protected tool: the permit it has for this very call.

So a call that both of them see is on record once. A ticket travels in a `ContextVar` and is good
for one call, of one tool, with the same arguments, by the same caller. It spares a second record,
never a second look: the guard is asked again whether the call is still allowed. Otherwise, and
where the context is lost, the tool asks for a permit of its own.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from contextvars import ContextVar

from tabard import Permit, Session, ToolCall, current_session
from tabard.arguments import plain_arguments


class Ticket:
    """One admission by the hook.

    Attributes:
        permit: The permit, which the hook ends.
    """

    __slots__ = ("_arguments", "_current", "_lock", "_open", "_tool", "permit")

    def __init__(self, tool: str, arguments: Mapping[str, object], permit: Permit) -> None:
        self._tool = tool
        self._arguments = _written(arguments)
        self._current = current_session()
        self._open = True
        self._lock = threading.Lock()
        self.permit = permit

    def is_for(self, tool: str) -> bool:
        """Whether it is open, and the caller is the one the hook saw."""
        return self._open and self._tool == tool and current_session() is self._current

    def redeem(self, action: ToolCall) -> Permit | None:
        """The permit, once, if the call is the same and still allowed."""
        with self._lock:
            fits = self.is_for(action.name) and _written(action.arguments) == self._arguments
            self._open = self._open and not fits
        session = self.permit.session
        if not fits or not session.guard.check(action, session=session).permits:
            return None
        return self.permit

    def void(self) -> None:
        """Close the ticket: the call it was for is over."""
        with self._lock:
            self._open = False


def _written(arguments: Mapping[str, object]) -> str:
    """The arguments as JSON text, in which `1`, `1.0` and `true` differ.

    Raises:
        ValueError: They have no plain JSON form.
    """
    return json.dumps(plain_arguments(arguments), sort_keys=True)


_ticket: ContextVar[Ticket | None] = ContextVar("tabard_crewai_ticket", default=None)


def hand_over(ticket: Ticket | None) -> None:
    """Leave a ticket for the tool body that runs next in this context, or clear the last one."""
    _ticket.set(ticket)


def redeem(action: ToolCall) -> Permit | None:
    """The permit for exactly this call; None when there is none.

    Raises:
        ValueError: The arguments have no plain JSON form.
    """
    ticket = _ticket.get()
    return None if ticket is None else ticket.redeem(action)


def session_for(tool: str) -> Session | None:
    """Whose call the hook took this to be, while it handles a call of this tool."""
    ticket = _ticket.get()
    return ticket.permit.session if ticket is not None and ticket.is_for(tool) else None

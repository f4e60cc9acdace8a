"""What a framework's hook hands to a protected tool: the permit it has for this very call.

So a call that both of them see is admitted once. A ticket travels in a `ContextVar` and is good for
one call of one tool with the same arguments; where the context is lost or the arguments are not the
same any more, the tool asks for a permit of its own.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from contextvars import ContextVar

from tabard.permit import Permit
from tabard.session import Session


class Ticket:
    """One admission by the hook; good for one call of one tool with the same arguments.

    Attributes:
        tool: The tool's name.
        arguments: The plain arguments that were decided on.
        permit: The permit, which the hook ends.
    """

    __slots__ = ("_lock", "_open", "arguments", "permit", "tool")

    def __init__(self, tool: str, arguments: Mapping[str, object], permit: Permit) -> None:
        self.tool = tool
        self.arguments = arguments
        self.permit = permit
        self._open = True
        self._lock = threading.Lock()

    def redeem(self, tool: str, arguments: Mapping[str, object]) -> bool:
        """Use the ticket up, if it is for this call and still open."""
        with self._lock:
            fits = self._open and self.tool == tool and self.arguments == arguments
            self._open = self._open and not fits
        return fits

    def void(self) -> None:
        """Close the ticket: the call it was for is over."""
        with self._lock:
            self._open = False


_ticket: ContextVar[Ticket | None] = ContextVar("tabard_ticket", default=None)


def hand_over(ticket: Ticket | None) -> None:
    """Leave a ticket for the tool body that runs next in this context, or clear the last one."""
    _ticket.set(ticket)


def redeem(tool: str, arguments: Mapping[str, object]) -> Permit | None:
    """The permit for exactly this call, once; None when there is none."""
    ticket = _ticket.get()
    return ticket.permit if ticket is not None and ticket.redeem(tool, arguments) else None


def session_for(tool: str) -> Session | None:
    """Whose call the hook took this to be, if it handled a call of this tool in this context."""
    ticket = _ticket.get()
    return ticket.permit.session if ticket is not None and ticket.tool == tool else None

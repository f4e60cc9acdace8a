"""What the tool hook hands to a protected tool: the permit it has for this very call.

So a call that both of them see is on record once. A ticket is good for one call, of one tool, with
the same arguments, by the same caller. It spares a second record, never a second look: the guard is
asked again whether the call is still allowed. Otherwise, and where the context is lost, the tool
asks for a permit of its own.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping

from tabard import Permit, ToolCall, current_session
from tabard.arguments import plain_arguments


class Ticket:
    """One admission by the hook.

    Attributes:
        permit: The permit, which the hook ends.
    """

    __slots__ = ("_arguments", "_lock", "_open", "_tool", "permit")

    def __init__(self, action: ToolCall, permit: Permit) -> None:
        self._tool = action.name
        self._arguments = _written(action.arguments)
        self._open = True
        self._lock = threading.Lock()
        self.permit = permit

    def redeem(self, action: ToolCall) -> Permit | None:
        """The permit, once, if the call is the same, of the same caller, and still allowed.

        Raises:
            ValueError: The arguments have no plain JSON form.
        """
        session = self.permit.session
        with self._lock:
            fits = (
                self._open
                and self._tool == action.name
                and current_session() is session
                and _written(action.arguments) == self._arguments
            )
            self._open = self._open and not fits
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

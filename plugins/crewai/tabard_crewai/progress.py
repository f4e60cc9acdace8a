"""Tool calls in progress: what the hook before a call leaves for the body and the hook after it.

They are kept in the context of the call, which CrewAI copies for each step and each parallel call:
so calls that share one argument dict are told apart, and nothing is left behind in the context of
whoever started the crew.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any, NamedTuple

from tabard import AccessDenied, Permit, Session, ToolCall, current_session
from tabard_crewai.handover import Handover
from tabard_crewai.ticket import Ticket


class Decided(NamedTuple):
    """How a call was decided.

    Attributes:
        outcome: The admission, or the refusal.
        handover: What a coworker works under meanwhile, if the call asks one.
        cached: What CrewAI's cache holds for the call; None when there is nothing.
    """

    outcome: Ticket | AccessDenied
    handover: Handover | None = None
    cached: object = None

    @property
    def inside(self) -> Session | None:
        """What everything inside the call works under; None if it was refused."""
        if isinstance(self.outcome, AccessDenied):
            return None
        return self.handover.session if self.handover else self.outcome.permit.session


class _Call(NamedTuple):
    tool_input: Any
    decided: Decided
    entered: Session | None


_calls: ContextVar[tuple[_Call, ...]] = ContextVar("tabard_crewai_calls", default=())


def begin(
    tool_input: Any,
    outcome: Ticket | AccessDenied,
    handover: Handover | None = None,
    cached: object = None,
) -> None:
    """Remember how a call was decided; an admitted one goes on as the agent it was admitted for.

    So whatever the body calls in turn is the bound agent's, or the coworker's who was asked, not
    the session's around the crew.
    """
    decided = Decided(outcome, handover, cached)
    inside = decided.inside
    entered = None
    if inside is not None and inside is not current_session():
        entered = inside.__enter__()
    _calls.set((*_calls.get(), _Call(tool_input, decided, entered)))


def end(tool_input: Any) -> Decided | None:
    """How the call was decided, once: CrewAI passes the same dict before and after it.

    Whoever was asked within it has to be done by now.
    """
    calls = _calls.get()
    for position in reversed(range(len(calls))):
        if calls[position].tool_input is tool_input:
            _calls.set(calls[:position])
            for ended in reversed(calls[position:]):
                if ended.entered is not None:
                    ended.entered.__exit__(None, None, None)
                if ended.decided.handover is not None:
                    ended.decided.handover.close()
            return calls[position].decided
    return None


def count() -> int:
    """How many tool calls this is inside of."""
    return len(_calls.get())


def innermost(outside: int) -> Decided | None:
    """The innermost admitted tool call this is inside of, past so many outer ones."""
    inner = reversed(_calls.get()[outside:])
    return next((call.decided for call in inner if call.decided.inside is not None), None)


def redeem(action: ToolCall) -> Permit | None:
    """The permit the hook has for exactly this call; None when there is none.

    Raises:
        ValueError: The arguments have no plain JSON form.
    """
    calls = _calls.get()
    innermost = calls[-1].decided.outcome if calls else None
    return innermost.redeem(action) if isinstance(innermost, Ticket) else None


def acting(own: Session) -> Session | None:
    """What an agent that is bound to a session works under here: that one, or a narrower one.

    Returns:
        None directly inside a call that asks another agent: then it has no business here.
    """
    handovers: list[Handover | None] = [call.decided.handover for call in reversed(_calls.get())]
    for handover in handovers:
        if handover is not None and handover.own is own:
            return handover.session
    return own if not handovers or handovers[0] is None else None

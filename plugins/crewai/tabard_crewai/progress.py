"""Tool calls in progress: what the hook before a call leaves for the body and the hook after it.

They are kept in the context of the call, which CrewAI copies for each step and each parallel call:
so calls that share one argument dict are told apart, and nothing is left behind in the context of
whoever started the crew.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any, NamedTuple

from tabard import AccessDenied, Permit, Session, ToolCall, current_session
from tabard_crewai.ticket import Ticket


class _Call(NamedTuple):
    tool_input: Any
    outcome: Ticket | AccessDenied
    entered: Session | None


_calls: ContextVar[tuple[_Call, ...]] = ContextVar("tabard_crewai_calls", default=())


def begin(tool_input: Any, outcome: Ticket | AccessDenied) -> None:
    """Remember how a call was decided; an admitted one goes on as the agent it was admitted for.

    So whatever the body calls in turn is the bound agent's, not the session's around the crew.
    """
    entered = None
    if isinstance(outcome, Ticket) and outcome.permit.session is not current_session():
        entered = outcome.permit.session.__enter__()
    _calls.set((*_calls.get(), _Call(tool_input, outcome, entered)))


def end(tool_input: Any) -> Ticket | AccessDenied | None:
    """How the call was decided, once: CrewAI passes the same dict before and after it."""
    calls = _calls.get()
    for position in reversed(range(len(calls))):
        call = calls[position]
        if call.tool_input is tool_input:
            _calls.set(calls[:position])
            for ended in reversed(calls[position:]):
                if ended.entered is not None:
                    ended.entered.__exit__(None, None, None)
            return call.outcome
    return None


def redeem(action: ToolCall) -> Permit | None:
    """The permit the hook has for exactly this call; None when there is none.

    Raises:
        ValueError: The arguments have no plain JSON form.
    """
    calls = _calls.get()
    innermost = calls[-1].outcome if calls else None
    return innermost.redeem(action) if isinstance(innermost, Ticket) else None

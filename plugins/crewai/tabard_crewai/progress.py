"""Calls in progress: what a hook that ran before a call leaves for the one that runs after it."""

from __future__ import annotations

import threading
from typing import Any

from tabard import AccessDenied, Permit
from tabard_crewai.ticket import Ticket


class ToolCalls:
    """Tool calls in progress, by the identity of their argument dict.

    CrewAI passes one and the same dict before and after a call. It is kept here meanwhile, so that
    its id cannot be given to another.
    """

    def __init__(self) -> None:
        self._calls: dict[int, tuple[Any, Ticket | AccessDenied]] = {}
        self._lock = threading.Lock()

    def begin(self, tool_input: Any, outcome: Ticket | AccessDenied) -> None:
        """Remember how the call was decided."""
        with self._lock:
            self._calls[id(tool_input)] = (tool_input, outcome)

    def end(self, tool_input: Any) -> Ticket | AccessDenied | None:
        """How the call was decided, once."""
        with self._lock:
            _, outcome = self._calls.pop(id(tool_input), (None, None))
        return outcome


class ModelCalls:
    """Model calls in progress, by agent and task.

    CrewAI runs no hook after an answer that asks for tools, so that call ends when the tool call
    it asked for begins.
    """

    def __init__(self) -> None:
        self._permits: dict[tuple[int, int], tuple[Any, Permit]] = {}
        self._lock = threading.Lock()

    def begin(self, context: Any, permit: Permit) -> None:
        """Remember a call; an earlier one of the same agent that was never heard of has failed."""
        owner = self._owner(context)
        with self._lock:
            _, earlier = self._permits.pop(_key(owner), (None, None))
            self._permits[_key(owner)] = (owner, permit)
        if earlier is not None:
            earlier.fail("unknown")

    def end(self, context: Any) -> None:
        """The model has answered."""
        with self._lock:
            _, permit = self._permits.pop(_key(self._owner(context)), (None, None))
        if permit is not None:
            permit.settle()

    @staticmethod
    def _owner(context: Any) -> tuple[Any, Any]:
        """Whose call it is: an agent and its task, or a model called directly in a thread."""
        if context.agent is not None:
            return context.agent, context.task
        return getattr(context, "llm", None), threading.current_thread()


def _key(owner: tuple[Any, Any]) -> tuple[int, int]:
    return id(owner[0]), id(owner[1])

"""Which task is at work here, and so whose the calls are that name no agent.

CrewAI announces each task before it begins, in the context in which the task goes on, and keeps the
number of the one at work there. What was noted for another task (an earlier one, or one that has
failed) does not count: it has another number.
"""

from __future__ import annotations

import weakref
from contextvars import ContextVar
from typing import Any, NamedTuple

from crewai.context import get_current_task_id

from tabard_crewai import progress


class _Step(NamedTuple):
    number: str
    task: weakref.ref[Any]
    agent: weakref.ref[Any]
    calls: int


_steps: ContextVar[tuple[_Step, ...]] = ContextVar("tabard_crewai_steps", default=())


def before_step(context: Any) -> None:
    """Note that a task begins, and whose it is."""
    if context.kind != "task":
        return
    task, agent = context.task, context.agent
    step = _Step(str(task.id), weakref.ref(task), weakref.ref(agent), progress.count())
    others = (s for s in _steps.get() if s.task() is not None and s.number != step.number)
    _steps.set((*others, step))


def agent_at_work() -> Any:
    """The agent of the task at work here; None where that cannot be told."""
    step = _current()
    return step.agent() if step is not None else None


def calls_around_task() -> int:
    """How many tool calls the task at work here was started within."""
    step = _current()
    return step.calls if step is not None else 0


def _current() -> _Step | None:
    number = get_current_task_id()
    return next((step for step in reversed(_steps.get()) if step.number == number), None)

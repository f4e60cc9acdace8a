"""Model calls in progress: from the hook before a call to the next sign of how it ended.

CrewAI runs no hook after an answer that asks for tools, and none after an error. So a call also
ends when the tool call it asked for begins, when the same executor calls again, or when the crew is
done. Then the model's own count of tokens tells whether it has answered. After a call made without
an executor there may be no hook at all: CrewAI's event of its end, which carries the context of the
call, is the sign of that.
"""

from __future__ import annotations

import asyncio
import threading
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from tabard import Permit
from tabard_crewai.at_work import agent_at_work
from tabard_crewai.crews import has_model


@dataclass(slots=True, eq=False)
class _Open:
    """A call without an outcome, and who made it (kept, so that no id is given to another)."""

    permit: Permit
    owner: tuple[Any, Any]
    context: Any
    meter: Any
    before: dict[str, int] | None
    crew: Any
    alone: bool = True

    def is_of(self, crew: Any) -> bool:
        """Whether the crew has made it: where no task was at work, whether the model is its own."""
        if self.crew is not None or self.context.executor is not None:
            return self.crew is crew
        return has_model(crew, self.context.llm)

    def usage(self) -> dict[str, int] | None:
        """The tokens of this call; None where they cannot be told from those of others."""
        after = _read(self.context.llm) if self.alone and self.before is not None else None
        if after is None or self.before is None:
            return None
        used = {name: count - self.before[name] for name, count in after.items()}
        return {name: n for name, n in used.items() if n or not name.startswith("cache")}

    def answer(self) -> None:
        """The model has answered."""
        used = self.usage()
        self.permit.settle(usage=used if used and any(used.values()) else None)

    def give_up(self) -> None:
        """Nothing was heard of it: it has answered if tokens were counted, else it has failed."""
        if any((self.usage() or {}).values()):
            self.answer()
        else:
            self.permit.fail("unknown")


_direct: ContextVar[_Open | None] = ContextVar("tabard_crewai_direct_call", default=None)
"""The latest call that was made here without an executor."""


class ModelCalls:
    """Model calls in progress, by the executor, or the thread or task, that makes them."""

    def __init__(self) -> None:
        self._calls: dict[tuple[int, int], _Open] = {}
        self._lock = threading.Lock()

    def begin(self, context: Any, permit: Permit) -> None:
        """Remember a call; an earlier one of the same owner is over."""
        owner = _owner_of(context)
        meter = getattr(context.llm, "_token_usage", context.llm)  # copies of a model share it
        working = agent_at_work() if context.executor is None else None
        crew = context.crew or getattr(working, "crew", None)
        call = _Open(permit, owner, context, meter, _read(context.llm), crew)
        with self._lock:
            earlier = self._calls.pop(_key(owner), None)
            for other in self._calls.values():
                if other.meter is meter:
                    other.alone = call.alone = False
            self._calls[_key(owner)] = call
        if context.executor is None:
            _direct.set(call)
        if earlier is not None:
            earlier.give_up()

    def end(self, context: Any) -> None:
        """The model has answered."""
        with self._lock:
            call = self._calls.pop(_key(_owner_of(context)), None)
        if call is not None:
            call.answer()

    def answered(self, context: Any) -> None:
        """A tool call begins: the model call of that agent and task has answered, if it is one."""
        with self._lock:
            asked = [
                call
                for call in self._calls.values()
                if call.context.agent is context.agent and call.context.task is context.task
            ]
            call = self._calls.pop(_key(asked[0].owner)) if len(asked) == 1 else None
        if call is not None:
            call.answer()

    def heard_of(self, llm: Any) -> None:
        """A call of this model without an executor, the latest in this context, is over."""
        call = _direct.get()
        if call is None or call.context.llm is not llm:
            return
        with self._lock:
            over = self._calls.get(_key(call.owner)) is call
            if over:
                del self._calls[_key(call.owner)]
        if over:
            call.give_up()

    def close(self, crew: Any, flow: Any) -> None:
        """A crew, or an executor on its own, is done."""
        with self._lock:
            over = [
                call
                for call in self._calls.values()
                if (crew is not None and call.is_of(crew))
                or (flow is not None and call.context.executor is flow)
            ]
            for call in over:
                del self._calls[_key(call.owner)]
        for call in over:
            call.give_up()


def _owner_of(context: Any) -> tuple[Any, Any]:
    """An executor; or a model that is called directly, in a task or a thread."""
    if context.executor is not None:
        return context.executor, None
    try:
        task = asyncio.current_task()
    except RuntimeError:
        task = None
    return context.llm, task or threading.current_thread()


def _key(owner: tuple[Any, Any]) -> tuple[int, int]:
    return id(owner[0]), id(owner[1])


def _read(llm: Any) -> dict[str, int] | None:
    """How many tokens the model has counted so far; None where it does not count."""
    try:
        total = llm.get_token_usage_summary()
        return {
            "input_tokens": int(total.prompt_tokens),
            "output_tokens": int(total.completion_tokens),
            "cache_read_tokens": int(total.cached_prompt_tokens),
            "cache_write_tokens": int(total.cache_creation_tokens),
        }
    except Exception:
        return None  # a count that cannot be had is no reason to refuse, and is not made up

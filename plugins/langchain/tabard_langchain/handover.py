"""What the handler hands to a protected tool, so that a call both of them see is admitted once.

It holds for one body: that of the very run the handler admitted, while that run lasts. LangChain
says which run a body belongs to in the config it leaves in the context, so what an earlier or an
outer run has left behind opens nothing.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from contextvars import ContextVar
from uuid import UUID

from langchain_core.runnables.config import var_child_runnable_config

from tabard import Permit, Session, current_session
from tabard_langchain.progress import OpenPermits


class Handover:
    """The handler's permit for one run of a tool; good once, for the same arguments."""

    __slots__ = ("_arguments", "_current", "_lock", "_permit", "_run_id", "_runs", "_used")

    def __init__(
        self, runs: OpenPermits, run_id: UUID, arguments: Mapping[str, object], permit: Permit
    ) -> None:
        self._runs = runs
        self._run_id = run_id
        self._arguments = _written(arguments)
        self._permit = permit
        self._current = current_session()
        self._lock = threading.Lock()
        self._used = False

    @property
    def session(self) -> Session:
        """Whose run it is."""
        return self._permit.session

    def is_for(self, tool: str) -> bool:
        """Whether the body that runs now is this run's, for the caller the handler saw."""
        if self._permit.action.name != tool or current_session() is not self._current:
            return False
        manager = (var_child_runnable_config.get() or {}).get("callbacks")
        return (
            getattr(manager, "parent_run_id", None) == self._run_id
            and self._runs.get(self._run_id) is self._permit
        )

    def redeem(self, arguments: Mapping[str, object]) -> Permit | None:
        """The permit, if it was given for these arguments and has not been used."""
        written = _written(arguments)
        with self._lock:
            if self._used or written is None or written != self._arguments:
                return None
            self._used = True
        return self._permit


_latest: ContextVar[Handover | None] = ContextVar("tabard_handover", default=None)


def hand_over(handover: Handover | None) -> None:
    """Leave it for the body that runs next in this context."""
    _latest.set(handover)


def handed_over(tool: str) -> Handover | None:
    """What the handler has left for the run of this tool whose body runs now."""
    latest = _latest.get()
    return latest if latest is not None and latest.is_for(tool) else None


def _written(arguments: Mapping[str, object]) -> str | None:
    """The arguments as JSON, in which `1`, `1.0` and `true` differ; None without such a form."""
    try:
        return json.dumps(arguments, sort_keys=True)
    except (TypeError, ValueError):
        return None

"""An admitted call in progress; it ends in exactly one outcome."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from itertools import islice
from types import TracebackType
from typing import TYPE_CHECKING, Self

from tabard.actions import Action, ModelCall
from tabard.audit.fields import Outcome
from tabard.payload import plain_result
from tabard.redaction import names_credential, redact
from tabard.underway import Underway, begin

if TYPE_CHECKING:
    from tabard.guard import Guard
    from tabard.meter import Charge
    from tabard.policy import Decision
    from tabard.session import Session


_MOST_COUNTED = 10**12
"""Tokens that are put on record; a report of more is nonsense."""
_MOST_KINDS = 100
_KIND = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,39}")
"""What a provider calls a kind of token."""
_ERROR = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*")
"""The name of a type of error, with its module or without."""
_LONGEST_ERROR = 80


class Permit:
    """Permission for one call, already on record.

    As a context manager it settles, or fails on an exception:

    ```python
    with guard.admit(ToolCall("search", {"q": "tabard"})) as permit:
        rows = run_query()
    ```

    Attributes:
        action: What was admitted.
        call: The id of the decision's record; the outcome names it.
        decision: Why it was admitted.
        session: Whose call it is.
        charge: What is held for it, and by which budgets; None when no budget pays.
    """

    __slots__ = (
        "_guard",
        "_open",
        "_started",
        "_underway",
        "action",
        "call",
        "charge",
        "decision",
        "session",
    )

    def __init__(
        self,
        *,
        guard: Guard,
        session: Session,
        action: Action,
        decision: Decision,
        call: str,
        charge: Charge | None = None,
    ) -> None:
        self._guard = guard
        self.charge = charge
        self._open = True
        self._started = time.monotonic_ns()
        self.session = session
        self.action = action
        self.decision = decision
        self.call = call
        self._underway = Underway(self) if isinstance(action, ModelCall) else None
        self.begin()

    @property
    def is_open(self) -> bool:
        """Whether the call has no outcome yet."""
        return self._open

    def begin(self) -> None:
        """Let the call be underway in this context: a sealed transport lets its request leave."""
        if self._underway is not None:
            begin(self._underway)

    def settle(
        self,
        result: object = None,
        *,
        usage: Mapping[str, int] | None = None,
        provider_id: str | None = None,
    ) -> bool:
        """Record that the call has ended well, and charge what it has cost.

        Args:
            result: What it returned: committed to in the record, and kept, encrypted, only where
                the policy says so.
            usage: Tokens by kind, for example `{"input_tokens": 12, "output_tokens": 3}`, with
                `cache_read_tokens` and `cache_write_tokens` among the input, where known. Without
                it, or when they are more than the input, a model call is charged at its estimate.
            provider_id: What the provider calls its answer, to be found by later.

        Returns:
            False when the call had an outcome already. Never raises: if the record cannot be
            written now, it is written before any other call is admitted.
        """
        return self._end(None, usage, _plain(result), provider_id)

    def fail(self, error: BaseException | str, *, usage: Mapping[str, int] | None = None) -> bool:
        """Record that the call has failed; keeps the error's type, never its text.

        Args:
            error: What went wrong: an exception, or the name of a type of error, for example
                `builtins.TimeoutError`. Any other text is recorded as `error`.
            usage: The tokens it took all the same; all zero when the provider never began. Without
                it a model call is charged at its estimate: the provider may have billed it.

        Returns:
            False when the call had an outcome already.
        """
        return self._end(_kind_of(error), usage)

    def _end(
        self,
        failure: str | None,
        usage: Mapping[str, int] | None,
        result: object = None,
        provider_id: str | None = None,
    ) -> bool:
        with self.session.lock:
            if not self._open:
                return False
            self._open = False
        taken = (time.monotonic_ns() - self._started) // 10_000 / 100
        outcome = Outcome(
            failure=failure,
            duration_ms=taken,
            usage=_read_counts(usage),
            result=result,
            provider_id=redact(provider_id) if type(provider_id) is str else None,
        )
        self._guard.end_call(self, outcome)
        return True

    def __enter__(self) -> Self:
        """The call is running, in this context, too."""
        self.begin()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Settle, or fail on an exception."""
        if error is None:
            self.settle()
        else:
            self.fail(error)

    def __repr__(self) -> str:
        """Names the call and the action, never its arguments."""
        return f"<Permit {self.call} for {self.action.name}>"


def _kind_of(error: object) -> str:
    """The type of an error, as it may stand in the log for good: a name, and never a message."""
    name = str.__str__(error) if isinstance(error, str) else type(error).__name__
    if len(name) > _LONGEST_ERROR or not _ERROR.fullmatch(name) or names_credential(name):
        return "error"
    return name


def _plain(result: object) -> object:
    """The result as a plain JSON value; None for what has none, such as an open file."""
    try:
        return None if result is None else plain_result(result)
    except Exception:
        return None


def _read_counts(usage: object) -> dict[str, int]:
    """What can be put on record of a report of tokens; one that cannot be read says nothing."""
    try:
        reported = list(islice(usage.items(), _MOST_KINDS)) if isinstance(usage, Mapping) else []
        return {
            name: count
            for name, count in reported
            if type(name) is str
            and _KIND.fullmatch(name)
            and not names_credential(name)
            and type(count) is int
            and 0 <= count <= _MOST_COUNTED
        }
    except Exception:
        # The call has run: its outcome must not be lost, and without usage it pays its estimate.
        return {}

"""Failing closed: whatever goes wrong inside tabard is a refusal, never a pass."""

from __future__ import annotations

from types import TracebackType

from tabard.errors import AccessDenied, StoreError
from tabard.notice import complain
from tabard.redaction import redact
from tabard.verdict import Verdict


class FailingClosed:
    """Turns everything that goes wrong inside the block into a refusal.

    Raises:
        GuardUnavailable: In place of every exception that is no refusal already.
    """

    __slots__ = ("_action", "_name")

    def __init__(self, name: str | None = None, *, action: object = None) -> None:
        """Set up for what goes by a name, or for a call of what may be an action."""
        self._name = name
        self._action = action

    def __enter__(self) -> None:
        """Nothing to prepare."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Let refusals and interrupts through; make a refusal of every other exception."""
        if error is None or isinstance(error, AccessDenied) or not isinstance(error, Exception):
            return
        complain("refused because of an error inside tabard: %s", _describe(error))
        code = error.code if isinstance(error, StoreError) else "internal"
        verdict = Verdict.undecidable(code, f"tabard could not decide: {_describe(error)}")
        name = self._name or name_of(self._action)
        raise verdict.refusal(agent=None, action=name) from None


def name_of(action: object) -> str | None:
    """The name of what may be an action, for a message."""
    try:
        name = getattr(action, "name", None)
    except Exception:  # a property that raises: the guard will call it malformed, on record
        return None
    return redact(name) if type(name) is str else None


def _describe(error: Exception) -> str:
    """What may be told of an error: our own text, or only the type of a foreign one."""
    return str(error) if isinstance(error, StoreError) else type(error).__name__

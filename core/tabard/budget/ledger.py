"""The words of the ledger: windows of spending, holds on them, and what a hold turned into."""

from __future__ import annotations

from typing import Literal, NamedTuple

HOLD_LIFETIME = 900
"""Seconds after which a call that nothing was heard of is charged in full."""

HoldState = Literal["open", "expired"]


class Window(NamedTuple):
    """One budget in one period.

    Attributes:
        key: Whose, and which period; the same in every process.
        limit: Nano-units that may be spent and held together.
        rule: The rule of the policy that sets the limit.
    """

    key: str
    limit: int
    rule: str


class Balance(NamedTuple):
    """What a window has taken so far, in nano-units.

    Attributes:
        key: The window.
        spent: Settled, or charged because nothing was heard of it.
        held: Set aside for calls in progress.
    """

    key: str
    spent: int
    held: int


class Hold(NamedTuple):
    """What is set aside for one call; this row is the truth, the windows are its sums.

    Attributes:
        call: The id of the call's decision record.
        amount: Nano-units.
        keys: The windows it is held in.
        expires: POSIX seconds after which it is charged in full.
    """

    call: str
    amount: int
    keys: tuple[str, ...]
    expires: int


class Settlement(NamedTuple):
    """What a call has cost in the end.

    Attributes:
        call: The id of the call's decision record.
        amount: Nano-units.
    """

    call: str
    amount: int

"""The one clock: every time tabard compares or writes comes from here.

A clock is any callable that returns POSIX seconds as a float. Pass your own to a test:

>>> read_clock(lambda: 1_800_000_000)
1800000000.0
"""

from __future__ import annotations

import time
from collections.abc import Callable

from tabard.errors import GuardUnavailable

Clock = Callable[[], float]
"""Returns the current time in POSIX seconds."""

system_clock: Clock = time.time

CLOCK_SKEW = 30.0
"""Seconds two clocks may differ before a token from the future is refused."""

MAX_TIME = 253_402_300_800.0
"""The end of the year 9999 in POSIX seconds; no clock of ours goes further."""


def read_clock(clock: Clock) -> float:
    """The time now in POSIX seconds.

    Raises:
        GuardUnavailable: The clock raised, or gave something that is not a time.
    """
    try:
        now = clock()
        if type(now) in (int, float) and 0 <= now < MAX_TIME:
            return float(now)
        problem = "gave something that is not a POSIX time"
    except Exception as error:
        problem = f"raised {type(error).__name__}"
    raise GuardUnavailable(code="clock", reason=f"the clock {problem}")

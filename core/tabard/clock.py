"""The one clock: every time tabard compares or writes comes from here.

A clock is any callable that returns POSIX seconds as a float. Pass your own to a test:

>>> from tabard import TrustBundle, TokenVerifier
>>> fixed = lambda: 1_800_000_000.0
"""

from __future__ import annotations

import time
from collections.abc import Callable

Clock = Callable[[], float]
"""Returns the current time in POSIX seconds."""

system_clock: Clock = time.time

CLOCK_SKEW = 30.0
"""Seconds two clocks may differ before a token from the future is refused."""

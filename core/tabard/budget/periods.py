"""The periods a budget is for, as keys that change by themselves when the next one begins.

A key holds the period in the budget's time zone, so nothing has to be reset at midnight.

>>> period_key("day", "Europe/Brussels", 1_800_000_000.0)
'day:2027-01-15:Europe/Brussels'
"""

from __future__ import annotations

from datetime import datetime
from functools import lru_cache
from typing import Literal

Period = Literal["session", "hour", "day", "month", "total"]
"""How long a budget lasts; `total` is for ever."""

_FORMATS = {"hour": "%Y-%m-%dT%H%z", "day": "%Y-%m-%d", "month": "%Y-%m"}


def period_key(per: Period, tz: str, now: float) -> str:
    """The period that `now` (POSIX seconds) lies in; an hour that is lived twice is two."""
    # No period of any time zone begins within a minute.
    return per if per not in _FORMATS else _key_of_minute(per, tz, int(now) // 60)


@lru_cache(maxsize=1024)
def _key_of_minute(per: Period, tz: str, minute: int) -> str:
    from zoneinfo import ZoneInfo  # costs more to load than all the rest of this room

    local = datetime.fromtimestamp(minute * 60, ZoneInfo(tz))
    return f"{per}:{local.strftime(_FORMATS[per])}:{tz}"

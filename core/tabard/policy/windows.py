"""When an agent may work: weekly opening hours in a named time zone.

>>> office = Window(tz="Europe/Brussels", days=["mon"], **{"from": "07:30", "to": "19:00"})
>>> office.is_open(1_800_000_000.0)  # Friday 2027-01-15 08:00 UTC
False
"""

from __future__ import annotations

import re
from datetime import date, datetime, time, timedelta
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    field_validator,
)

Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
_DAYS: tuple[Day, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_CLOCK_TIME = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])|24:00")


def _check_clock_time(text: object) -> object:
    if not isinstance(text, str) or not _CLOCK_TIME.fullmatch(text):
        raise ValueError('expected a quoted time of day such as "07:30"')
    return text


def check_zone(name: str) -> str:
    """An IANA time zone.

    Raises:
        ValueError: There is none of this name.
    """
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(
            f"unknown time zone {name!r}; expected an IANA name such as Europe/Brussels"
        ) from None
    return name


ClockTime = Annotated[str, BeforeValidator(_check_clock_time)]


class Window(BaseModel):
    """Opening hours: half-open (`to` is outside), over midnight when `to` is not after `from`.

    A day in `days` is the day on which the window opens; `except` dates are days on which it
    does not.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    tz: Annotated[str, AfterValidator(check_zone)]
    days: list[Day] = Field(default=list(_DAYS), min_length=1)
    opens: ClockTime = Field(alias="from")
    closes: ClockTime = Field(alias="to")
    closed_on: list[date] = Field(default=[], alias="except")
    _zone: ZoneInfo = PrivateAttr()
    _opens: int = PrivateAttr()
    _closes: int = PrivateAttr()

    @field_validator("opens")
    @classmethod
    def _opens_on_its_day(cls, text: str) -> str:
        if text == "24:00":
            raise ValueError('a window opens on the day itself: write "00:00" of the next day')
        return text

    def model_post_init(self, _: Any) -> None:
        """Work out the minutes of the day once; a decision only compares them."""
        self._zone = ZoneInfo(self.tz)
        self._opens, self._closes = _minutes(self.opens), _minutes(self.closes)

    def is_open(self, now: float) -> bool:
        """Whether the window is open at `now` (POSIX seconds)."""
        local = datetime.fromtimestamp(now, self._zone)
        minute = local.hour * 60 + local.minute
        if self._opens < self._closes:
            return self._opens <= minute < self._closes and self._opens_on(local.date())
        if minute >= self._opens:
            return self._opens_on(local.date())
        return minute < self._closes and self._opens_on(local.date() - timedelta(days=1))

    def _opens_on(self, day: date) -> bool:
        return _DAYS[day.weekday()] in self.days and day not in self.closed_on


def _minutes(text: str) -> int:
    if text == "24:00":
        return 24 * 60
    at = time.fromisoformat(text)
    return at.hour * 60 + at.minute

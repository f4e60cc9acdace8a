"""The sections of a policy file that are about money and rates."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from tabard.budget.periods import Period
from tabard.policy.fields import Amount, Currency, Duration, Globs, PerMillion, Rate, Section
from tabard.policy.windows import check_zone

DEFAULT_CURRENCY = "EUR"


class ExchangeRate(Section):
    """What one unit of another currency is worth, pinned to the day it was looked up."""

    rate: Rate
    as_of: date


class Price(Section):
    """An operator's own price of a model, per million tokens; it counts before any list price."""

    input: PerMillion
    output: PerMillion
    cache_read: PerMillion | None = None
    cache_write: PerMillion | None = None
    currency: Currency | None = None


class Budget(Section):
    """What may be spent in a period."""

    per: Period
    limit: Amount
    tz: Annotated[str, AfterValidator(check_zone)] = "UTC"
    of: Literal["agent", "team"] = "agent"

    @model_validator(mode="after")
    def _a_session_is_an_agents(self) -> Self:
        if self.per == "session" and self.of == "team":
            raise ValueError("a session is one agent's: `of: team` has no meaning with it")
        if self.per in ("session", "total") and self.tz != "UTC":
            raise ValueError(f"`tz` has no meaning with `per: {self.per}`, which ends at no hour")
        return self


class RateLimit(Section):
    """How many calls there may be in any stretch of time of a given length."""

    tools: Globs
    limit: Annotated[int, Field(ge=1, le=10_000)]
    per: Duration

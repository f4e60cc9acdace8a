"""Turns tokens into nano-units of the policy's currency: own prices first, then the list's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction

from tabard.budget.money import MAX_CALL, round_up
from tabard.budget.pricing import Cost, ModelPrice, Pricer, Sum
from tabard.budget.usage import TokenUsage
from tabard.policy.names import NameIndex


@dataclass(frozen=True, slots=True)
class PinnedRate:
    """What one unit of another currency is worth.

    Attributes:
        rate: Units of the policy's currency for one unit.
        since: POSIX seconds of the day it was looked up; it is not used before.
        day: That day, for the record.
    """

    rate: Fraction
    since: float
    day: str


@dataclass(frozen=True, slots=True)
class OwnPrice:
    """An operator's own price.

    Attributes:
        closeness: How closely its pattern describes the models; the closest counts.
        price: The price.
    """

    closeness: tuple[bool, int]
    price: ModelPrice


@dataclass(frozen=True, slots=True, kw_only=True)
class Tariff:
    """The currency of a policy, and what it says about prices.

    Attributes:
        currency: ISO 4217.
        rates: Exchange rates by the other currency.
        prices: The operator's own prices, the closest pattern first.
    """

    currency: str
    rates: Mapping[str, PinnedRate]
    prices: NameIndex[OwnPrice]

    def price(self, model: str, usage: TokenUsage, pricer: Pricer, now: float) -> Sum | None:
        """What a model call costs: the dearest of the own prices that describe it most closely.

        Args:
            model: `provider/model`.
            usage: What it took, or can take at most.
            pricer: Knows the list prices.
            now: POSIX seconds.

        Returns:
            None when there is no price, or no exchange rate for it.
        """
        own = self.prices.matching(model)
        if not own:
            cost = pricer.cost(model, usage, now)
            return None if cost is None else self._convert(cost, now)
        closest = (one.price for one in own if one.closeness == own[0].closeness)
        return dearest(self._convert(price.cost(usage), now) for price in closest)

    def price_at_most(
        self, model: str, usage: TokenUsage, pricer: Pricer, now: float
    ) -> Sum | None:
        """The most that a call of so many tokens can cost, whatever of it a cache is used for.

        Args and result are those of `price`; what `usage` says of a cache does not count.
        """
        return dearest(self.price(model, shape, pricer, now) for shape in usage.shapes())

    def _convert(self, cost: Cost, now: float) -> Sum | None:
        rate, basis = Fraction(1), cost.source
        if cost.currency != self.currency:
            pinned = self.rates.get(cost.currency)
            if pinned is None or now < pinned.since:
                return None
            rate, basis = pinned.rate, f"{basis}; {cost.currency} of {pinned.day}"
        amount = round_up(cost.amount * rate)
        return Sum(amount, basis) if 0 <= amount <= MAX_CALL else None


def dearest(sums: Iterable[Sum | None]) -> Sum | None:
    """The highest of several sums; None when one of them is not known."""
    known: list[Sum] = []
    for one in sums:
        if one is None:
            return None
        known.append(one)
    return max(known, key=lambda one: one.amount, default=None)

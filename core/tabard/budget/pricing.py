"""What a model call costs: the provider's list price, or the operator's own.

A price that nobody knows is None, and what has no price is refused: it is never taken for free.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from datetime import UTC, datetime
from fractions import Fraction
from typing import NamedTuple, Protocol

from tabard.budget.usage import TokenUsage

MILLION = 1_000_000
LIST_CURRENCY = "USD"
"""What providers' list prices are in."""


@dataclass(frozen=True, slots=True)
class Cost:
    """An exact sum in units of a currency, not rounded yet.

    Attributes:
        amount: In units, for example dollars.
        currency: ISO 4217.
        source: Where the price is from: `policy`, or the price list and its version.
    """

    amount: Fraction
    currency: str
    source: str


class Sum(NamedTuple):
    """What a call costs, in the currency of the policy.

    Attributes:
        amount: Nano-units, rounded up once, at the end.
        basis: The price and the exchange rate it rests on, for the record.
    """

    amount: int
    basis: str


class Pricer(Protocol):
    """Knows what models cost."""

    def cost(self, model: str, usage: TokenUsage, now: float) -> Cost | None:
        """The cost of a call; None when the model's price is not known.

        Args:
            model: `provider/model`, as in a policy, or the model alone.
            usage: What the call took, or can take at most.
            now: POSIX seconds; prices change over time.
        """


class ModelPrice(NamedTuple):
    """An operator's own price, in units per million tokens.

    Attributes:
        input: Of a token that is read.
        output: Of a token that is written.
        currency: ISO 4217.
        cache_read: Of a token read from the provider's cache; default as `input`.
        cache_write: Of a token put into it; default as `input`.
    """

    input: Fraction
    output: Fraction
    currency: str
    cache_read: Fraction | None = None
    cache_write: Fraction | None = None

    def cost(self, usage: TokenUsage) -> Cost:
        """The cost of a call."""
        cached, written = usage.cache_read_tokens, usage.cache_write_tokens
        read = self.input if self.cache_read is None else self.cache_read
        write = self.input if self.cache_write is None else self.cache_write
        total = (
            self.input * (usage.input_tokens - cached - written)
            + read * cached
            + write * written
            + self.output * usage.output_tokens
        )
        return Cost(total / MILLION, self.currency, "policy")


class ListPricer:
    """The providers' list prices as the package `genai-prices` has them, offline."""

    def __init__(self) -> None:
        """Set up; the list is read at the first question."""
        self._source: str | None = None

    def cost(self, model: str, usage: TokenUsage, now: float) -> Cost | None:
        """The cost of a call at list price, in US dollars; None for a model it does not know."""
        from genai_prices import Usage, calc_price

        provider, _, name = model.rpartition("/") if model.count("/") < 2 else model.partition("/")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                price = calc_price(
                    Usage(
                        input_tokens=usage.input_tokens,
                        output_tokens=usage.output_tokens,
                        cache_read_tokens=usage.cache_read_tokens,
                        cache_write_tokens=usage.cache_write_tokens,
                    ),
                    model_ref=name,
                    provider_id=provider or None,
                    genai_request_timestamp=datetime.fromtimestamp(now, UTC),
                )
        except (LookupError, ValueError):
            return None
        # A list that has no price for something is no gift.
        read, written = price.model_price.input_mtok, price.model_price.output_mtok
        if (usage.input_tokens and read is None) or (usage.output_tokens and written is None):
            return None
        return Cost(Fraction(price.total_price), LIST_CURRENCY, self._name())

    def _name(self) -> str:
        if self._source is None:
            from importlib.metadata import version

            self._source = f"genai-prices {version('genai-prices')}"
        return self._source

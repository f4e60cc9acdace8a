"""Amounts: exact, whole nano-units, rounded up, never a float."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tabard.budget import ListPricer, ModelPrice, TokenUsage, format_amount, parse_amount
from tabard.budget.money import NANO, parse_decimal, parse_rate, round_up
from tabard.budget.periods import period_key

NOW = 1_800_000_000.0  # Friday 2027-01-15 08:00:00 UTC


@pytest.mark.parametrize(
    ("text", "nano"),
    [("0", 0), ("1", NANO), ("100.00", 100 * NANO), ("0.000000001", 1), (7, 7 * NANO)],
)
def test_amount(text: object, nano: int) -> None:
    """Digits in quotes, or a whole number."""
    assert parse_amount(text) == nano


@pytest.mark.parametrize(
    "text",
    [1.5, True, -1, "-1", "1e3", "1,000", "", " 1", "1 ", "1.0000000001", "nan", "inf", None, [],
     "1_000", "٣", "9999999999", 10**10, b"1"],
)  # fmt: skip
def test_no_amount(text: object) -> None:
    """Anything else is refused: a float, a sign, a unit, more digits than there are."""
    with pytest.raises(ValueError, match="amount"):
        parse_amount(text)


def test_rates() -> None:
    """A rate is exact and more than zero; a price may be zero."""
    assert parse_rate("0.1") == Fraction(1, 10)
    assert parse_decimal("0") == 0
    for bad in ("0", 0, "0.0"):
        with pytest.raises(ValueError, match="more than zero"):
            parse_rate(bad)


@given(st.integers(0, 10**12), st.integers(1, 10**9))
def test_rounded_up(numerator: int, denominator: int) -> None:
    """What is charged is never less than the cost, and less than one nano-unit more."""
    exact = Fraction(numerator, denominator)
    charged = Fraction(round_up(exact), NANO)
    assert exact <= charged < exact + Fraction(1, NANO)


@given(st.integers(0, 9_000_000_000 * NANO))
def test_shown_exactly(amount: int) -> None:
    """What is shown reads back as the same amount."""
    shown = format_amount(amount, "EUR").removeprefix("EUR ").replace(",", "")
    assert Fraction(shown) * NANO == amount


@pytest.mark.parametrize(
    ("per", "tz", "now", "key"),
    [
        ("day", "UTC", NOW, "day:2027-01-15:UTC"),
        ("day", "Asia/Tokyo", NOW + 8 * 3600, "day:2027-01-16:Asia/Tokyo"),
        ("month", "UTC", NOW, "month:2027-01:UTC"),
        ("hour", "Europe/Brussels", NOW, "hour:2027-01-15T09+0100:Europe/Brussels"),
        ("total", "UTC", NOW, "total"),
    ],
)
def test_period(per: str, tz: str, now: float, key: str) -> None:
    """A period's key is the local one of its time zone."""
    assert period_key(per, tz, now) == key  # type: ignore[arg-type]


def test_an_hour_lived_twice_is_two() -> None:
    """When clocks go back, the second 02:00 hour has a budget of its own."""
    first = 1_792_886_400.0 + 3600 * 0  # 2026-10-25 00:00 UTC = 02:00 CEST
    keys = {period_key("hour", "Europe/Brussels", first + 3600 * n) for n in range(3)}
    assert len(keys) == 3


class TestModelPrice:
    PRICE = ModelPrice(
        input=Fraction(2), output=Fraction(8), cache_read=Fraction(1), currency="USD"
    )

    def test_cost(self) -> None:
        """Each kind of token at its own price; what has none is as dear as input."""
        usage = TokenUsage(
            input_tokens=1_000_000, output_tokens=500_000, cache_read_tokens=400_000,
            cache_write_tokens=100_000,
        )  # fmt: skip
        assert self.PRICE.cost(usage).amount == Fraction("0.5") * 2 + Fraction("0.4") + Fraction(
            "0.2"
        ) + Fraction(4)


class TestTokenUsage:
    @pytest.mark.parametrize(
        "counts",
        [None, {}, {"input_tokens": 1}, {"input_tokens": -1, "output_tokens": 1},
         {"input_tokens": 1.0, "output_tokens": 1}, {"input_tokens": True, "output_tokens": 1}],
    )  # fmt: skip
    def test_nothing_usable(self, counts: dict[str, int] | None) -> None:
        """A report that lacks a number, or has a nonsensical one, is none."""
        assert TokenUsage.read(counts) is None

    @pytest.mark.parametrize(
        "cached",
        [{"cache_read_tokens": 10}, {"cache_write_tokens": 6}, {"cache_read_tokens": -1},
         {"cache_read_tokens": 3, "cache_write_tokens": 3}, {"cache_write_tokens": True}],
    )  # fmt: skip
    def test_impossible_cache(self, cached: dict[str, int]) -> None:
        """More cached tokens than tokens is no report: the input is counted in another way."""
        assert TokenUsage.read({"input_tokens": 5, "output_tokens": 1, **cached}) is None

    def test_possible_cache(self) -> None:
        """Cached tokens are some of the input; one that is not told is none."""
        counts = {"input_tokens": 5, "output_tokens": 1, "cache_read_tokens": 5}
        usage = TokenUsage.read({**counts, "cache_write_tokens": None})  # type: ignore[dict-item]
        assert usage == TokenUsage(input_tokens=5, output_tokens=1, cache_read_tokens=5)


class TestListPricer:
    USAGE = TokenUsage(input_tokens=1000, output_tokens=500)

    @pytest.mark.parametrize(
        "model", ["openai/gpt-4o", "gpt-4o", "anthropic/claude-sonnet-4-5", "azure/gpt-4o"]
    )
    def test_known(self, model: str) -> None:
        """A model of the list has a price in dollars, and its source is named."""
        cost = ListPricer().cost(model, self.USAGE, NOW)
        assert cost is not None
        assert cost.amount > 0
        assert cost.currency == "USD"
        assert cost.source.startswith("genai-prices ")

    @pytest.mark.parametrize(
        "model", ["openai/no-such", "nobody/gpt-4o", "", "/", "unknown", "a/b/c", "openai/"]
    )
    def test_unknown(self, model: str) -> None:
        """A model nobody knows has no price; it is never free."""
        assert ListPricer().cost(model, self.USAGE, NOW) is None

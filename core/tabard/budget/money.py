"""Amounts of money as whole nano-units of one currency: a sum is exact, and never a float.

>>> parse_amount("100.00")
100000000000
>>> format_amount(100_000_000_000, "EUR")
'EUR 100.00'
"""

from __future__ import annotations

import math
import re
from decimal import Decimal
from fractions import Fraction

NANO = 1_000_000_000
"""Nano-units in one unit of a currency."""

MAX_AMOUNT = 9_000_000_000 * NANO
"""The largest amount a 64-bit integer of a database holds, with room to add to it."""

MAX_CALL = 1_000_000 * NANO
"""The most one call can cost; what costs more has no price."""

_AMOUNT = re.compile(r"[0-9]{1,10}(\.[0-9]{1,9})?", re.ASCII)
_DECIMAL = re.compile(r"[0-9]{1,9}(\.[0-9]{1,12})?", re.ASCII)


def parse_amount(text: object) -> int:
    """An amount written in a policy, as nano-units.

    Args:
        text: Decimal digits as text (`"100.00"`), or a whole number.

    Raises:
        ValueError: It is something else; a float among them, since it is seldom what was meant.
    """
    if type(text) is int and 0 <= text * NANO <= MAX_AMOUNT:
        return text * NANO
    if not isinstance(text, str) or not _AMOUNT.fullmatch(text):
        raise ValueError('expected an amount in quotes such as "100.00"')
    amount = int(Decimal(text) * NANO)
    if amount > MAX_AMOUNT:
        raise ValueError("an amount of more than 9 billion")
    return amount


def parse_decimal(text: object) -> Fraction:
    """A decimal number written in a policy, exactly; not negative.

    Raises:
        ValueError: It is something else.
    """
    if type(text) is int and text >= 0:
        return Fraction(text)
    if not isinstance(text, str) or not _DECIMAL.fullmatch(text):
        raise ValueError('expected a number in quotes such as "0.93"')
    return Fraction(text)


def parse_rate(text: object) -> Fraction:
    """A decimal number of more than zero.

    Raises:
        ValueError: It is something else.
    """
    rate = parse_decimal(text)
    if not rate:
        raise ValueError("expected a number of more than zero")
    return rate


def round_up(amount: Fraction) -> int:
    """An amount in units as whole nano-units, rounded up: what is charged is never too little."""
    return math.ceil(amount * NANO)


def format_amount(amount: int, currency: str) -> str:
    """An amount as a person reads it, exact: two decimals, or as many as it takes."""
    sign, whole = ("-", -amount) if amount < 0 else ("", amount)
    units, rest = divmod(whole, NANO)
    decimals = f"{rest:09d}".rstrip("0").ljust(2, "0")
    return f"{sign}{currency} {units:,}.{decimals}"

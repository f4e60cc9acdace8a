"""CAN it pay: money, prices, periods."""

from tabard.budget.money import format_amount, parse_amount
from tabard.budget.pricing import Cost, ListPricer, ModelPrice, Pricer
from tabard.budget.usage import TokenUsage

__all__ = [
    "Cost",
    "ListPricer",
    "ModelPrice",
    "Pricer",
    "TokenUsage",
    "format_amount",
    "parse_amount",
]

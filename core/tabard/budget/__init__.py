"""CAN it pay: money, prices, periods."""

from tabard.budget.bounds import (
    IMAGE_TOKENS,
    MESSAGE_TOKENS,
    TOOLS_TOKENS,
    add_tokens,
    most_tokens,
)
from tabard.budget.money import format_amount, parse_amount
from tabard.budget.pricing import Cost, ListPricer, ModelPrice, Pricer
from tabard.budget.usage import TokenUsage

__all__ = [
    "IMAGE_TOKENS",
    "MESSAGE_TOKENS",
    "TOOLS_TOKENS",
    "Cost",
    "ListPricer",
    "ModelPrice",
    "Pricer",
    "TokenUsage",
    "add_tokens",
    "format_amount",
    "most_tokens",
    "parse_amount",
]

"""The kinds of values that fields of a policy have."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    WithJsonSchema,
)

from tabard.budget.money import MAX_CALL, parse_amount, parse_decimal, parse_rate
from tabard.policy.patterns import NamePattern, Regex

_DURATION = re.compile(r"([1-9][0-9]{0,5})(s|m|h|d)", re.ASCII)
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


class Section(BaseModel):
    """A part of the file: no field but those it knows."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _check_pattern(text: str) -> str:
    NamePattern.parse(text)
    return text


def _check_regex(text: str) -> str:
    Regex.parse(text)
    return text


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _parse_duration(text: object) -> object:
    match = _DURATION.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise ValueError("expected a duration such as 30s, 15m, 1h or 7d")
    return int(match[1]) * _SECONDS[match[2]]


def _text(pattern: str) -> dict[str, Any]:
    return {"type": "string", "pattern": pattern}


_DECIMAL = {"anyOf": [_text(r"^[0-9]{1,9}(\.[0-9]{1,12})?$"), {"type": "integer"}]}

Glob = Annotated[str, AfterValidator(_check_pattern)]
"""A pattern over dotted names."""
Globs = Annotated[list[Glob], Field(min_length=1)]
Expression = Annotated[str, AfterValidator(_check_regex)]
"""An RE2 expression."""
Names = Annotated[
    list[str],
    BeforeValidator(_as_list),
    Field(min_length=1),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string"},
                {"type": "array", "items": {"type": "string"}, "minItems": 1},
            ]
        }
    ),
]
"""One name, or several."""
# In these patterns `$` is the very end: pydantic's engine has no other meaning for it, and the JSON
# Schema (ECMA-262) knows no `\z`.
RuleId = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
AgentName = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,128}$")]
Label = Annotated[str, Field(min_length=1, max_length=200)]
Currency = Annotated[str, Field(pattern=r"^[A-Z]{3}$")]
"""ISO 4217."""
Duration = Annotated[
    int, BeforeValidator(_parse_duration), WithJsonSchema(_text(f"^{_DURATION.pattern}$"))
]
"""Seconds; written `15m`."""
Amount = Annotated[
    int,
    BeforeValidator(parse_amount),
    WithJsonSchema({"anyOf": [_text(r"^[0-9]{1,10}(\.[0-9]{1,9})?$"), {"type": "integer"}]}),
]
"""Nano-units; written `"100.00"`."""
CallCost = Annotated[Amount, Field(le=MAX_CALL)]
"""Nano-units of one call."""
Rate = Annotated[
    Fraction,
    BeforeValidator(parse_rate),
    PlainSerializer(str),
    WithJsonSchema(_DECIMAL),
]
"""An exact positive number; written `"0.93"`."""
PerMillion = Annotated[
    Fraction,
    BeforeValidator(parse_decimal),
    PlainSerializer(str),
    WithJsonSchema(_DECIMAL),
]
"""Units of money for a million tokens; written `"2.50"`."""

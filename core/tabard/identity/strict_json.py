"""JSON as security code needs it: one object, no member twice, no NaN, no endless nesting."""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

_SHOWN = 40
"""Characters of a name that may stand in a message."""


class DuplicateMember(ValueError):
    """An object names a member twice; two parsers may see two different values."""


class NonFiniteNumber(ValueError):
    """NaN or Infinity, which JSON does not have, or a number so large that it becomes one."""


def parse_object(text: str | bytes) -> dict[str, Any]:
    """Parse one JSON object.

    No earlier exception hangs on the one raised: a decoder's carries the text it failed on.

    Raises:
        ValueError: It is not one; `DuplicateMember` and `NonFiniteNumber` say so.
    """
    problem = ValueError("not JSON in UTF-8")
    try:
        if isinstance(text, bytes):
            text = text.decode("utf-8")
        value = _DECODER.decode(text)
        if isinstance(value, dict):
            return value
        problem = ValueError("not a JSON object")
    except (DuplicateMember, NonFiniteNumber):
        raise
    except (ValueError, TypeError, AttributeError, RecursionError):
        pass
    raise problem


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        twice = _first_twice(pairs)
        shown = f" `{twice}`" if twice.isidentifier() and len(twice) < _SHOWN else ""
        raise DuplicateMember(f"a member{shown} is named twice")
    return members


def _first_twice(pairs: list[tuple[str, Any]]) -> str:
    # One pass: counting each name among all the others takes minutes for an object made for it.
    seen: set[str] = set()
    for name, _ in pairs:
        if name in seen:
            return name
        seen.add(name)
    return ""


def _constant(_: str) -> NoReturn:
    raise NonFiniteNumber("a number is not finite")


def _number(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        _constant(text)
    return number


# One decoder for all: `json.loads` with hooks would build another for each call.
_DECODER = json.JSONDecoder(
    object_pairs_hook=_members, parse_constant=_constant, parse_float=_number
)

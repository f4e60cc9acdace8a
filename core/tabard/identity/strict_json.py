"""JSON as security code needs it: one object, no member twice, no NaN, no endless nesting."""

from __future__ import annotations

import json
from typing import Any, NoReturn


class DuplicateMember(ValueError):
    """An object names a member twice; two parsers may see two different values."""


class NonFiniteNumber(ValueError):
    """NaN or Infinity, which JSON does not have."""


def parse_object(text: str | bytes) -> dict[str, Any]:
    """Parse one JSON object.

    Raises:
        ValueError: It is not one; `DuplicateMember` and `NonFiniteNumber` say so.
    """
    try:
        if isinstance(text, bytes):
            text = text.decode("utf-8")
        value = json.loads(text, object_pairs_hook=_members, parse_constant=_constant)
    except (DuplicateMember, NonFiniteNumber):
        raise
    except (ValueError, RecursionError):
        raise ValueError("not JSON in UTF-8") from None
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    return value


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise DuplicateMember("a member is named twice")
    return members


def _constant(_: str) -> NoReturn:
    raise NonFiniteNumber("a number is not finite")

"""Turns the arguments of a call into plain JSON values that nothing can change afterwards.

A decision is made on this copy, so a caller that changes a nested list during the decision
changes nothing; and a value that cannot be examined is refused instead of being passed over.

>>> plain_arguments({"ids": (1, 2)})
{'ids': [1, 2]}
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

MAX_DEPTH = 32
"""Levels of nesting that are examined; anything deeper is refused."""

MAX_NODES = 100_000
"""Values that are examined in one call; more are refused."""

_SCALARS = frozenset({int, float, bool, type(None)})


def plain_arguments(arguments: Mapping[str, object]) -> dict[str, object]:
    """Copy arguments into dicts, lists, strings, numbers, booleans and None.

    Dates, UUIDs, enums, pydantic models and the like become what pydantic writes for them in JSON.

    Raises:
        ValueError: A value has no JSON form, a member name is no text, or it is too deep or large.
    """
    if not isinstance(arguments, Mapping):
        raise ValueError("arguments are not a mapping")
    return _plain_mapping(arguments, [MAX_NODES], MAX_DEPTH)


def _plain(value: object, budget: list[int], depth: int) -> object:
    kind = type(value)
    if kind is str:
        return _checked_text(value)  # type: ignore[arg-type]
    if kind in _SCALARS:
        return value
    if depth == 0:
        raise ValueError("arguments are nested too deeply")
    if isinstance(value, Mapping):
        return _plain_mapping(value, budget, depth)
    if kind is list or kind is tuple:
        return [_plain(item, _spend(budget), depth - 1) for item in value]  # type: ignore[attr-defined]
    return _plain(_convert(value), budget, depth - 1)


def _plain_mapping(value: Mapping[str, object], budget: list[int], depth: int) -> dict[str, object]:
    plain: dict[str, object] = {}
    for name, item in value.items():
        if type(name) is not str:
            raise ValueError("a member name is not text")
        plain[_checked_text(name)] = _plain(item, _spend(budget), depth - 1)
    return plain


def _spend(budget: list[int]) -> list[int]:
    budget[0] -= 1
    if budget[0] < 0:
        raise ValueError("there are too many arguments to examine")
    return budget


def _checked_text(text: str) -> str:
    if not text.isascii():
        text.encode()  # a lone surrogate has no UTF-8 form: UnicodeEncodeError is a ValueError
    return text


def _convert(value: object) -> object:
    from pydantic_core import to_jsonable_python

    return to_jsonable_python(value, inf_nan_mode="constants")


def named_arguments(
    signature: inspect.Signature, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> dict[str, Any]:
    """The arguments of a call by name: defaults filled in, `**kwargs` spread, no empty `*args`.

    Raises:
        TypeError: They do not fit the signature.
    """
    bound = signature.bind(*args, **kwargs)
    bound.apply_defaults()
    named: dict[str, Any] = {}
    for parameter in signature.parameters.values():
        value = bound.arguments[parameter.name]
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            named.update(value)
        elif parameter.kind is not inspect.Parameter.VAR_POSITIONAL or value:
            named[parameter.name] = value
    return named

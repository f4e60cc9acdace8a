"""Turns the arguments of a call into plain JSON values that nothing can change afterwards.

A decision is made on this copy, so a caller that changes a nested list during the decision
changes nothing; and a value that cannot be examined is refused instead of being passed over.

>>> plain_arguments({"ids": (1, 2)})
{'ids': [1, 2]}
"""

from __future__ import annotations

import copy
import dataclasses
import inspect
from collections import deque
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any, NamedTuple

MAX_DEPTH = 32
"""Levels of nesting that are examined; anything deeper is refused."""

MAX_NODES = 100_000
"""Values that are examined in one call; more are refused."""

_SCALARS = frozenset({int, float, bool, type(None)})
_COLLECTIONS = (list, tuple, set, frozenset, deque)


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
    if isinstance(value, _COLLECTIONS):
        return [_plain(item, _spend(budget), depth - 1) for item in value]
    members = _members(value)
    if members is not None:
        return _plain_mapping(members, budget, depth)
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


def _members(value: object) -> Mapping[str, object] | None:
    """The members of a pydantic model or a dataclass as they are, not as it would print them.

    A model may leave fields out of what it prints, or mask them; the body gets to see them.
    """
    fields = getattr(type(value), "__pydantic_fields__", None)
    if isinstance(fields, dict):
        extra = getattr(value, "__pydantic_extra__", None) or {}
        return {**{name: getattr(value, name) for name in fields}, **extra}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    return None


def _convert(value: object) -> object:
    if isinstance(value, Iterator | AsyncIterator):
        raise ValueError("to look at an iterator is to use it up")
    from pydantic_core import to_jsonable_python

    reveal = getattr(value, "get_secret_value", None)
    if callable(reveal):  # `SecretStr` and its like: masked in print, and not in the body
        revealed = reveal()
        if type(revealed) is type(value):
            raise ValueError("a secret that does not reveal itself")
        return revealed
    return to_jsonable_python(value, inf_nan_mode="constants")


class BoundCall(NamedTuple):
    """One call of a function, with arguments that nobody else can change.

    Attributes:
        args: The positional arguments to run with: copies.
        kwargs: The keyword arguments to run with: copies.
        named: The same by name for the decision: defaults filled in, `**kwargs` spread.
    """

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    named: dict[str, Any]


def bind_call(
    signature: inspect.Signature,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    *,
    receiver: str | None = None,
) -> BoundCall:
    """Bind a call to a signature and copy what is decided on, so that it runs as decided.

    Args:
        signature: Of the function.
        args: The positional arguments.
        kwargs: The keyword arguments.
        receiver: The name of `self` or `cls`, which is neither copied nor decided on.

    Raises:
        TypeError: The arguments do not fit the signature.
        ValueError: A name stands for two values.
    """
    bound = signature.bind(*args, **kwargs)
    for name, value in bound.arguments.items():
        if name != receiver:
            bound.arguments[name] = copy.deepcopy(value)
    running = (bound.args, bound.kwargs)
    bound.apply_defaults()
    named: dict[str, Any] = {}
    for name, value in _by_name(signature, bound.arguments):
        if name in named:
            raise ValueError("an argument name stands for two values")
        if name != receiver:
            named[name] = value
    return BoundCall(*running, named)


def _by_name(
    signature: inspect.Signature, arguments: Mapping[str, Any]
) -> Iterator[tuple[str, Any]]:
    for parameter in signature.parameters.values():
        value = arguments[parameter.name]
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            yield from value.items()
        elif parameter.kind is not inspect.Parameter.VAR_POSITIONAL or value:
            yield parameter.name, value

"""What an argument must look like before a grant lets the call through.

>>> from tabard.policy.document import Constraint
>>> check = compile_constraint(Constraint(type="integer", min=1, max=100))
>>> check(5, {}), check(500, {}), check(True, {})
(None, 'max', 'type')
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, cast

from tabard.policy.patterns import NamePattern, Regex

if TYPE_CHECKING:
    from tabard.policy.document import Constraint

Scalar = str | int | float | bool
Check = Callable[[object, Mapping[str, object]], str | None]
"""Takes a plain JSON value and the session's scope; returns what failed, or None."""

Test = Callable[[object, Mapping[str, object]], bool]
"""One condition of a constraint: whether it holds."""

_SEPARATOR = re.compile(r"[/\\]")

MAX_SUBJECT = 65_536
"""Characters of one string a pattern is run on; a longer one fails the constraint."""

TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
}


def compile_constraint(rule: Constraint) -> Check:
    """Turn a constraint into one function; its tests run in the order of `_TESTS`, type first."""
    tests = tuple(
        (name, build(getattr(rule, name)))
        for name, build in _TESTS.items()
        if getattr(rule, name) is not None
    )
    inner = compile_constraint(rule.each) if rule.each is not None else None

    def check(value: object, scope: Mapping[str, object]) -> str | None:
        for name, holds in tests:
            if not holds(value, scope):
                return name
        return None if inner is None else _check_each(inner, value, scope)

    return check


def _check_each(inner: Check, value: object, scope: Mapping[str, object]) -> str | None:
    """What failed first among the items of a list; a value that is no list fails as `each`."""
    if not isinstance(value, list):
        return "each"
    return next((failed for item in value if (failed := inner(item, scope))), None)


def _type(name: str) -> Test:
    kinds = TYPES[name]
    return lambda value, _: type(value) in kinds and not _is_nan(value)


def _equals(wanted: Scalar) -> Test:
    return lambda value, _: _same(value, wanted)


def _equals_scope(key: str) -> Test:
    return lambda value, scope: key in scope and _same(value, scope[key])


def _enum(allowed: list[Scalar]) -> Test:
    return lambda value, _: any(_same(value, item) for item in allowed)


def _not_in(barred: list[Scalar]) -> Test:
    # Compared loosely on purpose: `1` and `True` are both kept out by either.
    return lambda value, _: _is_scalar(value) and not any(value == item for item in barred)


def _prefix(start: str) -> Test:
    return lambda value, _: isinstance(value, str) and value.startswith(start) and not climbs(value)


def _glob(text: str) -> Test:
    matches = _matches(NamePattern.parse(text))
    return lambda value, scope: matches(value, scope) and not climbs(cast(str, value))


def climbs(text: str) -> bool:
    """Whether a text has the path segment `..`, by which `/data/../etc` leaves `/data/`."""
    return ".." in text and ".." in _SEPARATOR.split(text)


def _regex(text: str) -> Test:
    return _matches(Regex.parse(text))


def _matches(pattern: NamePattern | Regex) -> Test:
    return lambda value, _: (
        isinstance(value, str) and len(value) <= MAX_SUBJECT and pattern.matches(value)
    )


def _min(bound: float) -> Test:
    return lambda value, _: _is_number(value) and cast(float, value) >= bound


def _max(bound: float) -> Test:
    return lambda value, _: _is_number(value) and cast(float, value) <= bound


def _max_length(bound: int) -> Test:
    return lambda value, _: isinstance(value, str | list | dict) and len(value) <= bound


_TESTS: dict[str, Callable[[Any], Test]] = {
    "type": _type,
    "equals": _equals,
    "equals_scope": _equals_scope,
    "enum": _enum,
    "not_in": _not_in,
    "prefix": _prefix,
    "glob": _glob,
    "regex": _regex,
    "min": _min,
    "max": _max,
    "max_length": _max_length,
}


def _same(left: object, right: object) -> bool:
    """Equal in value and in type, at every depth: `True` is not 1, and 1 is not 1.0."""
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(_same, left, right))
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(_same(v, right[k]) for k, v in left.items())
    return type(left) is type(right) and left == right


def _is_nan(value: object) -> bool:
    return type(value) is float and math.isnan(value)


def _is_number(value: object) -> bool:
    return type(value) in (int, float) and not _is_nan(value)


def _is_scalar(value: object) -> bool:
    return type(value) in (str, int, float, bool) and not _is_nan(value)

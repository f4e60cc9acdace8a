"""Finds conditions on one argument that can never hold together: a grant nobody could use.

>>> from tabard.policy.document import Constraint
>>> find_contradiction(Constraint(type="number", min=1, max=5)) is None
True
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tabard.policy.constraints import TYPES, climbs, compile_constraint

if TYPE_CHECKING:
    from tabard.policy.document import Constraint

_PLAIN: tuple[type, ...] = (str, int, float, bool)
_HOLDS_FOR: dict[str, tuple[type, ...]] = {
    "not_in": _PLAIN,
    "prefix": (str,),
    "glob": (str,),
    "regex": (str,),
    "min": (int, float),
    "max": (int, float),
    "max_length": (str, list, dict),
    "each": (list,),
}
"""The types of value a condition can hold for, where these do not follow from its own value."""


def find_contradiction(rule: Constraint) -> str | None:
    """One sentence about what can never hold; None when a value can be thought of that fits.

    Not every contradiction is found (two expressions that share no text, say), but what is told is
    one.
    """
    if rule.min is not None and rule.max is not None and rule.min > rule.max:
        return f"no number is at least {rule.min} (`min`) and at most {rule.max} (`max`)"
    for name in ("prefix", "glob"):
        if climbs(getattr(rule, name) or ""):
            return f"`{name}` never holds for a value with the path segment `..`"
    return _of_types(rule) or _of_values(rule)


def _of_types(rule: Constraint) -> str | None:
    left, names = {*_PLAIN, list, dict}, list[str]()
    for name in (*_HOLDS_FOR, "equals", "enum", "type"):
        wanted = getattr(rule, name)
        if wanted is None:
            continue
        left &= _types_of(name, wanted)
        names.append(f"`{name}`")
        if not left:
            return f"{', '.join(names)} can never hold for one value"
    return None


def _types_of(name: str, wanted: object) -> set[type]:
    if name == "type":
        return set(TYPES[str(wanted)])
    if name == "enum" and isinstance(wanted, list):
        return {type(value) for value in wanted}
    return {type(wanted)} if name == "equals" else set(_HOLDS_FOR[name])


def _of_values(rule: Constraint) -> str | None:
    """A value of `equals` or `enum` that the other conditions refuse."""
    if rule.equals is None and rule.enum is None:
        return None
    check = compile_constraint(rule.model_copy(update={"equals_scope": None}))
    values = [*(rule.enum or ()), *([] if rule.equals is None else [rule.equals])]
    for value in values:
        if (failed := check(value, {})) is not None:
            return f"the value {value!r} can never hold: `{failed}` refuses it"
    return None

r"""What two policies differ in, place by place.

>>> describe_difference("version: 1\nmode: shadow", "version: 1\nmode: enforce")
['mode: shadow -> enforce']
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from tabard.policy.loader import read_yaml


def describe_difference(old: str, new: str) -> list[str]:
    """One line for every place in which two policy texts differ, in the order of the new one.

    Raises:
        ConfigurationError: One of them is no YAML.
    """
    before, after = (read_yaml(text, "policy text") or {} for text in (old, new))
    return [f"{path}: {change}" for path, change in _differences(before, after, "")]


def _differences(old: Any, new: Any, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(old, dict) and isinstance(new, dict):
        for name in [*new, *(name for name in old if name not in new)]:
            yield from _at(old, new, name, f"{path}.{name}" if path else str(name))
    elif isinstance(old, list) and isinstance(new, list):
        pair = (dict(enumerate(old)), dict(enumerate(new)))
        for index in range(max(len(old), len(new))):
            yield from _at(*pair, index, f"{path}.{index}")
    elif type(old) is not type(new) or old != new:
        yield path, f"{_shown(old)} -> {_shown(new)}"


def _at(old: Any, new: Any, name: Any, path: str) -> Iterator[tuple[str, str]]:
    if name not in old:
        yield path, f"added {_shown(new[name])}"
    elif name not in new:
        yield path, f"removed {_shown(old[name])}"
    else:
        yield from _differences(old[name], new[name], path)


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)

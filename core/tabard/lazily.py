"""Lets a package export what is loaded only when somebody asks for it.

An import of tabard is part of the start of every agent, and most agents never verify an export or
compile a second policy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module


def lazily(package: str, homes: Mapping[str, str]) -> Callable[[str], object]:
    """A module's `__getattr__` (PEP 562).

    Args:
        package: The package's `__name__`.
        homes: The module of the package that each name is in.
    """

    def load(name: str) -> object:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(f"{package}.{homes[name]}"), name)

    return load

"""Any guard for LangChain, as it is named on a command line: `some.module:handler`."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from langchain_core.callbacks import BaseCallbackHandler

from tabard.errors import ConfigurationError
from tabard.testing.board import ALLOWED
from tabard.testing.langchain.case import Fitting

GuardUnderTest = Callable[[str], AbstractContextManager[Fitting | None]]
"""What a guard puts into LangChain so that a fault is there, or `allowed`; None: it knows of no
such thing."""


def load_guard(name: str) -> GuardUnderTest:
    """Find a guard by `module:attribute`.

    It is a callback handler, its class, or a function that makes one, and then has to refuse
    whatever it is asked. Or it is a function of the fault's name that returns a handler or a
    `Fitting`, or a block that yields one; None where the guard knows of no such fault.

    Raises:
        ConfigurationError: There is none of this name.
    """
    module, separator, attribute = name.partition(":")
    if not separator:
        raise ConfigurationError(f"--guard: expected `module:attribute`, found `{name}`")
    try:
        found: Any = importlib.import_module(module)
    except ImportError as error:
        raise ConfigurationError(f"--guard: {module} cannot be imported: {error}") from None
    for part in attribute.split("."):
        found = getattr(found, part, None)
    if not (isinstance(found, BaseCallbackHandler) or callable(found)):
        raise ConfigurationError(f"--guard: {module} has no handler or function `{attribute}`")
    return _by_fault(found) if _knows_faults(found) else _always(found)


def _knows_faults(found: Any) -> bool:
    if isinstance(found, BaseCallbackHandler):
        return False
    try:
        inspect.signature(found).bind()
    except TypeError:
        return True
    return False


def _always(found: Any) -> GuardUnderTest:
    """A handler that refuses everything: it has no allowed call to show."""

    @contextmanager
    def fit(fault: str) -> Iterator[Fitting | None]:
        if fault == ALLOWED:
            yield None
        else:
            made = found if isinstance(found, BaseCallbackHandler) else found()
            yield _fitting(made)

    return fit


def _by_fault(found: Any) -> GuardUnderTest:
    @contextmanager
    def fit(fault: str) -> Iterator[Fitting | None]:
        try:
            made = found(fault)
        except Exception as error:
            raise ConfigurationError(
                f"--guard: the function raised {type(error).__name__} for `{fault}`: {error}"
            ) from None
        if isinstance(made, AbstractContextManager) and not isinstance(made, BaseCallbackHandler):
            with made as inner:
                yield _fitting(inner)
        else:
            yield _fitting(made)

    return fit


def _fitting(made: object) -> Fitting | None:
    if made is None or isinstance(made, Fitting):
        return made
    if isinstance(made, BaseCallbackHandler):
        return Fitting(callbacks=[made])
    raise ConfigurationError(
        f"--guard: expected a callback handler, a Fitting or None, found {type(made).__name__}"
    )

"""Tells an operator what went wrong, and never gets in the way of a decision.

A logging handler is somebody else's code. What it raises must not leave a hook: LangChain takes a
`NotImplementedError` from one for leave to go on.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from logging import Logger


def warn(message: str, *facts: object) -> None:
    """Log what passes by itself."""
    with suppress(Exception):
        _log().warning(message, *facts)


def complain(message: str, *facts: object) -> None:
    """Log what somebody should look at."""
    with suppress(Exception):
        _log().error(message, *facts)


def _log() -> Logger:
    import logging

    return logging.getLogger("tabard")

"""tabard itself, for the scoreboard that tries any guard on every path of LangChain.

`python -m tabard.testing.langchain --guard tabard_langchain.scoreboard:everything`
"""

from __future__ import annotations

import atexit
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache

from tabard.testing.faults import arrange
from tabard.testing.langchain.case import Fitting
from tabard.testing.scene import Scene, open_scene
from tabard_langchain import TabardCallbackHandler, install, protect
from tabard_langchain.middleware import TabardMiddleware


@contextmanager
def everything(fault: str) -> Iterator[Fitting]:
    """Handler, middleware, protected tools and the net below them all."""
    install()
    with arrange(_scene(), fault) as strike:
        yield Fitting(
            callbacks=[TabardCallbackHandler()],
            middleware=[TabardMiddleware()],
            wrap=protect,
            strike=strike,
        )


@contextmanager
def handler(fault: str) -> Iterator[Fitting]:
    """The callback handler alone."""
    with arrange(_scene(), fault) as strike:
        yield Fitting(callbacks=[TabardCallbackHandler()], strike=strike)


@cache
def _scene() -> Scene:
    """One installation for the process, gone with it."""
    stack = ExitStack()
    atexit.register(stack.close)
    folder = stack.enter_context(tempfile.TemporaryDirectory())
    return stack.enter_context(open_scene(folder))

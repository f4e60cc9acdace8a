"""A net under the whole process: what no handler was passed to is still asked about."""

from __future__ import annotations

import threading
from contextvars import ContextVar

from langchain_core.tracers.context import register_configure_hook

from tabard import ConfigurationError
from tabard_langchain.handler import TabardCallbackHandler

HANDLER = TabardCallbackHandler()
"""The one handler of the net and of every middleware; LangChain calls it once for each run."""

_within: ContextVar[TabardCallbackHandler | None] = ContextVar("tabard_within", default=None)
register_configure_hook(_within, inheritable=True)

_lock = threading.Lock()
_everywhere: list[ContextVar[TabardCallbackHandler | None]] = []


def install() -> None:
    """Ask about every tool, model and retriever call of this process from now on.

    It reaches what handlers in a config do not: bare threads and pools, `callbacks=[]`,
    `tool.run(...)` inside a chain. There is nothing to undo it, as LangChain knows no way back. Who
    passes a `TabardCallbackHandler` as well is asked once.

    It does not see `tool.func(...)` and `tool._run(...)`, which call the body with no callback:
    `protect(tool)` does. And it is no wall against code in the same process that takes it out of
    LangChain's list; `assert_installed` notices that.
    """
    with _lock:
        if not _everywhere:
            # As the variable's default, not as its value: a new thread begins with the default.
            net: ContextVar[TabardCallbackHandler | None] = ContextVar(
                "tabard_net", default=HANDLER
            )
            register_configure_hook(net, inheritable=True)
            _everywhere.append(net)


def assert_installed() -> None:
    """Make sure that `install` was called and still holds here.

    Raises:
        ConfigurationError: It was not, or somebody has taken it away.
    """
    from langchain_core.callbacks import CallbackManager

    found = CallbackManager.configure().handlers
    if not _everywhere or not any(handler is HANDLER for handler in found):
        raise ConfigurationError("tabard_langchain.install() was not called, or was taken away")


class asking:
    """A block in which every call is asked about, whatever callbacks it is given."""

    def __enter__(self) -> None:
        """Begin."""
        self._token = _within.set(HANDLER)

    def __exit__(self, *_: object) -> None:
        """End."""
        _within.reset(self._token)

"""Fetches a trust bundle over `https://`, the pinned address and no other, within a time limit."""

from __future__ import annotations

import ssl
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

from tabard.errors import ConfigurationError

TIMEOUT = 5.0
"""Seconds in which the other side has to say something."""
DEADLINE = 10.0
"""Seconds in which it has to have said everything."""
MAX_BUNDLE = 1_000_000
"""Bytes of a bundle; more is refused unread."""


def fetch_over_https(origin: str, pin: str | None) -> str:
    """What an address answers.

    Args:
        origin: The address.
        pin: PEM certificates that have to vouch for it; default the system's.

    Raises:
        ConfigurationError: It gives nothing, too much, or nothing in time.
    """
    try:
        context = ssl.create_default_context(cadata=pin)
        opener = urllib.request.build_opener(
            urllib.request.HTTPSHandler(context=context), _NoRedirect()
        )
        data = _within(DEADLINE, lambda: _read(opener, origin))
        if len(data) > MAX_BUNDLE:
            raise ConfigurationError(f"{origin}: the bundle is longer than {MAX_BUNDLE} bytes")
        return str(data, "utf-8")
    except (OSError, ValueError, urllib.error.URLError) as error:
        raise ConfigurationError(f"{origin}: gives no bundle: {_why(error)}") from None


def _read(opener: urllib.request.OpenerDirector, origin: str) -> bytes:
    with opener.open(origin, timeout=TIMEOUT) as answer:
        return bytes(answer.read(MAX_BUNDLE + 1))


def _within(seconds: float, work: Callable[[], bytes]) -> bytes:
    """Do something in a thread of its own: a socket's time-out begins anew with every byte.

    Raises:
        TimeoutError: It takes too long; the thread ends when its socket does.
    """
    found: list[bytes | Exception] = []

    def run() -> None:
        try:
            found.append(work())
        except Exception as error:
            found.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if not found:
        raise TimeoutError("it takes too long")
    if isinstance(found[0], Exception):
        raise found[0]
    return found[0]


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Follows nothing: the pinned address answers, or nobody."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        """Never."""


def _why(error: Exception) -> str:
    reason = getattr(error, "reason", None) or getattr(error, "strerror", None)
    return str(reason) if reason else type(error).__name__

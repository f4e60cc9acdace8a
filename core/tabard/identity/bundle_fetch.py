"""Fetches a trust bundle from an address.

`https://` as in SPIFFE Federation, profile `https_web`; `unix://` and `tcp://` from a SPIFFE
Workload API. Redirects are refused: the operator has pinned the address.
"""

from __future__ import annotations

import ssl
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from tabard.errors import ConfigurationError

TIMEOUT = 5.0
"""Seconds in which the other side has to say something."""
DEADLINE = 10.0
"""Seconds in which it has to have said everything."""
MAX_BUNDLE = 1_000_000
"""Bytes of a bundle; more is refused unread."""
_WORKLOAD_API = ("unix:", "tcp:")


def is_address(origin: str) -> bool:
    """Whether a bundle can be fetched from there again; a file is read once."""
    return origin.startswith(("https://", *_WORKLOAD_API)) or "://" in origin


def fetch_bundle(origin: str, trust_domain: str, *, pin: str | None = None) -> str:
    """The text of a trust domain's bundle, from an address.

    Args:
        origin: `https://...`, or the endpoint of a SPIFFE Workload API.
        trust_domain: Whose bundle is wanted.
        pin: PEM certificates that have to vouch for the address; default the system's.

    Raises:
        ConfigurationError: It is no such address, or gives no bundle.
        AccessDenied: The Workload API refuses or is away.
    """
    if origin.startswith(_WORKLOAD_API):
        from tabard.identity.workload_api import WorkloadApi

        return WorkloadApi(origin).fetch_bundle(trust_domain)
    _check_address(origin)
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


def _check_address(origin: str) -> None:
    try:
        parts = urlsplit(origin)
        usable = parts.scheme == "https" and parts.hostname and "@" not in parts.netloc
    except ValueError:
        usable = None
    if not usable:
        # Not repeated: there may be a password in it.
        raise ConfigurationError(
            "bundle address: expected https://host/path without a user in it, or unix:///path"
        )


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Follows nothing: the pinned address answers, or nobody."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        """Never."""


def _why(error: Exception) -> str:
    reason = getattr(error, "reason", None) or getattr(error, "strerror", None)
    return str(reason) if reason else type(error).__name__

"""A credential that renews itself at half its life."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable

from tabard.clock import Clock, read_clock
from tabard.errors import AccessDenied, GuardUnavailable

JITTER = 0.1
"""Renewal happens at half life, give or take this share, so that a fleet does not renew at once."""

RETRY = 5.0
"""Seconds between two attempts while the old credential is still alive."""


class RenewingSource:
    """Hands out a live token; asks for the next one in the calling thread when it is due."""

    def __init__(self, issue: Callable[[], str], *, lifetime: float, clock: Clock) -> None:
        """Set up a source; nothing is issued before the first use.

        Args:
            issue: Returns a fresh token.
            lifetime: How long a token lives, in seconds.
            clock: Returns POSIX seconds.
        """
        self._issue = issue
        self._lifetime = lifetime
        self._clock = clock
        self._lock = threading.Lock()
        self._token: str | None = None
        self._renew_at = self._expires_at = 0.0

    def credential(self) -> str:
        """A token that is valid now.

        Raises:
            AccessDenied: The authority refuses, for example because the agent was revoked.
            StoreError: The authority is away and the last token has expired.
        """
        with self._lock:
            now = read_clock(self._clock)
            if self._token is None or now >= self._renew_at:
                self._renew(now)
            assert self._token is not None  # noqa: S101  renewed, or raised
            return self._token

    def _renew(self, now: float) -> None:
        try:
            self._token = self._issue()
        except Exception as error:
            refused = isinstance(error, AccessDenied) and not isinstance(error, GuardUnavailable)
            if refused or self._token is None or now >= self._expires_at:
                raise
            self._renew_at = now + RETRY
            return
        share = 0.5 + random.uniform(-JITTER, JITTER)  # noqa: S311  spreads load, hides nothing
        self._renew_at = now + self._lifetime * share
        self._expires_at = now + self._lifetime

    def __repr__(self) -> str:
        """Never shows the token."""
        return "<RenewingSource>"

"""A credential that renews itself at half its life."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable

from tabard.clock import Clock, read_clock, system_clock
from tabard.errors import AccessDenied, GuardUnavailable
from tabard.identity.compact import read_compact
from tabard.identity.verifier import whole_seconds
from tabard.identity.x509_svid import X509Svid

JITTER = 0.1
"""Renewal happens at half life, give or take this share, so that a fleet does not renew at once."""

RETRY = 5.0
"""Seconds between two attempts while the old credential is still alive."""


class RenewingSource:
    """Hands out a live token; asks for the next one in the calling thread when it is due.

    An issuer that refuses is noticed at the next renewal; from then on nothing is handed out, even
    while the last token has not expired. One that is away is asked again until it has.
    """

    def __init__(self, issue: Callable[[], str | X509Svid], *, clock: Clock = system_clock) -> None:
        """Set up a source; nothing is issued before the first use.

        Args:
            issue: Returns a fresh token or X.509-SVID.
            clock: Returns POSIX seconds.
        """
        self._issue = issue
        self._clock = clock
        self._lock = threading.Lock()
        self._token: str | X509Svid | None = None
        self._renew_at = self._expires_at = 0.0

    def credential(self) -> str | X509Svid:
        """A credential that is valid now.

        Raises:
            AccessDenied: The authority refuses, for example because the agent was revoked.
            StoreError: The authority is away and the last token has expired.
        """
        with self._lock:
            now = read_clock(self._clock)
            if self._token is None or now >= min(self._renew_at, self._expires_at):
                self._renew(now)
            assert self._token is not None  # noqa: S101  renewed, or raised
            return self._token

    def _renew(self, now: float) -> None:
        try:
            token = self._issue()
            expires_at = _expiry_of(token)
        except Exception as error:
            refused = isinstance(error, AccessDenied) and not isinstance(error, GuardUnavailable)
            if refused or self._token is None or now >= self._expires_at:
                raise
            self._renew_at = now + RETRY
            return
        share = 0.5 + random.uniform(-JITTER, JITTER)  # noqa: S311  spreads load, hides nothing
        self._token, self._expires_at = token, expires_at
        self._renew_at = now + (expires_at - now) * share

    def __repr__(self) -> str:
        """Never shows the token."""
        return "<RenewingSource>"


def _expiry_of(credential: str | X509Svid) -> float:
    """POSIX seconds; only read to know when to come back, as the guard verifies every rule."""
    if isinstance(credential, X509Svid):
        return credential.chain[0].not_valid_after_utc.timestamp()
    return whole_seconds(read_compact(credential).claims(), "exp")

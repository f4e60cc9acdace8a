"""A credential that renews itself at half its life."""

from __future__ import annotations

import os
import random
import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass, replace

from tabard.clock import Clock, read_clock, system_clock
from tabard.errors import AccessDenied, GuardUnavailable
from tabard.identity.compact import read_compact
from tabard.identity.verifier import whole_seconds
from tabard.identity.x509_svid import X509Svid

JITTER = 0.1
"""Renewal happens at half life, give or take this share, so that a fleet does not renew at once."""

RETRY = 5.0
"""Seconds between two attempts while the old credential is still alive."""


@dataclass(frozen=True, slots=True)
class _Held:
    """A credential, and when to come back for the next one, in POSIX seconds."""

    credential: str | X509Svid
    renew_at: float
    expires_at: float

    def __repr__(self) -> str:
        return "<held>"


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
        self._held: _Held | None = None
        _sources.add(self)

    def credential(self) -> str | X509Svid:
        """A credential that is valid now.

        One thread renews; while the last credential is alive the others go on with it, so an
        authority that hangs holds up nobody else.

        Raises:
            AccessDenied: The authority refuses, for example because the agent was revoked.
            StoreError: The authority is away and the last token has expired.
        """
        now, held = read_clock(self._clock), self._held
        if held is not None and now < min(held.renew_at, held.expires_at):
            return held.credential
        alive = held is not None and now < held.expires_at
        if not self._lock.acquire(blocking=not alive):
            assert held is not None  # noqa: S101  it is alive
            return held.credential
        try:
            held = self._held
            if held is None or now >= min(held.renew_at, held.expires_at):
                held = self._held = self._renew(held, now)
            return held.credential
        finally:
            self._lock.release()

    def discard(self, refused: str | X509Svid) -> None:
        """Ask for another credential at the next use, if this one is still held: it was refused."""
        if not self._lock.acquire(blocking=False):
            return  # another thread asks for the next one just now
        try:
            if self._held is not None and self._held.credential is refused:
                self._held = replace(self._held, renew_at=0.0)
        finally:
            self._lock.release()

    def _renew(self, held: _Held | None, now: float) -> _Held:
        try:
            credential = self._issue()
            expires_at = _expiry_of(credential)
        except Exception as error:
            refused = isinstance(error, AccessDenied) and not isinstance(error, GuardUnavailable)
            if refused or held is None or now >= held.expires_at:
                raise
            return replace(held, renew_at=now + RETRY)
        share = 0.5 + random.uniform(-JITTER, JITTER)  # noqa: S311  spreads load, hides nothing
        return _Held(credential, now + (expires_at - now) * share, expires_at)

    def _after_fork(self) -> None:
        # Another thread of the parent may hold it, and is not here to let it go.
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        """Never shows the token."""
        return "<RenewingSource>"


def _expiry_of(credential: str | X509Svid) -> float:
    """POSIX seconds; only read to know when to come back, as the guard verifies every rule."""
    if isinstance(credential, X509Svid):
        return credential.chain[0].not_valid_after_utc.timestamp()
    return whole_seconds(read_compact(credential).claims(), "exp")


_sources: weakref.WeakSet[RenewingSource] = weakref.WeakSet()


def _free_all() -> None:
    for source in list(_sources):
        source._after_fork()


os.register_at_fork(after_in_child=_free_all)

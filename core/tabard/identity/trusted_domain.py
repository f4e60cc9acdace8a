"""A trust domain whose credentials count here, and where its trust bundle comes from."""

from __future__ import annotations

from typing import NamedTuple

OWN = "own"
"""The origin of the bundle of the home's own trust domain."""


class TrustedDomain(NamedTuple):
    """One trust domain and its one key set.

    Attributes:
        name: The trust domain.
        document: Its trust bundle, a JWKS.
        origin: `own`, `file`, an `https://` address, or the address of a SPIFFE Workload API.
        checked_at: POSIX seconds of when the bundle was last asked for.
        pin: PEM of the certificate authorities its address is reached by; None for the system's.
    """

    name: str
    document: str
    origin: str
    checked_at: int
    pin: str | None = None

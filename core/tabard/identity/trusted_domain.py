"""A trust domain whose credentials count here, and where its trust bundle comes from."""

from __future__ import annotations

from dataclasses import dataclass

OWN = "own"
"""The origin of the bundle of the home's own trust domain."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustedDomain:
    """One trust domain and its one key set.

    Attributes:
        name: The trust domain.
        document: Its trust bundle, a JWKS.
        origin: `own`, `file`, an `https://` address, or the address of a SPIFFE Workload API.
        pin: PEM of the certificate authorities its address is reached by; None for the system's.
        checked_at: POSIX seconds of when the bundle was last asked for.
    """

    name: str
    document: str
    origin: str
    pin: str | None = None
    checked_at: int

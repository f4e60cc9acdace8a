"""Fetches a trust bundle from an address.

`https://` as in SPIFFE Federation, profile `https_web`; `unix://` and `tcp://` from a SPIFFE
Workload API. Redirects are refused: the operator has pinned the address.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from tabard.errors import ConfigurationError

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
    from tabard.identity.bundle_https import fetch_over_https  # TLS is loaded where it is used

    return fetch_over_https(origin, pin)


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

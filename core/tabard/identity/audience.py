"""Who a token is meant for."""

from __future__ import annotations


def default_audience(trust_domain: str) -> str:
    """What tokens are meant for unless someone says otherwise: the guards of the trust domain."""
    return f"spiffe://{trust_domain}/guard"

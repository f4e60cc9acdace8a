"""What the identity tests share: one issuer, its bundle, and a forger with its key."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from tabard.identity import SigningKey, TokenVerifier, TrustBundle
from tabard.identity.encoding import base64url

NOW = 1_800_000_000
AUDIENCE = "spiffe://acme.example/guard"
SUBJECT = "spiffe://acme.example/env/prod/team/claims/agent/claims-agent"


def derived_key(label: str) -> SigningKey:
    """A key that is the same in every run."""
    secret = int.from_bytes(hashlib.sha256(label.encode()).digest()[:31], "big") + 1
    return SigningKey(ec.derive_private_key(secret, ec.SECP256R1()))


@pytest.fixture(scope="session")
def issuer() -> SigningKey:
    """The authority's key."""
    return derived_key("issuer")


@pytest.fixture(scope="session")
def bundle(issuer: SigningKey) -> TrustBundle:
    """A bundle that trusts the issuer for acme.example."""
    return TrustBundle.of(issuer, trust_domain="acme.example")


@pytest.fixture(scope="session")
def verifier(bundle: TrustBundle) -> TokenVerifier:
    """A verifier whose clock stands still at 1,800,000,000."""
    return TokenVerifier(bundle, audience=AUDIENCE, clock=lambda: float(NOW))


@pytest.fixture(scope="session")
def sign(issuer: SigningKey) -> Callable[[str | bytes, str | bytes], str]:
    """Signs any header and any claims as they are, with the issuer's key."""

    def _sign(header: str | bytes, claims: str | bytes) -> str:
        parts = (p.encode() if isinstance(p, str) else p for p in (header, claims))
        message = ".".join(base64url(part) for part in parts)
        return f"{message}.{base64url(issuer.sign(message.encode()))}"

    return _sign


@pytest.fixture(scope="session")
def header(issuer: SigningKey) -> str:
    """The header of an ordinary token, as JSON."""
    return json.dumps({"alg": "ES256", "kid": issuer.kid, "typ": "agent+jwt"})


@pytest.fixture(scope="session")
def claims() -> Mapping[str, object]:
    """The claims of an ordinary token."""
    return {
        "iss": "spiffe://acme.example",
        "sub": SUBJECT,
        "aud": AUDIENCE,
        "iat": NOW,
        "nbf": NOW,
        "exp": NOW + 300,
        "jti": "j" * 22,
        "txn": "t" * 22,
    }

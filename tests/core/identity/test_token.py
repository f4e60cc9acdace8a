"""Minting: what goes into a token, and that nothing is minted which would be refused."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tabard import ConfigurationError
from tabard.identity import SigningKey, SpiffeId, TokenVerifier, TrustBundle, mint_token

NOW = 1_800_000_000
AUDIENCE = "spiffe://acme.example/guard"
SUBJECT = SpiffeId.parse("spiffe://acme.example/env/prod/team/claims/agent/claims-agent")


def mint(key: SigningKey, **changes: Any) -> str:
    facts: dict[str, Any] = {
        "subject": SUBJECT,
        "audience": AUDIENCE,
        "issued_at": NOW,
        "lifetime": 300,
    }
    return mint_token(key, **{**facts, **changes})


def read(part: str) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return value


def test_what_is_in_a_token(issuer: SigningKey) -> None:
    """Exactly these members, in whole seconds, and no permission or personal datum among them."""
    header, claims, _ = mint(issuer, issued_at=NOW + 0.9, jti="j" * 16, txn="t" * 64).split(".")
    assert read(header) == {"alg": "ES256", "kid": issuer.kid, "typ": "agent+jwt"}
    assert read(claims) == {
        "iss": "spiffe://acme.example",
        "sub": str(SUBJECT),
        "aud": AUDIENCE,
        "iat": NOW,
        "nbf": NOW,
        "exp": NOW + 300,
        "jti": "j" * 16,
        "txn": "t" * 64,
    }


def test_every_token_has_its_own_ids(issuer: SigningKey) -> None:
    """Token id and run id are random, and not each other."""
    claims = [read(mint(issuer).split(".")[1]) for _ in range(20)]
    ids = {claim[name] for claim in claims for name in ("jti", "txn")}
    assert len(ids) == 40
    assert {len(one) for one in ids} == {22}


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("lifetime", v) for v in (0, -1, 0.5, 3600.5, 3601, NAN, INF, None, "300", True, [300])),
        *(("issued_at", v) for v in (NAN, INF, -INF, -1, 1e18, None, "now", True)),
        *(("audience", v) for v in ("", None, 1, b"guard", [AUDIENCE])),
        *(("subject", v) for v in (str(SUBJECT), None, SpiffeId.parse("spiffe://acme.example"))),
        *(("jti", v) for v in ("", "short", "j" * 65, "j" * 16 + "\n", "anna@acme.example", 7)),
        *(("txn", v) for v in ("", "short", "t" * 65, "t" * 16 + "\u00e9", b"t" * 22)),
    ],
)
def test_nothing_is_minted_that_would_be_refused(
    issuer: SigningKey, name: str, value: object
) -> None:
    """A fact the verifier would refuse is refused when minting, in a sentence that names it."""
    with pytest.raises(ConfigurationError, match=name):
        mint(issuer, **{name: value})


@settings(max_examples=60, deadline=None)
@given(
    issued_at=st.floats(NOW - 200, NOW, allow_nan=False),
    lifetime=st.floats(300, 3600, allow_nan=False),
    audience=st.text(min_size=1, max_size=60),
)
def test_what_is_minted_verifies(
    issuer: SigningKey,
    bundle: TrustBundle,
    issued_at: float,
    lifetime: float,
    audience: str,
) -> None:
    """Every token that can be minted verifies at its own audience, and only there."""
    at_home = TokenVerifier(bundle, audience=audience, clock=lambda: float(NOW))
    verified = at_home.verify(
        mint(issuer, issued_at=issued_at, lifetime=lifetime, audience=audience)
    )
    assert verified.spiffe_id == SUBJECT
    assert verified.audience == audience
    assert verified.expires_at <= issued_at + lifetime

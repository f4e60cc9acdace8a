"""Verifies a standard JWT-SVID, of whatever SPIFFE issuer (JWT-SVID standard, section 5).

Its rules and those of `agent+jwt` exclude each other by `typ`, so that neither can pass for the
other (RFC 8725, section 3.12). What the standard leaves open is taken strictly: the key must be
named, there is one audience, times are whole seconds, and a year is no short life.
"""

from __future__ import annotations

import hashlib
from typing import Any

from tabard.clock import Clock, read_clock, system_clock
from tabard.errors import ConfigurationError
from tabard.identity.bundle import TrustBundle
from tabard.identity.compact import read_compact, refuse
from tabard.identity.encoding import base64url
from tabard.identity.token import JWT_SVID, is_token_id, new_token_id
from tabard.identity.verified import VerifiedToken
from tabard.identity.verifier import (
    check_period,
    check_signature,
    check_subject,
    find_key,
    whole_seconds,
)

_TYPES = ("JWT", "JOSE", None)


class JwtSvidVerifier:
    """Checks JWT-SVIDs of one trust domain for one audience."""

    def __init__(self, bundle: TrustBundle, *, audience: str, clock: Clock = system_clock) -> None:
        """Set up a verifier.

        Args:
            bundle: The trusted keys; RSA, P-256, P-384 and P-521.
            audience: The exact audience that is accepted.
            clock: Returns POSIX seconds.

        Raises:
            ConfigurationError: The audience is not one text.
        """
        if not isinstance(audience, str) or not audience:
            raise ConfigurationError("audience: expected one text, not empty")
        self._bundle = bundle
        self._audience = audience
        self._clock = clock

    def verify(self, token: str | bytes) -> VerifiedToken:
        """Verify a JWT-SVID against the bundle, the audience and the clock.

        Raises:
            AuthenticationFailed: It does not hold; the code says why, the text shows nothing of it.
            GuardUnavailable: The clock failed.
        """
        jws = read_compact(token)
        key = find_key(jws.header, self._bundle, kinds=_TYPES)
        check_signature(jws, key)
        claims = jws.claims()
        domain = self._bundle.trust_domain
        _check_issuer(claims, domain)
        # An issuer writes one audience as a text or as a list; a second one could use the token.
        if claims.get("aud") not in (self._audience, [self._audience]):
            refuse("wrong_audience", "the token is meant for someone else")
        if "cnf" in claims:
            refuse("unexpected_claim", "the token is bound to a key, which a JWT-SVID cannot be")
        issued_at, expires_at = _check_times(claims, read_clock(self._clock))
        return VerifiedToken(
            spiffe_id=check_subject(claims.get("sub"), domain),
            kind=JWT_SVID,
            kid=key.kid,
            # Without an id it is named by what was signed: an ECDSA signature has a twin.
            jti=_id_of(claims, "jti") or base64url(hashlib.sha256(jws.message).digest()),
            txn=_id_of(claims, "txn") or new_token_id(),
            audience=self._audience,
            issued_at=issued_at,
            expires_at=expires_at,
        )


def _id_of(claims: dict[str, Any], name: str) -> str | None:
    value = claims.get(name)
    return value if isinstance(value, str) and is_token_id(value) else None


def _check_issuer(claims: dict[str, Any], domain: str) -> None:
    """An `iss` is optional and may be an address; a SPIFFE ID in it is that of the trust domain."""
    issuer = claims.get("iss", "")
    if not isinstance(issuer, str) or (
        issuer.startswith("spiffe:") and issuer != f"spiffe://{domain}"
    ):
        refuse("wrong_issuer", "the token comes from another trust domain")


def _check_times(claims: dict[str, Any], now: float) -> tuple[int, int]:
    expires_at = whole_seconds(claims, "exp")
    issued_at = whole_seconds(claims, "iat") if "iat" in claims else None
    not_before = whole_seconds(claims, "nbf") if "nbf" in claims else 0
    # Without `iat`, what is left of its life is all that can be held against it.
    check_period(int(now) if issued_at is None else issued_at, not_before, expires_at, now)
    # Whoever evicts an agent means everything up to now; what does not say when, is from before.
    return issued_at or 0, expires_at

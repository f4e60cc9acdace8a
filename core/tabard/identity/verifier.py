"""Verifies a token, every rule or nothing. The order of the checks is part of the design.

```python
verifier = TokenVerifier(bundle, audience="spiffe://acme.example/guard")
verified = verifier.verify(token)
```
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from typing import Any, cast

from tabard.clock import CLOCK_SKEW, Clock, read_clock, system_clock
from tabard.errors import ConfigurationError, InvalidSpiffeId
from tabard.identity.bundle import TrustBundle
from tabard.identity.bundle_keys import BundleKey
from tabard.identity.compact import CompactJws, read_compact, refuse
from tabard.identity.encoding import base64url, plain
from tabard.identity.spiffe_id import SpiffeId
from tabard.identity.token import MAX_LIFETIME, TOKEN_TYPE, is_token_id
from tabard.identity.verified import VerifiedToken

_HEADER = frozenset({"alg", "kid", "typ"})
_CLAIMS = frozenset({"iss", "sub", "aud", "iat", "nbf", "exp", "jti", "txn", "cnf"})
_MAX_TIME = 2**53
_THUMBPRINT = 43
"""Characters of a SHA-256 in base64url."""


class TokenVerifier:
    """Checks tokens (`agent+jwt`) of one trust domain for one audience."""

    def __init__(self, bundle: TrustBundle, *, audience: str, clock: Clock = system_clock) -> None:
        """Set up a verifier.

        Args:
            bundle: The trusted keys.
            audience: The exact `aud` that is accepted.
            clock: Returns POSIX seconds.

        Raises:
            ConfigurationError: The audience is not one text. A verifier without an audience
                would accept a token that is meant for nobody.
        """
        if not isinstance(audience, str) or not audience:
            raise ConfigurationError("audience: expected one text, not empty")
        self._bundle = bundle
        self._audience = audience
        self._issuer = f"spiffe://{bundle.trust_domain}"
        self._clock = clock

    def verify(self, token: str | bytes) -> VerifiedToken:
        """Verify a token against the bundle, the audience and the clock.

        Raises:
            AuthenticationFailed: It does not hold; the code says why, the text shows nothing of it.
            GuardUnavailable: The clock failed.
        """
        jws = read_compact(token)
        key = find_key(jws.header, self._bundle, kinds=(TOKEN_TYPE,))
        check_signature(jws, key, algorithms=frozenset({"ES256"}))
        claims = jws.claims()
        if claims.keys() - _CLAIMS:
            # Rights and personal data do not belong in a token: they could not be taken back.
            refuse("unexpected_claim", "the token carries a claim that tabard does not know")
        if claims.get("iss") != self._issuer:
            refuse("wrong_issuer", "the token comes from another trust domain")
        if claims.get("aud") != self._audience:
            refuse("wrong_audience", "the token is meant for someone else")
        issued_at, expires_at = _check_times(claims, read_clock(self._clock))
        for name in ("jti", "txn"):
            if not isinstance(claims.get(name), str) or not is_token_id(claims[name]):
                refuse(f"bad_{name}", f"the token's {name} is not an id of 16 to 64 characters")
        return VerifiedToken(
            spiffe_id=check_subject(claims.get("sub"), self._bundle.trust_domain),
            kind=TOKEN_TYPE,
            kid=key.kid,
            jti=claims["jti"],
            txn=claims["txn"],
            audience=self._audience,
            issued_at=issued_at,
            expires_at=expires_at,
            bound_to=_check_confirmation(claims),
            digest=digest_of_token(token),
        )


def fingerprint(credential: object) -> str:
    """The first 16 hex digits of a credential's SHA-256: names it without showing it."""
    held = plain(credential)
    if isinstance(held, str):
        # Every text has its own name, even one that UTF-8 cannot spell.
        data = held.encode(errors="surrogatepass")
    elif held is not None:
        data = held
    else:
        # A source may hand out anything, and that attempt has to get on record too.
        data = type(credential).__name__.encode(errors="surrogatepass")
    return hashlib.sha256(data).hexdigest()[:16]


def digest_of_token(token: str | bytes) -> str:
    """base64url of a token's SHA-256: what a proof of possession names it by (`wth`)."""
    held = plain(token)
    data = held if isinstance(held, bytes) else (held or "").encode("ascii", "replace")
    return base64url(hashlib.sha256(data).digest())


def find_key(
    header: dict[str, Any], bundle: TrustBundle, *, kinds: tuple[object, ...]
) -> BundleKey:
    """The key the header names; the key decides the algorithm, not the header.

    Raises:
        AuthenticationFailed: `unexpected_header`, `wrong_typ` or `unknown_key`.
    """
    if header.keys() - _HEADER:
        refuse("unexpected_header", "the token's header has more than alg, kid and typ")
    if header.get("typ") not in kinds or ("typ" in header and header["typ"] is None):
        refuse("wrong_typ", f"the token is not of the type {kinds[0]}")
    kid = header.get("kid")
    key = bundle.key(kid) if isinstance(kid, str) else None
    if key is None:
        refuse("unknown_key", "the token was signed with a key that is not trusted")
    return key


def check_signature(
    jws: CompactJws, key: BundleKey, *, algorithms: frozenset[str] | None = None
) -> None:
    """Check the signature with the algorithm the key is for.

    Raises:
        AuthenticationFailed: `wrong_alg` or `bad_signature`.
    """
    algorithm = jws.header.get("alg")
    allowed = key.algorithms if algorithms is None else key.algorithms & algorithms
    if not isinstance(algorithm, str) or algorithm not in allowed:
        refuse("wrong_alg", "the token's algorithm is not the one of its key")
    if not key.verifies(algorithm, jws.message, jws.signature):
        refuse("bad_signature", "the signature does not hold")


def check_subject(subject: object, trust_domain: str) -> SpiffeId:
    """The subject as an identity of the trust domain.

    Raises:
        AuthenticationFailed: `bad_subject`.
    """
    spiffe_id: SpiffeId | None = None
    with suppress(InvalidSpiffeId):
        spiffe_id = SpiffeId.parse(cast(str, subject))  # it refuses what is no text
    if spiffe_id is None or spiffe_id.trust_domain != trust_domain or not spiffe_id.path:
        refuse("bad_subject", "the token's subject is no identity of the trust domain")
    return spiffe_id


def whole_seconds(claims: dict[str, Any], name: str) -> int:
    """A time claim.

    Raises:
        AuthenticationFailed: `bad_exp`, `bad_iat` or `bad_nbf`: it is not whole seconds.
    """
    value = claims.get(name)
    if type(value) is not int or not 0 <= value < _MAX_TIME:
        refuse(f"bad_{name}", f"the token's {name} is not a time in whole seconds")
    return value


def check_period(issued_at: int, not_before: int, expires_at: int, now: float) -> None:
    """The token is alive now and was never meant to live too long.

    Raises:
        AuthenticationFailed: `token_expired`, `not_yet_valid`, `bad_exp`, `bad_nbf` or
            `lifetime_too_long`.
    """
    if now >= expires_at:
        refuse("token_expired", "the token has expired")
    if max(issued_at, not_before) > now + CLOCK_SKEW:
        refuse("not_yet_valid", "the token is from the future")
    # The skew forgives a clock that is behind; it must not bring to life what never was valid.
    if expires_at <= issued_at:
        refuse("bad_exp", "the token expires before it was issued")
    if expires_at <= not_before:
        refuse("bad_nbf", "the token expires before it becomes valid")
    if expires_at - issued_at > MAX_LIFETIME:
        refuse("lifetime_too_long", f"the token lives longer than {MAX_LIFETIME} seconds")


def _check_times(claims: dict[str, Any], now: float) -> tuple[int, int]:
    expires_at, issued_at, not_before = (whole_seconds(claims, n) for n in ("exp", "iat", "nbf"))
    check_period(issued_at, not_before, expires_at, now)
    return issued_at, expires_at


def _check_confirmation(claims: dict[str, Any]) -> str | None:
    """The thumbprint of the key whose possession has to be proved (RFC 7800, `cnf.jkt`)."""
    if "cnf" not in claims:
        return None
    confirmation = claims["cnf"]
    thumbprint = confirmation.get("jkt") if isinstance(confirmation, dict) else None
    if (
        not isinstance(thumbprint, str)
        or len(thumbprint) != _THUMBPRINT
        or not is_token_id(thumbprint)
        or confirmation.keys() != {"jkt"}
    ):
        refuse("bad_cnf", "the token's cnf is not the thumbprint of one key")
    return thumbprint

"""Verifies a token, every rule or nothing. The order of the checks is part of the design.

```python
verifier = TokenVerifier(bundle, audience="spiffe://acme.example/guard")
verified = verifier.verify(token)
```
"""

from __future__ import annotations

import hashlib
import re
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NoReturn

from cryptography.hazmat.primitives.asymmetric import ec
from jwt import get_algorithm_by_name

from tabard.clock import CLOCK_SKEW, Clock, read_clock, system_clock
from tabard.errors import AuthenticationFailed, ConfigurationError, InvalidSpiffeId
from tabard.identity.bundle import TrustBundle
from tabard.identity.encoding import plain, unbase64url
from tabard.identity.spiffe_id import SpiffeId
from tabard.identity.strict_json import DuplicateMember, NonFiniteNumber, parse_object
from tabard.identity.token import MAX_LIFETIME, TOKEN_TYPE, is_token_id

MAX_TOKEN = 8192
"""Characters of a token; a longer one is refused before any of it is read."""

_COMPACT = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)", re.ASCII)
_HEADER = frozenset({"alg", "kid", "typ"})
_CLAIMS = frozenset({"iss", "sub", "aud", "iat", "nbf", "exp", "jti", "txn"})
_MAX_TIME = 2**53
_ES256 = get_algorithm_by_name("ES256")


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedToken:
    """The facts of a token that held; not the token.

    Attributes:
        spiffe_id: Whose it is.
        kind: `agent+jwt`.
        kid: The key that signed it.
        jti: Its id.
        txn: The id of the run it was issued for.
        audience: The enforcement point it is meant for.
        issued_at: POSIX seconds.
        expires_at: POSIX seconds; it holds strictly before.
    """

    spiffe_id: SpiffeId
    kind: str
    kid: str
    jti: str
    txn: str
    audience: str
    issued_at: int
    expires_at: int


def fingerprint(credential: str | bytes) -> str:
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


class TokenVerifier:
    """Checks tokens of one trust domain for one audience."""

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
        header_part, claims_part, signature_part = _split(token)
        header = _parse(header_part)
        kid, key = self._find_key(header)
        message = f"{header_part}.{claims_part}".encode("ascii")
        signature = _decode(signature_part)
        if len(signature) != 64 or not _ES256.verify(message, key, signature):
            _refuse("bad_signature", "the signature does not hold")
        claims = _parse(claims_part)
        if claims.keys() - _CLAIMS:
            # Rights and personal data do not belong in a token: they could not be taken back.
            _refuse("unexpected_claim", "the token carries a claim that tabard does not know")
        return self._check_claims(claims, kid, read_clock(self._clock))

    def _find_key(self, header: dict[str, Any]) -> tuple[str, ec.EllipticCurvePublicKey]:
        """The key the header names; the key decides the algorithm, not the header."""
        if header.keys() - _HEADER:
            _refuse("unexpected_header", "the token's header has more than alg, kid and typ")
        if header.get("typ") != TOKEN_TYPE:
            _refuse("wrong_typ", f"the token is not of the type {TOKEN_TYPE}")
        kid = header.get("kid")
        key = self._bundle.key(kid) if isinstance(kid, str) else None
        if key is None or not isinstance(kid, str):
            _refuse("unknown_key", "the token was signed with a key that is not trusted")
        if header.get("alg") != "ES256":
            _refuse("wrong_alg", "the token's algorithm is not the one of its key")
        return kid, key

    def _check_claims(self, claims: dict[str, Any], kid: str, now: float) -> VerifiedToken:
        if claims.get("iss") != self._issuer:
            _refuse("wrong_issuer", "the token comes from another trust domain")
        if claims.get("aud") != self._audience:
            _refuse("wrong_audience", "the token is meant for someone else")
        issued_at, expires_at = _check_times(claims, now)
        for name in ("jti", "txn"):
            if not isinstance(claims.get(name), str) or not is_token_id(claims[name]):
                _refuse(f"bad_{name}", f"the token's {name} is not an id of 16 to 64 characters")
        return VerifiedToken(
            spiffe_id=self._check_subject(claims.get("sub")),
            kind=TOKEN_TYPE,
            kid=kid,
            jti=claims["jti"],
            txn=claims["txn"],
            audience=self._audience,
            issued_at=issued_at,
            expires_at=expires_at,
        )

    def _check_subject(self, subject: Any) -> SpiffeId:
        spiffe_id: SpiffeId | None = None
        with suppress(InvalidSpiffeId):
            spiffe_id = SpiffeId.parse(subject)
        if (
            spiffe_id is None
            or spiffe_id.trust_domain != self._bundle.trust_domain
            or not spiffe_id.path
        ):
            _refuse("bad_subject", "the token's subject is no identity of the trust domain")
        return spiffe_id


def _refuse(code: str, reason: str) -> NoReturn:
    """Never call this inside an `except`: the error there would hang on, and it holds the token."""
    raise AuthenticationFailed(code=code, reason=reason) from None


def _split(token: str | bytes) -> tuple[str, str, str]:
    text = plain(token)
    if isinstance(text, bytes):
        # Latin-1 reads any bytes; what is not ASCII does not get past the pattern.
        text = text[: MAX_TOKEN + 1].decode("latin-1")
    if text is None:
        _refuse("malformed", "the credential is not a token")
    if len(text) > MAX_TOKEN:
        _refuse("too_long", f"the token is longer than {MAX_TOKEN} characters")
    match = _COMPACT.fullmatch(text)
    if match is None:
        _refuse("malformed", "the credential is not a token")
    return match[1], match[2], match[3]


def _decode(part: str) -> bytes:
    with suppress(ValueError):
        return unbase64url(part)
    _refuse("malformed", "the credential is not a token")


def _parse(part: str) -> dict[str, Any]:
    data = _decode(part)
    try:
        return parse_object(data)
    except DuplicateMember:
        problem = "duplicate_member", "the token names a member twice"
    except NonFiniteNumber:
        problem = "non_finite_number", "the token holds a number that is not finite"
    except ValueError:
        problem = "malformed", "the credential is not a token"
    _refuse(*problem)


def _check_times(claims: dict[str, Any], now: float) -> tuple[int, int]:
    """Every time is whole seconds; none is too early, too late or too far apart."""
    for name in ("exp", "iat", "nbf"):
        value = claims.get(name)
        if type(value) is not int or not 0 <= value < _MAX_TIME:
            _refuse(f"bad_{name}", f"the token's {name} is not a time in whole seconds")
    issued_at, expires_at = claims["iat"], claims["exp"]
    if now >= expires_at:
        _refuse("token_expired", "the token has expired")
    if max(issued_at, claims["nbf"]) > now + CLOCK_SKEW:
        _refuse("not_yet_valid", "the token is from the future")
    # The skew forgives a clock that is behind; it must not bring to life what never was valid.
    if expires_at <= issued_at:
        _refuse("bad_exp", "the token expires before it was issued")
    if expires_at <= claims["nbf"]:
        _refuse("bad_nbf", "the token expires before it becomes valid")
    if expires_at - issued_at > MAX_LIFETIME:
        _refuse("lifetime_too_long", f"the token lives longer than {MAX_LIFETIME} seconds")
    return issued_at, expires_at

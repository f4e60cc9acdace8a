"""Mints short-lived tokens: `agent+jwt`, ES256, with nothing in them that could go stale."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping

from tabard.clock import MAX_TIME
from tabard.errors import ConfigurationError
from tabard.identity.encoding import base64url
from tabard.identity.keys import SigningKey
from tabard.identity.spiffe_id import SpiffeId

TOKEN_TYPE = "agent+jwt"  # noqa: S105
JWT_SVID = "jwt-svid"
"""The profile that any SPIFFE verifier accepts: the same claims under the type `JWT`."""
_TYPES = {TOKEN_TYPE: TOKEN_TYPE, JWT_SVID: "JWT"}
MAX_LIFETIME = 3600
"""Seconds a token may live at most."""


def new_token_id() -> str:
    """A random `jti` of 128 bits."""
    return base64url(os.urandom(16))


_ID = re.compile(r"[A-Za-z0-9._~-]{16,64}", re.ASCII)


def is_token_id(text: str) -> bool:
    """Whether a text may be a `jti` or `txn`: an id, too plain to hold anything personal."""
    return _ID.fullmatch(text) is not None


def mint_token(
    key: SigningKey,
    *,
    subject: SpiffeId,
    audience: str,
    issued_at: float,
    lifetime: float,
    profile: str = TOKEN_TYPE,
    bound_to: str | None = None,
    jti: str | None = None,
    txn: str | None = None,
) -> str:
    """Sign a token (RFC 7519, claims of ARCHITECTURE section 6).

    Args:
        key: The issuer's key.
        subject: Whom the token is for.
        audience: The one enforcement point it is meant for.
        issued_at: POSIX seconds.
        lifetime: Seconds until it expires, above 0 and at most 3600.
        profile: `agent+jwt`, or `jwt-svid`.
        bound_to: RFC 7638 thumbprint of the key whose possession every call must prove (`cnf.jkt`,
            RFC 7800); only in the profile `agent+jwt`.
        jti: The token's id; random by default.
        txn: The run's id, carried into every record; random by default.

    Raises:
        ConfigurationError: A fact is none, or the verifier would refuse it; names which.
    """
    jti = new_token_id() if jti is None else jti
    txn = new_token_id() if txn is None else txn
    ids = {"jti": jti, "txn": txn} | ({} if bound_to is None else {"bound_to": bound_to})
    _check_facts(subject, audience, issued_at, lifetime, ids)
    if (
        not isinstance(profile, str)
        or profile not in _TYPES
        or (bound_to is not None and profile != TOKEN_TYPE)
    ):
        raise ConfigurationError(
            f"profile: expected {TOKEN_TYPE}, or {JWT_SVID} for a token that is not bound to a key"
        )
    now = int(issued_at)
    header = {"alg": "ES256", "kid": key.kid, "typ": _TYPES[profile]}
    claims: dict[str, object] = {
        "iss": f"spiffe://{subject.trust_domain}",
        "sub": str(subject),
        "aud": audience,
        "iat": now,
        "nbf": now,
        "exp": now + int(lifetime),
        "jti": jti,
        "txn": txn,
    }
    if bound_to is not None:
        claims["cnf"] = {"jkt": bound_to}
    message = f"{encode_part(header)}.{encode_part(claims)}"
    return f"{message}.{base64url(key.sign(message.encode('ascii')))}"


def _check_facts(
    subject: object, audience: object, issued_at: float, lifetime: float, ids: Mapping[str, object]
) -> None:
    """Refuse here what the verifier would refuse there: nobody should carry such a token."""
    if not isinstance(subject, SpiffeId) or not subject.path:
        raise ConfigurationError("subject: expected a SpiffeId with a path")
    if not isinstance(audience, str) or not audience:
        raise ConfigurationError("audience: expected one text, not empty")
    if type(issued_at) not in (int, float) or not 0 <= issued_at < MAX_TIME:
        raise ConfigurationError("issued_at: expected POSIX seconds")
    if type(lifetime) not in (int, float) or not 1 <= lifetime <= MAX_LIFETIME:
        raise ConfigurationError(f"lifetime: expected 1 to {MAX_LIFETIME} seconds")
    for name, value in ids.items():
        if not isinstance(value, str) or not is_token_id(value):
            raise ConfigurationError(
                f"{name}: expected 16 to 64 letters, digits, `.`, `_`, `~`, `-`"
            )


def encode_part(part: Mapping[str, object]) -> str:
    """A header or claims as base64url of JSON."""
    return base64url(json.dumps(part, separators=(",", ":")).encode())

"""What a credential says and whether it counts, without using it and without showing it."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

from tabard.clock import Clock, read_clock
from tabard.credentials import PEM_PREFIX, CredentialVerifier, text_of
from tabard.errors import AccessDenied, AuthenticationFailed
from tabard.identity import VerifiedToken
from tabard.identity.api_key import JOIN_PREFIX, PREFIX, digest_of, id_of
from tabard.identity.compact import read_compact
from tabard.identity.x509_svid import X509Svid
from tabard.store import Store
from tabard.verdict import verdict_on

_SHOWN = ("iss", "sub", "aud", "iat", "nbf", "exp", "jti", "txn")
_LONGEST = 200

Fact = str | int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """What is known of a credential.

    Attributes:
        facts: What it says; believed only if it is valid.
        code: `ok`, or why it is refused.
        reason: One sentence.
    """

    facts: Mapping[str, Fact]
    code: str
    reason: str


def inspect(
    credential: str | bytes, *, verifier: CredentialVerifier, store: Store, clock: Clock
) -> Inspection:
    """Look at a token, an API key, a join token or an X.509-SVID; nothing is used up.

    Raises:
        StoreError: The store failed.
    """
    facts: dict[str, Fact] = {}
    try:
        facts = _claimed(credential)
        if text_of(credential).startswith(JOIN_PREFIX):
            facts |= _join_token(text_of(credential), store, clock)
            return Inspection(facts=facts, code="ok", reason="it can be used once")
        token = verifier.verify(credential)
        facts = _verified(token)
        key = store.find_api_key(token.jti)
        if key is not None:  # what it is exchanged for ends earlier than itself
            facts["expires"] = key.expires_at
        dead = verdict_on(
            store.liveness(
                str(token.spiffe_id), names=token.revocable_by, issued_at=token.issued_at
            )
        )
        if dead is not None:
            raise dead.refusal(agent=None)
    except AccessDenied as refusal:
        return Inspection(facts=facts, code=refusal.code, reason=refusal.reason)
    return Inspection(facts=facts, code="ok", reason="it counts here")


def _claimed(credential: str | bytes) -> dict[str, Fact]:
    """What it says of itself, which anybody can write."""
    text = text_of(credential)
    if text.startswith((PREFIX, JOIN_PREFIX)):
        return {"kind": "join-token" if text.startswith(JOIN_PREFIX) else "api-key"}
    if text.startswith(PEM_PREFIX):
        svid = X509Svid.from_pem(text)
        return {"kind": "x509-svid", "subject": str(svid.spiffe_id or ""), "id": svid.id}
    jws = read_compact(credential)
    facts = {name: _fact(jws.header.get(name)) for name in ("typ", "alg", "kid")}
    with suppress(AccessDenied):
        claims = jws.claims()
        facts |= {name: _fact(claims[name]) for name in _SHOWN if name in claims}
    return facts


def _fact(value: object) -> Fact:
    if type(value) is int:
        return value
    return None if value is None else str(value)[:_LONGEST]


def _verified(token: VerifiedToken) -> dict[str, Fact]:
    return {
        "kind": token.kind,
        "subject": str(token.spiffe_id),
        "key": token.kid,
        "id": token.jti,
        "audience": token.audience or None,
        "issued": token.issued_at,
        "expires": token.expires_at,
        "bound to": token.bound_to,
    }


def _join_token(text: str, store: Store, clock: Clock) -> dict[str, Fact]:
    """The facts of a join token that can still be used.

    Raises:
        AuthenticationFailed: It cannot.
    """
    token = store.find_api_key(id_of(text))
    if token is None or not hmac.compare_digest(token.digest, digest_of(text)):
        raise AuthenticationFailed(code="unknown_key", reason="it is not one of this home")
    if token.revoked:
        raise AuthenticationFailed(code="token_revoked", reason="it has been used or taken back")
    if read_clock(clock) >= token.expires_at:
        raise AuthenticationFailed(code="token_expired", reason="it has expired")
    return {
        "subject": token.spiffe_id,
        "id": token.id,
        "issued": token.created_at,
        "expires": token.expires_at,
    }

"""Verifies a credential of whatever kind: by its signature, or by the registry."""

from __future__ import annotations

import hmac
from contextlib import suppress

from tabard.clock import Clock, read_clock
from tabard.errors import AccessDenied, AuthenticationFailed, InvalidSpiffeId
from tabard.identity import JwtSvidVerifier, SpiffeId, TokenVerifier, TrustBundle, VerifiedToken
from tabard.identity.api_key import PREFIX, digest_of, id_of
from tabard.identity.compact import CompactJws, read_compact
from tabard.identity.encoding import plain
from tabard.identity.token import new_token_id
from tabard.identity.x509_svid import X509Svid
from tabard.identity.x509_verifier import X509Verifier
from tabard.store import Store
from tabard.trust import Trust

SESSION_LIFETIME = 300
"""Seconds after which a session that was opened with an API key verifies it again."""
PEM_PREFIX = "-----BEGIN "

_JWT_TYPES = ("JWT", "JOSE", None)


class CredentialVerifier:
    """Turns a credential into the facts a session rests on.

    Attributes:
        audience: What a token must be meant for.
    """

    def __init__(self, trust: Trust, store: Store, *, audience: str, clock: Clock) -> None:
        self._trust = trust
        self._store = store
        self.audience = audience
        self._clock = clock

    def verify(self, credential: str | bytes | X509Svid) -> VerifiedToken:
        """Verify a token, an API key, or an X.509-SVID with its private key.

        Raises:
            AuthenticationFailed: It does not hold; nothing of it is in the refusal.
            GuardUnavailable: The clock failed.
            StoreError: The store failed.
        """
        if isinstance(credential, X509Svid):
            return self._verify_svid(credential)
        text = text_of(credential)
        if text.startswith(PREFIX):
            return self._exchange_key(text)
        if text.startswith(PEM_PREFIX):
            return self._verify_svid(X509Svid.from_pem(text))
        return self._verify_token(credential)

    def _verify_token(self, token: str | bytes) -> VerifiedToken:
        jws = read_compact(token)
        # JWT-SVID standard, section 5.2: verified with the bundle of the subject's trust domain.
        domain = self._claimed_domain(jws)
        svid = jws.header.get("typ") in _JWT_TYPES
        kind = JwtSvidVerifier if svid else TokenVerifier

        def verify_with(bundle: TrustBundle) -> VerifiedToken:
            return kind(bundle, audience=self.audience, clock=self._clock).verify(token)

        try:
            return verify_with(self._trust.bundle(domain))
        except AuthenticationFailed as refusal:
            newer = self._trust.newer_bundle(domain) if refusal.code == "unknown_key" else None
            if newer is None:
                raise
        return verify_with(newer)

    def _claimed_domain(self, jws: CompactJws) -> str:
        """The trust domain a token says it is of; our own, where it does not say it properly."""
        with suppress(AccessDenied, InvalidSpiffeId):
            return SpiffeId.parse(jws.claims().get("sub", "")).trust_domain
        return self._trust.trust_domain

    def _verify_svid(self, svid: X509Svid) -> VerifiedToken:
        domain = svid.spiffe_id.trust_domain if svid.spiffe_id else self._trust.trust_domain

        def verify_with(bundle: TrustBundle) -> VerifiedToken:
            return X509Verifier(bundle.authorities, trust_domain=domain, clock=self._clock).verify(
                svid
            )

        try:
            return verify_with(self._trust.bundle(domain))
        except AuthenticationFailed as refusal:
            newer = self._trust.newer_bundle(domain) if refusal.code == "unknown_key" else None
            if newer is None:
                raise
        return verify_with(newer)

    def _exchange_key(self, text: str) -> VerifiedToken:
        """The facts of a short session in exchange for a key; the key itself goes no further."""
        key = self._store.find_api_key(id_of(text))
        # One answer for a key that never was and for a wrong secret: neither tells of the other.
        if key is None or not hmac.compare_digest(key.digest, digest_of(text)):
            raise AuthenticationFailed(
                code="unknown_key", reason="the API key is not one of this home"
            )
        now = read_clock(self._clock)
        if key.revoked:
            raise AuthenticationFailed(code="token_revoked", reason="the API key has been revoked")
        if now >= key.expires_at:
            raise AuthenticationFailed(code="token_expired", reason="the API key has expired")
        return VerifiedToken(
            spiffe_id=SpiffeId.parse(key.spiffe_id),
            kind="api-key",
            kid=key.id,
            jti=key.id,
            txn=new_token_id(),
            audience=self.audience,
            issued_at=key.created_at,
            expires_at=min(int(now) + SESSION_LIFETIME, key.expires_at),
        )


def text_of(credential: object) -> str:
    """A credential as text, however it was handed over; only good for looking at its beginning."""
    held = plain(credential)
    return held.decode("ascii", "replace") if isinstance(held, bytes) else held or ""


class HeldKey:
    """An API key kept for the session it opened, so that the session can go on."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def credential(self) -> str:
        """The key."""
        return self._text

    def __repr__(self) -> str:
        """Never shows the key."""
        return "<HeldKey>"


def hold(credential: object) -> HeldKey | None:
    """A source that hands out an API key again; None for what ends when it ends."""
    text = text_of(credential)
    return HeldKey(text) if text.startswith(PREFIX) else None

"""Verifies a credential of whatever kind: a token by its signature, an API key by the registry."""

from __future__ import annotations

import hmac

from tabard.clock import Clock, read_clock
from tabard.errors import AuthenticationFailed
from tabard.identity import SpiffeId, TokenVerifier, TrustBundle, VerifiedToken
from tabard.identity.api_key import PREFIX, digest_of, id_of
from tabard.identity.token import new_token_id
from tabard.store import Store

SESSION_LIFETIME = 300
"""Seconds after which a session that was opened with an API key verifies it again."""


class CredentialVerifier:
    """Turns a credential into the facts a session rests on."""

    def __init__(self, bundle: TrustBundle, store: Store, *, audience: str, clock: Clock) -> None:
        self._tokens = TokenVerifier(bundle, audience=audience, clock=clock)
        self._store = store
        self._audience = audience
        self._clock = clock

    def verify(self, credential: str | bytes) -> VerifiedToken:
        """Verify a token or an API key.

        Raises:
            AuthenticationFailed: It does not hold; nothing of it is in the refusal.
            GuardUnavailable: The clock failed.
            StoreError: The store failed.
        """
        text = (
            credential.decode("ascii", "replace") if isinstance(credential, bytes) else credential
        )
        if isinstance(text, str) and text.startswith(PREFIX):
            return self._exchange_key(text)
        return self._tokens.verify(credential)

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
            audience=self._audience,
            issued_at=key.created_at,
            expires_at=min(int(now) + SESSION_LIFETIME, key.expires_at),
        )


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


def hold(credential: str | bytes) -> HeldKey | None:
    """A source that hands out an API key again; None for a token, which ends when it ends."""
    text = credential.decode("ascii", "replace") if isinstance(credential, bytes) else credential
    return HeldKey(text) if text.startswith(PREFIX) else None

"""Who is calling: verifies a credential against the bundle and the registry, and renews it."""

from __future__ import annotations

import os
from typing import NamedTuple

from tabard.audit.fields import encode
from tabard.clock import Clock, read_clock
from tabard.credentials import CredentialVerifier, hold, text_of
from tabard.environment import credential_from_environment
from tabard.errors import AccessDenied, AuthenticationFailed, GuardUnavailable, StoreError
from tabard.identity import Agent, VerifiedToken, fingerprint
from tabard.identity.api_key import JOIN_PREFIX
from tabard.identity.credential_file import CredentialFile
from tabard.identity.encoding import plain
from tabard.identity.source import RenewingSource
from tabard.identity.x509_svid import X509Svid
from tabard.keyring import Keyring
from tabard.notice import warn
from tabard.session import CredentialSource, Session
from tabard.store import Store
from tabard.verdict import UNREGISTERED, verdict_on

RENEWAL_RETRY = 5.0
"""Seconds between two attempts to renew while the old credential is still alive."""

TAKEN_BACK = frozenset({"token_revoked", "unknown_key", "bad_signature"})
"""The codes of a source's credential that was good once: evicted, or its key killed; the key of an
authority that was killed leaves others of the same name behind, so its signature seems bad."""

Credential = str | bytes | os.PathLike[str] | X509Svid | CredentialSource
"""A token, an API key, a join token or an X.509-SVID as text or bytes; a file with one of these in
it; or a source that hands one out whenever it is asked."""


class Identified(NamedTuple):
    """The facts of a credential that held."""

    agent: Agent
    token: VerifiedToken
    source: CredentialSource | None
    now: float


def identify(
    credential: Credential | None, *, verifier: CredentialVerifier, store: Store, clock: Clock
) -> Identified:
    """Establish who a credential belongs to; a failure is put on record before it is raised.

    Raises:
        AuthenticationFailed: It does not hold, or its agent is unknown or revoked.
        GuardUnavailable: The clock failed.
        StoreError: The store failed.
    """
    now = read_clock(clock)
    held: str | bytes | X509Svid | None = None
    try:
        if credential is None:
            credential = credential_from_environment(verifier.audience, clock)
        if isinstance(credential, os.PathLike):
            credential = CredentialFile(credential)
        held = _fetch(credential)
        source = credential if isinstance(credential, CredentialSource) else None
        if text_of(held).startswith(JOIN_PREFIX):
            # Used up now, wherever it came from: the session goes on under what it was given.
            held, source = Keyring(store, clock).redeem(text_of(held)), None
        try:
            token = verifier.verify(held)
            agent = _find_live(store, token)
        except AuthenticationFailed as refusal:
            another = _another(source, held) if refusal.code in TAKEN_BACK else None
            if another is None:
                raise
            held = another
            token = verifier.verify(held)
            agent = _find_live(store, token)
    except AccessDenied as refusal:
        _record_failure(store, refusal, held, now)
        raise
    # An API key is exchanged again when the session is half through; a token ends when it ends.
    return Identified(agent=agent, token=token, source=source or hold(held), now=now)


def _another(
    source: CredentialSource | None, refused: str | bytes | X509Svid
) -> str | bytes | X509Svid | None:
    """What a source hands out, asked once, in the place of what was taken back; None if the same.

    Raises:
        AccessDenied: Its issuer refuses.
    """
    if source is None:
        return None
    if isinstance(source, RenewingSource) and not isinstance(refused, bytes):
        source.discard(refused)
    another = _fetch(source)
    same = another is refused or (plain(another) is not None and plain(another) == plain(refused))
    return None if same or text_of(another).startswith(JOIN_PREFIX) else another


def _find_live(store: Store, token: VerifiedToken) -> Agent:
    """The agent of a token that still counts.

    Raises:
        AuthenticationFailed: It is not registered, or the token has been revoked.
    """
    name = str(token.spiffe_id)
    dead = verdict_on(store.liveness(name, names=token.revocable_by, issued_at=token.issued_at))
    agent = store.find_agent(name)
    if dead is not None or agent is None:
        raise (dead or UNREGISTERED).refusal(agent=name)
    return agent


def _fetch(credential: object) -> str | bytes | X509Svid:
    """The credential itself, from wherever it comes."""
    if credential is None:
        raise AuthenticationFailed(
            code="no_identity", reason="no credential was given and $TABARD_CREDENTIAL is empty"
        )
    if isinstance(credential, str | bytes | X509Svid):
        return credential
    if not isinstance(credential, CredentialSource):
        raise AuthenticationFailed(
            code="malformed", reason="a credential is text, or a source with `credential()`"
        )
    try:
        return credential.credential()
    except (AccessDenied, StoreError):
        raise
    except Exception as error:
        kind = type(error).__name__
        raise AuthenticationFailed(
            code="no_identity", reason=f"the source handed out no credential: {kind}"
        ) from None


def _record_failure(
    store: Store, refusal: AccessDenied, credential: str | bytes | X509Svid | None, now: float
) -> None:
    """Keep the failed attempt: its code and the credential's fingerprint, never the credential."""
    members = {
        "agent": None,
        "session": None,
        "credential": None if credential is None else {"sha256": fingerprint(credential)},
        "decision": {"effect": "deny", "code": refusal.code, "reason": refusal.reason},
    }
    with store.transaction(now) as transaction:
        transaction.append("auth.failed", encode(members)[1:-1])


def renew(session: Session, verifier: CredentialVerifier, now: float) -> None:
    """Go on under a fresh credential. The old one serves until it expires if none can be had.

    Raises:
        AccessDenied: The source or the verifier refuses for good.
    """
    assert session.source is not None  # noqa: S101  the caller has looked
    try:
        token = _renewed(session, session.source, verifier)
    except AccessDenied as refusal:
        if isinstance(refusal, GuardUnavailable) and now < session.token.expires_at:
            session.renew_at = now + RENEWAL_RETRY
            return
        raise
    except Exception as error:
        warn("a credential could not be renewed: %s", type(error).__name__)
        if now < session.token.expires_at:
            session.renew_at = now + RENEWAL_RETRY
            return
        raise AuthenticationFailed(
            code="token_expired", reason="the credential has expired and could not be renewed"
        ) from None
    if token.spiffe_id != session.agent.spiffe_id:
        raise AuthenticationFailed(
            code="identity_changed", reason="the source handed out another agent's credential"
        )
    if token.bound_to != session.token.bound_to:
        raise AuthenticationFailed(
            code="binding_changed", reason="the source handed out a credential bound otherwise"
        )
    session.accept(token)


def _renewed(
    session: Session, source: CredentialSource, verifier: CredentialVerifier
) -> VerifiedToken:
    """The facts of what the source hands out, asked once more where that has been refused."""
    held = source.credential()
    try:
        token = verifier.verify(held)
    except AuthenticationFailed as refusal:
        another = _another(source, held) if refusal.code in TAKEN_BACK else None
        if another is None:
            raise
        return verifier.verify(another)
    if session.was_refused and token.jti == session.token.jti:
        another = _another(source, held)
        if another is not None:
            return verifier.verify(another)
    return token

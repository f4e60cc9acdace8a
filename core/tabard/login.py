"""Who is calling: verifies a credential against the bundle and the registry, and renews it."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass

from tabard.audit.fields import encode
from tabard.clock import Clock, read_clock
from tabard.credentials import CredentialVerifier, hold
from tabard.errors import AccessDenied, AuthenticationFailed, GuardUnavailable, StoreError
from tabard.identity import Agent, VerifiedToken, fingerprint
from tabard.session import CredentialSource, Session
from tabard.store import Store
from tabard.verdict import UNREGISTERED, verdict_on

_log = logging.getLogger("tabard")

RENEWAL_RETRY = 5.0
"""Seconds between two attempts to renew while the old credential is still alive."""

Credential = str | bytes | CredentialSource


@dataclass(frozen=True, slots=True, kw_only=True)
class Identified:
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
    if credential is None:
        credential = os.environ.get("TABARD_CREDENTIAL") or None
    source = credential if isinstance(credential, CredentialSource) else None
    text: str | bytes | None = None
    try:
        text = _fetch(credential)
        token = verifier.verify(text)
        agent = _find_live(store, token)
    except AccessDenied as refusal:
        _record_failure(store, refusal, text, now)
        raise
    # An API key is exchanged again when the session is half through; a token ends when it ends.
    return Identified(agent=agent, token=token, source=source or hold(text), now=now)


def _find_live(store: Store, token: VerifiedToken) -> Agent:
    """The agent of a token that still counts.

    Raises:
        AuthenticationFailed: It is not registered, or the token has been revoked.
    """
    name = str(token.spiffe_id)
    dead = verdict_on(store.liveness(name, jti=token.jti, issued_at=token.issued_at))
    agent = store.find_agent(name)
    if dead is not None or agent is None:
        raise (dead or UNREGISTERED).refusal(agent=name)
    return agent


def _fetch(credential: Credential | None) -> str | bytes:
    """The token itself, from wherever it comes."""
    if credential is None:
        raise AuthenticationFailed(
            code="no_identity", reason="no credential was given and $TABARD_CREDENTIAL is empty"
        )
    if isinstance(credential, str | bytes):
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
    store: Store, refusal: AccessDenied, credential: str | bytes | None, now: float
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
        token = verifier.verify(session.source.credential())
    except AccessDenied as refusal:
        if isinstance(refusal, GuardUnavailable) and now < session.token.expires_at:
            session.renew_at = now + RENEWAL_RETRY
            return
        raise
    except Exception as error:
        _log.warning("a credential could not be renewed: %s", type(error).__name__)
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
    session.accept(token)

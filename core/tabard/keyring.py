"""The API keys and join tokens of agents: made, listed, exchanged and taken back."""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from typing import NoReturn

from tabard.audit.fields import encode
from tabard.clock import Clock, read_clock
from tabard.errors import AuthenticationFailed, ConfigurationError
from tabard.identity.agent import Agent, find_agent
from tabard.identity.api_key import (
    JOIN_PREFIX,
    PREFIX,
    ApiKey,
    KeyKind,
    digest_of,
    id_of,
    new_api_key,
)
from tabard.issuing import claim_moment, record_issue
from tabard.revocation import explain
from tabard.store import Store, Transaction

DAY = 86_400
DEFAULT_KEY_DAYS = 90.0
"""Days an API key lives."""
MAX_LIFETIME_DAYS = 365
JOIN_LIFETIME = 600.0
"""Seconds in which a join token has to be used."""
LIVE_KEYS = 2
"""Keys an agent can have at a time: the one in use, and the one it is being replaced by."""


class Keyring:
    """Every agent's API keys."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    def create(self, agent: Agent, *, days: float, grace: float | None = None) -> str:
        """Make a key; it is returned this once and kept only as its hash.

        Args:
            agent: Whom it is for.
            days: Days until it expires, at most 365.
            grace: Seconds after which the agent's other key expires; 0 takes it back at once, with
                the sessions it opened; None leaves it as it is.

        Raises:
            AuthenticationFailed: The agent has been revoked.
            ConfigurationError: The lifetime is out of bounds, or there are two live keys already.
        """
        if not _is_number(days) or not 1 / DAY <= days <= MAX_LIFETIME_DAYS:
            raise ConfigurationError(f"lifetime: expected 1 s to {MAX_LIFETIME_DAYS} days")
        if grace is not None and not (_is_number(grace) and 0 <= grace <= MAX_LIFETIME_DAYS * DAY):
            raise ConfigurationError("grace: expected seconds, from 0 on")
        now = read_clock(self._clock)
        with self._store.transaction(now) as transaction:
            every = transaction.api_keys(str(agent.spiffe_id))
            live = [key for key in every if key.kind == "key" and key.is_live(now)]
            if len(live) >= LIVE_KEYS:
                listed = ", ".join(key.id for key in live)
                raise ConfigurationError(f"{agent.name} has {LIVE_KEYS} live keys: {listed}")
            for key in live if grace is not None else ():
                transaction.shorten_api_key(key.id, int(now + (grace or 0)))
                if not grace:  # a session would go on until it asks for its key again
                    _take_back(transaction, key, explain("rotated without grace", None))
            return self._add(transaction, agent, now, lifetime=days * DAY)

    def create_join_token(self, agent: Agent, *, lifetime: float) -> str:
        """Make a token that is good for one login.

        Args:
            agent: Whom it is for.
            lifetime: Seconds in which it has to be used, at most a day.

        Raises:
            AuthenticationFailed: The agent has been revoked.
            ConfigurationError: The lifetime is out of bounds.
        """
        if not _is_number(lifetime) or not 1 <= lifetime <= DAY:
            raise ConfigurationError(f"lifetime: expected 1 to {DAY} seconds")
        now = read_clock(self._clock)
        with self._store.transaction(now) as transaction:
            return self._add(transaction, agent, now, kind="join", lifetime=lifetime)

    def redeem(self, text: str) -> str:
        """Exchange a join token for a key that only the caller's process ever has.

        The token is used up in the transaction that makes the key.

        Raises:
            AuthenticationFailed: It is none, or was used, expired, or taken back.
        """
        key_id, now, agents = id_of(text), read_clock(self._clock), self._store.agents()
        with self._store.transaction(now) as transaction:
            token = transaction.find_api_key(key_id)
            if token is None or not hmac.compare_digest(token.digest, digest_of(text)):
                _refuse("unknown_key", "the join token is not one of this home")
            names = (token.id, token.id, token.id)
            liveness = transaction.liveness(
                token.spiffe_id, names=names, issued_at=token.created_at
            )
            if liveness != "active" or not transaction.revoke_api_key(token.id):
                _refuse("token_revoked", "the join token has been used or taken back")
            if now >= token.expires_at:
                _refuse("token_expired", "the join token has expired")
            return self._add(
                transaction,
                find_agent(agents, token.spiffe_id),
                now,
                kind="joined",
                lifetime=DEFAULT_KEY_DAYS * DAY,
                by=token.id,
            )

    def _add(
        self,
        transaction: Transaction,
        agent: Agent,
        now: float,
        *,
        lifetime: float,
        kind: KeyKind = "key",
        by: str | None = None,
    ) -> str:
        text = new_api_key(JOIN_PREFIX if kind == "join" else PREFIX)
        key = ApiKey(
            id=id_of(text),
            spiffe_id=str(agent.spiffe_id),
            digest=digest_of(text),
            kind=kind,
            created_at=claim_moment(transaction, agent, now, trust_domain=self._store.trust_domain),
            expires_at=int(now + lifetime),
            parent=by,
        )
        transaction.add_api_key(key)
        shown = {"key": "api-key", "join": "join-token", "joined": "api-key"}[kind]
        record_issue(transaction, agent, kind=shown, jti=key.id, exp=key.expires_at, by=by)
        return text

    def of(self, agent: Agent) -> list[ApiKey]:
        """An agent's keys of every kind, expired and revoked ones too, newest last."""
        with self._store.transaction(read_clock(self._clock)) as transaction:
            return transaction.api_keys(str(agent.spiffe_id))

    def revoke(self, key_id: str, reason: str, author: str | None) -> None:
        """Take a key or join token back, and every session that was opened with it.

        Raises:
            ConfigurationError: There is no such key, or no reason was given.
        """
        why, now = explain(reason, author), read_clock(self._clock)
        with self._store.transaction(now) as transaction:
            key = transaction.find_api_key(key_id) if _is_id(key_id) else None
            if key is None:
                # Not repeated: somebody may have passed the key in place of its id.
                raise ConfigurationError("no API key of that id; the log shows it as cred.jti")
            joined = [k for k in transaction.api_keys(key.spiffe_id) if k.parent == key.id]
            _take_back(transaction, key, why, joined)


def _take_back(
    transaction: Transaction, key: ApiKey, why: str, joined: Sequence[ApiKey] = ()
) -> None:
    """Refuse a key, what it was exchanged for, and every session they opened."""
    for one in (key, *joined):
        transaction.revoke_api_key(one.id)
        transaction.refuse(one.id, expires=one.expires_at)
    facts = encode({"kind": "api-key", "jti": key.id})
    transaction.append("token.revoked", f'"cred":{facts},{why}')


def _is_id(value: object) -> bool:
    return isinstance(value, str) and value.isascii()


def _is_number(value: object) -> bool:
    return type(value) in (int, float)


def _refuse(code: str, reason: str) -> NoReturn:
    raise AuthenticationFailed(code=code, reason=reason)

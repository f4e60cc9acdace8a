"""The API keys of agents: made, listed and taken back."""

from __future__ import annotations

import math

from tabard.audit.fields import encode
from tabard.clock import Clock, read_clock
from tabard.errors import AuthenticationFailed, ConfigurationError
from tabard.identity.agent import Agent
from tabard.identity.api_key import ApiKey, digest_of, id_of, new_api_key
from tabard.revocation import about, explain
from tabard.store import Store

DAY = 86_400
MAX_LIFETIME_DAYS = 365
LIVE_KEYS = 2
"""Keys an agent can have at a time: the one in use, and the one it is being replaced by."""


class Keyring:
    """Every agent's API keys."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    def create(self, agent: Agent, *, days: float) -> str:
        """Make a key; it is returned this once and kept only as its hash.

        Raises:
            AuthenticationFailed: The agent has been revoked.
            ConfigurationError: The lifetime is out of bounds, or there are two live keys already.
        """
        if not math.isfinite(days) or not 0 < days <= MAX_LIFETIME_DAYS:
            raise ConfigurationError(f"lifetime: expected up to {MAX_LIFETIME_DAYS} days")
        now, text = read_clock(self._clock), new_api_key()
        spiffe_id = str(agent.spiffe_id)
        with self._store.transaction(now) as transaction:
            if transaction.status(spiffe_id) != "active":
                raise AuthenticationFailed(
                    code="token_revoked",
                    reason="the agent's identity has been revoked",
                    agent=spiffe_id,
                )
            live = [key for key in transaction.api_keys(spiffe_id) if key.is_live(now)]
            if len(live) >= LIVE_KEYS:
                listed = ", ".join(key.id for key in live)
                raise ConfigurationError(f"{agent.name} has {LIVE_KEYS} live keys: {listed}")
            created = transaction.claim_issue_time(spiffe_id, int(now))
            key = ApiKey(
                id=id_of(text),
                spiffe_id=spiffe_id,
                digest=digest_of(text),
                created_at=int(now) if created is None else created,
                expires_at=int(now + days * DAY),
            )
            transaction.add_api_key(key)
            facts = encode({"kind": "api-key", "jti": key.id, "exp": key.expires_at})
            transaction.append("agent.issued", f'{about(agent)},"cred":{facts}')
        return text

    def of(self, agent: Agent) -> list[ApiKey]:
        """An agent's keys, expired and revoked ones too, newest last."""
        with self._store.transaction(read_clock(self._clock)) as transaction:
            return transaction.api_keys(str(agent.spiffe_id))

    def revoke(self, key_id: str, reason: str, author: str | None) -> None:
        """Take a key back, and every session that was opened with it.

        Raises:
            ConfigurationError: There is no such key, or no reason was given.
        """
        why, now = explain(reason, author), read_clock(self._clock)
        with self._store.transaction(now) as transaction:
            key = transaction.find_api_key(key_id)
            if key is None:
                # Not repeated: somebody may have passed the key in place of its id.
                raise ConfigurationError("no API key of that id; the log shows it as cred.jti")
            transaction.revoke_api_key(key.id)
            transaction.deny_token(key.id, expires=key.expires_at)
            facts = encode({"kind": "api-key", "jti": key.id})
            transaction.append("token.revoked", f'"cred":{facts},{why}')

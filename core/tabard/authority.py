"""Registers agents, issues their credentials, revokes them; holds the signing key.

```python
authority = Authority.open(".tabard", trust_domain="acme.example")
authority.register("claims-agent", team="claims", environment="prod")
token = authority.issue("claims-agent")
authority.revoke("claims-agent", reason="compromised")
```
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from types import TracebackType
from typing import Self

from tabard.audit.fields import encode
from tabard.clock import Clock, read_clock, system_clock
from tabard.errors import AuthenticationFailed, ConfigurationError
from tabard.home import Home, is_there
from tabard.identity import Agent, RenewingSource, SigningKey, SpiffeId, TrustBundle
from tabard.identity.audience import default_audience
from tabard.identity.token import mint_token, new_token_id
from tabard.store import SqliteStore, Store
from tabard.store.connection import create

DEFAULT_LIFETIME = 300.0
"""Seconds a token lives."""


class Authority:
    """The one who says who is who.

    Attributes:
        trust_domain: The trust domain of every identity registered here.
    """

    def __init__(self, *, store: Store, key: SigningKey, clock: Clock = system_clock) -> None:
        """Assemble an authority from its parts; `Authority.open` does it from a home."""
        self.trust_domain = store.trust_domain
        self._store = store
        self._key = key
        self._clock = clock

    @classmethod
    def open(
        cls,
        home: str | os.PathLike[str] | None = None,
        *,
        trust_domain: str | None = None,
        clock: Clock = system_clock,
    ) -> Self:
        """Open a home, and create it on first use: keys, trust bundle, database.

        Args:
            home: A folder; default `$TABARD_HOME`, else `.tabard`.
            trust_domain: For example `acme.example`; needed once, and checked ever after.
            clock: Returns POSIX seconds.

        Raises:
            ConfigurationError: The home, its key or its database is not usable, or belongs to
                another trust domain.
        """
        place = Home.locate(home)
        if trust_domain is not None:
            SpiffeId.for_trust_domain(trust_domain)
        elif not place.exists:
            raise ConfigurationError(
                f"{place.path}: a new home needs `trust_domain=`, for example 'acme.example'"
            )
        place.create()
        with place.locked():
            store = _open_store(place, trust_domain)
            key = _open_key(place, store.trust_domain)
        return cls(store=store, key=key, clock=clock)

    def register(
        self,
        name: str,
        *,
        team: str,
        environment: str,
        purpose: str | None = None,
        owner: str | None = None,
        attributes: Mapping[str, str] | None = None,
    ) -> Agent:
        """Register an agent; doing it again with the same facts changes nothing.

        Args:
            name: The agent's name; with team and environment it makes the SPIFFE ID.
            team: The owning team.
            environment: Where it runs, for example `prod`.
            purpose: What it is for.
            owner: Who answers for it.
            attributes: Further labels, for reports.

        Raises:
            ConfigurationError: A part may not stand in a SPIFFE ID, or the identity exists with
                other facts, or was revoked: an identity is never reused.
            StoreError: The store failed.
        """
        identity = Agent.named(
            name, team=team, environment=environment, trust_domain=self.trust_domain
        )
        agent = replace(
            identity, purpose=purpose, owner=owner, attributes=_checked_labels(attributes)
        )
        with self._store.transaction(read_clock(self._clock)) as transaction:
            if transaction.status(str(agent.spiffe_id)) is None:
                transaction.add_agent(agent)
                transaction.append("agent.registered", _about(agent))
                return agent
        known = self._store.find_agent(str(agent.spiffe_id))
        if known != agent:
            detail = "revoked" if known and known.status == "revoked" else "with other facts"
            raise ConfigurationError(
                f"{agent.spiffe_id} is registered already, {detail}; an identity is never reused"
            )
        return agent

    def agents(self) -> list[Agent]:
        """Every registered agent, by name."""
        return self._store.agents()

    def find(self, agent: str | SpiffeId | Agent) -> Agent:
        """The agent meant by a name, a SPIFFE ID or an `Agent`.

        Raises:
            ConfigurationError: There is none, or the name is borne by several; lists them.
        """
        wanted = str(agent.spiffe_id) if isinstance(agent, Agent) else str(agent)
        everyone = self._store.agents()
        found = [a for a in everyone if wanted in (a.name, str(a.spiffe_id))]
        if len(found) == 1:
            return found[0]
        if found:
            listed = ", ".join(str(a.spiffe_id) for a in found)
            raise ConfigurationError(
                f"{wanted!r} is the name of {len(found)} agents; name one of them: {listed}"
            )
        names = ", ".join(sorted({a.name for a in everyone})) or "none yet"
        raise ConfigurationError(f"no agent {wanted!r} is registered; registered: {names}")

    def issue(
        self,
        agent: str | SpiffeId | Agent,
        *,
        audience: str | None = None,
        lifetime: float = DEFAULT_LIFETIME,
    ) -> str:
        """Issue a token (`agent+jwt`, ES256); the issuing is on record, the token is not.

        Args:
            agent: Whom it is for.
            audience: Which enforcement point accepts it; default the guards of the trust domain.
            lifetime: Seconds until it expires, at most 3600.

        Raises:
            AuthenticationFailed: The agent has been revoked.
            ConfigurationError: No such agent, or a lifetime out of bounds.
            StoreError: The store failed.
        """
        known = self.find(agent)
        now = read_clock(self._clock)
        token, jti = self._mint(known, audience, now, lifetime)
        facts = encode({"jti": jti, "kid": self._key.kid, "exp": int(now + lifetime)})
        with self._store.transaction(now) as transaction:
            if transaction.status(str(known.spiffe_id)) != "active":
                raise AuthenticationFailed(
                    code="token_revoked",
                    reason="the agent's identity has been revoked",
                    agent=str(known.spiffe_id),
                )
            transaction.append("agent.issued", f'{_about(known)},"cred":{facts}')
        return token

    def source(
        self,
        agent: str | SpiffeId | Agent,
        *,
        audience: str | None = None,
        lifetime: float = DEFAULT_LIFETIME,
    ) -> RenewingSource:
        """A credential that renews itself at half its life; hand it to `Guard.login`.

        Raises:
            ConfigurationError: No such agent.
        """
        known = self.find(agent)
        return RenewingSource(
            lambda: self.issue(known, audience=audience, lifetime=lifetime),
            lifetime=lifetime,
            clock=self._clock,
        )

    def revoke(self, agent: str | SpiffeId | Agent, *, reason: str) -> Agent:
        """Revoke an agent for good: once this returns, no process admits a call of it.

        Args:
            agent: Whom.
            reason: Why, for the record.

        Raises:
            ConfigurationError: No such agent, or no reason was given.
            StoreError: The store failed; nothing has changed.
        """
        if not isinstance(reason, str) or not reason.strip():
            raise ConfigurationError("revoke: a reason is required; it goes into the audit log")
        known = self.find(agent)
        spiffe_id = str(known.spiffe_id)
        with self._store.transaction(read_clock(self._clock)) as transaction:
            if transaction.status(spiffe_id) == "active":
                transaction.revoke(spiffe_id, reason)
                transaction.append("agent.revoked", f'{_about(known)},"reason":{encode(reason)}')
        return replace(known, status="revoked")

    def close(self) -> None:
        """Close the log of this authority and let go of the database."""
        self._store.close()

    def __enter__(self) -> Self:
        """Use as `with Authority.open(...) as authority:`."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close."""
        self.close()

    def _mint(
        self, agent: Agent, audience: str | None, now: float, lifetime: float
    ) -> tuple[str, str]:
        jti = new_token_id()
        token = mint_token(
            self._key,
            subject=agent.spiffe_id,
            audience=audience or default_audience(self.trust_domain),
            issued_at=now,
            lifetime=lifetime,
            jti=jti,
        )
        return token, jti


def _open_store(place: Home, trust_domain: str | None) -> SqliteStore:
    """The home's database, made on first use."""
    create(place.database, trust_domain=trust_domain)
    store = SqliteStore(place.database, synchronous="FULL")
    if trust_domain not in (None, store.trust_domain):
        raise ConfigurationError(
            f"{place.path}: belongs to the trust domain {store.trust_domain!r}, "
            f"not {trust_domain!r}"
        )
    return store


def _open_key(place: Home, trust_domain: str) -> SigningKey:
    """The home's signing key, made together with its trust bundle on first use."""
    if is_there(place.signing_key):
        key = SigningKey.load(place.signing_key)
    elif is_there(place.bundle):
        raise ConfigurationError(
            f"{place.signing_key}: the signing key is missing; this home can enforce, not issue"
        )
    else:
        key = SigningKey.generate()
        key.save(place.signing_key)
    if not is_there(place.bundle):
        TrustBundle.of(key, trust_domain=trust_domain).save(place.bundle)
    return key


def _about(agent: Agent) -> str:
    """The members of a record that say which agent it is about, as JSON text."""
    return '"subject":' + encode({"id": str(agent.spiffe_id), "name": agent.name})


def _checked_labels(attributes: Mapping[str, str] | None) -> dict[str, str]:
    labels = dict(attributes or {})
    if all(isinstance(part, str) for item in labels.items() for part in item):
        return labels
    raise ConfigurationError("attributes: expected a mapping from text to text")

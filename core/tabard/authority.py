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

from tabard.clock import Clock, read_clock, system_clock
from tabard.errors import ConfigurationError
from tabard.federation import Federation
from tabard.founding import open_home
from tabard.home import Home
from tabard.identity import Agent, RenewingSource, SpiffeId
from tabard.identity.agent import find_agent
from tabard.identity.api_key import ApiKey
from tabard.identity.audience import default_audience
from tabard.identity.bundle_keys import authority_id
from tabard.identity.token import TOKEN_TYPE, mint_token, new_token_id
from tabard.identity.x509_svid import X509_SVID, X509Svid, issue_x509_svid
from tabard.issuer import Issuer
from tabard.issuing import claim_moment, record_issue
from tabard.keyring import DEFAULT_KEY_DAYS, JOIN_LIFETIME, Keyring
from tabard.registry import checked_labels, foreign_id, register
from tabard.remark import remark
from tabard.revocation import Revocations
from tabard.store import Store

DEFAULT_LIFETIME = 300.0
"""Seconds a token lives."""

DEFAULT_SVID_LIFETIME = 3600.0
"""Seconds a certificate lives."""

DEFAULT_GRACE = 86_400.0
"""Seconds in which an API key still counts after the next one was made."""


class Authority:
    """The one who says who is who.

    Attributes:
        trust_domain: The trust domain of every identity named here.
        issuer: The signing keys and the trust bundle: rotate, kill, look.
        federation: The other trust domains whose agents may be registered here.
    """

    def __init__(self, *, store: Store, issuer: Issuer, clock: Clock = system_clock) -> None:
        """Assemble an authority from its parts; `Authority.open` does it from a home."""
        self.trust_domain = store.trust_domain
        self.issuer = issuer
        self.federation = Federation(store, clock)
        self._store = store
        self._clock = clock
        self._revocations = Revocations(store, clock)
        self._keyring = Keyring(store, clock)

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
        store, issuer = open_home(Home.locate(home), trust_domain, clock)
        return cls(store=store, issuer=issuer, clock=clock)

    def register(
        self,
        name: str,
        *,
        team: str,
        environment: str,
        purpose: str | None = None,
        owner: str | None = None,
        attributes: Mapping[str, str] | None = None,
        spiffe_id: str | None = None,
    ) -> Agent:
        """Register an agent; doing it again with the same facts changes nothing.

        Args:
            name: The agent's name; with team and environment it makes the SPIFFE ID.
            team: The owning team.
            environment: Where it runs, for example `prod`.
            purpose: What it is for.
            owner: Who answers for it.
            attributes: Further labels, for reports.
            spiffe_id: Only for a workload of another trust domain: the identity it has there. Its
                own issuer gives it credentials; `federation.trust` makes them count here.

        Raises:
            ConfigurationError: A part may not stand in a SPIFFE ID, or the identity exists with
                other facts, or was revoked: an identity is never reused.
            StoreError: The store failed.
        """
        identity = Agent.named(
            name, team=team, environment=environment, trust_domain=self.trust_domain
        )
        if spiffe_id is not None:
            identity = replace(identity, spiffe_id=foreign_id(spiffe_id, self.trust_domain))
        labels = checked_labels(attributes)
        agent = replace(
            identity,
            purpose=remark("purpose", purpose),
            owner=remark("owner", owner),
            attributes=labels,
        )
        return register(agent, self._store, now=read_clock(self._clock))

    def agents(self) -> list[Agent]:
        """Every registered agent, by name."""
        return self._store.agents()

    def find(self, agent: str | SpiffeId | Agent) -> Agent:
        """The agent meant by a name, a SPIFFE ID or an `Agent`.

        Raises:
            ConfigurationError: There is none, or the name is borne by several; lists them.
        """
        return find_agent(self._store.agents(), agent)

    def issue(
        self,
        agent: str | SpiffeId | Agent,
        *,
        audience: str | None = None,
        lifetime: float = DEFAULT_LIFETIME,
        profile: str = TOKEN_TYPE,
        bound_to: str | None = None,
    ) -> str:
        """Issue a token (ES256); the issuing is on record, the token is not.

        Args:
            agent: Whom it is for.
            audience: Which enforcement point accepts it; default the guards of the trust domain.
            lifetime: Seconds until it expires, at most 3600.
            profile: `agent+jwt`, or `jwt-svid` for one that any SPIFFE verifier accepts.
            bound_to: Thumbprint (RFC 7638) of the key whose possession every call has to prove.

        Raises:
            AuthenticationFailed: The agent has been revoked.
            ConfigurationError: No such agent, or a lifetime out of bounds.
            StoreError: The store failed.
        """
        known = self.find(agent)
        now = read_clock(self._clock)
        with self._store.transaction(now) as transaction:
            issued_at = claim_moment(transaction, known, now, trust_domain=self.trust_domain)
            key = self.issuer.token_key(transaction, now)
            jti = new_token_id()
            token = mint_token(
                key,
                subject=known.spiffe_id,
                audience=audience or default_audience(self.trust_domain),
                issued_at=issued_at,
                lifetime=lifetime,
                profile=profile,
                bound_to=bound_to,
                jti=jti,
            )
            expires = issued_at + int(lifetime)
            record_issue(transaction, known, kind=profile, jti=jti, kid=key.kid, exp=expires)
        self.issuer.publish()
        return token

    def issue_svid(
        self, agent: str | SpiffeId | Agent, *, lifetime: float = DEFAULT_SVID_LIFETIME
    ) -> X509Svid:
        """Issue an X.509-SVID: a certificate and the key that was made for it.

        Args:
            agent: Whom it is for.
            lifetime: Seconds until it expires, at most 3600.

        Raises:
            AuthenticationFailed: The agent has been revoked.
            ConfigurationError: No such agent, or a lifetime out of bounds.
            StoreError: The store failed.
        """
        known = self.find(agent)
        now = read_clock(self._clock)
        with self._store.transaction(now) as transaction:
            issued_at = claim_moment(transaction, known, now, trust_domain=self.trust_domain)
            key, certificate = self.issuer.certificate_key(transaction, now)
            svid = issue_x509_svid(
                key, certificate, subject=known.spiffe_id, issued_at=issued_at, lifetime=lifetime
            )
            record_issue(
                transaction,
                known,
                kind=X509_SVID,
                jti=svid.id,
                kid=authority_id(certificate),
                exp=issued_at + int(lifetime),
            )
        self.issuer.publish()
        return svid

    def create_key(self, agent: str | SpiffeId | Agent, *, days: float = DEFAULT_KEY_DAYS) -> str:
        """Make a unique API key for an agent; it is shown this once and kept only as its hash.

        Args:
            agent: Whom it is for; an agent has at most two live keys, so that one can follow
                the other without a gap.
            days: Days until it expires: a second to 365 days.

        Raises:
            AuthenticationFailed: The agent has been revoked.
            ConfigurationError: No such agent, two live keys already, or a lifetime out of bounds.
            StoreError: The store failed.
        """
        return self._keyring.create(self.find(agent), days=days)

    def rotate_key(
        self,
        agent: str | SpiffeId | Agent,
        *,
        days: float = DEFAULT_KEY_DAYS,
        grace: float = DEFAULT_GRACE,
    ) -> str:
        """Make an agent's next API key; the one it has now expires after a time of grace.

        Args:
            agent: Whom it is for.
            days: Days until the new key expires, at most 365.
            grace: Seconds in which both keys count; with 0 the sessions of the old one end now.

        Raises:
            AuthenticationFailed: The agent has been revoked.
            ConfigurationError: No such agent, two live keys already, or a time out of bounds.
            StoreError: The store failed.
        """
        return self._keyring.create(self.find(agent), days=days, grace=grace)

    def create_join_token(
        self, agent: str | SpiffeId | Agent, *, lifetime: float = JOIN_LIFETIME
    ) -> str:
        """Make a token that is good for one login, to start an agent with; shown this once.

        Args:
            agent: Whom it is for.
            lifetime: Seconds in which it has to be used, at most a day.

        Raises:
            AuthenticationFailed: The agent has been revoked.
            ConfigurationError: No such agent, or a lifetime out of bounds.
            StoreError: The store failed.
        """
        return self._keyring.create_join_token(self.find(agent), lifetime=lifetime)

    def keys(self, agent: str | SpiffeId | Agent) -> list[ApiKey]:
        """What is known of an agent's API keys, oldest first; never the keys.

        Raises:
            ConfigurationError: No such agent.
        """
        return self._keyring.of(self.find(agent))

    def revoke_key(self, key_id: str, *, reason: str, author: str | None = None) -> None:
        """Take an API key back, and with it every session that was opened with it.

        Raises:
            ConfigurationError: No such key, or no reason was given.
            StoreError: The store failed; nothing has changed.
        """
        self._keyring.revoke(key_id, reason, author)

    def source(
        self,
        agent: str | SpiffeId | Agent,
        *,
        audience: str | None = None,
        lifetime: float = DEFAULT_LIFETIME,
        profile: str = TOKEN_TYPE,
        bound_to: str | None = None,
    ) -> RenewingSource:
        """A credential that renews itself at half its life; hand it to `Guard.login`.

        Args:
            agent: Whose it is.
            audience: Which enforcement point accepts it; default the guards of the trust domain.
            lifetime: Seconds each one lives, at most 3600.
            profile: `agent+jwt`, `jwt-svid` or `x509-svid`.
            bound_to: Thumbprint (RFC 7638) of the key whose possession every call has to prove; of
                tokens only.

        Raises:
            ConfigurationError: No such agent, or a certificate that is to be bound.
        """
        known = self.find(agent)
        if profile == X509_SVID and bound_to is not None:
            raise ConfigurationError("source: `bound_to` is for tokens; a certificate has its key")
        if profile == X509_SVID:
            return RenewingSource(
                lambda: self.issue_svid(known, lifetime=lifetime), clock=self._clock
            )
        return RenewingSource(
            lambda: self.issue(
                known, audience=audience, lifetime=lifetime, profile=profile, bound_to=bound_to
            ),
            clock=self._clock,
        )

    def revoke(
        self, agent: str | SpiffeId | Agent, *, reason: str, author: str | None = None
    ) -> Agent:
        """Ban an agent: once this returns, no process admits a call of it.

        Args:
            agent: Whom.
            reason: Why, for the record.
            author: Who decided, for the record.

        Raises:
            ConfigurationError: No such agent, or no reason was given.
            StoreError: The store failed; nothing has changed.
        """
        return self._revocations.ban([self.find(agent)], reason, author)[0]

    def revoke_all(
        self,
        *,
        team: str | None = None,
        environment: str | None = None,
        reason: str,
        author: str | None = None,
    ) -> list[Agent]:
        """Ban every agent of a team, of an environment, or of both: all, or none.

        Raises:
            ConfigurationError: Neither was named, nobody is meant, or no reason was given.
            StoreError: The store failed; nothing has changed.
        """
        if team is None and environment is None:
            raise ConfigurationError("revoke_all: name a team, an environment, or both")
        return self._revocations.ban_all(team, environment, reason, author)

    def unban(
        self, agent: str | SpiffeId | Agent, *, reason: str, author: str | None = None
    ) -> Agent:
        """Take a ban back; what the agent held before stays refused, new credentials count.

        Raises:
            ConfigurationError: No such agent, it is not banned, or no reason was given.
            StoreError: The store failed; nothing has changed.
        """
        return self._revocations.unban(self.find(agent), reason, author)

    def evict(
        self, agent: str | SpiffeId | Agent, *, reason: str, author: str | None = None
    ) -> Agent:
        """Refuse every credential an agent has had until now; it may get new ones.

        Raises:
            ConfigurationError: No such agent, or no reason was given.
            StoreError: The store failed; nothing has changed.
        """
        return self._revocations.evict(self.find(agent), reason, author)

    def revoke_token(self, jti: str, *, reason: str, author: str | None = None) -> None:
        """Refuse one token, named by its id as the log shows it; all others go on.

        Raises:
            ConfigurationError: It is no token id, or no reason was given.
            StoreError: The store failed; nothing has changed.
        """
        self._revocations.deny(jti, reason, author)

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

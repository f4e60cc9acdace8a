"""What a transaction does with the issuer's keys and the trust bundles."""

from __future__ import annotations

import sqlite3

from tabard.identity.issuer_key import IssuerKey
from tabard.identity.trusted_domain import TrustedDomain
from tabard.store.rows import ISSUER_KEY, TRUSTED_DOMAIN, to_issuer_key, to_trusted_domain


class TrustRows:
    """The part of a transaction that is about who vouches for whom."""

    __slots__ = ()
    _db: sqlite3.Connection

    def issuer_keys(self) -> list[IssuerKey]:
        """Every key of the authority that is in its trust bundle, oldest change first."""
        query = f"{ISSUER_KEY} WHERE state IN ('next', 'active', 'retiring') ORDER BY since, kid"
        return [to_issuer_key(row) for row in self._db.execute(query)]

    def put_issuer_key(self, key: IssuerKey) -> None:
        """Keep a new key, or the new state of one."""
        self._db.execute(
            "INSERT INTO issuer_key (kid, use, state, since, element, expires) "
            "VALUES (?, ?, ?, ?, ?, ?) "
            "ON CONFLICT (kid) DO UPDATE SET state = excluded.state, since = excluded.since",
            (key.kid, key.use, key.state, key.since, key.element, key.expires),
        )

    def trusted_domain(self, name: str) -> TrustedDomain | None:
        """A trust domain that counts here, or None."""
        row = self._db.execute(f"{TRUSTED_DOMAIN} WHERE trust_domain = ?", (name,)).fetchone()
        return None if row is None else to_trusted_domain(row)

    def put_trusted_domain(self, domain: TrustedDomain) -> None:
        """Trust a domain by one bundle, in the place of any it had before."""
        self._db.execute(
            "INSERT OR REPLACE INTO trust_bundle "
            "(trust_domain, document, origin, pin, checked_at) VALUES (?, ?, ?, ?, ?)",
            (domain.name, domain.document, domain.origin, domain.pin, domain.checked_at),
        )

    def remove_trusted_domain(self, name: str) -> bool:
        """Trust a domain no more; False if it was not."""
        query = "DELETE FROM trust_bundle WHERE trust_domain = ?"
        return self._db.execute(query, (name,)).rowcount == 1

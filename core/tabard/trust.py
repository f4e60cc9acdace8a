"""Whom this home trusts, as it is now: one trust bundle for each trust domain.

Read from the store for every login, so that a rotated, killed or withdrawn key counts at once in
every process; parsed anew only when its text has changed.
"""

from __future__ import annotations

from tabard.clock import Clock, read_clock
from tabard.errors import ConfigurationError, GuardUnavailable
from tabard.federation import Federation
from tabard.identity import TrustBundle
from tabard.store import Store


class Trust:
    """The trust bundles that count here."""

    def __init__(self, store: Store, federation: Federation, clock: Clock) -> None:
        self.trust_domain = store.trust_domain
        self._store = store
        self._federation = federation
        self._clock = clock
        self._parsed: dict[str, tuple[str, TrustBundle]] = {}

    def bundle(self, trust_domain: str) -> TrustBundle:
        """The bundle of a trust domain; an empty one if it is not trusted.

        Raises:
            GuardUnavailable: What the store has is no bundle any more.
            StoreError: The store failed.
        """
        domain = self._store.trusted_domain(trust_domain)
        if domain is None:
            return TrustBundle.from_elements([], trust_domain=trust_domain, sequence=0)
        text, bundle = self._parsed.get(trust_domain, ("", None))
        if bundle is None or text != domain.document:
            try:
                bundle = TrustBundle.from_jwks(domain.document, trust_domain=trust_domain)
            except ConfigurationError as error:
                raise GuardUnavailable(code="bundle", reason=str(error)) from None
            self._parsed[trust_domain] = (domain.document, bundle)
        if self._federation.refresh_when_due(domain, bundle.refresh_hint):
            return self.bundle(trust_domain)
        if trust_domain != self.trust_domain:
            return bundle
        # Keys retire by the clock, also where nothing is issued that would put it on record.
        now = read_clock(self._clock)
        over = {key.kid for key in self._store.issuer_keys() if key.is_over(now)}
        return bundle.without(over) if over else bundle

    def newer_bundle(self, trust_domain: str) -> TrustBundle | None:
        """The bundle asked for anew where it comes from, if it has changed; for an unknown key."""
        domain = self._store.trusted_domain(trust_domain)
        if domain is None or not self._federation.refresh_soon(domain):
            return None
        return self.bundle(trust_domain)

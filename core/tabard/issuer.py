"""The authority's own keys: published before they sign, verified after, gone at once when stolen.

The state of every key and the trust bundle that follows from it are in the store and change in one
transaction, so all guards of a home see a rotation at their next login. `bundle.json` beside it is
a copy, for verifiers elsewhere.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from contextlib import suppress

from cryptography import x509

from tabard.audit.fields import encode
from tabard.clock import CLOCK_SKEW, Clock, read_clock
from tabard.errors import ConfigurationError
from tabard.home import Home, is_there
from tabard.identity import SigningKey, TrustBundle
from tabard.identity.bundle_keys import authority_id, element_of
from tabard.identity.issuer_key import PUBLISHED, IssuerKey, Use, advance
from tabard.identity.trusted_domain import OWN, TrustedDomain
from tabard.identity.verified import FOR_EVER, key_name
from tabard.identity.x509_svid import create_authority_certificate
from tabard.notice import complain
from tabard.remark import remark
from tabard.revocation import explain
from tabard.store import Store, Transaction

USES: tuple[Use, ...] = ("jwt-svid", "x509-svid")
CERTIFICATE_LIFETIME = 7 * 86_400
"""Seconds the certificate of an authority lives; its key signs for a day of them."""


class Issuer:
    """Keeps a key of each use at work, and the trust bundle true.

    Attributes:
        trust_domain: Whom these keys speak for.
    """

    def __init__(self, store: Store, place: Home, clock: Clock) -> None:
        self.trust_domain = store.trust_domain
        self._store = store
        self._place = place
        self._clock = clock
        self._loaded: dict[str, SigningKey] = {}
        self._obsolete: list[str] = []
        self._unpublished = False

    def found(self) -> None:
        """Make the first keys and the first trust bundle, for `publish`; where there are none.

        Raises:
            ConfigurationError: A key cannot be written, or the one that signs cannot be read.
        """
        if not self._store.issuer_keys():
            now = read_clock(self._clock)
            with self._store.transaction(now) as transaction:
                for use in USES:
                    self._advance(transaction, use, now)
        for key in self._store.issuer_keys():
            if key.state == "active":
                self._load(key.kid)
        self._unpublished = self._unpublished or not is_there(self._place.bundle)

    def keys(self) -> list[IssuerKey]:
        """Every key there ever was, oldest change first."""
        return self._store.issuer_keys()

    def bundle(self) -> TrustBundle:
        """The trust bundle as it is now."""
        domain = self._store.trusted_domain(self.trust_domain)
        if domain is None:
            raise ConfigurationError(f"{self.trust_domain}: no trust bundle; open the authority")
        return TrustBundle.from_jwks(domain.document, trust_domain=domain.name)

    def token_key(self, transaction: Transaction, now: float) -> SigningKey:
        """The key that signs tokens now; rotates first when that is due."""
        return self._load(self._advance_all(transaction, now)["jwt-svid"].kid)

    def certificate_key(
        self, transaction: Transaction, now: float
    ) -> tuple[SigningKey, x509.Certificate]:
        """The key that signs certificates now, and its own; rotates first when that is due."""
        key = self._advance_all(transaction, now)["x509-svid"]
        [der] = json.loads(key.element)["x5c"]
        return self._load(key.kid), x509.load_der_x509_certificate(base64.b64decode(der))

    def rotate(self, *, author: str | None = None) -> list[IssuerKey]:
        """Put the next key of each use to work now; the old ones verify for another hour.

        Returns:
            The keys that are published, in their new state.
        """
        author, now = remark("author", author), read_clock(self._clock)
        with self._store.transaction(now) as transaction:
            for use in USES:
                self._advance(transaction, use, now, force=True, author=author)
            keys = transaction.issuer_keys()
        self.publish()
        return keys

    def kill(self, kid: str, *, reason: str, author: str | None = None) -> IssuerKey:
        """Trust a key no more, at once: every credential and session it vouched for is refused.

        Args:
            kid: Which.
            reason: Why, for the record.
            author: Who decided, for the record.

        Raises:
            ConfigurationError: No such key in the bundle, or no reason was given.
            StoreError: The store failed; nothing has changed.
        """
        why, now = explain(reason, author), read_clock(self._clock)
        with self._store.transaction(now) as transaction:
            keys = transaction.issuer_keys()
            key = next((one for one in keys if one.kid == kid), None)
            if key is None:
                listed = ", ".join(one.kid for one in keys)
                raise ConfigurationError(f"no key {kid!r} in the trust bundle; it has: {listed}")
            killed = key._replace(state="killed", since=int(now))
            self._keep(transaction, killed, why)
            transaction.refuse(key_name(self.trust_domain, kid), expires=FOR_EVER)
            self._advance(transaction, key.use, now)
            self._rewrite_bundle(transaction, now)
        self.publish()
        return killed

    def publish(self) -> None:
        """Write `bundle.json` anew if the bundle has changed, and remove keys that are no more.

        Guards do not read that file, so nothing is refused for its sake when it cannot be written.
        """
        for kid in self._obsolete:
            self._loaded.pop(kid, None)
            with suppress(OSError):
                self._place.key_file(kid).unlink()
        self._obsolete.clear()
        if not self._unpublished:
            return
        try:
            with self._place.locked():
                self.bundle().save(self._place.bundle)
            self._unpublished = False
        except ConfigurationError as error:
            complain("the trust bundle could not be published: %s", error)

    def _advance_all(self, transaction: Transaction, now: float) -> dict[Use, IssuerKey]:
        """Carry out what is due for every use, whichever is asked for; returns the active keys."""
        return {use: self._advance(transaction, use, now) for use in USES}

    def _advance(
        self,
        transaction: Transaction,
        use: Use,
        now: float,
        *,
        force: bool = False,
        author: str | None = None,
    ) -> IssuerKey:
        """Carry out what is due among the keys of one use; returns the active one."""
        keys = [key for key in transaction.issuer_keys() if key.use == use]
        changes = advance(keys, now=int(now), make=lambda: self._make(use, int(now)), force=force)
        who = f'"author":{encode(author)}'
        for key in changes:
            self._keep(transaction, key, who)
        if changes:
            self._rewrite_bundle(transaction, now)
        return next(key for key in (*changes[::-1], *keys) if key.state == "active")

    def _keep(self, transaction: Transaction, key: IssuerKey, why: str) -> None:
        transaction.put_issuer_key(key)
        facts = encode({"kid": key.kid, "use": key.use, "state": key.state})
        transaction.append("issuer.key", f'"key":{facts},{why}')
        if key.state not in PUBLISHED:
            self._obsolete.append(key.kid)

    def _rewrite_bundle(self, transaction: Transaction, now: float) -> None:
        """The bundle follows from the keys; its sequence grows with every change."""
        elements: Sequence[dict[str, object]] = [
            json.loads(key.element) for key in transaction.issuer_keys()
        ]
        known = transaction.trusted_domain(self.trust_domain)
        sequence = 1 + (0 if known is None else json.loads(known.document)["spiffe_sequence"])
        bundle = TrustBundle.from_elements(
            elements, trust_domain=self.trust_domain, sequence=sequence
        )
        transaction.put_trusted_domain(
            TrustedDomain(
                name=self.trust_domain,
                document=bundle.to_jwks(),
                origin=OWN,
                checked_at=int(now),
            )
        )
        self._unpublished = True

    def _make(self, use: Use, now: int) -> IssuerKey:
        """A new key, its private half safely on disk before anybody hears of it."""
        key = SigningKey.generate()
        if use == "jwt-svid":
            kid, expires = key.kid, None
            element = {**key.jwk, "use": use, "alg": "ES256"}
        else:
            # Verifiers elsewhere may be behind by a little, and must not find it too young.
            certificate = create_authority_certificate(
                key,
                trust_domain=self.trust_domain,
                not_before=now - CLOCK_SKEW,
                lifetime=CERTIFICATE_LIFETIME,
            )
            kid, expires = authority_id(certificate), now + CERTIFICATE_LIFETIME
            element = element_of(certificate)
        key.save(self._place.key_file(kid))
        self._loaded[kid] = key
        return IssuerKey(
            kid=kid,
            use=use,
            state="next",
            since=now,
            element=json.dumps(element),
            expires=expires,
        )

    def _load(self, kid: str) -> SigningKey:
        if kid not in self._loaded:
            path = self._place.key_file(kid)
            if not is_there(path):
                raise ConfigurationError(
                    f"{path}: the signing key is missing; this home can enforce, not issue"
                )
            self._loaded[kid] = SigningKey.load(path)
        return self._loaded[kid]

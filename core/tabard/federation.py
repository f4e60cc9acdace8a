"""Trusting other trust domains: by a file, a pinned address, or the Workload API of this machine.

SPIFFE Federation, profile `https_web`. The trust domain is named by the operator, never taken from
what was fetched; each has exactly one key set; a redirect is not followed. While an address is
away, the bundle that was fetched last goes on counting.
"""

from __future__ import annotations

from pathlib import Path

from tabard.audit.fields import encode
from tabard.clock import Clock, read_clock
from tabard.errors import AccessDenied, ConfigurationError
from tabard.identity import SpiffeId, TrustBundle
from tabard.identity.bundle_fetch import fetch_bundle, is_address
from tabard.identity.trusted_domain import TrustedDomain
from tabard.identity.verified import FOR_EVER, domain_name, key_name
from tabard.notice import warn
from tabard.remark import remark
from tabard.revocation import explain
from tabard.store import Store, Transaction

SOON = 5
"""Seconds between two fetches of one bundle at least, however many unknown keys turn up."""


class Federation:
    """Every trust domain that counts here."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    def domains(self) -> list[TrustedDomain]:
        """Every trust domain that counts here, its own included, by name."""
        return self._store.trusted_domains()

    def trust(
        self,
        trust_domain: str,
        origin: str,
        *,
        pin: str | None = None,
        replace_known: bool = False,
        go_back: bool = False,
        author: str | None = None,
    ) -> TrustBundle:
        """Trust another trust domain, whose agents can then be registered here.

        Args:
            trust_domain: Its name; what is fetched never says it.
            origin: A file, an `https://` address, or the address of a SPIFFE Workload API
                (`unix:///...`). From an address it is fetched again as often as it asks for.
            pin: Path of the PEM certificates that the address has to be vouched for by; default
                those the system trusts.
            replace_known: Put it in the place of a bundle that is trusted for the domain already.
            go_back: Believe keys of it again that had left a bundle or been distrusted, with what
                they vouched for; and take it although its sequence is lower than that of the
                bundle it replaces.
            author: Who decided, for the record.

        Returns:
            The bundle, without the keys of it that stay refused.

        Raises:
            ConfigurationError: It is this home's own domain, or trusted already; or there is no
                bundle there, or one that is refused whole; or its sequence has gone back.
            StoreError: The store failed.
        """
        author = remark("author", author)
        SpiffeId.for_trust_domain(trust_domain)
        if trust_domain == self._store.trust_domain:
            raise ConfigurationError(f"{trust_domain} is this home's own trust domain")
        pinned = None if pin is None else _read_pin(pin, origin)
        now = read_clock(self._clock)
        document = self._fetch(trust_domain, origin, pinned)
        try:
            bundle = TrustBundle.from_jwks(document, trust_domain=trust_domain)
        except ConfigurationError as error:
            raise ConfigurationError(f"{origin}: {error}") from None
        domain = TrustedDomain(
            name=trust_domain,
            document=document,
            origin=origin if is_address(origin) else "file",
            pin=pinned,
            checked_at=int(now),
        )
        with self._store.transaction(now) as transaction:
            known = transaction.trusted_domain(trust_domain)
            if known is not None and not replace_known:
                raise ConfigurationError(
                    f"{trust_domain} is trusted already (from {known.origin}); it has one key set, "
                    "so say that this one is to replace it"
                )
            if known is not None and not go_back:
                _check_sequence(known, bundle)
            self._put(transaction, known, domain)
            transaction.refuse_no_more(domain_name(trust_domain))
            gone = _refused_keys(transaction, bundle)
            if go_back:
                for kid in gone:
                    transaction.refuse_no_more(key_name(trust_domain, kid))
            about = {"trust_domain": trust_domain, "origin": domain.origin}
            facts = encode({**about, "restored" if go_back else "refused": gone})
            transaction.append("bundle.trusted", f'"bundle":{facts},"author":{encode(author)}')
        if go_back or not gone:
            return bundle
        warn("%d keys of %s that had left or been distrusted stay refused", len(gone), trust_domain)
        return bundle.without(gone)

    def distrust(self, trust_domain: str, *, reason: str, author: str | None = None) -> None:
        """Trust a domain no more: every credential and session of its agents is refused.

        Raises:
            ConfigurationError: It is not trusted, is this home's own, or no reason was given.
            StoreError: The store failed; nothing has changed.
        """
        why, now = explain(reason, author), read_clock(self._clock)
        if trust_domain == self._store.trust_domain:
            raise ConfigurationError(f"{trust_domain} is this home's own trust domain")
        with self._store.transaction(now) as transaction:
            known = transaction.trusted_domain(trust_domain)
            if known is None or not transaction.remove_trusted_domain(trust_domain):
                raise ConfigurationError(f"{trust_domain!r} is not trusted here")
            # Each key as well: the domain may be trusted again, by other keys.
            for kid in TrustBundle.from_jwks(
                known.document, trust_domain=trust_domain
            ).every_key_id:
                transaction.refuse(key_name(trust_domain, kid), expires=FOR_EVER)
            transaction.refuse(domain_name(trust_domain), expires=FOR_EVER)
            facts = encode({"trust_domain": trust_domain})
            transaction.append("bundle.distrusted", f'"bundle":{facts},{why}')

    def refresh_when_due(self, domain: TrustedDomain, hint: int) -> bool:
        """Fetch a bundle again if it is older than it says it may be; True if it has changed."""
        return self._refresh(domain, after=max(hint, SOON))

    def refresh_soon(self, domain: TrustedDomain) -> bool:
        """Fetch a bundle again unless that was done just now; True if it has changed."""
        return self._refresh(domain, after=SOON)

    def _refresh(self, domain: TrustedDomain, *, after: int) -> bool:
        now = read_clock(self._clock)
        if not is_address(domain.origin) or now - domain.checked_at < after:
            return False
        try:
            document = self._fetch(domain.name, domain.origin, domain.pin)
            bundle = TrustBundle.from_jwks(document, trust_domain=domain.name)
            _check_sequence(domain, bundle)
        except (ConfigurationError, AccessDenied) as error:
            warn("the bundle of %s could not be fetched: %s", domain.name, error)
            document = domain.document
        fresh = domain._replace(document=document, checked_at=int(now))
        with self._store.transaction(now) as transaction:
            if transaction.trusted_domain(domain.name) != domain:
                return True  # another process was quicker, or it is trusted no more
            self._put(transaction, domain, fresh)
            if document != domain.document:
                facts = encode({"trust_domain": domain.name, "origin": domain.origin})
                transaction.append("bundle.refreshed", f'"bundle":{facts}')
        return document != domain.document

    def _put(
        self, transaction: Transaction, known: TrustedDomain | None, new: TrustedDomain
    ) -> None:
        """Keep a bundle, and refuse for good whatever the keys vouched for that are gone from it.

        A key that comes back stays refused: whoever has it may have made it come back.
        """
        if known is not None and known.document != new.document:
            before = TrustBundle.from_jwks(known.document, trust_domain=known.name)
            after = TrustBundle.from_jwks(new.document, trust_domain=new.name)
            for kid in before.every_key_id - after.every_key_id:
                transaction.refuse(key_name(new.name, kid), expires=FOR_EVER)
        transaction.put_trusted_domain(new)

    def _fetch(self, trust_domain: str, origin: str, pin: str | None) -> str:
        if is_address(origin):
            return fetch_bundle(origin, trust_domain, pin=pin)
        return _read(origin)


def _check_sequence(known: TrustedDomain, new: TrustBundle) -> None:
    """Refuse an older bundle in the place of the one that is known.

    Raises:
        ConfigurationError: Its sequence has gone back.
    """
    before = TrustBundle.from_jwks(known.document, trust_domain=known.name).sequence
    if new.sequence < before:
        raise ConfigurationError(
            f"its spiffe_sequence has gone back from {before} to {new.sequence}; "
            "say so if it is to count all the same"
        )


def _refused_keys(transaction: Transaction, bundle: TrustBundle) -> list[str]:
    """The keys of a bundle that were refused before."""
    domain = bundle.trust_domain
    every = sorted(bundle.every_key_id)
    return [kid for kid in every if transaction.is_refused(key_name(domain, kid))]


def _read_pin(pin: str, origin: str) -> str:
    """The certificates an address has to be vouched for by.

    Raises:
        ConfigurationError: There is a private key among them, or the origin is no such address.
    """
    pinned = _read(pin)
    if "PRIVATE KEY" in pinned:
        raise ConfigurationError("pin: expected certificates only, found a private key")
    if not origin.startswith("https://"):
        raise ConfigurationError("pin: only an https:// address is reached by certificates")
    return pinned


def _read(path: str) -> str:
    try:
        if Path(path).stat().st_mode & 0o022:
            raise ConfigurationError(f"{path}: others can write it, so anybody could be trusted")
        return Path(path).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        what = getattr(error, "strerror", None) or "not a text file"
        raise ConfigurationError(f"{path}: cannot be read: {what}") from None

"""Opens an authority's home, and founds it on first use: database, signing key, trust bundle."""

from __future__ import annotations

from tabard.errors import ConfigurationError
from tabard.home import Home, is_there
from tabard.identity import SigningKey, SpiffeId, TrustBundle
from tabard.store import SqliteStore
from tabard.store.connection import create


def open_home(place: Home, trust_domain: str | None) -> tuple[SqliteStore, SigningKey]:
    """The store and the signing key of a home; processes that found it at once agree on one.

    Raises:
        ConfigurationError: The home is not usable, belongs to another trust domain, or is new and
            no trust domain was given; then nothing is created.
    """
    if trust_domain is not None:
        SpiffeId.for_trust_domain(trust_domain)
    elif not place.exists:
        raise ConfigurationError(
            f"{place.path}: no tabard home; a new one needs `trust_domain=`, "
            "for example 'acme.example'"
        )
    place.create()
    with place.locked():
        store = _open_store(place, trust_domain)
        return store, _open_key(place, store.trust_domain)


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

"""Opens an authority's home, and founds it on first use: database, keys, trust bundle."""

from __future__ import annotations

from tabard.clock import Clock
from tabard.errors import ConfigurationError
from tabard.home import Home, is_there
from tabard.identity import SpiffeId
from tabard.issuer import Issuer
from tabard.store import SqliteStore
from tabard.store.connection import create


def open_home(place: Home, trust_domain: str | None, clock: Clock) -> tuple[SqliteStore, Issuer]:
    """The store and the issuer of a home; processes that found it at once agree on one.

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
        issuer = Issuer(store, place, clock)
        issuer.found()
        if not is_there(place.verifier_key):
            from tabard.sealing import found_log  # the cryptography is needed once in a home's life

            found_log(place, store.origin)
    issuer.publish()
    return store, issuer


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

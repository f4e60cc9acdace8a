"""The trust bundle: the public keys by which a trust domain's credentials are verified.

A SPIFFE bundle (SPIFFE Trust Domain and Bundle, section 4): a JWK Set with a sequence number.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any, Self

from cryptography import x509

from tabard.errors import ConfigurationError
from tabard.identity.bundle_contents import BundleContents, refuse_private_members
from tabard.identity.bundle_keys import BundleKey, authority_id, element_of
from tabard.identity.draft import draft_of
from tabard.identity.encoding import plain
from tabard.identity.keys import SigningKey
from tabard.identity.private_file import why
from tabard.identity.spiffe_id import SpiffeId
from tabard.identity.strict_json import parse_object

REFRESH_HINT = 300
"""Seconds after which a bundle is asked for again; the standard's default."""
LONGEST_HINT = 3600
"""Seconds after which it is asked for again whatever it says: a key may have been withdrawn."""


class TrustBundle:
    """The keys of one trust domain.

    Attributes:
        trust_domain: Whose keys these are.
        sequence: `spiffe_sequence`: grows with every change.
        refresh_hint: Seconds after which to look for a newer one.
        authorities: The certificate authorities that may vouch for X.509-SVIDs.
    """

    __slots__ = ("_document", "_keys", "authorities", "refresh_hint", "sequence", "trust_domain")

    def __init__(
        self,
        trust_domain: str,
        keys: Iterable[BundleKey],
        authorities: Sequence[x509.Certificate],
        document: Any,
    ) -> None:
        self.trust_domain = trust_domain
        self.sequence: int = document.get("spiffe_sequence", 0)
        hint: int = document.get("spiffe_refresh_hint", REFRESH_HINT)
        self.refresh_hint = min(hint, LONGEST_HINT)
        self.authorities = tuple(authorities)
        self._keys = {key.kid: key for key in keys}
        self._document = document

    @classmethod
    def of(
        cls,
        *keys: SigningKey,
        authorities: Iterable[x509.Certificate] = (),
        trust_domain: str,
        sequence: int = 1,
    ) -> Self:
        """The bundle that trusts the given keys for tokens, and authorities for certificates."""
        jwks = [{**key.jwk, "use": "jwt-svid", "alg": "ES256"} for key in keys]
        return cls.from_elements(
            [*jwks, *map(element_of, authorities)], trust_domain=trust_domain, sequence=sequence
        )

    @classmethod
    def from_elements(
        cls, elements: Sequence[dict[str, Any]], *, trust_domain: str, sequence: int
    ) -> Self:
        """The bundle of the given JWK elements."""
        document = {
            "spiffe_sequence": sequence,
            "spiffe_refresh_hint": REFRESH_HINT,
            "keys": list(elements),
        }
        return cls.from_jwks(json.dumps(document), trust_domain=trust_domain)

    @classmethod
    def from_jwks(cls, text: str | bytes, *, trust_domain: str) -> Self:
        """Read a bundle.

        Elements with an unknown `use` or `kty` are left out, as the standard asks. An empty key
        list trusts nothing.

        Raises:
            ConfigurationError: It is no bundle, names a member twice, or holds a private, damaged
                or duplicate key; nothing of it is trusted then.
        """
        SpiffeId.for_trust_domain(trust_domain)
        held = plain(text)
        if held is None:
            raise ConfigurationError("trust bundle: expected text or bytes")
        try:
            document = parse_object(held)
        except ValueError as error:
            raise ConfigurationError(f"trust bundle: {error}") from None
        elements = document.get("keys")
        if not isinstance(elements, list):
            raise ConfigurationError("trust bundle: expected `keys`, a list")
        for name in ("spiffe_sequence", "spiffe_refresh_hint"):
            number = document.get(name, 0)
            if type(number) is not int or number < 0:
                raise ConfigurationError(f"trust bundle: {name}: expected a whole number")
        refuse_private_members(document, "trust bundle")
        contents = BundleContents(trust_domain)
        for index, element in enumerate(elements):
            contents.add(element, f"trust bundle: keys.{index}")
        return cls(trust_domain, contents.keys.values(), contents.authorities, document)

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, trust_domain: str) -> Self:
        """Read a bundle from a file that only its owner can write.

        Raises:
            ConfigurationError: It is missing, not a bundle, or others can write it.
        """
        try:
            with Path(path).open("rb") as file:
                mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
                text = file.read()
        except (OSError, ValueError) as error:
            raise ConfigurationError(f"{path}: no readable bundle: {why(error)}") from None
        if mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise ConfigurationError(
                f"{path}: others can write it (mode {mode:04o}, expected 0644), "
                "so anybody could make themselves trusted"
            )
        try:
            return cls.from_jwks(text, trust_domain=trust_domain)
        except ConfigurationError as error:
            raise ConfigurationError(f"{path}: {error}") from None

    def save(self, path: str | os.PathLike[str]) -> None:
        """Replace a bundle file as a whole: who reads it sees the old one or the new one.

        Raises:
            ConfigurationError: It cannot be written.
        """
        try:
            # Anybody may read it. Whoever can write it can make themselves trusted.
            with draft_of(Path(path), self.to_jwks().encode(), mode=0o644) as draft:
                draft.replace(path)
        except (OSError, ValueError) as error:
            raise ConfigurationError(f"{path}: cannot write: {why(error)}") from None

    def to_jwks(self) -> str:
        """The bundle as it is published."""
        return json.dumps(self._document, indent=2) + "\n"

    def without(self, kids: Collection[str]) -> Self:
        """The same bundle, trusting some of its keys no more."""
        keys = [key for kid, key in self._keys.items() if kid not in kids]
        authorities = [one for one in self.authorities if authority_id(one) not in kids]
        return type(self)(self.trust_domain, keys, authorities, self._document)

    def key(self, kid: str) -> BundleKey | None:
        """The key for tokens of that id, or None."""
        return self._keys.get(kid)

    @property
    def token_key_ids(self) -> frozenset[str]:
        """The ids of every key for tokens."""
        return frozenset(self._keys)

    @property
    def every_key_id(self) -> frozenset[str]:
        """The ids of every key and of every certificate authority's key."""
        return frozenset(self._keys) | {authority_id(one) for one in self.authorities}

    def __len__(self) -> int:
        """How many keys are trusted for tokens."""
        return len(self._keys)

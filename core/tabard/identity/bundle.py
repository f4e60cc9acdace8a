"""The trust bundle: the public keys by which a trust domain's tokens are verified.

A SPIFFE bundle (SPIFFE Trust Domain and Bundle, section 4): a JWK Set with a sequence number.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from cryptography.hazmat.primitives.asymmetric import ec

from tabard.errors import ConfigurationError
from tabard.identity.draft import draft_of
from tabard.identity.encoding import plain, unbase64url
from tabard.identity.keys import COORDINATE, SigningKey, why
from tabard.identity.spiffe_id import SpiffeId
from tabard.identity.strict_json import parse_object

_PRIVATE_MEMBERS = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k", "priv"})
_REFRESH_HINT = 300
"""Seconds after which a bundle is asked for again; the standard's default."""


class TrustBundle:
    """The keys of one trust domain.

    Attributes:
        trust_domain: Whose keys these are.
        sequence: `spiffe_sequence`: grows with every change.
    """

    __slots__ = ("_document", "_keys", "sequence", "trust_domain")

    def __init__(
        self, trust_domain: str, keys: Mapping[str, ec.EllipticCurvePublicKey], document: Any
    ) -> None:
        self.trust_domain = trust_domain
        self.sequence: int = document.get("spiffe_sequence", 0)
        self._keys = dict(keys)
        self._document = document

    @classmethod
    def of(cls, *keys: SigningKey, trust_domain: str, sequence: int = 1) -> Self:
        """The bundle that trusts the given keys."""
        document = {
            "spiffe_sequence": sequence,
            "spiffe_refresh_hint": _REFRESH_HINT,
            "keys": [{**key.jwk, "use": "jwt-svid", "alg": "ES256"} for key in keys],
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
        keys: dict[str, ec.EllipticCurvePublicKey] = {}
        for index, element in enumerate(elements):
            found = _read_key(element, f"trust bundle: keys.{index}")
            if found is None:
                continue
            if found[0] in keys:
                raise ConfigurationError(f"trust bundle: keys.{index}: duplicate `kid`")
            keys[found[0]] = found[1]
        return cls(trust_domain, keys, document)

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

    def key(self, kid: str) -> ec.EllipticCurvePublicKey | None:
        """The key of that id, or None."""
        return self._keys.get(kid)

    def __len__(self) -> int:
        """How many keys are trusted for tokens."""
        return len(self._keys)


def _read_key(element: object, where: str) -> tuple[str, ec.EllipticCurvePublicKey] | None:
    """One key of a bundle, or None when it is not for tokens of ours."""
    if not isinstance(element, dict):
        raise ConfigurationError(f"{where}: expected an object")
    if _PRIVATE_MEMBERS & element.keys():
        raise ConfigurationError(f"{where}: holds private key material; treat it as exposed")
    if element.get("use") != "jwt-svid" or element.get("kty") != "EC":
        return None
    kid = element.get("kid")
    if not isinstance(kid, str) or not kid:
        raise ConfigurationError(f"{where}: expected a `kid`")
    if element.get("crv") != "P-256":
        return None
    if element.get("alg", "ES256") != "ES256":
        raise ConfigurationError(f"{where}: a P-256 key is for ES256, found another `alg`")
    try:
        return kid, _read_point(element)
    except ValueError:
        raise ConfigurationError(f"{where}: not a point of P-256") from None


def _read_point(element: Mapping[str, Any]) -> ec.EllipticCurvePublicKey:
    x, y = (_coordinate(element.get(name)) for name in ("x", "y"))
    numbers = ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1())
    key = numbers.public_key()
    # A coordinate beyond the field is silently reduced, which gives one key several spellings.
    if key.public_numbers() != numbers:
        raise ValueError("not a coordinate")
    return key


def _coordinate(text: object) -> int:
    data = unbase64url(text) if isinstance(text, str) else b""
    if len(data) != COORDINATE:
        raise ValueError("not a coordinate")
    return int.from_bytes(data, "big")

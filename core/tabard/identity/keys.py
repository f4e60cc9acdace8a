"""The signing key of an authority: P-256, on disk where only its owner can read it."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any, Self, TypeGuard

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tabard.errors import ConfigurationError
from tabard.identity.draft import draft_of
from tabard.identity.encoding import base64url
from tabard.identity.private_file import check_private, read_private, why

COORDINATE = 32
"""Bytes of one coordinate of a P-256 point."""


class SigningKey:
    """A P-256 private key for ES256; never shown.

    Attributes:
        kid: RFC 7638 thumbprint of its public key.
    """

    __slots__ = ("_key", "kid")

    def __init__(self, key: ec.EllipticCurvePrivateKey) -> None:
        if not _is_p256(key):
            raise ConfigurationError("expected a P-256 private key, found another kind")
        self._key = key
        self.kid = thumbprint(public_jwk(key.public_key()))

    @classmethod
    def generate(cls) -> Self:
        """Make a new key."""
        return cls(ec.generate_private_key(ec.SECP256R1()))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a key from a PEM file that only its owner can read.

        Raises:
            ConfigurationError: It is missing, readable by others, or not a P-256 private key.
        """
        data = read_private(Path(path), what="key", folder_too=True)
        try:
            key = serialization.load_pem_private_key(data, password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            raise ConfigurationError(
                f"{path}: expected a P-256 private key (PKCS#8, PEM, not encrypted)"
            ) from None
        if not _is_p256(key):
            raise ConfigurationError(f"{path}: expected a P-256 private key, found another kind")
        return cls(key)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the key to a new file of mode 0600; whole, or not at all.

        Of several who save at once exactly one succeeds; the others are told that there is a
        file, and can load it.

        Raises:
            ConfigurationError: It cannot be written, there is a file already, or others can get
                into the folder.
        """
        pem = self._key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        place = Path(path)
        try:
            place.parent.mkdir(mode=0o700, exist_ok=True)
            check_private(place.parent, place.parent.stat(), 0o700)
            with draft_of(place, pem, mode=0o600) as draft:
                os.link(draft, place)
        except (OSError, ValueError) as error:
            raise ConfigurationError(f"{path}: cannot write the key: {why(error)}") from None

    def sign(self, message: bytes) -> bytes:
        """An ES256 signature, raw `r || s` as in RFC 7518 section 3.4."""
        from jwt import get_algorithm_by_name

        signature: bytes = get_algorithm_by_name("ES256").sign(message, self._key)
        return signature

    def sign_certificate(self, builder: x509.CertificateBuilder) -> x509.Certificate:
        """Sign a certificate (ECDSA with SHA-256)."""
        return builder.sign(self._key, hashes.SHA256())

    @property
    def public_key(self) -> ec.EllipticCurvePublicKey:
        """The public key."""
        return self._key.public_key()

    @property
    def jwk(self) -> dict[str, str]:
        """The public key as a JWK, with its `kid`."""
        return {**public_jwk(self._key.public_key()), "kid": self.kid}

    def __repr__(self) -> str:
        """Names the key, never shows it."""
        return f"<SigningKey {self.kid}>"

    def __reduce__(self) -> Any:
        """A key does not leave its process by accident."""
        raise TypeError("a signing key cannot be pickled or copied")


def public_jwk(key: ec.EllipticCurvePublicKey) -> dict[str, str]:
    """The members of a P-256 public key that RFC 7638 hashes."""
    numbers = key.public_numbers()
    x, y = (base64url(n.to_bytes(COORDINATE, "big")) for n in (numbers.x, numbers.y))
    return {"crv": "P-256", "kty": "EC", "x": x, "y": y}


def thumbprint(jwk: dict[str, str]) -> str:
    """RFC 7638 thumbprint: base64url of SHA-256 over the required members in order."""
    text = json.dumps(jwk, sort_keys=True, separators=(",", ":"))
    return base64url(hashlib.sha256(text.encode()).digest())


def _is_p256(key: object) -> TypeGuard[ec.EllipticCurvePrivateKey]:
    return isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name == "secp256r1"

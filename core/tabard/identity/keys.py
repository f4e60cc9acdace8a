"""The signing key of an authority: P-256, on disk where only its owner can read it."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import stat
from pathlib import Path
from typing import Any, Self

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tabard.errors import ConfigurationError

_COORDINATE = 32
"""Bytes of one coordinate of a P-256 point."""


class SigningKey:
    """A P-256 private key for ES256; never shown.

    Attributes:
        kid: RFC 7638 thumbprint of its public key.
    """

    __slots__ = ("_key", "kid")

    def __init__(self, key: ec.EllipticCurvePrivateKey) -> None:
        self._key = key
        self.kid = thumbprint(public_jwk(key.public_key()))

    @classmethod
    def generate(cls) -> Self:
        """Make a new key."""
        return cls(ec.generate_private_key(ec.SECP256R1()))

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a key from a PEM file that only its owner can read.

        Raises:
            ConfigurationError: It is missing, readable by others, or not a P-256 private key.
        """
        _check_private(path)
        try:
            key = serialization.load_pem_private_key(path.read_bytes(), password=None)
        except OSError as error:
            raise ConfigurationError(f"{path}: no readable key: {error.strerror}") from None
        except (ValueError, TypeError, UnsupportedAlgorithm):
            raise ConfigurationError(
                f"{path}: expected a P-256 private key (PKCS#8, PEM, not encrypted)"
            ) from None
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name != "secp256r1":
            raise ConfigurationError(f"{path}: expected a P-256 private key, found another kind")
        return cls(key)

    def save(self, path: Path) -> None:
        """Write the key to a new file of mode 0600; whole, or not at all.

        Raises:
            ConfigurationError: It cannot be written, or there is a file already.
        """
        pem = self._key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        draft = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            path.parent.mkdir(mode=0o700, exist_ok=True)
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(pem)
                file.flush()
                os.fsync(file.fileno())
            os.link(draft, path)
        except OSError as error:
            raise ConfigurationError(f"{path}: cannot write the key: {error.strerror}") from None
        finally:
            draft.unlink(missing_ok=True)

    def sign(self, message: bytes) -> bytes:
        """An ES256 signature, raw `r || s` as in RFC 7518 section 3.4."""
        from jwt import get_algorithm_by_name

        signature: bytes = get_algorithm_by_name("ES256").sign(message, self._key)
        return signature

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
    x, y = (base64url(n.to_bytes(_COORDINATE, "big")) for n in (numbers.x, numbers.y))
    return {"crv": "P-256", "kty": "EC", "x": x, "y": y}


def thumbprint(jwk: dict[str, str]) -> str:
    """RFC 7638 thumbprint: base64url of SHA-256 over the required members in order."""
    text = json.dumps(jwk, sort_keys=True, separators=(",", ":"))
    return base64url(hashlib.sha256(text.encode()).digest())


def base64url(data: bytes) -> str:
    """Base64url without padding, RFC 7515 section 2."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def _check_private(path: Path) -> None:
    """The file and its folder belong to us and nobody else can read them."""
    for place, expected in ((path.parent, 0o700), (path, 0o600)):
        try:
            found = place.stat()
        except OSError as error:
            raise ConfigurationError(f"{place}: no readable key: {error.strerror}") from None
        mode = stat.S_IMODE(found.st_mode)
        if mode & 0o077:
            raise ConfigurationError(
                f"{place}: others can read it (mode {mode:04o}, expected {expected:04o}); "
                "treat the key as exposed, or chmod it if you know that nobody has"
            )
        if found.st_uid not in (os.geteuid(), 0):
            raise ConfigurationError(f"{place}: belongs to another user (uid {found.st_uid})")
    if not path.is_file():
        raise ConfigurationError(f"{path}: expected a key file, found something else")

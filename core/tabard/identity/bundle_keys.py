"""One element of a trust bundle: a key for tokens, or a certificate authority.

SPIFFE Trust Domain and Bundle, section 4.2. What an element is for stands in its `use`; one with an
unknown `use` or key type is left out, and one that is damaged makes the whole bundle unusable.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt import get_algorithm_by_name

from tabard.errors import ConfigurationError
from tabard.identity.encoding import base64url, unbase64url

PRIVATE_MEMBERS = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k", "priv"})
_CURVES: dict[str, tuple[ec.EllipticCurve, int, str]] = {
    "P-256": (ec.SECP256R1(), 32, "ES256"),
    "P-384": (ec.SECP384R1(), 48, "ES384"),
    "P-521": (ec.SECP521R1(), 66, "ES512"),
}
_RSA = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"})
_RSA_BITS = range(2048, 8193)
_VERIFY = {
    name: get_algorithm_by_name(name).verify
    for name in sorted(_RSA | {alg for *_, alg in _CURVES.values()})
}


@dataclass(frozen=True, slots=True)
class BundleKey:
    """A public key that may vouch for tokens.

    Attributes:
        kid: Its id within the bundle.
        algorithms: The `alg` values it may be used with; the key decides, never a token.
    """

    kid: str
    algorithms: frozenset[str]
    _key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey

    def verifies(self, algorithm: str, message: bytes, signature: bytes) -> bool:
        """Whether a signature over a message holds, for one of the key's algorithms."""
        return algorithm in self.algorithms and bool(
            _VERIFY[algorithm](message, self._key, signature)
        )


def read_element(element: object, where: str) -> BundleKey | x509.Certificate | None:
    """One element of a bundle; None when it is not for us.

    Raises:
        ConfigurationError: It is damaged, weak, or holds private key material.
    """
    if not isinstance(element, dict):
        raise ConfigurationError(f"{where}: expected an object")
    if PRIVATE_MEMBERS & element.keys():
        raise ConfigurationError(f"{where}: holds private key material; treat it as exposed")
    if element.get("kty") not in ("EC", "RSA"):
        return None
    if element.get("use") == "jwt-svid":
        return _read_key(element, where)
    if element.get("use") == "x509-svid":
        return _read_authority(element, where)
    return None


def _read_key(element: Mapping[str, Any], where: str) -> BundleKey | None:
    kid = element.get("kid")
    if not isinstance(kid, str) or not kid:
        raise ConfigurationError(f"{where}: expected a `kid`")
    if element["kty"] == "EC":
        curve = element.get("crv")
        if not isinstance(curve, str) or curve not in _CURVES:
            return None
        key, allowed = _read_point(element, where)
    else:
        key, allowed = _read_rsa(element, where), _RSA
    if "alg" in element:
        if element["alg"] not in tuple(allowed):
            raise ConfigurationError(f"{where}: the `alg` is none this kind of key is for")
        allowed = frozenset({element["alg"]})
    return BundleKey(kid, allowed, key)


def _read_point(
    element: Mapping[str, Any], where: str
) -> tuple[ec.EllipticCurvePublicKey | rsa.RSAPublicKey, frozenset[str]]:
    curve, length, algorithm = _CURVES[element["crv"]]
    try:
        x, y = (_number(element.get(name), length) for name in ("x", "y"))
        numbers = ec.EllipticCurvePublicNumbers(x, y, curve)
        key = numbers.public_key()
        # A coordinate beyond the field is silently reduced, which gives one key several spellings.
        if key.public_numbers() != numbers:
            raise ValueError("not a coordinate")
    except ValueError:
        raise ConfigurationError(f"{where}: not a point of {element['crv']}") from None
    return key, frozenset({algorithm})


def _read_rsa(element: Mapping[str, Any], where: str) -> rsa.RSAPublicKey:
    try:
        modulus, exponent = (_number(element.get(name)) for name in ("n", "e"))
        if modulus.bit_length() not in _RSA_BITS:
            raise ConfigurationError(
                f"{where}: an RSA key of {modulus.bit_length()} bits; expected 2048 to 8192"
            )
        return rsa.RSAPublicNumbers(exponent, modulus).public_key()
    except ValueError:
        raise ConfigurationError(f"{where}: not an RSA key") from None


def _number(text: object, length: int | None = None) -> int:
    data = unbase64url(text) if isinstance(text, str) else b""
    # RFC 7518: a coordinate has its full length, an RSA number not one byte too many.
    if len(data) != length if length is not None else data[:1] in (b"", b"\0"):
        raise ValueError("not a number in its one spelling")
    return int.from_bytes(data, "big")


def _read_authority(element: Mapping[str, Any], where: str) -> x509.Certificate:
    """The certificate of an authority: `x5c` holds exactly one, and there is no `kid`."""
    if "kid" in element:
        raise ConfigurationError(f"{where}: an `x509-svid` element has no `kid`")
    chain = element.get("x5c")
    if not isinstance(chain, list) or len(chain) != 1 or not isinstance(chain[0], str):
        raise ConfigurationError(f"{where}: expected `x5c` with exactly one certificate")
    try:
        certificate = x509.load_der_x509_certificate(base64.b64decode(chain[0], validate=True))
        extension = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
        authority_id(certificate)
    except (
        ValueError,
        UnsupportedAlgorithm,
        x509.InvalidVersion,
        x509.ExtensionNotFound,
        x509.DuplicateExtension,
        x509.UnsupportedGeneralNameType,
        Warning,  # of what the library will refuse one day, where warnings are errors
    ):
        raise ConfigurationError(f"{where}: `x5c` is no certificate of an authority") from None
    if not extension.value.ca:
        raise ConfigurationError(f"{where}: `x5c` is no certificate of an authority")
    return certificate


def authority_id(certificate: x509.Certificate) -> str:
    """The stable id of an authority's key: base64url of SHA-256 over its SubjectPublicKeyInfo."""
    info = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64url(hashlib.sha256(info).digest())


def element_of(certificate: x509.Certificate) -> dict[str, Any]:
    """The bundle element of a P-256 certificate authority."""
    from tabard.identity.keys import public_jwk

    key = certificate.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)  # noqa: S101  we make no others
    der = base64.b64encode(certificate.public_bytes(Encoding.DER)).decode("ascii")
    return {**public_jwk(key), "use": "x509-svid", "x5c": [der]}

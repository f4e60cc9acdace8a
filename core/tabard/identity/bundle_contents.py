"""What the elements of one bundle are together: no key twice, and none of somebody else's."""

from __future__ import annotations

from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from tabard.errors import ConfigurationError, InvalidSpiffeId
from tabard.identity.bundle_keys import PRIVATE_MEMBERS, BundleKey, read_element
from tabard.identity.encoding import unbase64url
from tabard.identity.spiffe_id import SpiffeId


def refuse_private_members(value: object, where: str) -> None:
    """Refuse a document that holds private key material, at whatever depth.

    Raises:
        ConfigurationError: Naming where.
    """
    if isinstance(value, dict):
        if PRIVATE_MEMBERS & value.keys():
            raise ConfigurationError(f"{where}: holds private key material; treat it as exposed")
        for name, item in value.items():
            refuse_private_members(item, f"{where}: {name}" if name == "keys" else where)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            refuse_private_members(item, f"{where}.{index}")


class BundleContents:
    """The keys and authorities of one trust domain, as they are read.

    Attributes:
        keys: The keys for tokens, by their ids.
        authorities: The certificate authorities.
    """

    def __init__(self, trust_domain: str) -> None:
        self.keys: dict[str, BundleKey] = {}
        self.authorities: list[x509.Certificate] = []
        self._trust_domain = trust_domain
        self._certificates: set[bytes] = set()

    def add(self, element: Any, where: str) -> None:
        """Read one element; one that is not for us is left out.

        Raises:
            ConfigurationError: It is damaged, or there already, or of another trust domain.
        """
        found = read_element(element, where)
        if isinstance(found, x509.Certificate):
            self._add_authority(found, element, where)
        elif found is not None:
            if found.kid in self.keys:
                raise ConfigurationError(f"{where}: duplicate `kid`")
            self.keys[found.kid] = found

    def _add_authority(self, found: x509.Certificate, element: Any, where: str) -> None:
        der = found.public_bytes(Encoding.DER)
        if der in self._certificates:
            raise ConfigurationError(f"{where}: the same certificate twice")
        self._certificates.add(der)
        if not _is_key_of(found, element):
            raise ConfigurationError(f"{where}: the key of `x5c` is not the one beside it")
        named = _named_domain(found)
        if named not in (None, self._trust_domain):
            raise ConfigurationError(f"{where}: an authority of another trust domain")
        self.authorities.append(found)


def _is_key_of(certificate: x509.Certificate, element: Any) -> bool:
    """Whether the JWK members say the key of the certificate, as far as they say any."""
    key = certificate.public_key()
    if isinstance(key, ec.EllipticCurvePublicKey):
        numbers: dict[str, int] = {"x": key.public_numbers().x, "y": key.public_numbers().y}
    elif isinstance(key, rsa.RSAPublicKey):
        numbers = {"n": key.public_numbers().n, "e": key.public_numbers().e}
    else:
        return True
    try:
        return all(
            int.from_bytes(unbase64url(element[name]), "big") == number
            for name, number in numbers.items()
            if name in element
        )
    except (ValueError, TypeError):
        return False


def _named_domain(certificate: x509.Certificate) -> str | None:
    """The trust domain an authority's own SPIFFE ID is of; None when it has none."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (x509.ExtensionNotFound, ValueError):
        return None
    for uri in names.value.get_values_for_type(x509.UniformResourceIdentifier):
        try:
            return SpiffeId.parse(uri).trust_domain
        except InvalidSpiffeId:
            return ""
    return None

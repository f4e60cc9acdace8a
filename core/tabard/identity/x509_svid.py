"""An X.509-SVID: a certificate whose name is a SPIFFE ID, with its private key.

Made as the X509-SVID standard asks: P-256, one URI, no other name, for signing only, and short.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID

from tabard.errors import ConfigurationError, InvalidSpiffeId
from tabard.identity.compact import refuse
from tabard.identity.draft import draft_of
from tabard.identity.encoding import base64url
from tabard.identity.keys import SigningKey
from tabard.identity.pem import read_blocks
from tabard.identity.private_file import why
from tabard.identity.spiffe_id import SpiffeId

X509_SVID = "x509-svid"
MAX_LIFETIME = 3600
"""Seconds an X.509-SVID of ours lives at most."""
MAX_RSA_BITS = 4096
"""Bits of another issuer's RSA key; a larger one only makes work."""
_MAX_EXPONENT = 2**33
"""The largest public exponent; all there are in use are far smaller."""

_PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
_EXTENDED = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH)


class X509Svid:
    """A certificate chain and the private key of its leaf; the key is never shown.

    Attributes:
        chain: The certificates, the leaf first.
    """

    __slots__ = ("_key", "chain")

    def __init__(self, chain: Sequence[x509.Certificate], key: _PrivateKey) -> None:
        self.chain = tuple(chain)
        self._key = key

    @classmethod
    def from_pem(cls, data: str | bytes) -> Self:
        """Read a chain (the leaf first) and exactly one private key, in whatever order.

        Raises:
            AuthenticationFailed: It is too long (`too_long`), or not that (`malformed`).
        """
        certificates, keys = read_blocks(data)
        chain: list[x509.Certificate] = []
        key: object = None
        # The library warns of what it will refuse one day; a process may make errors of warnings.
        with suppress(ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion, Warning):
            chain = [x509.load_pem_x509_certificate(block) for block in certificates]
            # Checking an RSA key for consistency takes minutes for one made to take them. Whether
            # it is the certificate's shows when it signs.
            key = serialization.load_pem_private_key(
                keys[0], password=None, unsafe_skip_rsa_key_validation=True
            )
        if isinstance(key, rsa.RSAPrivateKey) and key.key_size > MAX_RSA_BITS:
            refuse("malformed", f"an RSA key of more than {MAX_RSA_BITS} bits")
        if isinstance(key, rsa.RSAPrivateKey) and not _is_bounded(key):
            refuse("malformed", "the numbers of the RSA key do not fit one another")
        if not chain or not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
            refuse("malformed", "the credential is not a certificate chain with its private key")
        return cls(chain, key)

    @property
    def spiffe_id(self) -> SpiffeId | None:
        """The SPIFFE ID in the leaf, not verified; None if there is not exactly one."""
        try:
            names = self.chain[0].extensions.get_extension_for_class(x509.SubjectAlternativeName)
            [uri] = names.value.get_values_for_type(x509.UniformResourceIdentifier)
            return SpiffeId.parse(uri)
        except (
            ValueError,
            x509.ExtensionNotFound,
            x509.DuplicateExtension,
            x509.UnsupportedGeneralNameType,
            InvalidSpiffeId,
        ):
            return None

    @property
    def id(self) -> str:
        """Its id in the log: what was signed, not the signature, which has a twin."""
        return base64url(hashlib.sha256(self.chain[0].tbs_certificate_bytes).digest())

    def has_key(self) -> bool:
        """Whether the private key is the one the leaf vouches for; proved by signing a nonce."""
        nonce = os.urandom(32)
        try:
            public = self.chain[0].public_key()
            if isinstance(self._key, rsa.RSAPrivateKey) and isinstance(public, rsa.RSAPublicKey):
                pss = padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.DIGEST_LENGTH)
                signature = self._key.sign(nonce, pss, hashes.SHA256())
                public.verify(signature, nonce, pss, hashes.SHA256())
                return True
            if isinstance(self._key, ec.EllipticCurvePrivateKey) and isinstance(
                public, ec.EllipticCurvePublicKey
            ):
                algorithm = ec.ECDSA(hashes.SHA256())
                public.verify(self._key.sign(nonce, algorithm), nonce, algorithm)
                return True
        except (InvalidSignature, ValueError, UnsupportedAlgorithm):
            return False
        return False

    def to_pem(self) -> bytes:
        """The chain and the private key as PEM: a secret."""
        key = self._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return b"".join(one.public_bytes(Encoding.PEM) for one in self.chain) + key

    def save(self, path: str | os.PathLike[str]) -> None:
        """Put the chain and the private key into a file of mode 0600, whole or not at all.

        Raises:
            ConfigurationError: It cannot be written.
        """
        try:
            with draft_of(Path(path), self.to_pem(), mode=0o600) as draft:
                draft.replace(path)
        except (OSError, ValueError) as error:
            raise ConfigurationError(f"{path}: cannot write: {why(error)}") from None

    def __repr__(self) -> str:
        """Names the identity, never shows the key."""
        return f"<X509Svid {self.spiffe_id or '?'}>"

    def __reduce__(self) -> Any:
        """A key does not leave its process by accident."""
        raise TypeError("an X.509-SVID cannot be pickled or copied; it holds a private key")


def _is_bounded(key: rsa.RSAPrivateKey) -> bool:
    """Whether no number of an RSA key is larger than its modulus makes it.

    Signing with a made-up factor of a few thousand bits takes minutes. The sizes come first, so
    that the product is that of numbers which are small.
    """
    numbers = key.private_numbers()
    n, e = numbers.public_numbers.n, numbers.public_numbers.e
    p, q = numbers.p, numbers.q
    return (
        1 < e < _MAX_EXPONENT
        and 1 < p < n
        and 1 < q < n
        and p * q == n
        and 0 < numbers.d < n
        and 0 < numbers.dmp1 < p
        and 0 < numbers.dmq1 < q
        and 0 < numbers.iqmp < p
    )


def create_authority_certificate(
    key: SigningKey, *, trust_domain: str, not_before: float, lifetime: float
) -> x509.Certificate:
    """The self-signed certificate of a trust domain's authority (X509-SVID, section 3).

    Args:
        key: The authority's key.
        trust_domain: The trust domain; the certificate's SPIFFE ID has no path.
        not_before: POSIX seconds.
        lifetime: Seconds.
    """
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, trust_domain[:64])])
    uri = x509.UniformResourceIdentifier(str(SpiffeId.for_trust_domain(trust_domain)))
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key)
    builder = (
        _builder(key.public_key, not_before, not_before + lifetime)
        .subject_name(name)
        .issuer_name(name)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(certificates=True), critical=True)
        .add_extension(x509.SubjectAlternativeName([uri]), critical=False)
        .add_extension(identifier, critical=False)
    )
    return key.sign_certificate(builder)


def issue_x509_svid(
    authority_key: SigningKey,
    authority: x509.Certificate,
    *,
    subject: SpiffeId,
    issued_at: float,
    lifetime: float,
) -> X509Svid:
    """Make a key and a certificate for an identity.

    Args:
        authority_key: The key of the authority.
        authority: Its certificate.
        subject: Whom it is for.
        issued_at: POSIX seconds.
        lifetime: Seconds, 1 to 3600.

    Raises:
        ConfigurationError: The lifetime is out of bounds, or the authority ends before it.
    """
    if type(lifetime) not in (int, float) or not 1 <= lifetime <= MAX_LIFETIME:
        raise ConfigurationError(f"lifetime: expected 1 to {MAX_LIFETIME} seconds")
    if issued_at + lifetime > authority.not_valid_after_utc.timestamp():
        raise ConfigurationError("the certificate of the authority ends before this one would")
    if not isinstance(subject, SpiffeId) or not subject.path:
        raise ConfigurationError("subject: expected a SpiffeId with a path")
    key = ec.generate_private_key(ec.SECP256R1())
    vouched = authority.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    # Without a Subject the name is the URI alone, which is then critical (RFC 5280, 4.2.1.6).
    names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(str(subject))])
    by = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(vouched)
    builder = (
        _builder(key.public_key(), issued_at, issued_at + int(lifetime))
        .subject_name(x509.Name([]))
        .issuer_name(authority.subject)
        .add_extension(names, critical=True)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(_EXTENDED), critical=False)
        .add_extension(by, critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    return X509Svid([authority_key.sign_certificate(builder)], key)


def _builder(
    key: ec.EllipticCurvePublicKey, not_before: float, not_after: float
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.fromtimestamp(int(not_before), UTC))
        .not_valid_after(datetime.fromtimestamp(int(not_after), UTC))
    )


def _usage(*, certificates: bool) -> x509.KeyUsage:
    """An authority signs certificates and nothing else; an identity never does."""
    return x509.KeyUsage(
        digital_signature=not certificates,
        key_cert_sign=certificates,
        crl_sign=certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )

"""Verifies an X.509-SVID: the library builds the path, every SPIFFE rule is checked on top of it.

X509-SVID standard, section 5.2. The leaf is looked at first, so that each refusal has its own code;
that it passes there proves nothing yet. Then `cryptography` builds a path to an authority of the
trust domain under a policy that repeats the rules. In order: `malformed`, `bad_subject`,
`bad_usage`, `lifetime_too_long`, `token_expired`, `not_yet_valid`, `wrong_key`, `unknown_key`,
`bad_signature`.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import (
    Criticality,
    ExtensionPolicy,
    Policy,
    PolicyBuilder,
    Store,
    VerificationError,
)

from tabard.clock import CLOCK_SKEW, Clock, read_clock, system_clock
from tabard.identity.bundle_keys import authority_id
from tabard.identity.compact import refuse
from tabard.identity.spiffe_id import SpiffeId
from tabard.identity.token import new_token_id
from tabard.identity.verified import VerifiedToken
from tabard.identity.verifier import check_subject
from tabard.identity.x509_svid import X509_SVID, X509Svid

MAX_SVID_LIFETIME = 86_400
"""Seconds an X.509-SVID may live, whoever issued it."""

_UNREADABLE = (
    ValueError,
    TypeError,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
    x509.InvalidVersion,
    UnsupportedAlgorithm,
    Warning,
)


class X509Verifier:
    """Checks X.509-SVIDs of one trust domain."""

    def __init__(
        self,
        authorities: Sequence[x509.Certificate],
        *,
        trust_domain: str,
        clock: Clock = system_clock,
    ) -> None:
        """Set up a verifier.

        Args:
            authorities: The certificate authorities of the trust domain's bundle.
            trust_domain: The trust domain.
            clock: Returns POSIX seconds.
        """
        self._authorities = list(authorities)
        self._trust_domain = trust_domain
        self._clock = clock

    def verify(self, svid: X509Svid) -> VerifiedToken:
        """Verify a chain, its leaf and that the private key is the leaf's.

        Raises:
            AuthenticationFailed: It does not hold; the code says why.
            GuardUnavailable: The clock failed.
        """
        leaf, now = svid.chain[0], read_clock(self._clock)
        problem = ""
        try:
            spiffe_id = self._check_leaf(leaf)
        except _UNREADABLE:
            problem = "the certificate cannot be read"
        if problem:
            refuse("malformed", problem)
        issued_at, expires_at = _check_times(leaf, now)
        authority = self._find_authority(svid, max(now, issued_at))
        if not svid.has_key():
            refuse("wrong_key", "the private key is not the one of the certificate")
        return VerifiedToken(
            spiffe_id=spiffe_id,
            kind=X509_SVID,
            kid=authority_id(authority),
            jti=svid.id,
            txn=new_token_id(),
            audience="",
            issued_at=issued_at,
            expires_at=expires_at,
        )

    def _check_leaf(self, leaf: x509.Certificate) -> SpiffeId:
        """The identity of a leaf that keeps every rule for one (X509-SVID, sections 2 to 4)."""
        extensions = {extension.value.oid: extension for extension in leaf.extensions}
        usage = extensions.get(x509.KeyUsage.oid)
        constraints = extensions.get(x509.BasicConstraints.oid)
        extended = extensions.get(x509.ExtendedKeyUsage.oid)
        if usage is None or not usage.critical or not _only_signs(usage.value):
            refuse("bad_usage", "the certificate is not one for signing only")
        if constraints is not None and constraints.value.ca:
            refuse("bad_usage", "the certificate is that of an authority")
        if extended is not None and not _allows_clients(extended.value):
            refuse("bad_usage", "the certificate is not one for clients")
        names = extensions.get(x509.SubjectAlternativeName.oid)
        if names is None or names.critical != (not list(leaf.subject)):
            refuse("bad_subject", "the certificate does not name an identity as it should")
        uris = names.value.get_values_for_type(x509.UniformResourceIdentifier)
        if len(uris) != 1:
            refuse("bad_subject", f"expected one URI in the certificate, found {len(uris)}")
        return check_subject(uris[0], self._trust_domain)

    def _find_authority(self, svid: X509Svid, moment: float) -> x509.Certificate:
        """The authority at the end of a path that holds."""
        if not self._authorities:
            refuse("unknown_key", "the certificate's trust domain has no authority here")
        leaf, between = svid.chain[0], list(svid.chain[1:])
        try:
            verifier = (
                PolicyBuilder()
                .store(Store(self._authorities))
                .time(datetime.fromtimestamp(moment, UTC))
                .extension_policies(
                    ca_policy=ExtensionPolicy.webpki_defaults_ca(), ee_policy=_leaf_policy()
                )
                .build_client_verifier()
            )
            path = verifier.verify(leaf, between).chain
        except (VerificationError, *_UNREADABLE):
            path = []
        if not path:
            self._explain(leaf, between)
        named: bool | None = None
        with suppress(*_UNREADABLE):
            named = any(_names_identity(one) for one in path[1:])
        if named is None:
            refuse("malformed", "an authority in the chain has names that cannot be read")
        if named:
            refuse("bad_subject", "an authority in the chain has the name of an identity")
        return path[-1]

    def _explain(self, leaf: x509.Certificate, between: list[x509.Certificate]) -> None:
        """Say whether the signer is a stranger, or one of ours who never signed that."""
        signers = [one for one in (*between, *self._authorities) if _bears_name_of(one, leaf)]
        if signers and not any(_has_signed(one, leaf) for one in signers):
            refuse("bad_signature", "no authority of that name has signed the certificate")
        refuse("unknown_key", "the certificate does not lead to an authority that is trusted")


def _leaf_policy() -> ExtensionPolicy:
    """The rules again, in the library's own terms: it sees the very bytes it verifies."""
    return (
        ExtensionPolicy.permit_all()
        .require_present(x509.SubjectAlternativeName, Criticality.AGNOSTIC, _one_uri)
        .require_present(x509.KeyUsage, Criticality.CRITICAL, _signing)
        .require_present(x509.AuthorityKeyIdentifier, Criticality.NON_CRITICAL, None)
        .may_be_present(x509.BasicConstraints, Criticality.AGNOSTIC, _no_authority)
    )


def _one_uri(_: Policy, __: x509.Certificate, names: x509.SubjectAlternativeName) -> None:
    if len(names.get_values_for_type(x509.UniformResourceIdentifier)) != 1:
        raise ValueError("expected one URI")


def _signing(_: Policy, __: x509.Certificate, usage: x509.KeyUsage) -> None:
    if not _only_signs(usage):
        raise ValueError("expected digitalSignature only")


def _no_authority(
    _: Policy, __: x509.Certificate, constraints: x509.BasicConstraints | None
) -> None:
    if constraints is not None and constraints.ca:
        raise ValueError("expected no authority")


def _only_signs(usage: x509.KeyUsage) -> bool:
    return usage.digital_signature and not usage.key_cert_sign and not usage.crl_sign


def _allows_clients(extended: x509.ExtendedKeyUsage) -> bool:
    wanted = ExtendedKeyUsageOID
    return wanted.CLIENT_AUTH in extended or wanted.ANY_EXTENDED_KEY_USAGE in extended


def _names_identity(authority: x509.Certificate) -> bool:
    """Whether an authority's own SPIFFE ID has a path, which only identities have."""
    try:
        names = authority.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return False
    uris = names.value.get_values_for_type(x509.UniformResourceIdentifier)
    return any("/" in uri.removeprefix("spiffe://") for uri in uris)


def _bears_name_of(signer: x509.Certificate, leaf: x509.Certificate) -> bool:
    try:
        return signer.subject == leaf.issuer
    except _UNREADABLE:  # names are parsed when they are asked for
        return False


def _has_signed(signer: x509.Certificate, leaf: x509.Certificate) -> bool:
    try:
        leaf.verify_directly_issued_by(signer)
    except (InvalidSignature, *_UNREADABLE):
        return False
    return True


def _check_times(leaf: x509.Certificate, now: float) -> tuple[int, int]:
    issued_at = int(leaf.not_valid_before_utc.timestamp())
    expires_at = int(leaf.not_valid_after_utc.timestamp())
    if expires_at - issued_at > MAX_SVID_LIFETIME:
        refuse("lifetime_too_long", f"the certificate lives longer than {MAX_SVID_LIFETIME} s")
    if now >= expires_at:
        refuse("token_expired", "the certificate has expired")
    if issued_at > now + CLOCK_SKEW:
        refuse("not_yet_valid", "the certificate is from the future")
    return issued_at, expires_at

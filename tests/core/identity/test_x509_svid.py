# ruff: noqa: E501
"""X.509-SVIDs: made as the standard asks, and every other certificate refused with its own code."""

from __future__ import annotations

import base64
import pickle
import subprocess
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier
from hypothesis import given, settings
from hypothesis import strategies as st

from tabard import AuthenticationFailed, ConfigurationError, TabardError
from tabard.identity import SigningKey, SpiffeId
from tabard.identity.bundle_keys import authority_id
from tabard.identity.x509_svid import (
    X509Svid,
    create_authority_certificate,
    issue_x509_svid,
)
from tabard.identity.x509_verifier import X509Verifier

NOW = 1_800_000_000
DAY = 86_400
SUBJECT = "spiffe://acme.example/env/prod/team/claims/agent/claims-agent"
CA_KEY = SigningKey.generate()
CA = create_authority_certificate(
    CA_KEY, trust_domain="acme.example", not_before=NOW - DAY, lifetime=7 * DAY
)
LEAF_KEY = ec.generate_private_key(ec.SECP256R1())


def issue(lifetime: float = 3600, issued_at: int = NOW) -> X509Svid:
    return issue_x509_svid(
        CA_KEY, CA, subject=SpiffeId.parse(SUBJECT), issued_at=issued_at, lifetime=lifetime
    )


def verify(svid: X509Svid, now: float = NOW, authorities: Any = (CA,)) -> Any:
    return X509Verifier(authorities, trust_domain="acme.example", clock=lambda: now).verify(svid)


def usage(**changes: bool) -> x509.KeyUsage:
    names = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment",
             "key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only")  # fmt: skip
    return x509.KeyUsage(**{name: changes.get(name, False) for name in names})


def uris(*values: str) -> x509.SubjectAlternativeName:
    return x509.SubjectAlternativeName([x509.UniformResourceIdentifier(v) for v in values])


def name(text: str = "") -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)] if text else [])


ABSENT: Any = ...


def forge(
    *,
    key: Any = LEAF_KEY,
    signer: Any = None,
    issuer: x509.Name | None = None,
    subject: x509.Name | None = None,
    san: Any = None,
    san_critical: bool = True,
    key_usage: Any = None,
    usage_critical: bool = True,
    constraints: Any = None,
    extended: Any = None,
    authority: Any = None,
    begins: int = NOW,
    ends: int = NOW + 3600,
    more: Callable[[x509.CertificateBuilder], x509.CertificateBuilder] = lambda b: b,
    held: Any = None,
    between: tuple[x509.Certificate, ...] = (),
) -> X509Svid:
    """A certificate that is right but for what is asked for, signed by the authority's real key."""
    by = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(
        CA.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    )
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject or name())
        .issuer_name(issuer or CA.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.fromtimestamp(begins, UTC))
        .not_valid_after(datetime.fromtimestamp(ends, UTC))
    )
    extensions = [
        (san if san is not None else uris(SUBJECT), san_critical),
        (key_usage if key_usage is not None else usage(digital_signature=True), usage_critical),
        (constraints or x509.BasicConstraints(ca=False, path_length=None), True),
        (extended or x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), False),
        (authority or by, False),
    ]
    for extension, critical in extensions:
        if extension is not ABSENT:
            builder = builder.add_extension(extension, critical=critical)
    builder = more(builder)
    leaf = (
        builder.sign(
            signer, None if isinstance(signer, ed25519.Ed25519PrivateKey) else hashes.SHA256()
        )
        if signer is not None
        else CA_KEY.sign_certificate(builder)
    )
    return X509Svid([leaf, *between], held or key)


def make_authority(key: Any, *, subject: str = "acme.example", issuer: Any = None,
                   signer: Any = None, ca: bool = True, sign: bool = True,
                   san: str = "spiffe://acme.example", length: int | None = None) -> Any:  # fmt: skip
    builder = (
        x509.CertificateBuilder()
        .subject_name(name(subject))
        .issuer_name(issuer if issuer is not None else name(subject))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.fromtimestamp(NOW - DAY, UTC))
        .not_valid_after(datetime.fromtimestamp(NOW + DAY, UTC))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=length), critical=True)
        .add_extension(usage(key_cert_sign=sign, digital_signature=not sign), critical=True)
        .add_extension(uris(san), critical=not subject)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    if signer is not None:
        identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())
        builder = builder.add_extension(identifier, critical=False)
    return builder.sign(signer or key, hashes.SHA256())


def signed_by(key: Any, certificate: x509.Certificate, **changes: Any) -> X509Svid:
    """A leaf that another authority has made."""
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key())
    return forge(signer=key, issuer=certificate.subject, authority=identifier, **changes)


ROOT_KEY, MIDDLE_KEY = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
ROOT = make_authority(ROOT_KEY, subject="root")


def middle(**changes: Any) -> Any:
    return make_authority(
        MIDDLE_KEY, subject="middle", issuer=ROOT.subject, signer=ROOT_KEY, **changes
    )


class TestAccepted:
    @pytest.mark.parametrize(
        "make",
        [
            issue,
            forge,
            lambda: forge(constraints=ABSENT),
            lambda: forge(extended=ABSENT),
            lambda: forge(subject=name("x"), san_critical=False),
            lambda: forge(san=x509.SubjectAlternativeName(
                [x509.DNSName("a.example"), x509.UniformResourceIdentifier(SUBJECT)])),
            lambda: forge(key=rsa.generate_private_key(65537, 2048)),
            lambda: forge(key=ec.generate_private_key(ec.SECP384R1())),
            lambda: forge(begins=NOW + 20),
            lambda: forge(ends=NOW + DAY),
        ],
        ids=["ours", "plain", "no BasicConstraints", "no EKU", "with Subject", "DNS too", "RSA",
             "P-384", "clock skew", "a day"],
    )  # fmt: skip
    def test_what_the_standard_allows(self, make: Any) -> None:
        """The refusals below are not for being strict in general."""
        verified = verify(make())
        assert (str(verified.spiffe_id), verified.kind) == (SUBJECT, "x509-svid")
        assert verified.kid == authority_id(CA)

    def test_intermediate(self) -> None:
        """A path over an intermediate authority of the trust domain."""
        svid = signed_by(MIDDLE_KEY, middle(), between=(middle(),))
        assert verify(svid, authorities=(CA, ROOT)).kid == authority_id(ROOT)

    def test_ours_has_the_shape(self) -> None:
        """One URI and nothing else in its name, for signing only, an hour at most."""
        [leaf] = issue().chain
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        assert names.critical
        assert [n.value for n in names.value] == [SUBJECT]
        assert list(leaf.subject) == []
        assert leaf.extensions.get_extension_for_class(x509.KeyUsage).value == usage(
            digital_signature=True
        )
        assert verify(issue()).expires_at == NOW + 3600

    def test_openssl_agrees(self, tmp_path: Path) -> None:
        """OpenSSL, strict, accepts ours and refuses the same leaf under another authority."""
        (tmp_path / "leaf.pem").write_bytes(
            issue().chain[0].public_bytes(serialization.Encoding.PEM)
        )
        other = create_authority_certificate(
            SigningKey.generate(),
            trust_domain="acme.example",
            not_before=NOW - DAY,
            lifetime=DAY * 7,
        )
        for certificate, expected in ((CA, 0), (other, 2)):
            (tmp_path / "ca.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
            run = subprocess.run(
                ["openssl", "verify", "-x509_strict", "-purpose", "sslclient", "-attime",
                 str(NOW + 100), "-CAfile", tmp_path / "ca.pem", tmp_path / "leaf.pem"],
                capture_output=True, text=True, check=False,
            )  # fmt: skip
            assert run.returncode == expected, run.stderr


HOSTILE: dict[str, tuple[Callable[[], Any], str]] = {
    "two URIs": (lambda: forge(san=uris(SUBJECT, "spiffe://acme.example/x")), "bad_subject"),
    "the same URI twice": (lambda: forge(san=uris(SUBJECT, SUBJECT)), "bad_subject"),
    "an https URI": (lambda: forge(san=uris("https://acme.example/x")), "bad_subject"),
    "a second, https URI": (lambda: forge(san=uris(SUBJECT, "https://a")), "bad_subject"),
    "foreign trust domain": (lambda: forge(san=uris("spiffe://evil.example/x")), "bad_subject"),
    "longer trust domain": (lambda: forge(san=uris("spiffe://acme.example.evil/x")), "bad_subject"),
    "the trust domain itself": (lambda: forge(san=uris("spiffe://acme.example")), "bad_subject"),
    "trailing slash": (lambda: forge(san=uris(SUBJECT + "/")), "bad_subject"),
    "dot segments": (lambda: forge(san=uris("spiffe://acme.example/a/../b")), "bad_subject"),
    "upper case": (lambda: forge(san=uris(SUBJECT.replace("acme", "ACME"))), "bad_subject"),
    "percent": (lambda: forge(san=uris(SUBJECT + "%61")), "bad_subject"),
    "newline": (lambda: forge(san=uris(SUBJECT + "\n")), "bad_subject"),
    "query": (lambda: forge(san=uris(SUBJECT + "?a=b")), "bad_subject"),
    "DNS only": (lambda: forge(san=x509.SubjectAlternativeName([x509.DNSName("a.b")])), "bad_subject"),
    "no SAN": (lambda: forge(san=ABSENT), "bad_subject"),
    "SAN not critical without Subject": (lambda: forge(san_critical=False), "bad_subject"),
    "SAN critical with Subject": (lambda: forge(subject=name("x")), "bad_subject"),
    "an authority": (
        lambda: forge(constraints=x509.BasicConstraints(ca=True, path_length=None)), "bad_usage"),
    "keyCertSign": (
        lambda: forge(key_usage=usage(digital_signature=True, key_cert_sign=True)), "bad_usage"),
    "cRLSign": (lambda: forge(key_usage=usage(digital_signature=True, crl_sign=True)), "bad_usage"),
    "no digitalSignature": (lambda: forge(key_usage=usage(key_agreement=True)), "bad_usage"),
    "no KeyUsage": (lambda: forge(key_usage=ABSENT), "bad_usage"),
    "KeyUsage not critical": (lambda: forge(usage_critical=False), "bad_usage"),
    "code signing": (
        lambda: forge(extended=x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING])), "bad_usage"),
    "the authority's own certificate": (lambda: X509Svid([CA], CA_KEY._key), "bad_usage"),
    "expired": (lambda: forge(begins=NOW - 3600, ends=NOW - 1), "token_expired"),
    "expires now": (lambda: forge(begins=NOW - 3600, ends=NOW), "token_expired"),
    "from the future": (lambda: forge(begins=NOW + 31), "not_yet_valid"),
    "two days": (lambda: forge(ends=NOW + 2 * DAY), "lifetime_too_long"),
    "somebody else's certificate": (
        lambda: forge(held=ec.generate_private_key(ec.SECP256R1())), "wrong_key"),
    "another kind of key": (lambda: forge(held=rsa.generate_private_key(65537, 2048)), "wrong_key"),
    "another curve": (lambda: forge(held=ec.generate_private_key(ec.SECP384R1())), "wrong_key"),
    "signed by itself": (lambda: forge(signer=LEAF_KEY, issuer=name("me")), "unknown_key"),
    "a stranger with the authority's name": (lambda: forge(signer=ROOT_KEY), "bad_signature"),
    "a stranger's authority": (lambda: signed_by(ROOT_KEY, ROOT), "unknown_key"),
    "a stranger's authority, brought along": (
        lambda: signed_by(ROOT_KEY, ROOT, between=(ROOT,)), "unknown_key"),
    "another domain's authority of the same name": (
        lambda: signed_by(ROOT_KEY, make_authority(ROOT_KEY)), "bad_signature"),
    "no AuthorityKeyIdentifier": (lambda: forge(authority=ABSENT), "unknown_key"),
    "an unknown critical extension": (
        lambda: forge(more=lambda b: b.add_extension(
            x509.UnrecognizedExtension(ObjectIdentifier("1.2.3.4"), b"x"), critical=True)),
        "unknown_key"),
    "a leaf as intermediate": (
        lambda: signed_by(LEAF_KEY, forge(subject=name("leaf"), san_critical=False).chain[0],
                          between=forge(subject=name("leaf"), san_critical=False).chain), "unknown_key"),
}  # fmt: skip
OVER_ROOT: dict[str, tuple[Callable[[], Any], str]] = {
    "intermediate without cA": (lambda: middle(ca=False), "unknown_key"),
    "intermediate without keyCertSign": (lambda: middle(sign=False), "unknown_key"),
    "intermediate with an identity's name": (lambda: middle(san=SUBJECT), "bad_subject"),
    "intermediate of a stranger": (
        lambda: make_authority(MIDDLE_KEY, subject="middle", issuer=ROOT.subject,
                               signer=ec.generate_private_key(ec.SECP256R1())), "unknown_key"),
}  # fmt: skip


class TestHostile:
    @pytest.mark.parametrize(("make", "code"), HOSTILE.values(), ids=HOSTILE.keys())
    def test_leaf(self, make: Any, code: str) -> None:
        """Each with its own code, though the authority's real key signed most of them."""
        with pytest.raises(AuthenticationFailed) as caught:
            verify(make())
        assert caught.value.code == code

    @pytest.mark.parametrize(("make", "code"), OVER_ROOT.values(), ids=OVER_ROOT.keys())
    def test_intermediate(self, make: Any, code: str) -> None:
        certificate = make()
        with pytest.raises(AuthenticationFailed) as caught:
            verify(signed_by(MIDDLE_KEY, certificate, between=(certificate,)), authorities=(ROOT,))
        assert caught.value.code == code

    def test_path_that_is_too_long(self) -> None:
        """An authority that may have none below it has none."""
        root = make_authority(ROOT_KEY, subject="root", length=0)
        svid = signed_by(MIDDLE_KEY, middle(), between=(middle(),))
        with pytest.raises(AuthenticationFailed, match="unknown_key"):
            verify(svid, authorities=(root,))

    def test_nobody_is_trusted(self) -> None:
        """A trust domain without authorities has no certificates."""
        with pytest.raises(AuthenticationFailed, match="unknown_key"):
            verify(issue(), authorities=())

    def test_ed25519_authority(self) -> None:
        """An authority with a key that SPIFFE does not know is none."""
        key = ed25519.Ed25519PrivateKey.generate()
        builder = (
            x509.CertificateBuilder().subject_name(name("e")).issuer_name(name("e"))
            .public_key(key.public_key()).serial_number(5)
            .not_valid_before(datetime.fromtimestamp(NOW - DAY, UTC))
            .not_valid_after(datetime.fromtimestamp(NOW + DAY, UTC))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(usage(key_cert_sign=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
        )  # fmt: skip
        certificate = builder.sign(key, None)
        with pytest.raises(AuthenticationFailed, match="unknown_key"):
            verify(signed_by(key, certificate), authorities=(certificate,))

    KEY = issue().to_pem().decode().partition("-----END CERTIFICATE-----\n")[2]

    def test_every_bit_of_the_certificate(self) -> None:
        """A byte changed anywhere in the certificate is refused, and never as a foreign error."""
        svid = issue()
        der = svid.chain[0].public_bytes(serialization.Encoding.DER)
        for position in range(0, len(der), 3):
            broken = bytearray(der)
            broken[position] ^= 0x04
            try:
                leaf = x509.load_der_x509_certificate(bytes(broken))
            except (ValueError, x509.InvalidVersion):
                pem = b"-----BEGIN CERTIFICATE-----\n%s\n-----END CERTIFICATE-----\n"
                text = pem % base64.b64encode(bytes(broken)) + self.KEY.encode()
                with pytest.raises(AuthenticationFailed, match="malformed"):
                    X509Svid.from_pem(text)
                continue
            with pytest.raises(AuthenticationFailed):
                verify(X509Svid([leaf], svid._key))


class TestPem:
    def test_round_trip(self, tmp_path: Path) -> None:
        """Written and read again it is the same, in a file for its owner only."""
        svid = issue()
        svid.save(tmp_path / "svid.pem")
        assert (tmp_path / "svid.pem").stat().st_mode & 0o777 == 0o600
        text = (tmp_path / "svid.pem").read_text()
        assert verify(X509Svid.from_pem(text)).jti == svid.id
        key, chain = text[text.index("-----BEGIN PRIVATE") :], text[: text.index("-----BEGIN PRIV")]
        assert verify(X509Svid.from_pem((key + chain).encode())).jti == svid.id
        with pytest.raises(ConfigurationError, match="cannot write"):
            svid.save(tmp_path / "missing" / "svid.pem")

    PEM = issue().to_pem().decode()
    KEY = PEM[PEM.index("-----BEGIN PRIVATE") :]
    LEAF = PEM[: PEM.index("-----BEGIN PRIVATE")]

    @pytest.mark.parametrize(
        ("text", "code"),
        [
            ("", "malformed"), (KEY, "malformed"), (LEAF, "malformed"), (KEY + KEY, "malformed"),
            (LEAF + KEY + KEY, "malformed"), (LEAF * 9 + KEY, "malformed"), (None, "malformed"),
            (PEM + "x", "malformed"), ("x" + PEM, "malformed"), (PEM[:-5], "malformed"),
            (PEM.replace("PRIVATE", "PUBLIC"), "malformed"), (5, "malformed"),
            (LEAF.replace("CERTIFICATE", "PRIVATE KEY") + KEY, "malformed"),
            (LEAF + LEAF.replace("CERTIFICATE", "PRIVATE KEY"), "malformed"),
            (KEY.replace("PRIVATE KEY", "CERTIFICATE") + KEY, "malformed"),
            (LEAF + KEY.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY"), "malformed"),
            ("a" * 1_000_000, "too_long"), (PEM + "\n" * 70_000, "too_long"),
            (b"\xff" * 100, "malformed"), (PEM.replace("A", "é"), "malformed"),
        ],
    )  # fmt: skip
    def test_what_is_none(self, text: Any, code: str) -> None:
        with pytest.raises(AuthenticationFailed) as caught:
            X509Svid.from_pem(text)
        assert caught.value.code == code

    def test_encrypted_key(self) -> None:
        """A key under a password is not asked for one."""
        secret = LEAF_KEY.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.BestAvailableEncryption(b"password"),
        )  # fmt: skip
        with pytest.raises(AuthenticationFailed, match="malformed"):
            X509Svid.from_pem(self.LEAF.encode() + secret)

    @settings(max_examples=150, deadline=None)
    @given(st.data())
    def test_fuzz(self, data: st.DataObject) -> None:
        """Whatever is put into it, an SVID or a refusal comes out, and so at verification."""
        text = data.draw(st.one_of(st.text(max_size=200), st.just(self.PEM)))
        at = data.draw(st.integers(0, max(len(text) - 1, 0)))
        text = text[:at] + data.draw(st.text(max_size=3)) + text[at + 1 :]
        try:
            verify(X509Svid.from_pem(text))
        except TabardError:
            return
        assert text.split() == self.PEM.split() or text[:40] == self.PEM[:40]

    def test_key_is_never_shown(self) -> None:
        """Neither repr nor pickle gives the key away."""
        svid = issue()
        assert repr(svid) == f"<X509Svid {SUBJECT}>"
        with pytest.raises(TypeError, match="cannot be pickled"):
            pickle.dumps(svid)


class TestIssue:
    @pytest.mark.parametrize("lifetime", [0, 3601, -1, float("nan"), "60", True, None])
    def test_lifetime(self, lifetime: Any) -> None:
        with pytest.raises(ConfigurationError, match="lifetime: expected 1 to 3600 seconds"):
            issue(lifetime=lifetime)

    def test_not_beyond_its_authority(self) -> None:
        with pytest.raises(ConfigurationError, match="ends before this one would"):
            issue(issued_at=NOW + 6 * DAY)

    def test_subject(self) -> None:
        for subject in (SpiffeId.parse("spiffe://acme.example"), SUBJECT, None):
            with pytest.raises(ConfigurationError, match="expected a SpiffeId with a path"):
                issue_x509_svid(CA_KEY, CA, subject=subject, issued_at=NOW, lifetime=60)  # type: ignore[arg-type]


class TestIntermediate:
    def test_names_that_cannot_be_read(self) -> None:
        """An X.400 address among the names of an intermediate is nothing the library reads."""
        key, above = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
        authority = make_authority(above)
        names = x509.UnrecognizedExtension(
            ObjectIdentifier("2.5.29.17"), b"\x30\x04\xa3\x02\x05\x00"
        )
        identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(above.public_key())
        between = (
            x509.CertificateBuilder().subject_name(name("between")).issuer_name(authority.subject)
            .public_key(key.public_key()).serial_number(7)
            .not_valid_before(datetime.fromtimestamp(NOW - DAY, UTC))
            .not_valid_after(datetime.fromtimestamp(NOW + DAY, UTC))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(usage(key_cert_sign=True), critical=True)
            .add_extension(identifier, critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(names, critical=False)
            .sign(above, hashes.SHA256())
        )  # fmt: skip
        svid = signed_by(key, between, between=(between,))
        with pytest.raises(AuthenticationFailed, match="malformed: an authority in the chain"):
            verify(svid, authorities=[authority])


class TestTime:
    """A key that was made to take long to check takes no time, and is refused."""

    @pytest.mark.parametrize(("p", "q"), [(2203, 2281), (4253, 4423)])
    def test_rsa_key_of_mersenne_primes(self, p: int, q: int) -> None:
        """Two primes of a special form: a consistency check of them takes OpenSSL minutes."""
        leaf = issue().to_pem()
        pem = leaf.partition(b"-----BEGIN PRIVATE")[0] + rsa_pem(2**p - 1, 2**q - 1)
        began = time.process_time()
        with pytest.raises(AuthenticationFailed, match="malformed"):
            verify(X509Svid.from_pem(pem))
        assert time.process_time() - began < 2

    @pytest.mark.parametrize("number", range(2, 9), ids=["e", "d", "p", "q", "dp", "dq", "qi"])
    @pytest.mark.parametrize("bits", [4097, 30_000, 300_000])
    def test_made_up_rsa_key_beside_a_valid_certificate(self, number: int, bits: int) -> None:
        """The certificate is public: signing with numbers that are not its own took for ever."""
        real = rsa.generate_private_key(65537, 2048).private_numbers()
        numbers = rsa_numbers(real.p, real.q)
        leaf = forge(key=rsa.generate_private_key(65537, 2048)).chain[0]
        pem = leaf.public_bytes(serialization.Encoding.PEM)
        assert X509Svid.from_pem(pem + pkcs1(numbers))
        numbers[number] = 1 | 1 << (bits - 1)
        began = time.process_time()
        with pytest.raises(AuthenticationFailed, match="malformed"):
            X509Svid.from_pem(pem + pkcs1(numbers))
        assert time.process_time() - began < 2

    def test_factors_that_are_none(self) -> None:
        real = rsa.generate_private_key(65537, 2048).private_numbers()
        pem = issue().to_pem().partition(b"-----BEGIN PRIVATE")[0]
        for p, q in ((1, real.p * real.q), (real.p * real.q, 1), (real.p, real.p), (3, 5)):
            numbers = rsa_numbers(real.p, real.q)
            numbers[4:6] = p, q
            with pytest.raises(AuthenticationFailed, match="malformed"):
                X509Svid.from_pem(pem + pkcs1(numbers))


def rsa_numbers(p: int, q: int) -> list[int]:
    n, e = p * q, 65537
    d = pow(e, -1, (p - 1) * (q - 1))
    return [0, n, e, d, p, q, d % (p - 1), d % (q - 1), pow(q, -1, p)]


def rsa_pem(p: int, q: int) -> bytes:
    return pkcs1(rsa_numbers(p, q))


def pkcs1(numbers: list[int]) -> bytes:
    """A PKCS#1 private key, written by hand: no library has to look at it."""
    body = b"".join(der(2, i.to_bytes(i.bit_length() // 8 + 1, "big")) for i in numbers)
    encoded = base64.encodebytes(der(0x30, body))
    return b"-----BEGIN RSA PRIVATE KEY-----\n" + encoded + b"-----END RSA PRIVATE KEY-----\n"


def der(tag: int, content: bytes) -> bytes:
    size = len(content)
    length = bytes([size]) if size < 128 else b"\x83" + size.to_bytes(3, "big")
    if 256 <= size < 65_536:
        length = b"\x82" + size.to_bytes(2, "big")
    if 128 <= size < 256:
        length = b"\x81" + bytes([size])
    return bytes([tag]) + length + content

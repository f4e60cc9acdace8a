"""Keys on disk and trust bundles: refused unless they are exactly what they should be."""

from __future__ import annotations

import base64
import json
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import given, settings
from hypothesis import strategies as st

from tabard import ConfigurationError, TabardError
from tabard.identity import SigningKey, TrustBundle

KEY = SigningKey(ec.derive_private_key(0xABCDEF, ec.SECP256R1()))
OTHER = SigningKey(ec.derive_private_key(0xFEDCBA, ec.SECP256R1()))
JWK: dict[str, Any] = {**KEY.jwk, "use": "jwt-svid", "alg": "ES256"}


def pem(key: Any, password: bytes | None = None) -> bytes:
    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if password is not None:
        encryption = serialization.BestAvailableEncryption(password)
    data: bytes = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption
    )
    return data


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a key may lie: a folder of mode 0700."""
    folder = tmp_path / "keys"
    folder.mkdir(mode=0o700)
    return folder / "issuer.pem"


class TestSigningKey:
    def test_saved_and_loaded(self, path: Path) -> None:
        """A saved key comes back as the same key, readable by its owner only."""
        KEY.save(path)
        assert SigningKey.load(path).kid == KEY.kid
        assert oct(path.stat().st_mode)[-3:] == "600"
        assert [p.name for p in path.parent.iterdir()] == ["issuer.pem"]

    def test_never_overwritten(self, path: Path) -> None:
        """Saving over a key is refused; the old one stays, and no draft is left."""
        KEY.save(path)
        with pytest.raises(ConfigurationError, match="cannot write the key"):
            OTHER.save(path)
        assert SigningKey.load(path).kid == KEY.kid
        assert [p.name for p in path.parent.iterdir()] == ["issuer.pem"]

    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"hello",
            b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
            pem(ec.generate_private_key(ec.SECP384R1())),
            pem(ec.generate_private_key(ec.SECP256K1())),
            pem(ed25519.Ed25519PrivateKey.generate()),
            pem(rsa.generate_private_key(65537, 2048)),
            pem(ec.generate_private_key(ec.SECP256R1()), b"secret"),
            pem(ec.generate_private_key(ec.SECP256R1()))[:-60],
            b"\xff" * 300,
        ],
        ids=["empty", "text", "damaged", "P-384", "secp256k1", "Ed25519", "RSA", "encrypted",
             "cut", "binary"],
    )  # fmt: skip
    def test_what_is_no_p256_key(self, path: Path, content: bytes) -> None:
        """Anything but an unencrypted P-256 key is refused in one sentence that names the file."""
        path.write_bytes(content)
        path.chmod(0o600)
        with pytest.raises(ConfigurationError, match="expected a P-256 private key") as caught:
            SigningKey.load(path)
        assert str(path) in str(caught.value)

    @pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o610, 0o777])
    def test_readable_by_others(self, path: Path, mode: int) -> None:
        """A file that others can get at is refused; found and expected modes are named."""
        KEY.save(path)
        path.chmod(mode)
        with pytest.raises(ConfigurationError, match=f"mode {mode:04o}, expected 0600"):
            SigningKey.load(path)

    @pytest.mark.parametrize("mode", [0o750, 0o705, 0o777])
    def test_folder_open_to_others(self, path: Path, mode: int) -> None:
        """A folder that others can get into is refused."""
        KEY.save(path)
        path.parent.chmod(mode)
        with pytest.raises(ConfigurationError, match="expected 0700"):
            SigningKey.load(path)

    def test_belongs_to_another_user(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A key that belongs to somebody else is refused."""
        KEY.save(path)
        if os.geteuid() == 0:
            os.chown(path, 12345, 12345)
        else:  # nobody but root can give a file away, so we become somebody else
            monkeypatch.setattr(os, "geteuid", lambda: 12345)
        with pytest.raises(ConfigurationError, match="belongs to another user"):
            SigningKey.load(path)

    def test_missing_or_a_folder(self, path: Path) -> None:
        """No file, or a folder in its place, is refused."""
        with pytest.raises(ConfigurationError, match="no readable key"):
            SigningKey.load(path)
        path.mkdir(mode=0o700)
        with pytest.raises(ConfigurationError, match="expected a key file"):
            SigningKey.load(path)

    def test_never_shown(self) -> None:
        """Neither repr nor pickle give the key away."""
        secret = str(0xABCDEF)
        assert secret not in repr(KEY)
        assert KEY.kid in repr(KEY)
        with pytest.raises(TypeError, match="cannot be pickled"):
            pickle.dumps(KEY)

    def test_thumbprint(self) -> None:
        """The kid is the RFC 7638 thumbprint of the public key."""
        import hashlib

        members = {name: KEY.jwk[name] for name in ("crv", "kty", "x", "y")}
        text = json.dumps(members, sort_keys=True, separators=(",", ":")).encode()
        digest = base64.urlsafe_b64encode(hashlib.sha256(text).digest()).rstrip(b"=")
        assert KEY.kid == digest.decode()


def read(*keys: Any, **members: Any) -> TrustBundle:
    document = {"spiffe_sequence": 1, "keys": list(keys), **members}
    return TrustBundle.from_jwks(json.dumps(document), trust_domain="acme.example")


class TestTrustBundle:
    def test_round_trip(self, tmp_path: Path) -> None:
        """What is published is what is read back."""
        bundle = TrustBundle.of(KEY, OTHER, trust_domain="acme.example", sequence=7)
        bundle.save(tmp_path / "bundle.json")
        again = TrustBundle.load(tmp_path / "bundle.json", trust_domain="acme.example")
        assert (len(again), again.sequence) == (2, 7)
        assert again.key(KEY.kid) is not None
        assert again.to_jwks() == bundle.to_jwks()
        assert [p.name for p in tmp_path.iterdir()] == ["bundle.json"]

    @pytest.mark.parametrize("mode", [0o664, 0o646, 0o666, 0o777])
    def test_writable_by_others(self, tmp_path: Path, mode: int) -> None:
        """A bundle that others can write would let anybody make themselves trusted."""
        path = tmp_path / "bundle.json"
        TrustBundle.of(KEY, trust_domain="acme.example").save(path)
        path.chmod(mode)
        with pytest.raises(ConfigurationError, match=f"others can write it .mode {mode:04o}"):
            TrustBundle.load(path, trust_domain="acme.example")

    def test_empty_trusts_nothing(self) -> None:
        """An empty key list is valid, and trusts nobody."""
        assert len(read()) == 0

    @pytest.mark.parametrize(
        "element",
        [
            {**JWK, "use": "x509-svid"},
            {**JWK, "use": "wit-svid"},
            {**JWK, "use": "sig"},
            {k: v for k, v in JWK.items() if k != "use"},
            {**JWK, "kty": "RSA"},
            {**JWK, "kty": "OKP"},
            {k: v for k, v in JWK.items() if k != "kty"},
            {**JWK, "crv": "P-384"},
        ],
    )
    def test_element_that_is_not_ours(self, element: Any) -> None:
        """An element for something else is left out, and only that element."""
        other = {**OTHER.jwk, "use": "jwt-svid"}
        bundle = read(element, other)
        assert bundle.key(KEY.kid) is None
        assert bundle.key(OTHER.kid) is not None

    @pytest.mark.parametrize(
        ("element", "part"),
        [
            ({**JWK, "d": "AAAA"}, "private key material"),
            ({"kty": "oct", "k": "AAAA"}, "private key material"),
            ({**JWK, "use": "x509-svid", "d": "AAAA"}, "private key material"),
            ({k: v for k, v in JWK.items() if k != "kid"}, "expected a `kid`"),
            ({**JWK, "kid": ""}, "expected a `kid`"),
            ({**JWK, "kid": 7}, "expected a `kid`"),
            ({**JWK, "alg": "ES384"}, "for ES256"),
            ({**JWK, "alg": "none"}, "for ES256"),
            ({**JWK, "x": JWK["y"]}, "not a point"),
            ({**JWK, "x": "A" * 43}, "not a point"),
            ({**JWK, "x": JWK["x"] + "="}, "not a point"),
            ({**JWK, "x": JWK["x"][:-1]}, "not a point"),
            ({**JWK, "x": "é" * 43}, "not a point"),
            ({**JWK, "x": 5}, "not a point"),
            ({k: v for k, v in JWK.items() if k != "y"}, "not a point"),
            ("text", "expected an object"),
            (None, "expected an object"),
        ],
    )
    def test_element_that_condemns_the_bundle(self, element: Any, part: str) -> None:
        """A private, damaged or nameless key refuses the whole bundle and names the element."""
        with pytest.raises(ConfigurationError, match=part) as caught:
            read({**OTHER.jwk, "use": "jwt-svid"}, element)
        assert "keys.1" in str(caught.value)

    def test_duplicates(self) -> None:
        """A key id or a member that occurs twice refuses the whole bundle."""
        with pytest.raises(ConfigurationError, match="duplicate `kid`"):
            read(JWK, {**OTHER.jwk, "use": "jwt-svid", "kid": KEY.kid})
        with pytest.raises(ConfigurationError, match="named twice"):
            TrustBundle.from_jwks('{"keys": [], "keys": []}', trust_domain="acme.example")

    @pytest.mark.parametrize(
        "text",
        ["", "null", "[]", "{}", '{"keys": {}}', '{"keys": null}', "{" * 5000, b"\xff",
         '{"keys": [], "spiffe_sequence": "1"}', '{"keys": [], "spiffe_sequence": -1}',
         '{"keys": [], "spiffe_sequence": NaN}', '{"keys": [], "spiffe_sequence": true}'],
    )  # fmt: skip
    def test_what_is_no_bundle(self, text: Any) -> None:
        """Text that is no bundle is refused in one sentence."""
        with pytest.raises(ConfigurationError, match="trust bundle"):
            TrustBundle.from_jwks(text, trust_domain="acme.example")

    def test_large_input(self) -> None:
        """A megabyte of anything is answered, not chewed on for ever."""
        for text in ("[" * 1_000_000, '{"keys":[' + "{}," * 300_000 + "{}]}", "x" * 1_000_000):
            try:
                size = len(TrustBundle.from_jwks(text, trust_domain="acme.example"))
            except ConfigurationError:
                size = 0
            assert size == 0

    @settings(max_examples=200, deadline=None)
    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(max_size=50),
            lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from([*JWK, "keys"]), inner),
            max_leaves=12,
        )
    )
    def test_fuzz(self, document: Any) -> None:
        """Whatever the document, a bundle or one of our errors comes out."""
        try:
            bundle = TrustBundle.from_jwks(json.dumps(document), trust_domain="acme.example")
        except TabardError:
            return
        assert bundle.trust_domain == "acme.example"

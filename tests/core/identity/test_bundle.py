"""Trust bundles: what belongs to us is read strictly, what does not is left out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from tabard import ConfigurationError
from tabard.identity import SigningKey, TrustBundle

KEY = SigningKey(ec.derive_private_key(0xABCDEF, ec.SECP256R1()))
OTHER = SigningKey(ec.derive_private_key(0xFEDCBA, ec.SECP256R1()))
JWK: dict[str, Any] = {**KEY.jwk, "use": "jwt-svid", "alg": "ES256"}


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
            {**JWK, "use": "wit-svid"},
            {**JWK, "use": "sig"},
            {k: v for k, v in JWK.items() if k != "use"},
            {**JWK, "kty": "OKP"},
            {k: v for k, v in JWK.items() if k != "kty"},
            {**JWK, "crv": "secp256k1"},
            {**JWK, "crv": ["P-256"]},
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
            ({**JWK, "alg": "ES384"}, "`alg` is none"),
            ({**JWK, "alg": "none"}, "`alg` is none"),
            ({**JWK, "alg": ["ES256"]}, "`alg` is none"),
            ({**JWK, "crv": "P-384"}, "not a point of P-384"),
            ({**JWK, "kty": "RSA"}, "not an RSA key"),
            ({**JWK, "kty": "RSA", "n": "AQAB", "e": "AQAB"}, "RSA key of 17 bits"),
            ({**JWK, "kty": "RSA", "n": "A" * 1366, "e": "AQAB"}, "not an RSA key"),
            ({**JWK, "kty": "RSA", "n": "_" * 1366, "e": "Ag"}, "RSA key of|not an RSA key"),
            ({**JWK, "use": "x509-svid"}, "has no `kid`"),
            ({"kty": "EC", "use": "x509-svid"}, "exactly one certificate"),
            ({"kty": "EC", "use": "x509-svid", "x5c": []}, "exactly one certificate"),
            ({"kty": "EC", "use": "x509-svid", "x5c": ["AA==", "AA=="]}, "exactly one certificate"),
            ({"kty": "EC", "use": "x509-svid", "x5c": [5]}, "exactly one certificate"),
            ({"kty": "EC", "use": "x509-svid", "x5c": ["AA=="]}, "no certificate of an auth"),
            ({"kty": "EC", "use": "x509-svid", "x5c": ["é"]}, "no certificate of an auth"),
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

    @pytest.mark.parametrize("member", ["d", "p", "q", "dp", "dq", "qi", "oth", "k", "priv"])
    @pytest.mark.parametrize("kind", ["EC", "RSA", "OKP", "oct", "AKP", "unknown", None])
    def test_private_member_of_any_kind(self, kind: object, member: str) -> None:
        """Private key material refuses the whole bundle, also in an element that is not ours."""
        for value in ("SECRET", "", None):
            with pytest.raises(ConfigurationError, match=r"keys\.1: holds private") as caught:
                read(JWK, {"kty": kind, member: value})
            assert "SECRET" not in str(caught.value)

    @pytest.mark.parametrize("member", ["keys", "spiffe_sequence", "kid", "x", "use", "other"])
    def test_any_member_twice(self, member: str) -> None:
        """A member that is named twice refuses the bundle, at any depth and however it is spelt."""
        spelt = "".join(f"\\u{ord(c):04x}" for c in member)
        inside = json.dumps(JWK)
        for name in (member, spelt):
            twice = f'"{member}": 1, "{name}": 1'
            for text in (
                f'{{"keys": [{inside}], {twice}}}',
                f'{{"keys": [{inside}, {{{twice}}}]}}',
                f'{{"keys": [{inside}], "deep": [[{{{twice}}}]]}}',
            ):
                with pytest.raises(ConfigurationError, match="named twice"):
                    TrustBundle.from_jwks(text, trust_domain="acme.example")

    def test_kid_of_an_element_that_is_left_out(self) -> None:
        """An element that is left out cannot take a key id away from one that counts."""
        bundle = read({**JWK, "use": "wit-svid"}, JWK, {**JWK, "kty": "OKP"})
        assert (len(bundle), bundle.key(KEY.kid) is None) == (1, False)

    def test_one_key_under_two_ids(self) -> None:
        """The same key twice under its own id is a duplicate; the id alone decides."""
        with pytest.raises(ConfigurationError, match=r"keys\.1: duplicate `kid`"):
            TrustBundle.of(KEY, KEY, trust_domain="acme.example")
        assert len(read(JWK, {**JWK, "kid": "next"})) == 2

    @pytest.mark.parametrize("kid", ["", "x", " ", KEY.kid + " ", KEY.kid[:-1], OTHER.kid])
    def test_key_id_is_exact(self, kid: str) -> None:
        """A key is found under its whole id and no other text."""
        assert read(JWK).key(kid) is None

"""Bundles made to be misread: second spellings of a key, numbers that are none, wrong types."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tabard import ConfigurationError, TabardError
from tabard.identity import SigningKey, TrustBundle
from tabard.identity.encoding import base64url

ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
PRIME = 2**256 - 2**224 + 2**192 + 2**96 - 1
Y_AT_ZERO = 0x66485C780E2F83D72433BD5D84A06BB6541C2AF31DAE871728BF856A174F93F4
"""The y of the point of P-256 whose x is 0."""


def read(*elements: object, **members: object) -> TrustBundle:
    document = {"spiffe_sequence": 1, "keys": list(elements), **members}
    return TrustBundle.from_jwks(json.dumps(document), trust_domain="acme.example")


@pytest.fixture(scope="session")
def jwk(issuer: SigningKey) -> dict[str, str]:
    """The issuer's key as it stands in a bundle."""
    return {**issuer.jwk, "use": "jwt-svid"}


def coordinate(number: int) -> str:
    return base64url(number.to_bytes(32, "big"))


class TestSpellings:
    def test_unused_bits(self, jwk: dict[str, str]) -> None:
        """A coordinate has one spelling; other unused bits are another."""
        last = ALPHABET[ALPHABET.index(jwk["x"][-1]) | 1]
        assert last != jwk["x"][-1]
        with pytest.raises(ConfigurationError, match="not a point"):
            read({**jwk, "x": jwk["x"][:-1] + last})

    def test_standard_alphabet(self) -> None:
        """`+` and `/` are not base64url."""
        keys = (SigningKey.generate().jwk for _ in range(300))
        jwk = next({**key, "use": "jwt-svid"} for key in keys if {"-", "_"} & set(key["x"]))
        other = jwk["x"].replace("-", "+").replace("_", "/")
        assert other != jwk["x"]
        with pytest.raises(ConfigurationError, match="not a point"):
            read({**jwk, "x": other})

    def test_coordinate_beyond_the_field(self) -> None:
        """x + p names the same point as x for a library that reduces it; here it names none."""
        point = {"kty": "EC", "crv": "P-256", "use": "jwt-svid", "kid": "k"}
        assert len(read({**point, "x": coordinate(0), "y": coordinate(Y_AT_ZERO)})) == 1
        with pytest.raises(ConfigurationError, match="not a point"):
            read({**point, "x": coordinate(PRIME), "y": coordinate(Y_AT_ZERO)})

    @pytest.mark.parametrize("x", [b"", b"\0", bytes(31), bytes(33)])
    def test_coordinate_of_another_length(self, x: bytes) -> None:
        """Zeros left out or put before a coordinate are another spelling of the same key."""
        point = {"kty": "EC", "crv": "P-256", "use": "jwt-svid", "kid": "k"}
        with pytest.raises(ConfigurationError, match="not a point"):
            read({**point, "x": base64url(x), "y": coordinate(Y_AT_ZERO)})
        with pytest.raises(ConfigurationError, match="not a point"):
            read({**point, "y": coordinate(Y_AT_ZERO)})

    def test_point_at_infinity(self) -> None:
        """Nothing can be signed by no point."""
        point = {"kty": "EC", "crv": "P-256", "use": "jwt-svid", "kid": "k"}
        with pytest.raises(ConfigurationError, match="not a point"):
            read({**point, "x": coordinate(0), "y": coordinate(0)})


class TestDocument:
    @pytest.mark.parametrize(
        "text", [None, 5, 1.5, ["keys"], {"keys": []}, bytearray(b"{}"), object]
    )
    def test_what_is_no_text(self, text: Any) -> None:
        """What is neither text nor bytes is one of our errors."""
        with pytest.raises(ConfigurationError, match="trust bundle"):
            TrustBundle.from_jwks(text, trust_domain="acme.example")

    @pytest.mark.parametrize("hint", ["1e999", "-1", "1.5", '"300"', "true", "null", "NaN", "[]"])
    def test_refresh_hint(self, hint: str) -> None:
        """A refresh hint is a number of whole seconds, so that what we publish is JSON again."""
        with pytest.raises(ConfigurationError, match="trust bundle"):
            TrustBundle.from_jwks(
                f'{{"keys": [], "spiffe_refresh_hint": {hint}}}', trust_domain="acme.example"
            )

    @pytest.mark.parametrize("domain", ["", "ACME", "acme/x", "acme:1", "a" * 256, None, b"acme"])
    def test_trust_domain(self, domain: Any) -> None:
        """A bundle belongs to a trust domain that can exist."""
        with pytest.raises(ConfigurationError, match="trust domain"):
            TrustBundle.from_jwks('{"keys": []}', trust_domain=domain)

    def test_one_bad_element_spoils_a_good_bundle(self, jwk: dict[str, str]) -> None:
        """With a private key published, even the good keys are not trusted; none is shown."""
        with pytest.raises(ConfigurationError, match=r"keys\.1.*private") as caught:
            read(jwk, {**jwk, "kid": "other", "d": "c2VjcmV0"})
        assert "c2VjcmV0" not in str(caught.value)

    def test_context_does_not_hold_the_text(self) -> None:
        """A damaged bundle is not carried along behind the error."""
        with pytest.raises(ConfigurationError) as caught:
            TrustBundle.from_jwks('{"d": SECRET', trust_domain="acme.example")
        seen: BaseException | None = caught.value
        while seen is not None:
            assert "SECRET" not in repr(vars(seen))
            assert "SECRET" not in str(getattr(seen, "doc", ""))
            seen = seen.__context__


def test_member_twice_among_very_many() -> None:
    """A megabyte of members, one of them twice at the end: refused at once."""
    names = ",".join(f'"{number:06x}":0' for number in range(90_000))
    text = f'{{{names},"{90_000 - 1:06x}":0,"keys":[]}}'
    began = time.process_time()
    with pytest.raises(ConfigurationError, match="named twice"):
        TrustBundle.from_jwks(text, trust_domain="acme.example")
    assert time.process_time() - began < 1


def test_key_of_another_use_verifies_nothing(
    issuer: SigningKey, bundle: TrustBundle, jwk: dict[str, str]
) -> None:
    """A certificate's key does not verify tokens, though the point is the same."""
    uses: list[object] = ["wit-svid", "JWT-SVID", ["jwt-svid"], None, "jwt-svid "]
    assert read(*({**jwk, "use": use} for use in uses)).key(issuer.kid) is None
    assert bundle.key(issuer.kid) is not None


@settings(max_examples=150, deadline=None)
@given(
    changes=st.dictionaries(
        st.sampled_from(["kty", "crv", "x", "y", "kid", "use", "alg", "x5c", "d"]),
        st.none() | st.integers() | st.floats() | st.text(max_size=50) | st.lists(st.text()),
        max_size=3,
    )
)
def test_fuzz_around_a_good_key(jwk: dict[str, str], changes: dict[str, Any]) -> None:
    """Whatever is changed in a good key, a bundle or one of our errors comes out."""
    try:
        bundle = read({**jwk, **changes})
    except TabardError:
        return
    again = TrustBundle.from_jwks(bundle.to_jwks(), trust_domain="acme.example")
    assert len(again) == len(bundle) <= 1

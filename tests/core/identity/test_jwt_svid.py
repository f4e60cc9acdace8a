# ruff: noqa: E501
"""JWT-SVIDs of whatever issuer: what the standard allows is taken, everything else has a code."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import given, settings
from hypothesis import strategies as st
from jwt import get_algorithm_by_name

from tabard import AccessDenied, AuthenticationFailed, ConfigurationError
from tabard.identity import JwtSvidVerifier, SigningKey, SpiffeId, TokenVerifier, TrustBundle
from tabard.identity.encoding import base64url, unbase64url
from tabard.identity.token import mint_token

NOW = 1_800_000_000
AUDIENCE = "spiffe://acme.example/guard"
SUBJECT = "spiffe://acme.example/ns/prod/sa/claims"
KEYS: dict[str, Any] = {
    "p256": ec.generate_private_key(ec.SECP256R1()),
    "p384": ec.generate_private_key(ec.SECP384R1()),
    "p521": ec.generate_private_key(ec.SECP521R1()),
    "rsa": rsa.generate_private_key(65537, 2048),
    "pinned": rsa.generate_private_key(65537, 2048),
}
ABSENT: Any = ...


def jwk(kid: str) -> dict[str, Any]:
    key = KEYS[kid]
    kind = "RS256" if isinstance(key, rsa.RSAPrivateKey) else "ES256"
    algorithm: Any = get_algorithm_by_name(kind)
    members = algorithm.to_jwk(key.public_key(), as_dict=True)
    members.pop("key_ops", None)
    return {**members, "kid": kid, "use": "jwt-svid"} | (
        {"alg": "PS256"} if kid == "pinned" else {}
    )


BUNDLE = TrustBundle.from_jwks(
    json.dumps({"keys": [jwk(kid) for kid in KEYS]}), trust_domain="acme.example"
)
OURS = SigningKey(KEYS["p256"])


def token(*, kid: str = "p256", alg: str = "ES256", signer: Any = None, **changes: Any) -> str:
    """An SVID with claims changed (`h_` in the header; ABSENT removes)."""
    header = {"alg": alg, "kid": kid, "typ": "JWT"}
    claims = {"sub": SUBJECT, "aud": [AUDIENCE], "iat": NOW - 10, "exp": NOW + 290}
    for name, value in changes.items():
        target, name = (header, name[2:]) if name.startswith("h_") else (claims, name)
        target.pop(name, None)
        if value is not ABSENT:
            target[name] = value
    message = ".".join(base64url(json.dumps(part).encode()) for part in (header, claims))
    algorithm: Any = get_algorithm_by_name(alg if alg in ALGORITHMS else "ES256")
    return f"{message}.{base64url(algorithm.sign(message.encode(), signer or KEYS[kid]))}"


ALGORITHMS = ("ES256", "ES384", "ES512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512")


def verify(text: Any, now: float = NOW) -> Any:
    return JwtSvidVerifier(BUNDLE, audience=AUDIENCE, clock=lambda: now).verify(text)


class TestAccepted:
    @pytest.mark.parametrize(
        ("kid", "alg"),
        [("p256", "ES256"), ("p384", "ES384"), ("p521", "ES512"), ("pinned", "PS256")]
        + [("rsa", alg) for alg in ALGORITHMS if alg[0] != "E"],
    )
    def test_every_algorithm_of_the_standard(self, kid: str, alg: str) -> None:
        """Nine algorithms, each with the keys it is for."""
        verified = verify(token(kid=kid, alg=alg))
        assert (str(verified.spiffe_id), verified.kind, verified.kid) == (SUBJECT, "jwt-svid", kid)

    @pytest.mark.parametrize(
        "changes",
        [{"h_typ": ABSENT}, {"h_typ": "JOSE"}, {"aud": AUDIENCE}, {"iat": ABSENT},
         {"nbf": NOW + 30}, {"iat": NOW + 30}, {"iss": "https://issuer.example"}, {"iss": ABSENT},
         {"iss": "spiffe://acme.example"}, {"exp": NOW + 3590}, {"scope": "x"}, {"jti": 5},
         {"jti": "short"}, {"iat": ABSENT, "exp": NOW + 3600}],
        ids=str,
    )  # fmt: skip
    def test_what_the_standard_leaves_open(self, changes: Any) -> None:
        """The refusals below are not for being strict in general."""
        assert verify(token(**changes))

    def test_named_by_what_was_signed(self) -> None:
        """Without an id of its own it has one that its twin signature shares."""
        order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
        text = token()
        message, _, signature = text.rpartition(".")
        raw = base64.urlsafe_b64decode(signature + "==")
        s = order - int.from_bytes(raw[32:], "big")
        twin = f"{message}.{base64url(raw[:32] + s.to_bytes(32, 'big'))}"
        assert verify(text).jti == verify(twin).jti
        assert verify(token(jti="j" * 22)).jti == "j" * 22

    def test_without_iat_it_is_from_before_everything(self) -> None:
        """What does not say when it was issued, an eviction takes along."""
        assert verify(token(iat=ABSENT)).issued_at == 0

    def test_ours(self) -> None:
        """The profile `jwt-svid` of our own issuer."""
        bundle = TrustBundle.of(OURS, trust_domain="acme.example")
        text = mint_token(OURS, subject=SpiffeId.parse(SUBJECT), audience=AUDIENCE,
                          issued_at=NOW, lifetime=60, profile="jwt-svid", txn="t" * 22)  # fmt: skip
        verifier = JwtSvidVerifier(bundle, audience=AUDIENCE, clock=lambda: NOW)
        assert verifier.verify(text).txn == "t" * 22


def case(**changes: Any) -> Callable[[], str]:
    return lambda: token(**changes)


def signer_of(alg: str) -> str:
    """A key that can sign with an algorithm."""
    return {"ES256": "p256", "ES384": "p384", "ES512": "p521"}.get(alg, "rsa")


def flip(text: str) -> str:
    message, _, signature = text.rpartition(".")
    return f"{message}.{'B' if signature[0] == 'A' else 'A'}{signature[1:]}"


def cut(text: str) -> str:
    message, _, signature = text.rpartition(".")
    return f"{message}.{base64url(unbase64url(signature)[:48])}"


AUDIENCES: tuple[Any, ...] = (
    "other",
    [],
    ["other"],
    [AUDIENCE, "other"],
    ["other", AUDIENCE],
    [[AUDIENCE]],
    None,
    5,
    {},
    AUDIENCE + "/",
    AUDIENCE[:-1],
    [AUDIENCE, AUDIENCE],
)
ISSUERS: tuple[Any, ...] = (
    "spiffe://other.example",
    "spiffe://acme.example/x",
    "spiffe:",
    5,
    None,
    [],
)
HOSTILE: dict[str, tuple[Callable[[], Any], str]] = {
    **{f"{alg} on a {kid} key": (case(kid=kid, alg=alg, signer=KEYS[signer_of(alg)]), "wrong_alg")
       for kid in ("p256", "p384", "p521", "rsa", "pinned") for alg in ALGORITHMS
       if alg not in {"p256": ("ES256",), "p384": ("ES384",), "p521": ("ES512",), "rsa": ALGORITHMS[3:],
                      "pinned": ("PS256",)}[kid]},
    **{f"alg {alg!r}": (case(h_alg=alg), "wrong_alg")
       for alg in ("none", "None", "HS256", "EdDSA", "ES256K", "es256", "", None, ["ES256"], 5)},
    **{f"typ {typ!r}": (case(h_typ=typ), "wrong_typ")
       for typ in ("agent+jwt", "wit+jwt", "at+jwt", "jwt", "", None, ["JWT"], 5)},
    **{f"header {name}": (case(**{f"h_{name}": "x"}), "unexpected_header")
       for name in ("jwk", "jku", "x5u", "x5c", "crit", "b64", "cty", "zip", "x5t", "Kid")},
    **{f"kid {kid!r}": (case(h_kid=kid), "unknown_key")
       for kid in ("other", "", None, 5, ["p256"], "../p256", "P256")},
    "no kid": (lambda: token(h_kid=ABSENT), "unknown_key"),
    "another's signature": (lambda: token(signer=ec.generate_private_key(ec.SECP256R1())), "bad_signature"),
    "another key's id": (lambda: token(h_kid="rsa", alg="ES256"), "wrong_alg"),
    "no signature": (lambda: token().rpartition(".")[0] + ".", "malformed"),
    "short signature": (lambda: cut(token()), "bad_signature"),
    "one bit": (lambda: flip(token()), "bad_signature"),
    **{f"aud {aud!r}": (case(aud=aud), "wrong_audience")
       for aud in AUDIENCES},
    "no aud": (lambda: token(aud=ABSENT), "wrong_audience"),
    **{f"exp {exp!r}": (case(exp=exp), "bad_exp")
       for exp in ("1800000290", 1.8e9, True, None, -1, 2**53, 10**400, [NOW + 290], ABSENT)},
    "expired": (lambda: token(iat=NOW - 300, exp=NOW - 1), "token_expired"),
    "expires now": (lambda: token(exp=NOW), "token_expired"),
    **{f"iat {iat!r}": (case(iat=iat), "bad_iat") for iat in ("x", 1.5, True, None, -1)},
    **{f"nbf {nbf!r}": (case(nbf=nbf), "bad_nbf") for nbf in ("x", 1.5, False, None)},
    "issued in the future": (lambda: token(iat=NOW + 31), "not_yet_valid"),
    "not yet valid": (lambda: token(nbf=NOW + 31), "not_yet_valid"),
    "two hours": (lambda: token(exp=NOW + 7200), "lifetime_too_long"),
    "two hours, not saying since when": (lambda: token(iat=ABSENT, exp=NOW + 7200), "lifetime_too_long"),
    **{f"sub {sub!r}": (case(sub=sub), "bad_subject")
       for sub in ("spiffe://other.example/x", "spiffe://acme.example", SUBJECT + "/", SUBJECT + "\n", "",
                   None, 5, [SUBJECT], SUBJECT.upper(), "https://acme.example/x", "spiffe://acme.example/a/../b",
                   "spiffe://acme.example.evil/x", "\ud800", ABSENT)},
    **{f"iss {iss!r}": (case(iss=iss), "wrong_issuer")
       for iss in ISSUERS},
    "bound to a key": (lambda: token(cnf={"jkt": "a" * 43}), "unexpected_claim"),
    "an agent token": (lambda: mint_token(OURS, subject=SpiffeId.parse(SUBJECT), audience=AUDIENCE,
                                          issued_at=NOW, lifetime=60), "wrong_typ"),
    "a megabyte": (lambda: "a" * 1_000_000, "too_long"), "nothing": (lambda: "", "malformed"),
    "no text": (lambda: None, "malformed"), "five parts": (lambda: "a.b.c.d.e", "malformed"),
}  # fmt: skip


@pytest.mark.parametrize(("make", "code"), HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile(make: Any, code: str) -> None:
    """Refused with exactly this code, and nothing of the token in the refusal."""
    text = make()
    with pytest.raises(AuthenticationFailed) as caught:
        verify(text)
    assert caught.value.code == code
    assert caught.value.__cause__ is None
    if isinstance(text, str) and len(text) > 20:
        assert text[:20] not in str(caught.value)


def test_catalogue_is_whole() -> None:
    assert len(HOSTILE) >= 120


def test_neither_passes_for_the_other() -> None:
    """No token is accepted by both verifiers, though one key has signed them."""
    bundle = TrustBundle.of(OURS, trust_domain="acme.example")
    kinds: list[Any] = [TokenVerifier, JwtSvidVerifier]
    for profile in ("agent+jwt", "jwt-svid"):
        text = mint_token(OURS, subject=SpiffeId.parse(SUBJECT), audience=AUDIENCE,
                          issued_at=NOW, lifetime=60, profile=profile)  # fmt: skip
        accepted = 0
        for kind in kinds:
            verifier = kind(bundle, audience=AUDIENCE, clock=lambda: NOW)
            with suppress(AuthenticationFailed):
                accepted += verifier.verify(text).kind == profile
        assert accepted == 1


@pytest.mark.parametrize("audience", ["", None, [AUDIENCE], 5])
def test_verifier_without_an_audience(audience: Any) -> None:
    with pytest.raises(ConfigurationError, match="audience: expected one text"):
        JwtSvidVerifier(BUNDLE, audience=audience)


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"profile": "x"}, "profile: expected agent"), ({"profile": None}, "profile: expected agent"),
     ({"profile": "jwt-svid", "bound_to": "a" * 43}, "not bound to a key"),
     ({"bound_to": ""}, "bound_to: expected"), ({"bound_to": 5}, "bound_to: expected")],
)  # fmt: skip
def test_mint_misuse(changes: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        mint_token(OURS, subject=SpiffeId.parse(SUBJECT), audience=AUDIENCE, issued_at=NOW,
                   lifetime=60, **changes)  # fmt: skip


def test_ed25519_in_a_bundle_is_left_out() -> None:
    """A key that no JWT-SVID may be signed with is none here."""
    algorithm: Any = get_algorithm_by_name("EdDSA")
    key = ed25519.Ed25519PrivateKey.generate().public_key()
    element = {**algorithm.to_jwk(key, as_dict=True), "kid": "e", "use": "jwt-svid"}
    bundle = TrustBundle.from_jwks(json.dumps({"keys": [element]}), trust_domain="acme.example")
    assert len(bundle) == 0


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.sampled_from(["sub", "aud", "exp", "iat", "nbf", "iss", "jti", "cnf", "h_typ",
                                        "h_kid", "h_alg"]),
                       st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=20),
                                    lambda x: st.lists(x, max_size=2), max_leaves=3)))  # fmt: skip
def test_fuzz(changes: dict[str, Any]) -> None:
    """Whatever an issuer writes, a verified SVID or a refusal comes out."""
    try:
        verify(token(**changes))
    except AccessDenied:
        return
    assert changes.get("sub", SUBJECT) == SUBJECT

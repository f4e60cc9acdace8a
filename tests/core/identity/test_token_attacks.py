# ruff: noqa: E501, RUF001
"""The attack catalogue: hostile tokens, each with the exact code it must be refused with.

Everything is made here, with keys derived from labels and a clock that stands still.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from hypothesis import given, settings
from hypothesis import strategies as st

from tabard import AuthenticationFailed, GuardUnavailable
from tabard.identity import SigningKey, SpiffeId, TokenVerifier, TrustBundle, mint_token
from tabard.identity.encoding import base64url

NOW = 1_800_000_000
AUDIENCE = "spiffe://acme.example/guard"
SUBJECT = "spiffe://acme.example/env/prod/team/claims/agent/claims-agent"
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


def derive(label: str) -> ec.EllipticCurvePrivateKey:
    secret = int.from_bytes(hashlib.sha256(label.encode()).digest(), "big") % (ORDER - 1) + 1
    return ec.derive_private_key(secret, ec.SECP256R1())


ISSUER = derive("issuer")
KEY = SigningKey(ISSUER)
BUNDLE = TrustBundle.of(KEY, trust_domain="acme.example")
HEADER: dict[str, Any] = {"alg": "ES256", "kid": KEY.kid, "typ": "agent+jwt"}
CLAIMS: dict[str, Any] = {
    "iss": "spiffe://acme.example",
    "sub": SUBJECT,
    "aud": AUDIENCE,
    "iat": NOW - 10,
    "nbf": NOW - 10,
    "exp": NOW + 290,
    "jti": "j" * 22,
    "txn": "t" * 22,
}
ABSENT = ...


def b64(data: bytes | str) -> str:
    return base64url(data if isinstance(data, bytes) else data.encode())


def raw(header: str | bytes, claims: str | bytes, key: ec.EllipticCurvePrivateKey = ISSUER) -> str:
    """Sign any two parts as they are."""
    message = f"{b64(header)}.{b64(claims)}"
    signature = jwt.get_algorithm_by_name("ES256").sign(message.encode(), key)
    return f"{message}.{b64(signature)}"


def changed(values: dict[str, Any], changes: dict[str, Any]) -> str:
    merged = {k: v for k, v in {**values, **changes}.items() if v is not ABSENT}
    return json.dumps(merged)


def token(*, key: ec.EllipticCurvePrivateKey = ISSUER, **changes: Any) -> str:
    """A token with some claims changed (or ABSENT); `h_` changes the header."""
    header = {k[2:]: v for k, v in changes.items() if k.startswith("h_")}
    claims = {k: v for k, v in changes.items() if not k.startswith("h_")}
    return raw(changed(HEADER, header), changed(CLAIMS, claims), key)


CONFIRMATIONS: tuple[Any, ...] = (
    None,
    "x",
    [],
    {},
    {"jkt": ""},
    {"jkt": 5},
    {"jkt": "a" * 42},
    {"jkt": "a" * 44},
    {"jkt": "é" * 43},
    {"jkt": "a" * 43, "jwk": {}},
    {"x5t#S256": "a" * 43},
)
VALID = token()


def parts(text: str = VALID) -> list[str]:
    return text.split(".")


def hmac_with(secret: bytes) -> str:
    message = f"{b64(json.dumps({**HEADER, 'alg': 'HS256'}))}.{parts()[1]}"
    return f"{message}.{b64(hmac.digest(secret, message.encode(), 'sha256'))}"


def public(encoding: serialization.Encoding) -> bytes:
    return ISSUER.public_key().public_bytes(
        encoding, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def resigned(signature: bytes) -> str:
    return ".".join([*parts()[:2], b64(signature)])


def twin(text: str = VALID) -> str:
    """The second valid signature of ECDSA: (r, n - s)."""
    signature = base64.urlsafe_b64decode(parts(text)[2] + "==")
    s = int.from_bytes(signature[32:], "big")
    return resigned(signature[:32] + (ORDER - s).to_bytes(32, "big"))


def der_signature() -> str:
    from cryptography.hazmat.primitives import hashes

    message = ".".join(parts()[:2]).encode()
    signature = ISSUER.sign(message, ec.ECDSA(hashes.SHA256()))
    assert decode_dss_signature(signature)
    return resigned(signature)


def flipped(index: int) -> str:
    signature = bytearray(base64.urlsafe_b64decode(parts()[2] + "=="))
    signature[index] ^= 1
    return resigned(bytes(signature))


def unused_bits() -> str:
    """The same bytes spelled with other unused bits in the last character."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    head, body, signature = parts()
    last = alphabet[alphabet.index(signature[-1]) ^ 1]
    assert base64.urlsafe_b64decode(signature[:-1] + last + "==") == base64.urlsafe_b64decode(
        signature + "=="
    )
    return f"{head}.{body}.{signature[:-1]}{last}"


def padded_payload() -> str:
    """Padding in the payload, of a payload whose length really needs some."""
    text = next(t for n in range(3) if len(parts(t := token(jti="j" * (22 + n)))[1]) % 4)
    head, body, signature = parts(text)
    padded = body + "=" * (-len(body) % 4)
    assert padded != body
    return f"{head}.{padded}.{signature}"


def ed25519_token() -> str:
    key = ed25519.Ed25519PrivateKey.from_private_bytes(hashlib.sha256(b"ed").digest())
    message = f"{b64(json.dumps({**HEADER, 'alg': 'EdDSA'}))}.{parts()[1]}"
    return f"{message}.{b64(key.sign(message.encode()))}"


def signature_of(text: str) -> bytes:
    return base64.urlsafe_b64decode(parts(text)[2] + "==")


def signed_as(alg: str, signature: bytes) -> str:
    """A header that names another algorithm, with a signature of that algorithm's length."""
    return f"{b64(json.dumps({**HEADER, 'alg': alg}))}.{parts()[1]}.{b64(signature)}"


def padded_header() -> str:
    """Padding in the header, of a header whose length really needs some."""
    header = next(h for n in range(3) if len(b64(h := json.dumps(HEADER) + " " * n)) % 4)
    head, body, signature = parts(raw(header, json.dumps(CLAIMS)))
    padded = head + "=" * (-len(head) % 4)
    assert padded != head
    return f"{padded}.{body}.{signature}"


def respelled(index: int) -> str:
    """The same bytes with other unused bits in one part, signed in that spelling."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    documents = [json.dumps(HEADER), json.dumps(CLAIMS)]
    while len(b64(documents[index])) % 4 == 0:
        documents[index] += " "
    spelled = [b64(document) for document in documents]
    part = spelled[index]
    spelled[index] = part[:-1] + alphabet[alphabet.index(part[-1]) ^ 1]
    assert base64.urlsafe_b64decode(spelled[index] + "==") == documents[index].encode()
    message = ".".join(spelled)
    signature = jwt.get_algorithm_by_name("ES256").sign(message.encode(), ISSUER)
    return f"{message}.{b64(signature)}"


def nested_act(depth: int) -> dict[str, Any]:
    act: dict[str, Any] = {"sub": SUBJECT}
    for _ in range(depth - 1):
        act = {"sub": SUBJECT, "act": act}
    return act


def doubled(member: str) -> str:
    """Claims in which a member stands twice, both with its right value."""
    text = json.dumps(CLAIMS)
    return text[:-1] + f', "{member}": {json.dumps(CLAIMS[member])}}}'


def number(name: str, literal: str) -> str:
    """Claims with a number spelled in a way Python would not write it."""
    text = json.dumps({**CLAIMS, name: 0})
    return raw(json.dumps(HEADER), text.replace(f'"{name}": 0', f'"{name}": {literal}'))


Case = tuple[str, Callable[[], Any], str]
CASES: list[Case] = [
    # algorithm
    ("alg none, no signature", lambda: ".".join([b64(changed(HEADER, {"alg": "none"})), parts()[1], ""]), "malformed"),
    ("alg NoNe, with signature", lambda: token(h_alg="NoNe"), "wrong_alg"),
    ("alg none, with signature", lambda: token(h_alg="none"), "wrong_alg"),
    ("HS256 keyed with the public PEM", lambda: hmac_with(public(serialization.Encoding.PEM)), "wrong_alg"),
    ("HS256 keyed with the public DER", lambda: hmac_with(public(serialization.Encoding.DER)), "wrong_alg"),
    ("HS256 keyed with nothing", lambda: hmac_with(b""), "wrong_alg"),
    ("EdDSA on a P-256 kid", ed25519_token, "wrong_alg"),
    *((f"alg {a}", lambda a=a: token(h_alg=a), "wrong_alg") for a in ("RS256", "PS256", "ES384", "ES512", "es256", "ES256K", "ES256 ", "", "ESP256")),
    *((f"alg {a!r}", lambda a=a: token(h_alg=a), "wrong_alg") for a in (None, 1, ["ES256"], {"alg": "ES256"}, ABSENT)),
    ("RS256 with a signature of RSA's length", lambda: signed_as("RS256", bytes(256)), "wrong_alg"),
    ("ES384 with a signature of P-384's length", lambda: signed_as("ES384", bytes(96)), "wrong_alg"),
    ("ES256 with a signature of P-384's length", lambda: resigned(bytes(96)), "bad_signature"),
    # key choice
    ("unknown kid", lambda: token(h_kid="x" * 43), "unknown_key"),
    ("kid is a path", lambda: token(h_kid="../../keys/issuer.pem"), "unknown_key"),
    ("kid is SQL", lambda: token(h_kid="x' OR '1'='1"), "unknown_key"),
    *((f"kid {k!r}", lambda k=k: token(h_kid=k), "unknown_key") for k in (1, ["a"], {"a": 1}, None, True, "", ABSENT)),
    ("known kid, foreign key", lambda: token(key=derive("attacker")), "bad_signature"),
    # headers
    *((f"header {n}", lambda n=n, v=v: raw(changed(HEADER, {n: v}), json.dumps(CLAIMS)), "unexpected_header") for n, v in (
        ("jwk", KEY.jwk), ("jku", "https://evil.example/jwks"), ("x5u", "https://evil.example"), ("x5c", ["MII"]),
        ("x5t", "x"), ("crit", ["b64"]), ("b64", False), ("cty", "JWT"), ("zip", "DEF"),
        ("p2c", 2**31), ("enc", "A256GCM"), ("Alg", "ES256"), ("", "x"))),
    ("a private key in the header", lambda: raw(changed(HEADER, {"jwk": {**KEY.jwk, "d": "AAAA"}}), json.dumps(CLAIMS), derive("attacker")), "unexpected_header"),
    ("PBES2 with two thousand million rounds", lambda: raw(changed(HEADER, {"alg": "PBES2-HS256+A128KW", "p2c": 2**31 - 1, "p2s": "AAAA"}), json.dumps(CLAIMS)), "unexpected_header"),
    # typ
    *((f"typ {t!r}", lambda t=t: token(h_typ=t), "wrong_typ") for t in (
        "JWT", "at+jwt", "dpop+jwt", "wit+jwt", "wpt+jwt", "AGENT+JWT", "application/agent+jwt", "agent+jwt ", "", None, 1, ["agent+jwt"], ABSENT)),
    # times
    ("expired", lambda: token(exp=NOW - 1), "token_expired"),
    ("expires now", lambda: token(exp=NOW), "token_expired"),
    ("expired before it was issued", lambda: token(iat=NOW - 5, exp=NOW - 10), "token_expired"),
    *((f"exp {e!r}", lambda e=e: token(exp=e), "bad_exp") for e in (ABSENT, None, "1900000000", NOW + 290.0, True, -1, 2**63, 2**53, [NOW + 290], {"t": 1})),
    ("exp 1e300", lambda: number("exp", "1e300"), "bad_exp"),
    ("exp 1900000000.0", lambda: number("exp", "1800000100.0"), "bad_exp"),
    ("exp NaN", lambda: number("exp", "NaN"), "non_finite_number"),
    ("exp Infinity", lambda: number("exp", "Infinity"), "non_finite_number"),
    ("iat -Infinity", lambda: number("iat", "-Infinity"), "non_finite_number"),
    ("nbf NaN", lambda: number("nbf", "NaN"), "non_finite_number"),
    ("exp with 5000 digits", lambda: number("exp", "1" * 5000), "malformed"),
    ("one year", lambda: token(exp=NOW + 31_536_000), "lifetime_too_long"),
    ("an hour and a second", lambda: token(exp=CLAIMS["iat"] + 3601), "lifetime_too_long"),
    ("issued ten years ago", lambda: token(iat=NOW - 315_360_000, nbf=NOW - 315_360_000), "lifetime_too_long"),
    ("iat from the future", lambda: token(iat=NOW + 31), "not_yet_valid"),
    ("nbf from the future", lambda: token(nbf=NOW + 31), "not_yet_valid"),
    *((f"iat {i!r}", lambda i=i: token(iat=i), "bad_iat") for i in (ABSENT, None, "x", 1.5, True, -1)),
    *((f"nbf {i!r}", lambda i=i: token(nbf=i), "bad_nbf") for i in (ABSENT, None, "x", 1.5, False, -1)),
    # audience
    *((f"aud {a!r}", lambda a=a: token(aud=a), "wrong_audience") for a in (
        ABSENT, None, "", "spiffe://acme.example/other", [AUDIENCE], [AUDIENCE, "x"], [[AUDIENCE]], AUDIENCE + "/x", AUDIENCE[:-1],
        AUDIENCE.upper(), {"aud": AUDIENCE}, AUDIENCE + "\n", 1)),
    # issuer
    *((f"iss {i!r}", lambda i=i: token(iss=i), "wrong_issuer") for i in (
        ABSENT, None, "spiffe://other.example", "acme.example", ["spiffe://acme.example"], "spiffe://acme.example/", "SPIFFE://acme.example")),
    # subject
    *((f"sub {s!r}", lambda s=s: token(sub=s), "bad_subject") for s in (
        ABSENT, None, "", 1, [SUBJECT], "claims-agent", "spiffe://other.example/env/prod/team/claims/agent/claims-agent",
        "spiffe://acme.example", "spiffe://acme.example/", SUBJECT + "\n", SUBJECT + "/", SUBJECT + "/..", SUBJECT + "/.", SUBJECT + "//x",
        SUBJECT.replace("acme", "ACME"), SUBJECT.replace("spiffe", "SPIFFE"), SUBJECT.replace("claims-agent", "claims%2Dagent"),
        SUBJECT.replace("spiffe://", "https://"), SUBJECT.replace("//acme", "//root@acme"), SUBJECT.replace(".example/", ".example:80/"),
        SUBJECT + "?x=1", SUBJECT + "#x", " " + SUBJECT, SUBJECT + "\ud800", SUBJECT + "\x00", SUBJECT.replace("a", "а"))),
    # ids
    *((f"jti {j!r}", lambda j=j: token(jti=j), "bad_jti") for j in (ABSENT, None, "", "short", 1, ["j" * 22], "j" * 65, "j" * 21 + "\n", "j" * 21 + "é")),
    *((f"txn {j!r}", lambda j=j: token(txn=j), "bad_txn") for j in (ABSENT, None, "", "short", 1, "t" * 65)),
    # claims that do not belong in a token
    *((f"claim {c}", lambda c=c: raw(json.dumps(HEADER), changed(CLAIMS, {c: "x"})), "unexpected_claim") for c in ("scope", "act", "email", "permissions", "role", "budget", "Sub", "")),
    ("act eight deep", lambda: token(act=nested_act(8)), "unexpected_claim"),
    ("cnf with a private key", lambda: token(cnf={"jwk": {**KEY.jwk, "d": "AAAA"}}), "bad_cnf"),
    *((f"cnf {i}", lambda c=c: token(cnf=c), "bad_cnf") for i, c in enumerate(CONFIRMATIONS)),
    ("a WIT with cnf and no aud", lambda: token(h_typ="wit+jwt", aud=ABSENT, cnf={"jwk": KEY.jwk}), "wrong_typ"),
    # duplicates
    *((f"{m} twice", lambda m=m: raw(json.dumps(HEADER), doubled(m)), "duplicate_member") for m in ("sub", "exp", "aud")),
    ("alg twice", lambda: raw(json.dumps(HEADER)[:-1] + ', "alg": "ES256"}', json.dumps(CLAIMS)), "duplicate_member"),
    ("a nested member twice", lambda: raw(json.dumps(HEADER), json.dumps(CLAIMS)[:-1] + ', "act": {"sub": 1, "sub": 1}}'), "duplicate_member"),
    # signature
    ("first bit flipped", lambda: flipped(0), "bad_signature"),
    ("last bit flipped", lambda: flipped(63), "bad_signature"),
    ("payload swapped", lambda: ".".join([parts()[0], parts(token(sub=SUBJECT + "2"))[1], parts()[2]]), "bad_signature"),
    ("header swapped", lambda: ".".join([b64(json.dumps({"typ": "agent+jwt", "kid": KEY.kid, "alg": "ES256"})), *parts()[1:]]), "bad_signature"),
    ("all zero", lambda: resigned(bytes(64)), "bad_signature"),
    ("r = s = n", lambda: resigned(ORDER.to_bytes(32, "big") * 2), "bad_signature"),
    ("r = s = 1", lambda: resigned((1).to_bytes(32, "big") * 2), "bad_signature"),
    ("all ones", lambda: resigned(b"\xff" * 64), "bad_signature"),
    ("one byte short", lambda: resigned(bytes(63)), "bad_signature"),
    ("one byte long", lambda: resigned(bytes(65)), "bad_signature"),
    ("one byte", lambda: resigned(b"\x00"), "bad_signature"),
    ("DER in place of raw", der_signature, "bad_signature"),
    ("s = 0", lambda: resigned((1).to_bytes(32, "big") + bytes(32)), "bad_signature"),
    ("r and s in each other's place", lambda: resigned(signature_of(VALID)[32:] + signature_of(VALID)[:32]), "bad_signature"),
    # spelling
    ("padding after the signature", lambda: VALID + "==", "malformed"),
    ("padding in the payload", padded_payload, "malformed"),
    ("unused bits", unused_bits, "malformed"),
    ("padding in the header", padded_header, "malformed"),
    ("unused bits in the payload, signed so", lambda: respelled(1), "malformed"),
    ("unused bits in the header, signed so", lambda: respelled(0), "malformed"),
    ("newline after", lambda: VALID + "\n", "malformed"),
    ("space before", lambda: " " + VALID, "malformed"),
    ("two parts", lambda: ".".join(parts()[:2]), "malformed"),
    ("four parts", lambda: VALID + ".e30", "malformed"),
    ("five parts, as a JWE", lambda: ".".join([*parts(), "e30", "e30"]), "malformed"),
    ("a JWE that is a zip bomb", lambda: ".".join([b64(json.dumps({"alg": "dir", "enc": "A256GCM", "zip": "DEF"})), "", "AAAA", "A" * 4000, "AAAA"]), "malformed"),
    ("JSON serialisation", lambda: json.dumps({"payload": parts()[1], "signatures": []}), "malformed"),
    ("standard alphabet", lambda: VALID.replace("-", "+").replace("_", "/") + "+", "malformed"),
    ("full-width dot", lambda: VALID.replace(".", "．", 1), "malformed"),
    ("full-width letter", lambda: VALID.replace(VALID[0], "ｅ", 1), "malformed"),
    ("NUL inside", lambda: VALID[:20] + "\x00" + VALID[20:], "malformed"),
    ("impossible base64 length", lambda: f"{parts()[0]}A.{parts()[1]}.{parts()[2]}", "malformed"),
    ("Bearer before it", lambda: f"Bearer {VALID}", "malformed"),
    *((f"text {t!r}", lambda t=t: t, "malformed") for t in ("", ".", "..", "...", "a", "a.b.c", "null", "{}")),
    *((f"{type(t).__name__}", lambda t=t: t, "malformed") for t in (None, 1, 1.5, True, [VALID], {"token": VALID}, object())),
    ("bytes that are not ASCII", lambda: VALID.encode() + b"\xff", "malformed"),
    # body
    *((f"payload {t[:12]!r}", lambda t=t: raw(json.dumps(HEADER), t), "malformed") for t in ("[]", "null", '"x"', "1", "", " ", "{", "{} {}", '{"a":1,}', "{'a':1}", "[" * 1500, '{"a":' * 1000)),
    *((f"header {t[:12]!r}", lambda t=t: raw(t, json.dumps(CLAIMS)), "malformed") for t in ("[]", "null", '"x"', "1", "{", "[" * 1500)),
    ("payload is not UTF-8", lambda: raw(json.dumps(HEADER), b'{"sub": "\xff"}'), "malformed"),
    ("payload is UTF-16", lambda: raw(json.dumps(HEADER), json.dumps(CLAIMS).encode("utf-16")), "malformed"),
    ("9 kB", lambda: token(pad="x" * 9000), "too_long"),
    ("1 MB", lambda: "x" * 1_000_000, "too_long"),
    ("1 MB of bytes", lambda: b"x" * 1_000_000, "too_long"),
    ("1 MB of dots", lambda: "." * 1_000_000, "too_long"),
]  # fmt: skip


def verify(text: Any, bundle: TrustBundle = BUNDLE) -> Any:
    return TokenVerifier(bundle, audience=AUDIENCE, clock=lambda: float(NOW)).verify(text)


class TestControls:
    @pytest.mark.parametrize(
        "text",
        [
            VALID,
            VALID.encode(),
            token(iat=NOW + 20, nbf=NOW + 20),
            token(exp=CLAIMS["iat"] + 3600),
            twin(),
            mint_token(
                KEY,
                subject=SpiffeId.parse(SUBJECT),
                audience=AUDIENCE,
                issued_at=NOW,
                lifetime=300,
            ),
        ],
        ids=["str", "bytes", "clock skew", "one hour", "malleable twin", "minted"],
    )
    def test_accepted(self, text: Any) -> None:
        """What is right is accepted: the refusals below are not for being strict in general."""
        verified = verify(text)
        assert str(verified.spiffe_id) == SUBJECT
        assert verified.kind == "agent+jwt"

    def test_other_parsers_agree(self) -> None:
        """A token of ours is an ordinary JWT to PyJWT."""
        claims = jwt.decode(
            VALID,
            ISSUER.public_key(),
            algorithms=["ES256"],
            audience=AUDIENCE,
            options={"verify_exp": False, "verify_iat": False, "verify_nbf": False},
        )
        assert claims == CLAIMS


class TestHostile:
    @pytest.mark.parametrize(("make", "code"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
    def test_refused(self, make: Callable[[], Any], code: str) -> None:
        """Refused with exactly this code, and nothing of the token in the refusal."""
        text = make()
        with pytest.raises(AuthenticationFailed) as caught:
            verify(text)
        assert caught.value.code == code
        assert caught.value.__cause__ is None
        if isinstance(text, str) and len(text) > 20:
            assert text not in str(caught.value)
            assert text[:20] not in str(caught.value)

    def test_catalogue_is_whole(self) -> None:
        """Two hundred and forty different cases, and every code of the verifier occurs."""
        assert len({name for name, _, _ in CASES}) == len(CASES) >= 240
        assert {code for _, _, code in CASES} == {
            "malformed", "too_long", "duplicate_member", "non_finite_number", "unexpected_header",
            "wrong_typ", "unknown_key", "wrong_alg", "bad_signature", "wrong_issuer",
            "wrong_audience", "bad_exp", "bad_iat", "bad_nbf", "token_expired", "not_yet_valid",
            "lifetime_too_long", "bad_jti", "bad_txn", "bad_subject", "unexpected_claim", "bad_cnf",
        }  # fmt: skip

    @pytest.mark.parametrize("make", [padded_payload, padded_header, lambda: respelled(1)])
    def test_spelling_is_all_that_is_wrong(self, make: Callable[[], str]) -> None:
        """Spelled as it should be, the same header and claims are accepted."""
        documents = [base64.urlsafe_b64decode(part + "==") for part in parts(make())[:2]]
        assert make() != raw(documents[0], documents[1])
        assert str(verify(raw(documents[0], documents[1])).spiffe_id) == SUBJECT

    def test_empty_bundle_trusts_nothing(self) -> None:
        """A bundle without keys accepts nobody."""
        empty = TrustBundle.from_jwks('{"keys": []}', trust_domain="acme.example")
        with pytest.raises(AuthenticationFailed, match="unknown_key"):
            verify(VALID, empty)

    def test_clock_that_fails(self) -> None:
        """Without a time nothing is accepted."""

        def broken() -> float:
            raise OSError("no clock")

        for clock in (broken, lambda: float("nan"), lambda: None):
            verifier = TokenVerifier(BUNDLE, audience=AUDIENCE, clock=clock)  # type: ignore[arg-type]
            with pytest.raises(GuardUnavailable, match="clock"):
                verifier.verify(VALID)

    @settings(max_examples=300, deadline=None)
    @given(
        st.text(max_size=300) | st.binary(max_size=300) | st.from_regex(r"[\w-]+\.[\w-]+\.[\w-]*")
    )
    def test_random_text(self, text: Any) -> None:
        """Whatever is passed, only an AuthenticationFailed comes out."""
        with pytest.raises(AuthenticationFailed):
            verify(text)

    @settings(max_examples=200, deadline=None)
    @given(
        st.dictionaries(
            st.sampled_from([*CLAIMS, "act", "x"]),
            st.none()
            | st.booleans()
            | st.integers()
            | st.floats()
            | st.text()
            | st.lists(st.text()),
            min_size=1,
        )
    )
    def test_random_claims(self, changes: dict[str, Any]) -> None:
        """Signed by the right key, with claims of any kind: valid as a whole, or refused."""
        text = raw(json.dumps(HEADER), changed(CLAIMS, changes))
        try:
            verified = verify(text)
        except AuthenticationFailed:
            return
        assert str(verified.spiffe_id).startswith("spiffe://acme.example/")
        assert verified.expires_at > NOW

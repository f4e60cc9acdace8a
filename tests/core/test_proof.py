"""Proof of possession: a bound token is worth nothing without its key, call by call."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tabard import (
    AccessDenied,
    AuthenticationFailed,
    Authority,
    Guard,
    ModelCall,
    Session,
    ToolCall,
)
from tabard.actions import Delegation
from tabard.identity import SigningKey, make_proof
from tabard.identity.encoding import base64url, unbase64url

KEY, OTHER = SigningKey.generate(), SigningKey.generate()
AUDIENCE = "spiffe://acme.example/guard"
CALL = ToolCall("policy_lookup", {"policy_no": "POL-123456"})


@pytest.fixture
def token(authority: Authority) -> str:
    return authority.issue("claims-agent", bound_to=KEY.kid)


@pytest.fixture
def bound(guard: Guard, token: str) -> Session:
    return guard.login(token)


@pytest.fixture
def prove(token: str, clock: Any) -> Callable[..., str]:
    def _prove(action: Any = CALL, *, key: SigningKey = KEY, **changes: Any) -> str:
        return make_proof(
            key,
            **{"token": token, "action": action, "audience": AUDIENCE, "clock": clock} | changes,
        )

    return _prove


def code_of(guard: Guard, session: Session, proof: Any, action: Any = CALL) -> str:
    with pytest.raises(AuthenticationFailed) as caught:
        guard.admit(action, session=session, proof=proof)
    record = list(guard.records())[-1]
    assert record["decision"]["code"] == caught.value.code
    if isinstance(proof, str) and len(proof) > 20:
        assert proof not in str(record) + str(caught.value)
    return caught.value.code


def altered(proof: str, *, key: SigningKey = KEY, **changes: Any) -> str:
    """A proof with members changed (`h_` in the header; None removes), signed again."""
    head, body = (json.loads(unbase64url(part)) for part in proof.split(".")[:2])
    for name, value in changes.items():
        target, name = (head, name[2:]) if name.startswith("h_") else (body, name)
        target.pop(name, None)
        if value is not None:
            target[name] = value
    message = ".".join(base64url(json.dumps(part).encode()) for part in (head, body))
    return f"{message}.{base64url(key.sign(message.encode()))}"


class TestProof:
    def test_each_call_its_own(self, guard: Guard, bound: Session, prove: Any) -> None:
        """With a proof of this call it is admitted, call after call."""
        for _ in range(3):
            guard.admit(CALL, session=bound, proof=prove()).settle()
        assert guard.check(CALL, session=bound, proof=prove()).permits

    def test_none(self, guard: Guard, bound: Session) -> None:
        """The token alone is worth nothing, for no call."""
        assert code_of(guard, bound, None) == "proof_required"
        assert guard.check(CALL, session=bound).code == "proof_required"
        denied = ToolCall("no.such.tool", {})
        assert code_of(guard, bound, None, denied) == "proof_required"

    def test_replay(self, guard: Guard, bound: Session, prove: Any, clock: Any, home: Any,
                    policy_text: str, token: str) -> None:  # fmt: skip
        """A proof is good once, in every process, until it has expired anyway."""
        proof = prove()
        guard.admit(CALL, session=bound, proof=proof)
        assert code_of(guard, bound, proof) == "proof_replayed"
        with Guard.open(home, policy=policy_text, clock=clock) as other:
            assert code_of(other, other.login(token), proof) == "proof_replayed"
        clock.now += 29
        assert code_of(guard, bound, proof) == "proof_replayed"
        clock.now += 1
        assert code_of(guard, bound, proof) == "proof_expired"

    def test_refused_call_does_not_use_it_up(
        self, guard: Guard, bound: Session, prove: Any
    ) -> None:
        """A dry run leaves the proof as it is."""
        proof = prove()
        assert guard.check(CALL, session=bound, proof=proof).permits
        guard.admit(CALL, session=bound, proof=proof)

    def test_twin_signature_is_no_second_use(
        self, guard: Guard, bound: Session, prove: Any
    ) -> None:
        """ECDSA has a second signature for everything; the proof's id counts, not its text."""
        order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
        proof = prove()
        head, body, signature = proof.split(".")
        raw = unbase64url(signature)
        s = order - int.from_bytes(raw[32:], "big")
        twin = f"{head}.{body}.{base64url(raw[:32] + s.to_bytes(32, 'big'))}"
        guard.admit(CALL, session=bound, proof=proof)
        assert code_of(guard, bound, twin) == "proof_replayed"

    @pytest.mark.parametrize(
        ("action", "other"),
        [
            (CALL, ToolCall("policy_lookup", {"policy_no": "POL-1234567"})),
            (CALL, ToolCall("policy_lookup", {})),
            (CALL, ToolCall("claims_db.query", {"policy_no": "POL-123456"})),
            (ToolCall("t", {"n": 1}), ToolCall("t", {"n": True})),
            (ToolCall("t", {"n": 1}), ToolCall("t", {"n": 1.0})),
            (ToolCall("t", {"n": "1"}), ToolCall("t", {"n": 1})),
            (ToolCall("t", {"n": [1, 2]}), ToolCall("t", {"n": [2, 1]})),
            (ModelCall("m", max_output_tokens=10_000), ModelCall("m", max_output_tokens=10)),
            (ModelCall("m", max_output_tokens=None), ModelCall("m", max_output_tokens=10)),
            (ModelCall("m", input_tokens=9), ModelCall("m", input_tokens=8)),
            (ModelCall("m", input_tokens=9), ModelCall("m", max_output_tokens=9)),
        ],
        ids=str,
    )
    def test_another_call(
        self, guard: Guard, bound: Session, prove: Any, action: Any, other: Any
    ) -> None:
        """A proof of one call is none of another, whatever is different."""
        assert code_of(guard, bound, prove(other), action) == "wrong_call"

    def test_order_of_arguments_does_not_matter(
        self, guard: Guard, bound: Session, prove: Any
    ) -> None:
        """Arguments are named, not numbered."""
        a, b = ToolCall("t", {"x": 1, "y": 2}), ToolCall("t", {"y": 2, "x": 1})
        with pytest.raises(AccessDenied, match="no_grant"):
            guard.admit(a, session=bound, proof=prove(b))

    def test_renewed_token(
        self, guard: Guard, authority: Authority, prove: Any, token: str
    ) -> None:
        """A proof is for one token; another token of the same key needs its own."""
        again = guard.login(authority.issue("claims-agent", bound_to=KEY.kid))
        assert code_of(guard, again, prove()) == "wrong_token"

    def test_children_act_inside(self, guard: Guard, bound: Session, prove: Any) -> None:
        """Delegating asks for the proof, too."""
        with pytest.raises(AuthenticationFailed, match="proof_required"):
            bound.delegate("analytics-agent", tools=["**"])

    def test_delegation_says_to_whom(
        self, guard: Guard, authority: Authority, token: str, bound: Session, prove: Any
    ) -> None:
        """Several agents bear one name; a proof for one of them is none for another."""
        prod = str(authority.find("analytics-agent").spiffe_id)

        def hand_over(signed: str, to: Any) -> str:
            proof = prove(Delegation(signed, tools=("t",), ttl=300.0))
            with pytest.raises(AccessDenied) as caught:
                bound.delegate(to, tools=["t"], proof=proof)
            return caught.value.code

        held = "delegation"  # the proof did; it is the policy that refuses
        assert hand_over("analytics-agent", "analytics-agent") == held
        other = authority.register("analytics-agent", team="claims", environment="dev")
        dev = str(other.spiffe_id)
        for signed, to in (("analytics-agent", prod), ("analytics-agent", dev), (prod, dev),
                           ("analytics-agent", other), (prod, other)):  # fmt: skip
            assert hand_over(signed, to) == "wrong_call"
        for to in (prod, dev):
            assert hand_over(to, to) == held
        assert hand_over(dev, other) == held

    def test_not_wanted(self, guard: Guard, session: Session, prove: Any) -> None:
        """A proof for a token that is not bound protects nothing, and is not taken silently."""
        assert code_of(guard, session, prove()) == "unexpected_proof"

    def test_revoked_meanwhile(
        self, guard: Guard, authority: Authority, bound: Session, prove: Any
    ) -> None:
        """The key does not save a revoked agent."""
        authority.revoke("claims-agent", reason="x")
        assert code_of(guard, bound, prove()) == "token_revoked"


HOSTILE: dict[str, tuple[Callable[[Any], Any], str]] = {
    "another key": (lambda p: p(key=OTHER), "wrong_key"),
    "another key under our jwk": (lambda p: altered(p(), key=OTHER), "bad_signature"),
    "another token": (lambda p: p(token="a.b.c"), "wrong_token"),
    "another audience": (lambda p: p(audience="spiffe://acme.example/x"), "wrong_audience"),
    "audience list": (lambda p: altered(p(), aud=[AUDIENCE]), "wrong_audience"),
    "the token itself": (lambda p: "TOKEN", "malformed"),
    "empty": (lambda p: "", "malformed"),
    "number": (lambda p: 5, "malformed"),
    "a megabyte": (lambda p: "a" * 1_000_000, "too_long"),
    "two parts": (lambda p: p().rpartition(".")[0], "malformed"),
    "padding": (lambda p: p() + "=", "malformed"),
    "type JWT": (lambda p: altered(p(), h_typ="JWT"), "wrong_typ"),
    "type agent+jwt": (lambda p: altered(p(), h_typ="agent+jwt"), "wrong_typ"),
    "no type": (lambda p: altered(p(), h_typ=None), "wrong_typ"),
    "kid": (lambda p: altered(p(), h_kid=KEY.kid), "unexpected_header"),
    "crit": (lambda p: altered(p(), h_crit=["x"]), "unexpected_header"),
    "none": (lambda p: altered(p(), h_alg="none"), "wrong_alg"),
    "HS256": (lambda p: altered(p(), h_alg="HS256"), "wrong_alg"),
    "no alg": (lambda p: altered(p(), h_alg=None), "wrong_alg"),
    "alg list": (lambda p: altered(p(), h_alg=["ES256"]), "wrong_alg"),
    "no jwk": (lambda p: altered(p(), h_jwk=None), "wrong_key"),
    "jwk text": (lambda p: altered(p(), h_jwk="x"), "wrong_key"),
    "private jwk": (lambda p: altered(p(), h_jwk={**KEY.jwk, "d": "AA"}), "wrong_key"),
    "jwk with kid": (lambda p: altered(p(), h_jwk=KEY.jwk), "wrong_key"),
    "jwk off the curve": (
        lambda p: altered(p(), h_jwk={"crv": "P-256", "kty": "EC", "x": "A" * 43, "y": "A" * 43}),
        "wrong_key",
    ),
    "jwk numbers": (
        lambda p: altered(p(), h_jwk={"crv": "P-256", "kty": "EC", "x": 1, "y": 2}), "wrong_key"
    ),
    "expired": (lambda p: altered(p(), iat=1_799_999_960, exp=1_799_999_990), "proof_expired"),
    "expires now": (lambda p: altered(p(), iat=1_799_999_980, exp=1_800_000_000), "proof_expired"),
    "future": (lambda p: altered(p(), iat=1_800_000_031, exp=1_800_000_040), "not_yet_valid"),
    "a minute": (lambda p: altered(p(), exp=1_800_000_060), "lifetime_too_long"),
    "ends before it begins": (lambda p: altered(p(), iat=1_800_000_020, exp=1_800_000_010),
                              "lifetime_too_long"),
    "exp text": (lambda p: altered(p(), exp="1800000030"), "bad_exp"),
    "exp float": (lambda p: altered(p(), exp=1.8e9), "bad_exp"),
    "exp huge": (lambda p: altered(p(), exp=10**30), "bad_exp"),
    "iat true": (lambda p: altered(p(), iat=True), "bad_iat"),
    "no exp": (lambda p: altered(p(), exp=None), "unexpected_claim"),
    "no jti": (lambda p: altered(p(), jti=None), "unexpected_claim"),
    "extra claim": (lambda p: altered(p(), scope="all"), "unexpected_claim"),
    "short jti": (lambda p: altered(p(), jti="x"), "bad_jti"),
    "jti list": (lambda p: altered(p(), jti=["x" * 22]), "bad_jti"),
    "wth list": (lambda p: altered(p(), wth=["x"]), "wrong_token"),
    "cth empty": (lambda p: altered(p(), cth=""), "wrong_call"),
}  # fmt: skip


@pytest.mark.parametrize(("make", "code"), HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile(
    guard: Guard, bound: Session, prove: Any, token: str, make: Any, code: str
) -> None:
    """Each with its own code, none admitted, none used up."""
    proof = make(prove)
    if proof == "TOKEN":
        assert code_of(guard, bound, token) == "unexpected_header"
    else:
        assert code_of(guard, bound, proof) == code
    guard.admit(CALL, session=bound, proof=prove())


@settings(max_examples=150, deadline=None)
@given(st.one_of(st.text(max_size=200), st.binary(max_size=200), st.integers(), st.none()))
def test_fuzz(proof: Any) -> None:
    """Whatever comes as a proof, nothing but a refusal of ours comes out."""
    from tabard.identity import SpiffeId, VerifiedToken
    from tabard.identity.proof import verify_proof

    facts = VerifiedToken(
        spiffe_id=SpiffeId.parse("spiffe://acme.example/a"), kind="agent+jwt", kid="k",
        jti="j" * 22, txn="t" * 22, audience=AUDIENCE, issued_at=0, expires_at=9, bound_to=KEY.kid,
    )  # fmt: skip
    with pytest.raises(AccessDenied):
        verify_proof(proof, token=facts, action=CALL, now=1.0)

"""Proof of possession: the holder of a bound token signs each call (RFC 7800 `cnf.jkt`).

Shaped like a Workload Proof Token (draft-ietf-wimse-wpt): type `wpt+jwt`, bound to the token by
`wth`, good for seconds and for one use. The key comes along as `jwk`, as in RFC 9449, because the
token names it by its thumbprint only. `cth` is ours: the call, with every argument.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from typing import Any, NamedTuple

from tabard.actions import Action, Delegation, ModelCall
from tabard.arguments import plain_arguments
from tabard.clock import CLOCK_SKEW, Clock, read_clock, system_clock
from tabard.errors import ConfigurationError
from tabard.identity.bundle_keys import BundleKey, read_element
from tabard.identity.compact import read_compact, refuse
from tabard.identity.encoding import base64url
from tabard.identity.keys import SigningKey, thumbprint
from tabard.identity.token import encode_part, is_token_id, new_token_id
from tabard.identity.verified import VerifiedToken
from tabard.identity.verifier import digest_of_token, whole_seconds

PROOF_TYPE = "wpt+jwt"
PROOF_LIFETIME = 30
"""Seconds a proof is good for."""

_CLAIMS = frozenset({"aud", "iat", "exp", "jti", "wth", "cth"})
_JWK = frozenset({"crv", "kty", "x", "y"})


class VerifiedProof(NamedTuple):
    """A proof that held; it has to be used up with the call it is for.

    Attributes:
        name: The name under which it is refused from then on.
        expires_at: POSIX seconds.
    """

    name: str
    expires_at: int


def make_proof(
    key: SigningKey,
    *,
    token: str,
    action: Action,
    audience: str,
    clock: Clock = system_clock,
) -> str:
    """Sign one call with the key a token is bound to.

    Args:
        key: The key; the token was issued with `bound_to=key.kid`.
        token: The token the session was opened with.
        action: The call, with the arguments that will run.
        audience: The guard that will see it.
        clock: Returns POSIX seconds.

    Raises:
        ConfigurationError: The arguments have no plain JSON form.
        GuardUnavailable: The clock failed.
    """
    now = int(read_clock(clock))
    jwk = {name: value for name, value in key.jwk.items() if name in _JWK}
    try:
        call = call_digest(action)
    except ValueError:
        raise ConfigurationError("proof: the arguments have no plain JSON form") from None
    header = {"alg": "ES256", "typ": PROOF_TYPE, "jwk": jwk}
    claims = {
        "aud": audience,
        "iat": now,
        "exp": now + PROOF_LIFETIME,
        "jti": new_token_id(),
        "wth": digest_of_token(token),
        "cth": call,
    }
    message = f"{encode_part(header)}.{encode_part(claims)}"
    return f"{message}.{base64url(key.sign(message.encode('ascii')))}"


def call_digest(action: Action) -> str:
    """base64url of SHA-256 over a call as JSON with sorted members: its kind, name and arguments.

    The name of a delegation is the SPIFFE ID, where it goes to one: several agents can bear one
    name. The arguments of a model call are its numbers of tokens, on which its price hangs.

    Raises:
        ValueError: The arguments have no plain JSON form.
    """
    name, arguments = action.name, getattr(action, "arguments", {})
    if isinstance(action, Delegation) and action.spiffe_id is not None:
        name = action.spiffe_id
    if isinstance(action, ModelCall):
        arguments = {
            "input_tokens": action.input_tokens,
            "max_output_tokens": action.max_output_tokens,
        }
    call = {"kind": action.kind, "name": name, "arguments": plain_arguments(arguments)}
    text = json.dumps(call, sort_keys=True, separators=(",", ":"))
    return base64url(hashlib.sha256(text.encode("ascii")).digest())


def verify_proof(
    proof: object, *, token: VerifiedToken, action: Action, now: float
) -> VerifiedProof:
    """Verify that the holder of a bound token makes this very call, now.

    Args:
        proof: What came with the call.
        token: The facts of the session's token.
        action: The call; its arguments are plain JSON values.
        now: POSIX seconds.

    Raises:
        AuthenticationFailed: It does not hold: `wrong_typ`, `unexpected_header`, `wrong_key`,
            `bad_signature`, `unexpected_claim`, `wrong_audience`, `bad_exp`, `bad_iat`,
            `proof_expired`, `not_yet_valid`, `lifetime_too_long`, `bad_jti`, `wrong_token`,
            `wrong_call`, or one of the codes of a text that is no token.
    """
    jws = read_compact(proof)
    key = _key_of(jws.header, token.bound_to)
    if jws.header.get("alg") != "ES256":
        refuse("wrong_alg", "the proof's algorithm is not ES256")
    if not key.verifies("ES256", jws.message, jws.signature):
        refuse("bad_signature", "the proof's signature does not hold")
    claims = jws.claims()
    if claims.keys() != _CLAIMS:
        refuse("unexpected_claim", "the proof does not carry exactly the claims of one")
    if claims["aud"] != token.audience:
        refuse("wrong_audience", "the proof is meant for someone else")
    expires_at = _check_times(claims, now)
    if not isinstance(claims["jti"], str) or not is_token_id(claims["jti"]):
        refuse("bad_jti", "the proof's jti is not an id of 16 to 64 characters")
    if claims["wth"] != token.digest:
        refuse("wrong_token", "the proof is for another token")
    if claims["cth"] != call_digest(action):
        refuse("wrong_call", "the proof is for another call")
    return VerifiedProof(name=f"proof:{token.bound_to}:{claims['jti']}", expires_at=expires_at)


def _key_of(header: dict[str, Any], bound_to: str | None) -> BundleKey:
    """The key in the header, if it is the one the token is bound to."""
    if header.keys() - {"alg", "typ", "jwk"}:
        refuse("unexpected_header", "the proof's header has more than alg, typ and jwk")
    if header.get("typ") != PROOF_TYPE:
        refuse("wrong_typ", f"the proof is not of the type {PROOF_TYPE}")
    jwk, key = header.get("jwk"), None
    if isinstance(jwk, dict) and jwk.keys() == _JWK and jwk["crv"] == "P-256":
        with suppress(ConfigurationError):
            key = read_element({**jwk, "use": "jwt-svid", "kid": "proof"}, "jwk")
    if not isinstance(key, BundleKey) or not isinstance(jwk, dict) or thumbprint(jwk) != bound_to:
        refuse("wrong_key", "the proof was not made with the key the token is bound to")
    return key


def _check_times(claims: dict[str, Any], now: float) -> int:
    expires_at, issued_at = whole_seconds(claims, "exp"), whole_seconds(claims, "iat")
    if now >= expires_at:
        refuse("proof_expired", "the proof has expired")
    if issued_at > now + CLOCK_SKEW:
        refuse("not_yet_valid", "the proof is from the future")
    if not 0 < expires_at - issued_at <= PROOF_LIFETIME:
        refuse("lifetime_too_long", f"a proof lives at most {PROOF_LIFETIME} seconds")
    return expires_at

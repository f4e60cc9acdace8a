"""What identity costs: making and verifying credentials, logging in, and being revoked."""

from __future__ import annotations

import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jwt

from tabard import AccessDenied, Authority, Guard, ToolCall
from tabard.identity import JwtSvidVerifier, SigningKey, TokenVerifier, TrustBundle, mint_token
from tabard.identity.proof import make_proof, verify_proof
from tabard.identity.spiffe_id import SpiffeId
from tabard.identity.x509_svid import create_authority_certificate, issue_x509_svid
from tabard.identity.x509_verifier import X509Verifier
from tabard.store import SqliteStore
from timing import Row, measure

AUDIENCE = "spiffe://acme.example/guard"
SUBJECT = SpiffeId.parse("spiffe://acme.example/env/prod/team/claims/agent/claims-agent")
POLICY = "version: 1\nagents: {claims-agent: {grants: [{id: g, tools: [t]}]}}"
CALL = ToolCall("t", {})
REVOCATIONS = 20


def measure_credentials() -> list[Row]:
    """Making and verifying each kind, beside PyJWT doing the same for the same token."""
    key, now = SigningKey.generate(), time.time()
    authority = create_authority_certificate(
        key, trust_domain="acme.example", not_before=now - 60, lifetime=86_400
    )
    bundle = TrustBundle.of(key, trust_domain="acme.example")

    def mint(profile: str = "agent+jwt", bound_to: str | None = None) -> str:
        return mint_token(key, subject=SUBJECT, audience=AUDIENCE, issued_at=now, lifetime=3600,
                          profile=profile, bound_to=bound_to)  # fmt: skip

    token, other, bound = mint(), mint("jwt-svid"), mint(bound_to=key.kid)
    claims = jwt.decode(token, options={"verify_signature": False})
    pem, public = key._key, key.public_key
    svid = issue_x509_svid(key, authority, subject=SUBJECT, issued_at=now, lifetime=3600)
    facts = TokenVerifier(bundle, audience=AUDIENCE).verify(bound)
    proof = make_proof(key, token=bound, action=CALL, audience=AUDIENCE)
    tokens = TokenVerifier(bundle, audience=AUDIENCE)
    svids = JwtSvidVerifier(bundle, audience=AUDIENCE)
    certificates = X509Verifier([authority], trust_domain="acme.example")
    required = ["exp", "iat", "nbf", "iss", "sub", "aud", "jti"]

    def decode(text: str) -> Callable[[], object]:
        return lambda: jwt.decode(
            text, public, algorithms=["ES256"], audience=AUDIENCE,
            issuer="spiffe://acme.example", options={"require": required},
        )  # fmt: skip

    found = measure(
        {
            "jwt.encode": lambda: jwt.encode(claims, pem, "ES256", {"kid": key.kid}),
            "mint": mint,
            "jwt.decode": decode(token),
            "agent+jwt": lambda: tokens.verify(token),
            "jwt-svid": lambda: svids.verify(other),
            "x509": lambda: certificates.verify(svid),
            "make proof": lambda: make_proof(key, token=bound, action=CALL, audience=AUDIENCE),
            "verify proof": lambda: verify_proof(proof, token=facts, action=CALL, now=now),
        },
        calls=100,
    )
    encode, base = found["jwt.encode"], found["jwt.decode"]
    return [
        ("mint a token / jwt.encode", f"{found['mint'] / encode:.2f} x", ""),
        ("strict token verify / jwt.decode", f"{found['agent+jwt'] / base:.2f} x", "1.00 x"),
        ("JWT-SVID verify / jwt.decode", f"{found['jwt-svid'] / base:.2f} x", "1.00 x"),
        ("X.509-SVID verify, with its key", f"{found['x509']:.0f} us", ""),
        ("proof of possession, make", f"{found['make proof']:.0f} us", ""),
        ("proof of possession, verify", f"{found['verify proof']:.0f} us", ""),
    ]  # fmt: skip


def measure_login(folder: Path) -> list[Row]:
    """A whole login by each credential: verified, looked up, on record."""
    authority = Authority.open(folder / "login", trust_domain="acme.example")
    authority.register("claims-agent", team="claims", environment="prod")
    guard = Guard.open(folder / "login", policy=POLICY)
    name = "claims-agent"
    credentials: dict[str, Any] = {
        "agent+jwt": authority.issue(name, lifetime=3600),
        "JWT-SVID": authority.issue(name, lifetime=3600, profile="jwt-svid"),
        "X.509-SVID": authority.issue_svid(name),
        "API key": authority.create_key(name),
    }
    works: dict[str, Callable[[], object]] = {
        f"login by {kind}": partial(guard.login, credential)
        for kind, credential in credentials.items()
    }
    parent = guard.login(authority.issue(name, lifetime=3600))
    works["issue a token, on record"] = lambda: authority.issue(name)
    works["check()"] = lambda: guard.check(CALL, session=parent)
    return [(n, f"{cost:.0f} us", "") for n, cost in measure(works, calls=30).items()]


def measure_liveness(folder: Path) -> list[Row]:
    """The question of every admission: does this credential still count?"""
    works: dict[str, Callable[[], object]] = {}
    for agents in (100, 100_000):
        home = folder / f"live{agents}"
        authority = Authority.open(home, trust_domain="acme.example")
        authority.register("claims-agent", team="claims", environment="prod")
        store = SqliteStore(home / "state.db")
        with store.transaction(time.time()):
            store._db.executemany(  # type: ignore[union-attr]
                "INSERT INTO agent (spiffe_id, name, team, environment, attributes, status, "
                "created_at) VALUES (?, 'a', 't', 'prod', '{}', 'active', 0)",
                ((f"spiffe://acme.example/env/prod/team/t/agent/a{i}",) for i in range(agents)),
            )
        names = ("j" * 22, "key:acme.example:k", "domain:acme.example")

        def ask(store: SqliteStore = store, names: tuple[str, str, str] = names) -> object:
            return store.liveness(str(SUBJECT), names=names, issued_at=0)

        works[f"liveness, {agents:,} agents"] = ask
    return [(n, f"{cost:.1f} us", "") for n, cost in measure(works).items()]


def _call_until_refused(home: Path, token: str, ready: Any, answer: Any) -> None:
    with Guard.open(home, policy=POLICY) as guard:
        session = guard.login(token)
        ready.set()
        while True:
            try:
                guard.admit(CALL, session=session).settle()
            except AccessDenied:
                answer.send(time.monotonic())
                return


def measure_revocation() -> list[Row]:
    """From `revoke` having returned here to the first refused call in another, busy process."""
    context = multiprocessing.get_context("spawn")
    delays = []
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        with Authority.open(home, trust_domain="acme.example") as authority:
            authority.register("claims-agent", team="claims", environment="prod")
            for _ in range(REVOCATIONS):
                mine, theirs = context.Pipe()
                ready = context.Event()
                arguments = (home, authority.issue("claims-agent"), ready, theirs)
                process = context.Process(target=_call_until_refused, args=arguments)
                process.start()
                ready.wait()
                time.sleep(0.05)
                authority.evict("claims-agent", reason="measured")
                revoked = time.monotonic()
                delays.append((mine.recv() - revoked) * 1000)
                process.join()
                time.sleep(1.1)  # what was issued in the second of an eviction is refused, too
    found = f"{statistics.median(delays):.2f} ms median, {max(delays):.2f} ms worst"
    return [("revoke to refusal in another process (wall)", found, "")]

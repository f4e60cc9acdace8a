"""A real Workload API: SVIDs fetched, verified by our own rules, rotated and taken away."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import grpc
import pytest
from spiffe._proto import workload_pb2, workload_pb2_grpc

from tabard import (
    AccessDenied,
    AuthenticationFailed,
    Authority,
    ConfigurationError,
    Guard,
    GuardUnavailable,
    ToolCall,
)
from tabard.identity import SigningKey
from tabard.identity.workload_api import WorkloadApi, check_endpoint
from tabard.identity.workload_source import workload_source
from tabard.testing.workload_api import DOMAIN, SUBJECT, WorkloadApiPeer, mint

CALL = ToolCall("policy_lookup", {"policy_no": "POL-123456"})
AUDIENCE = "spiffe://acme.example/guard"


def source(peer: WorkloadApiPeer, clock: Any, **more: Any) -> Any:
    return workload_source(peer.endpoint, audience=AUDIENCE, timeout=2.0, clock=clock, **more)


class TestLogin:
    @pytest.mark.parametrize("profile", ["jwt-svid", "x509-svid"])
    def test_svid(self, trusting: Guard, peer: WorkloadApiPeer, clock: Any, profile: str) -> None:
        """An SVID of another issuer is an agent here, and calls."""
        session = trusting.login(source(peer, clock, profile=profile))
        assert (str(session.agent.spiffe_id), session.token.kind) == (SUBJECT, profile)
        trusting.admit(CALL, session=session).settle()
        assert trusting.verify()

    def test_nothing_but_one_environment_variable(
        self, trusting: Guard, peer: WorkloadApiPeer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """`SPIFFE_ENDPOINT_SOCKET` is all an agent is started with."""
        monkeypatch.setenv("SPIFFE_ENDPOINT_SOCKET", peer.endpoint)
        trusting.admit(CALL, session=trusting.login())
        monkeypatch.setenv("TABARD_CREDENTIAL", "x")
        with pytest.raises(AuthenticationFailed, match="malformed"):
            trusting.login()

    def test_renewed_at_half_life(self, trusting: Guard, peer: WorkloadApiPeer, clock: Any) -> None:
        """A session goes on for hours, with a fresh SVID every few minutes."""
        session = trusting.login(source(peer, clock))
        for _ in range(60):
            clock.now += 60
            trusting.admit(CALL, session=session).settle()
        assert 15 <= peer.state.calls.count("FetchJWTSVID") <= 40

    async def _call(self, guard: Guard, session: Any) -> None:
        (await guard.aadmit(CALL, session=session)).settle()

    def test_renewed_beside_an_event_loop(
        self, trusting: Guard, peer: WorkloadApiPeer, clock: Any
    ) -> None:
        """In an event loop the fetch runs in a thread, so nothing else waits for it."""
        import asyncio
        import threading

        session = trusting.login(source(peer, clock))
        threads: list[str] = []
        held: Any = session.source

        class Seen:
            def credential(self) -> Any:
                threads.append(threading.current_thread().name)
                return held.credential()

        session.source = Seen()
        clock.now += 200
        asyncio.run(self._call(trusting, session))
        assert len(threads) == 1
        assert threads[0] != threading.main_thread().name

    def test_not_registered(
        self, authority: Authority, guard: Guard, peer: WorkloadApiPeer, clock: Any
    ) -> None:
        """A workload nobody registered here is no agent, though its domain is trusted."""
        authority.federation.trust(DOMAIN, peer.endpoint)
        with pytest.raises(AuthenticationFailed, match="unregistered"):
            guard.login(source(peer, clock))

    def test_not_trusted(
        self, authority: Authority, guard: Guard, peer: WorkloadApiPeer, clock: Any
    ) -> None:
        """Whoever sets the environment does not decide whom this home trusts."""
        authority.register("claims-agent", team="claims", environment="prod", spiffe_id=SUBJECT)
        for profile in ("jwt-svid", "x509-svid"):
            with pytest.raises(AuthenticationFailed, match="unknown_key"):
                guard.login(source(peer, clock, profile=profile))

    def test_own_domain_is_never_the_peers(
        self, authority: Authority, guard: Guard, peer: WorkloadApiPeer, clock: Any
    ) -> None:
        """A Workload API cannot vouch for this home's own trust domain."""
        with pytest.raises(ConfigurationError, match="this home's own trust domain"):
            authority.federation.trust("acme.example", peer.endpoint)
        key = peer.state.keys[0]
        subject = str(authority.find("claims-agent").spiffe_id)
        forged = mint(key, audience=AUDIENCE, now=clock(), sub=subject)
        with pytest.raises(AuthenticationFailed, match="unknown_key"):
            guard.login(forged)

    @pytest.mark.parametrize(
        ("changes", "code"),
        [
            ({"aud": ["spiffe://acme.example/guard", "other"]}, "wrong_audience"),
            ({"aud": ["other"]}, "wrong_audience"),
            ({"aud": []}, "wrong_audience"),
            ({"exp": "1800000300"}, "bad_exp"),
            ({"exp": 10**30}, "bad_exp"),
            ({"exp": 1_800_000_000}, "token_expired"),
            ({"exp": 1_800_010_000}, "lifetime_too_long"),
            ({"iat": 1_800_000_100}, "not_yet_valid"),
            ({"nbf": 1_800_000_100}, "not_yet_valid"),
            ({"iat": 1.5}, "bad_iat"),
            ({"sub": f"spiffe://{DOMAIN}"}, "bad_subject"),
            ({"sub": SUBJECT + "/"}, "unknown_key"),
            ({"sub": SUBJECT + "x"}, "unregistered"),
            ({"iss": "spiffe://acme.example"}, "wrong_issuer"),
            ({"iss": 5}, "wrong_issuer"),
            ({"cnf": {"jkt": "a" * 43}}, "unexpected_claim"),
        ],
        ids=str,
    )
    def test_rules_hold_for_other_issuers_too(
        self, trusting: Guard, peer: WorkloadApiPeer, clock: Any, changes: Any, code: str
    ) -> None:
        """An SVID that its issuer has really signed, with one thing wrong."""
        token = mint(peer.state.keys[0], audience=AUDIENCE, now=clock(), **changes)
        with pytest.raises(AuthenticationFailed) as caught:
            trusting.login(token)
        assert caught.value.code == code

    def test_issuer_address_and_extra_claims(
        self, trusting: Guard, peer: WorkloadApiPeer, clock: Any
    ) -> None:
        """Other issuers name themselves by an address and add claims; none of it gives a right."""
        more: dict[str, Any] = {
            "iss": "https://issuer.example",
            "roles": ["admin"],
            "jti": "j" * 22,
        }
        token = mint(peer.state.keys[0], audience=AUDIENCE, now=clock(), **more)
        assert trusting.login(token).token.jti == "j" * 22


class TestRotation:
    def test_new_key_is_fetched_when_it_turns_up(
        self, trusting: Guard, peer: WorkloadApiPeer, clock: Any
    ) -> None:
        """The issuer signs with a key we have not seen: the bundle is asked for, once."""
        old = peer.state.keys[0]
        clock.now += 30
        peer.push(keys=[old, SigningKey.generate()])
        session = trusting.login(source(peer, clock))
        assert session.token.kid == peer.state.keys[1].kid
        assert [r["type"] for r in trusting.records()].count("bundle.refreshed") == 1

    def test_unknown_keys_do_not_make_us_ask_for_ever(
        self, trusting: Guard, peer: WorkloadApiPeer, clock: Any
    ) -> None:
        """Tokens of keys nobody has cause a fetch every few seconds at most."""
        clock.now += 30
        stranger = SigningKey.generate()
        for _ in range(20):
            with pytest.raises(AuthenticationFailed, match="unknown_key"):
                trusting.login(mint(stranger, audience=AUDIENCE, now=clock()))
        assert peer.state.calls.count("FetchJWTBundles") == 2

    def test_key_taken_out_of_the_bundle(
        self, trusting: Guard, peer: WorkloadApiPeer, clock: Any
    ) -> None:
        """An issuer withdraws a key: sessions it vouched for end at the next look at the bundle."""
        old = peer.state.keys[0]
        session = trusting.login(mint(old, audience=AUDIENCE, now=clock(), lifetime=3000))
        peer.push(keys=[SigningKey.generate()])
        clock.now += 301
        again = trusting.login(source(peer, clock))
        with pytest.raises(AuthenticationFailed, match="token_revoked"):
            trusting.admit(CALL, session=session)
        trusting.admit(CALL, session=again)

    def test_identity_taken_away(self, trusting: Guard, peer: WorkloadApiPeer, clock: Any) -> None:
        """The Workload API has no identity any more: refused at the next renewal."""
        session = trusting.login(source(peer, clock))
        peer.push(has_identity=False)
        clock.now += 181
        with pytest.raises(AuthenticationFailed, match="no_identity"):
            trusting.admit(CALL, session=session)
        peer.push(has_identity=True)
        trusting.admit(CALL, session=session)

    def test_away_for_a_while(self, trusting: Guard, peer: WorkloadApiPeer, clock: Any) -> None:
        """Without the Workload API the last SVID goes on to its end; then there is a refusal."""
        session = trusting.login(source(peer, clock))
        peer.stop()
        clock.now += 299
        trusting.admit(CALL, session=session)
        clock.now += 1
        with pytest.raises(AccessDenied) as caught:
            trusting.admit(CALL, session=session)
        assert caught.value.code == "workload_api"
        peer.start()
        trusting.admit(CALL, session=session)

    def test_distrusted(
        self, authority: Authority, trusting: Guard, peer: WorkloadApiPeer, clock: Any
    ) -> None:
        """A trust domain that is trusted no more: its sessions end at their next call."""
        session = trusting.login(source(peer, clock))
        authority.federation.distrust(DOMAIN, reason="contract ended")
        with pytest.raises(AuthenticationFailed, match="token_revoked"):
            trusting.admit(CALL, session=session)
        with pytest.raises(AuthenticationFailed, match="unknown_key"):
            trusting.login(source(peer, clock))
        authority.federation.trust(DOMAIN, peer.endpoint, go_back=True)
        trusting.admit(CALL, session=trusting.login(source(peer, clock)))

    @pytest.mark.parametrize("lever", ["revoke", "evict"])
    def test_stopped_here(
        self, authority: Authority, trusting: Guard, peer: WorkloadApiPeer, clock: Any, lever: str
    ) -> None:
        """Our levers stop another issuer's workload here, at once."""
        session = trusting.login(source(peer, clock))
        getattr(authority, lever)(SUBJECT, reason="x")
        with pytest.raises(AuthenticationFailed, match="token_revoked"):
            trusting.admit(CALL, session=session)


class TestClient:
    def test_header_is_required_and_sent(self, peer: WorkloadApiPeer) -> None:
        """The peer refuses who does not send the header, as the standard asks; we send it."""
        with grpc.insecure_channel(peer.endpoint.replace("unix://", "unix:")) as channel:
            make: Any = workload_pb2_grpc.SpiffeWorkloadAPIStub
            stub = make(channel)
            with pytest.raises(grpc.RpcError) as caught:
                stub.FetchJWTSVID(workload_pb2.JWTSVIDRequest(audience=["x"]), timeout=5)
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert WorkloadApi(peer.endpoint).fetch_jwt_svid("x")

    @pytest.mark.parametrize(
        "jwks",
        [b"", b"null", b"[]", b'{"keys":5}', b"\xff", b'{"keys":[],"keys":[]}', b'{"keys":["x"]}',
         b'{"keys":[{"kty":"EC","d":"AA"}]}', b'{"keys":[{"kty":"EC","crv":"P-256"}]}'],
    )  # fmt: skip
    def test_bundle_that_is_none(
        self, authority: Authority, peer: WorkloadApiPeer, jwks: bytes
    ) -> None:
        """What is no bundle is refused whole, in a sentence that names the address or element."""
        peer.push(jwks=jwks or b" ")
        with pytest.raises(ConfigurationError, match=r"trust bundle|bundle of"):
            authority.federation.trust(DOMAIN, peer.endpoint)
        assert [d.name for d in authority.federation.domains()] == ["acme.example"]

    def test_no_bundle_of_that_domain(self, authority: Authority, peer: WorkloadApiPeer) -> None:
        with pytest.raises(ConfigurationError, match=r"no bundle of other\.example"):
            authority.federation.trust("other.example", peer.endpoint)

    @pytest.mark.parametrize("svid", ["", "x", "a.b.c", "é" * 40, "a" * 100_000])
    def test_svid_that_is_none(
        self, trusting: Guard, peer: WorkloadApiPeer, clock: Any, svid: str
    ) -> None:
        """Whatever the Workload API hands out, our verifier has the last word."""
        peer.push(svid=svid)
        with pytest.raises(AuthenticationFailed) as caught:
            trusting.login(source(peer, clock))
        assert caught.value.code in ("no_identity", "malformed", "too_long")

    def test_nobody_there(self, trusting: Guard, socket: Path, clock: Any) -> None:
        """No socket: a refusal with its code, quickly, and nothing on standard error."""
        missing = f"unix://{socket}.missing"
        with pytest.raises(GuardUnavailable) as caught:
            trusting.login(workload_source(missing, audience="x", timeout=1.0, clock=clock))
        assert caught.value.code == "workload_api"

    @pytest.mark.parametrize(
        "text",
        ["", "/tmp/x", "unix:", "unix://", "unix://host/x", "unix:x", "unix:////x", "unix:///x?y",
         "unix:///x#y", "unix:///x\n", "tcp://localhost:80", "tcp://127.0.0.1", "tcp://127.0.0.1:0",
         "tcp://127.0.0.1:65536", "tcp://127.0.0.1:80/x", "tcp://user@127.0.0.1:80",
         "tcp://1.2.3:80", "http://127.0.0.1:80", "TCP://127.0.0.1:80", "tcp://[::g]:80"],
    )  # fmt: skip
    def test_addresses_that_are_none(
        self, guard: Guard, text: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """One clear sentence, and from the environment a refusal that is on record."""
        with pytest.raises(ConfigurationError, match="expected unix:///absolute/path or tcp://IP"):
            check_endpoint(text)
        if text:
            monkeypatch.setenv("SPIFFE_ENDPOINT_SOCKET", text)
            with pytest.raises(AuthenticationFailed, match="no_identity"):
                guard.login()

    @pytest.mark.parametrize(
        "address",
        ["unix:///\udcff", "unix:/x\ud800", b"unix:///x", None, 5, ["unix:///x"],
         "unix:///" + "x" * 1_000_000, "x" * 1_000_000],
    )  # fmt: skip
    def test_address_that_is_no_text(
        self, guard: Guard, authority: Authority, address: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A byte that is none of a text, another type, a megabyte: no error but ours."""
        for opened in (check_endpoint, WorkloadApi, lambda a: workload_source(a, audience="x")):
            with pytest.raises(ConfigurationError) as caught:
                opened(address)
            assert len(str(caught.value)) < 200
        if address == "unix:///\udcff":  # what an environment can hold
            with pytest.raises(ConfigurationError):
                authority.federation.trust(DOMAIN, address)
            monkeypatch.setenv("SPIFFE_ENDPOINT_SOCKET", address)
            with pytest.raises(AuthenticationFailed, match="no_identity"):
                guard.login()
            assert list(guard.records())[-1]["type"] == "auth.failed"

    @pytest.mark.parametrize(
        ("text", "target"),
        [("unix:///run/x.sock", "unix:/run/x.sock"), ("unix:/run/x.sock", "unix:/run/x.sock"),
         ("tcp://127.0.0.1:8000", "127.0.0.1:8000"), ("tcp://[::1]:80", "[::1]:80")],
    )  # fmt: skip
    def test_addresses(self, text: str, target: str) -> None:
        assert check_endpoint(text) == target

    def test_without_the_extra(
        self, guard: Guard, peer: WorkloadApiPeer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Without the package there is one sentence that says what to install."""
        for name in [n for n in sys.modules if n.split(".")[0] == "spiffe"]:
            monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(ConfigurationError, match=r"pip install 'tabard\[spiffe\]'"):
            WorkloadApi(peer.endpoint)
        monkeypatch.setenv("SPIFFE_ENDPOINT_SOCKET", peer.endpoint)
        with pytest.raises(AuthenticationFailed, match="needs an extra"):
            guard.login()

    def test_nothing_secret_is_shown(
        self, peer: WorkloadApiPeer, clock: Any, trusting: Guard, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Neither an SVID nor a key is in a repr, a record or the log."""
        held = source(peer, clock)
        token = held.credential()
        trusting.login(held)
        pem = WorkloadApi(peer.endpoint).fetch_x509_svid().decode()
        shown = repr(held) + repr(WorkloadApi(peer.endpoint)) + caplog.text
        shown += str(list(trusting.records()))
        assert token not in shown
        assert pem[-200:-60] not in shown
        assert os.environ["GRPC_VERBOSITY"]

"""Whatever is taken back stays taken back: by any clock, in any second, under any renewal."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tabard import (
    AccessDenied,
    AuthenticationFailed,
    Authority,
    Delegation,
    Guard,
    GuardUnavailable,
    Session,
    ToolCall,
)
from tabard.identity import SigningKey, SpiffeId, TrustBundle
from tabard.identity.proof import make_proof
from tabard.identity.x509_svid import X509Svid, create_authority_certificate, issue_x509_svid

POLICY = """\
version: 1
agents:
  claims-agent: {grants: [{id: t, tools: [t]}], delegates_to: [analytics-agent]}
  analytics-agent: {grants: [{id: t, tools: [t]}]}
  partner: {grants: [{id: t, tools: [t]}]}
"""
CALL = ToolCall("t")
PARTNER = "spiffe://other.example/w"


@pytest.fixture
def policy_text() -> str:
    return POLICY


def refused(answer: Callable[[], Any]) -> str:
    with pytest.raises(AccessDenied) as caught:
        answer()
    return caught.value.code


class TestEviction:
    def test_twice_in_one_second(self, guard: Guard, authority: Authority, clock: Any) -> None:
        """What was made between two evictions of one second is refused by the second of them."""
        authority.evict("claims-agent", reason="one")
        key, token = authority.create_key("claims-agent"), authority.issue("claims-agent")
        session = guard.login(token)
        authority.evict("claims-agent", reason="two")
        assert refused(lambda: guard.login(key)) == "token_revoked"
        assert refused(lambda: guard.login(token)) == "token_revoked"
        assert refused(lambda: guard.admit(CALL, session=session)) == "token_revoked"
        clock.now += 30 * 86_400
        assert refused(lambda: guard.login(key)) == "token_revoked"

    def test_by_a_clock_that_is_behind(
        self, guard: Guard, authority: Authority, clock: Any
    ) -> None:
        """An authority whose clock is behind evicts no less."""
        session = guard.login(authority.issue("claims-agent", lifetime=600))
        clock.now -= 20
        authority.evict("claims-agent", reason="x")
        clock.now += 20
        assert refused(lambda: guard.admit(CALL, session=session)) == "token_revoked"

    def test_new_credentials_count(self, guard: Guard, authority: Authority) -> None:
        """After any number of evictions in a second the next credential is a good one."""
        for _ in range(10):
            authority.evict("claims-agent", reason="x")
        guard.admit(CALL, session=guard.login(authority.issue("claims-agent"))).settle()

    def test_by_a_clock_far_ahead(self, authority: Authority, clock: Any) -> None:
        """Nothing is issued that would not count; the refusal says why."""
        clock.now += 10 * 365 * 86_400
        authority.evict("claims-agent", reason="x")
        clock.now -= 10 * 365 * 86_400
        with pytest.raises(GuardUnavailable, match="a clock that was ahead"):
            authority.issue("claims-agent")
        authority.issue("analytics-agent")


class TestOneCredential:
    def test_clock_ahead_elsewhere(
        self, home: Path, guard: Guard, authority: Authority, clock: Any
    ) -> None:
        """A process whose clock is ahead takes nobody's refusal away."""
        token = authority.issue("claims-agent", lifetime=3600)
        session = guard.login(token)
        authority.revoke_token(session.token.jti, reason="stolen")
        ahead = clock.now + 7200
        with Authority.open(home, clock=lambda: ahead) as other:
            other.revoke_token("z" * 22, reason="another")
        assert refused(lambda: guard.login(token)) == "token_revoked"
        assert refused(lambda: guard.admit(CALL, session=session)) == "token_revoked"

    def test_join_token(self, guard: Guard, authority: Authority, clock: Any) -> None:
        """A join token that is taken back takes the session along that it opened."""
        token = authority.create_join_token("claims-agent")
        session = guard.login(token)
        guard.admit(CALL, session=session).settle()
        authority.revoke_key(token[:14], reason="leaked")
        assert refused(lambda: guard.admit(CALL, session=session)) == "token_revoked"
        clock.now += 80 * 86_400
        assert refused(lambda: guard.admit(CALL, session=session)) == "token_revoked"

    def test_clock_walked_back(self, guard: Guard, authority: Authority, clock: Any) -> None:
        """A clock that goes back in small steps keeps no session alive."""
        session = guard.login(authority.issue("claims-agent"))
        clock.now += 290
        guard.admit(CALL, session=session).settle()
        clock.now -= 29
        guard.admit(CALL, session=session).settle()
        clock.now -= 29
        assert refused(lambda: guard.admit(CALL, session=session)) == "clock"

    def test_whole_team_at_once(self, home: Path, authority: Authority, monkeypatch: Any) -> None:
        """Whoever is registered before the ban is on record is banned with the others."""
        store = authority._store
        begin = store.transaction

        def late(now: float) -> Any:
            monkeypatch.setattr(store, "transaction", begin)
            authority.register("late", team="claims", environment="prod")
            return begin(now)

        monkeypatch.setattr(store, "transaction", late)
        banned = authority.revoke_all(team="claims", reason="x")
        assert {agent.name for agent in banned} == {"claims-agent", "late"}


class TestDelegated:
    @pytest.mark.parametrize("lever", ["revoke_token", "evict", "ban and unban"])
    def test_ends_with_what_it_rests_on(
        self, guard: Guard, authority: Authority, clock: Any, lever: str
    ) -> None:
        """Work handed over under a credential ends with it, also where its agent goes on."""
        lead = guard.login(authority.source("claims-agent"))
        child = lead.delegate("analytics-agent", tools=["t"], ttl=3600)
        guard.admit(CALL, session=child).settle()
        if lever == "revoke_token":
            authority.revoke_token(lead.token.jti, reason="x")
        elif lever == "evict":
            authority.evict("claims-agent", reason="x")
        else:
            authority.revoke("claims-agent", reason="x")
            authority.unban("claims-agent", reason="x")
        assert refused(lambda: guard.admit(CALL, session=child)) == "token_revoked"
        clock.now += 200
        renewed = guard.login(authority.source("claims-agent"))
        assert refused(lambda: guard.admit(CALL, session=child)) == "token_revoked"
        guard.admit(CALL, session=renewed).settle()

    def test_right_after_an_eviction(self, guard: Guard, authority: Authority) -> None:
        """An agent that was evicted in this very second can be given new work."""
        authority.evict("analytics-agent", reason="x")
        lead = guard.login(authority.issue("claims-agent"))
        child = lead.delegate("analytics-agent", tools=["t"])
        guard.admit(CALL, session=child).settle()
        authority.evict("analytics-agent", reason="again")
        assert refused(lambda: guard.admit(CALL, session=child)) == "token_revoked"

    def test_what_was_handed_over_is_on_record(self, guard: Guard, authority: Authority) -> None:
        """The records of a delegated session say what it was given."""
        lead = guard.login(authority.issue("claims-agent"))
        lead.delegate("analytics-agent", tools=["t", "u.*"], models=["m/a"], ttl=60)
        opened = list(guard.records())[-2]
        assert opened["type"] == "session.open"
        assert opened["mandate"] == {"tools": ["t", "u.*"], "models": ["m/a"]}


class TestPossession:
    KEY = SigningKey.generate()

    @pytest.fixture
    def bound(self, guard: Guard, authority: Authority) -> tuple[str, Session]:
        token = authority.issue("claims-agent", bound_to=self.KEY.kid)
        return token, guard.login(token)

    def _prove(self, guard: Guard, token: str, action: Any, clock: Any) -> str:
        return make_proof(
            self.KEY, token=token, action=action, audience=guard.audience, clock=clock
        )

    def test_proof_names_what_is_handed_over(
        self, guard: Guard, bound: tuple[str, Session], clock: Any
    ) -> None:
        """A proof for one tool and a minute is none for everything and an hour."""
        token, session = bound
        action = Delegation("analytics-agent", tools=("t",), ttl=60)
        proof = self._prove(guard, token, action, clock)
        for tools, ttl in ((["**"], 60), (["t"], 3600)):
            with pytest.raises(AuthenticationFailed, match="wrong_call"):
                session.delegate("analytics-agent", tools=tools, ttl=ttl, proof=proof)
        session.delegate("analytics-agent", tools=["t"], ttl=60, proof=proof)

    def test_child_needs_a_proof_for_each_call(
        self, guard: Guard, bound: tuple[str, Session], clock: Any
    ) -> None:
        """Who works for an agent that has to prove a key needs that proof, call by call."""
        token, session = bound
        action = Delegation("analytics-agent", tools=("t",), ttl=60)
        child = session.delegate(
            "analytics-agent", tools=["t"], ttl=60, proof=self._prove(guard, token, action, clock)
        )
        assert refused(lambda: guard.admit(CALL, session=child)) == "proof_required"
        proof = self._prove(guard, token, CALL, clock)
        guard.admit(CALL, session=child, proof=proof).settle()
        assert refused(lambda: guard.admit(CALL, session=child, proof=proof)) == "proof_replayed"

    def test_renewal_keeps_the_binding(
        self, guard: Guard, authority: Authority, clock: Any
    ) -> None:
        """A source that hands out a token without the binding ends the session's renewals."""

        class Source:
            bound_to: str | None = TestPossession.KEY.kid

            def credential(self) -> str:
                return authority.issue("claims-agent", bound_to=self.bound_to)

        source = Source()
        session = guard.login(source)
        source.bound_to = None
        clock.now += 200
        assert refused(lambda: guard.admit(CALL, session=session)) == "binding_changed"


class TestPartner:
    @pytest.fixture
    def keys(self, clock: Any) -> Callable[[], tuple[SigningKey, Any]]:
        def make() -> tuple[SigningKey, Any]:
            key = SigningKey.generate()
            return key, create_authority_certificate(
                key, trust_domain="other.example", not_before=clock.now - 60, lifetime=7 * 86_400
            )

        return make

    @pytest.fixture
    def trust(self, authority: Authority, tmp_path: Path) -> Callable[..., None]:
        def trust(certificate: Any, sequence: int = 1, **how: Any) -> None:
            bundle = TrustBundle.of(
                authorities=[certificate], trust_domain="other.example", sequence=sequence
            )
            file = tmp_path / "bundle.json"
            file.write_text(bundle.to_jwks())
            file.chmod(0o600)
            authority.federation.trust("other.example", str(file), **how)

        return trust

    def _svid(self, key: SigningKey, certificate: Any, now: float, monkeypatch: Any) -> X509Svid:
        """A certificate of a day, as other issuers make them."""
        with monkeypatch.context() as longer:
            longer.setattr("tabard.identity.x509_svid.MAX_LIFETIME", 86_400)
            return issue_x509_svid(
                key, certificate, subject=SpiffeId.parse(PARTNER), issued_at=now, lifetime=86_400
            )

    @pytest.fixture
    def partner(self, authority: Authority) -> None:
        authority.register("partner", team="t", environment="prod", spiffe_id=PARTNER)

    def test_certificate_of_a_day(
        self, guard: Guard, authority: Authority, partner: None, keys: Any, trust: Any,
        clock: Any, monkeypatch: Any,
    ) -> None:  # fmt: skip
        """One that lives a day stays refused for a day and more."""
        key, certificate = keys()
        trust(certificate)
        svid = self._svid(key, certificate, clock.now, monkeypatch)
        session = guard.login(svid)
        authority.revoke_token(session.token.jti, reason="stolen")
        for _ in range(23):
            clock.now += 3600
            authority.revoke_token("z" * 22, reason="another")
            assert refused(lambda: guard.admit(CALL, session=session)) == "token_revoked"
            assert refused(lambda: guard.login(svid)) == "token_revoked"

    def test_trusted_again_by_other_keys(
        self, guard: Guard, authority: Authority, partner: None, keys: Any, trust: Any,
        clock: Any, monkeypatch: Any,
    ) -> None:  # fmt: skip
        """Trusting a domain again brings back nothing that a lost key has vouched for."""
        (old, old_certificate), (new, new_certificate) = keys(), keys()
        trust(old_certificate)
        session = guard.login(self._svid(old, old_certificate, clock.now, monkeypatch))
        authority.federation.distrust("other.example", reason="their key was stolen")
        trust(new_certificate, 2)
        assert refused(lambda: guard.admit(CALL, session=session)) == "token_revoked"
        fresh = guard.login(self._svid(new, new_certificate, clock.now, monkeypatch))
        guard.admit(CALL, session=fresh).settle()

    def test_withdrawn_authority(
        self, guard: Guard, authority: Authority, partner: None, keys: Any, trust: Any,
        clock: Any, monkeypatch: Any,
    ) -> None:  # fmt: skip
        """A session that a withdrawn authority has vouched for does not come back later."""
        (old, old_certificate), (_, new_certificate) = keys(), keys()
        trust(old_certificate)
        session = guard.login(self._svid(old, old_certificate, clock.now, monkeypatch))
        trust(new_certificate, 2, replace_known=True)
        for _ in range(3):
            assert refused(lambda: guard.admit(CALL, session=session)) == "token_revoked"
            clock.now += 4000
            authority.revoke_token("w" * 22, reason="another")

    def test_clock_of_another_issuer_is_ahead(
        self, guard: Guard, authority: Authority, partner: None, keys: Any, trust: Any,
        clock: Any, monkeypatch: Any,
    ) -> None:  # fmt: skip
        """An eviction also refuses what another issuer has dated a little later."""
        key, certificate = keys()
        trust(certificate)
        session = guard.login(self._svid(key, certificate, clock.now + 25, monkeypatch))
        authority.evict(PARTNER, reason="x")
        with pytest.raises(AuthenticationFailed, match="token_revoked"):
            guard.admit(CALL, session=session)

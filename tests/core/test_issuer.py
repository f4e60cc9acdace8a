"""The issuer's keys: rotated without a refused call, killed at once, published as a bundle."""

from __future__ import annotations

import json
import multiprocessing
from pathlib import Path
from typing import Any

import pytest

from tabard import AuthenticationFailed, Authority, ConfigurationError, Guard, ToolCall
from tabard.identity import SigningKey, SpiffeId, TokenVerifier, TrustBundle, mint_token
from tabard.identity.issuer_key import ACTIVE, PREPARED, RETIRING, IssuerKey, State, advance

CALL = ToolCall("policy_lookup", {"policy_no": "POL-123456"})
HOUR = 3600


def states(authority: Authority, use: str = "jwt-svid") -> list[str]:
    return [key.state for key in authority.issuer.keys() if key.use == use]


def active(authority: Authority) -> str:
    [kid] = [k.kid for k in authority.issuer.keys() if (k.use, k.state) == ("jwt-svid", "active")]
    return kid


def published(home: Path) -> Any:
    return json.loads((home / "bundle.json").read_text())


class TestAdvance:
    """The states as a pure function, second by second."""

    @staticmethod
    def run(seconds: int, step: int) -> list[tuple[int, dict[str, State]]]:
        keys: dict[str, IssuerKey] = {}
        history: list[tuple[int, dict[str, State]]] = []
        for now in range(0, seconds, step):

            def make() -> IssuerKey:
                kid = f"k{len(keys)}"
                return IssuerKey(kid=kid, use="jwt-svid", state="next", since=0, element="{}")

            for key in advance(list(keys.values()), now=now, make=make):
                keys[key.kid] = key
            history.append((now, {key.kid: key.state for key in keys.values()}))
        return history

    def test_every_key_is_published_before_it_signs(self) -> None:
        """Seen every minute over ten days, a key is next, active, retiring, gone, in that order."""
        history = self.run(10 * ACTIVE, 60)
        for kid in history[-1][1]:
            seen = [states[kid] for _, states in history if kid in states]
            order = [s for i, s in enumerate(seen) if i == 0 or s != seen[i - 1]]
            expected = ["next", "active", "retiring", "gone"]
            start = 1 if kid == "k0" else 0
            assert order == expected[start : start + len(order)]
        assert all(list(s.values()).count("active") == 1 for _, s in history)
        assert len(history[-1][1]) == 11

    def test_next_is_long_enough_in_the_bundle(self) -> None:
        """A key is published half a day ahead, and verifies an hour after it last signed."""
        history = self.run(3 * ACTIVE, 60)
        first = {s: next(n for n, states in history if states.get("k1") == s)
                 for s in ("next", "active", "retiring", "gone")}  # fmt: skip
        assert first["active"] - first["next"] >= PREPARED - 60
        assert first["gone"] - first["retiring"] >= RETIRING

    def test_after_a_long_sleep(self) -> None:
        """A home nobody used for weeks publishes its next key first, and signs with it later."""
        key = IssuerKey(kid="a", use="jwt-svid", state="active", since=0, element="{}")
        [following] = advance([key], now=40 * ACTIVE, make=lambda: key)
        assert following.state == "next"

    def test_worn_certificate(self) -> None:
        """An authority whose certificate runs out within the hour is replaced at once."""
        key = IssuerKey(
            kid="a", use="x509-svid", state="active", since=0, element="{}", expires=2 * HOUR
        )
        assert advance([key], now=HOUR - 1, make=lambda: key) == []
        changed = advance([key], now=HOUR + 1, make=lambda: key)
        assert [one.state for one in changed] == ["retiring", "active"]


class TestRotation:
    def test_no_refused_call(
        self, authority: Authority, guard: Guard, clock: Any, home: Path
    ) -> None:
        """Three days of calls every ten minutes: keys come and go, no call is refused."""
        session = guard.login(authority.source("claims-agent"))
        kids = set()
        for _ in range(3 * 24 * 6):
            clock.now += 600
            guard.admit(CALL, session=session).settle()
            kids.add(session.token.kid)
        assert len(kids) == 4
        assert states(authority).count("gone") >= 1
        assert {key["kid"] for key in published(home)["keys"] if "kid" in key} == {
            key.kid
            for key in authority.issuer.keys()
            if key.use == "jwt-svid" and key.state not in ("gone", "killed")
        }

    def test_old_tokens_go_on_after_a_rotation(self, authority: Authority, guard: Guard) -> None:
        """Rotated by hand, what the old key signed still counts; the new one signs."""
        old, before = authority.issue("claims-agent"), active(authority)
        session = guard.login(old)
        authority.issuer.rotate()
        assert active(authority) != before
        guard.admit(CALL, session=session)
        assert guard.login(old).token.kid == before
        assert guard.login(authority.issue("claims-agent")).token.kid == active(authority)

    def test_sequence_grows_with_every_change(self, authority: Authority, home: Path) -> None:
        """`spiffe_sequence` counts the changes; the file and the store say the same."""
        seen = []
        for _ in range(3):
            seen.append(authority.issuer.bundle().sequence)
            assert published(home)["spiffe_sequence"] == seen[-1]
            authority.issuer.rotate()
        assert seen == sorted(set(seen))

    def test_published_bundle_verifies_elsewhere(
        self, authority: Authority, home: Path, clock: Any
    ) -> None:
        """With nothing but `bundle.json` another machine verifies our tokens, before and after."""
        for _ in range(2):
            bundle = TrustBundle.load(home / "bundle.json", trust_domain="acme.example")
            verifier = TokenVerifier(bundle, audience="spiffe://acme.example/guard", clock=clock)
            assert verifier.verify(authority.issue("claims-agent"))
            authority.issuer.rotate()
        assert [len(key.get("x5c", [])) for key in published(home)["keys"]].count(1) >= 1

    def test_private_keys_that_are_gone_are_removed(
        self, authority: Authority, clock: Any, home: Path
    ) -> None:
        """Only keys that are published have a private half on disk."""
        for _ in range(8):
            authority.issuer.rotate()
            clock.now += 2 * HOUR
            authority.issue("claims-agent")
        kept = {path.stem for path in (home / "keys").glob("*.pem")}
        assert kept == {
            key.kid for key in authority.issuer.keys() if key.state not in ("gone", "killed")
        }

    def test_another_process_issues_with_the_new_key(
        self, authority: Authority, home: Path, clock: Any, guard: Guard
    ) -> None:
        """An authority that was open before a rotation signs with the key that is active now."""
        with Authority.open(home, clock=clock) as other:
            authority.issuer.rotate()
            assert guard.login(other.issue("claims-agent")).token.kid == active(authority)

    def test_bundle_file_that_cannot_be_written(
        self, authority: Authority, guard: Guard, home: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The copy for others may fail; no call here depends on it; it is retried."""

        def fail(*_: object) -> None:
            raise ConfigurationError("disk full")

        with monkeypatch.context() as patch:
            patch.setattr(TrustBundle, "save", fail)
            authority.issuer.rotate()
            assert guard.login(authority.issue("claims-agent"))
        assert published(home)["spiffe_sequence"] < authority.issuer.bundle().sequence
        authority.issue("claims-agent")
        assert published(home)["spiffe_sequence"] == authority.issuer.bundle().sequence


class TestKill:
    def test_everything_it_signed_dies(self, authority: Authority, guard: Guard) -> None:
        """Tokens, open sessions and what acts for them are refused; a new key signs at once."""
        token = authority.issue("claims-agent")
        session = guard.login(token)
        kid = session.token.kid
        authority.issuer.kill(kid, reason="stolen laptop", author="ada")
        with pytest.raises(AuthenticationFailed, match="token_revoked"):
            guard.admit(CALL, session=session)
        with pytest.raises(AuthenticationFailed, match="unknown_key"):
            guard.login(token)
        guard.admit(CALL, session=guard.login(authority.issue("claims-agent")))
        assert "killed" in states(authority)
        record = [r for r in guard.records() if r["type"] == "issuer.key" and "reason" in r][-1]
        assert (record["key"]["kid"], record["reason"], record["author"]) == (
            kid, "stolen laptop", "ada",
        )  # fmt: skip

    def test_session_over_a_source_goes_on(
        self, authority: Authority, guard: Guard, clock: Any
    ) -> None:
        """Who renews gets a token of the new key at the next renewal; API keys never notice."""
        renewing = guard.login(authority.source("claims-agent"))
        keyed = guard.login(authority.create_key("claims-agent"))
        authority.issuer.kill(active(authority), reason="x")
        guard.admit(CALL, session=keyed)
        clock.now += 200
        guard.admit(CALL, session=renewing)

    def test_other_keys_go_on(self, authority: Authority, guard: Guard) -> None:
        """Killing the old key leaves what the new one signed alone."""
        old = active(authority)
        authority.issuer.rotate()
        session = guard.login(authority.issue("claims-agent"))
        authority.issuer.kill(old, reason="x")
        guard.admit(CALL, session=session)

    def test_private_half_is_removed(self, authority: Authority, home: Path) -> None:
        """What was stolen is not kept either."""
        kid = active(authority)
        authority.issuer.kill(kid, reason="x")
        assert not (home / "keys" / f"{kid}.pem").exists()
        assert kid not in {key.get("kid") for key in published(home)["keys"]}

    @pytest.mark.parametrize(
        ("kid", "reason", "message"),
        [("nothing", "x", "no key 'nothing' in the trust bundle"), ("", "x", "no key ''"),
         ("nothing", "", "a reason is required")],
    )  # fmt: skip
    def test_misuse(self, authority: Authority, kid: str, reason: str, message: str) -> None:
        with pytest.raises(ConfigurationError, match=message):
            authority.issuer.kill(kid, reason=reason)
        assert states(authority) == ["active"]


def _call_until_refused(home: Path, policy: str, token: str, ready: Any, answer: Any) -> None:
    with Guard.open(home, policy=policy) as guard:
        session = guard.login(token)
        ready.set()
        while True:
            try:
                guard.admit(CALL, session=session).settle()
            except AuthenticationFailed as refusal:
                answer.put(refusal.code)
                return


def test_kill_reaches_another_process(tmp_path: Path, policy_text: str) -> None:
    """A session in another process is refused at its next call."""
    context = multiprocessing.get_context("spawn")
    ready, answer = context.Event(), context.Queue()
    with Authority.open(tmp_path / "home", trust_domain="acme.example") as authority:
        authority.register("claims-agent", team="claims", environment="prod")
        token = authority.issue("claims-agent")
        arguments = (tmp_path / "home", policy_text, token, ready, answer)
        process = context.Process(target=_call_until_refused, args=arguments)
        process.start()
        assert ready.wait(30)
        authority.issuer.kill(active(authority), reason="stolen")
        assert answer.get(timeout=30) == "token_revoked"
        process.join(30)


def _rotate_and_issue(home: Path, queue: Any) -> None:
    with Authority.open(home) as authority:
        tokens = []
        for _ in range(10):
            authority.issuer.rotate()
            tokens.append(authority.issue("claims-agent"))
        queue.put(tokens)


def test_rotated_by_many_processes_at_once(tmp_path: Path, policy_text: str) -> None:
    """Processes that rotate and issue at the same time keep one active key and valid tokens."""
    home = tmp_path / "home"
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    with Authority.open(home, trust_domain="acme.example") as authority:
        authority.register("claims-agent", team="claims", environment="prod")
        workers = [context.Process(target=_rotate_and_issue, args=(home, queue)) for _ in range(3)]
        for worker in workers:
            worker.start()
        tokens = [token for _ in workers for token in queue.get(timeout=60)]
        for worker in workers:
            worker.join(30)
        assert states(authority).count("active") == 1
        with Guard.open(home, policy=policy_text) as guard:
            for token in tokens:
                assert guard.login(token)
            guard.verify()
        authority.issuer.publish()
        file = TrustBundle.load(home / "bundle.json", trust_domain="acme.example")
        assert file.sequence == authority.issuer.bundle().sequence


def test_retired_by_the_clock(home: Path, guard: Guard, authority: Authority, clock: Any) -> None:
    """A key that was rotated out counts for an hour, also where nothing is issued afterwards."""
    old = SigningKey.load(home / "keys" / f"{_active(authority, 'jwt-svid')}.pem")
    authority.issuer.rotate()
    clock.now += 3 * 86_400
    forged = mint_token(
        old,
        subject=SpiffeId.parse("spiffe://acme.example/env/prod/team/claims/agent/claims-agent"),
        audience=guard.audience,
        issued_at=clock.now,
        lifetime=300,
    )
    with pytest.raises(AuthenticationFailed, match="unknown_key"):
        guard.login(forged)


def test_one_use_retires_the_other(home: Path, authority: Authority, clock: Any) -> None:
    """Where only tokens are issued, old certificate keys go all the same, files included."""
    old = _active(authority, "x509-svid")
    authority.issuer.rotate()
    clock.now += 2 * 86_400
    authority.issue("claims-agent")
    assert not (home / "keys" / f"{old}.pem").exists()
    assert {k.state for k in authority.issuer.keys() if k.kid == old} == {"gone"}


def _active(authority: Authority, use: str) -> str:
    return next(k.kid for k in authority.issuer.keys() if k.use == use and k.state == "active")

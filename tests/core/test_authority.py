"""The authority: registering, naming, issuing, and a home that is made once and kept safe."""

from __future__ import annotations

import multiprocessing
import os
import sqlite3
import stat
from pathlib import Path
from typing import Any

import pytest

from tabard import (
    AuthenticationFailed,
    Authority,
    ConfigurationError,
    Guard,
    GuardUnavailable,
    StoreError,
)
from tabard.identity import SigningKey, SpiffeId, TrustBundle, mint_token

CLAIMS = "spiffe://acme.example/env/prod/team/claims/agent/claims-agent"


class TestHome:
    def test_empty_file_in_place_of_the_database(self, home: Path) -> None:
        """An empty file is no home yet: it needs its trust domain."""
        home.mkdir(mode=0o700)
        (home / "state.db").touch(mode=0o600)
        with pytest.raises(ConfigurationError, match="an empty database"):
            Authority.open(home)
        Authority.open(home, trust_domain="acme.example").close()

    def test_modes(self, home: Path, authority: Authority) -> None:
        """The home and its keys are for their owner only."""
        modes = {
            path: stat.S_IMODE((home / path).stat().st_mode) for path in (".", "keys", "state.db")
        }
        assert modes == {".": 0o700, "keys": 0o700, "state.db": 0o600}
        files = list((home / "keys").iterdir())
        assert [stat.S_IMODE(file.stat().st_mode) for file in files] == [0o600, 0o600]

    def test_opened_again_is_the_same(self, home: Path, authority: Authority) -> None:
        """Opening a home again keeps its key, its agents and its trust domain."""
        before = {file.name: file.read_bytes() for file in (home / "keys").iterdir()}
        with Authority.open(home) as again:
            assert again.trust_domain == "acme.example"
            assert [a.name for a in again.agents()] == ["analytics-agent", "claims-agent"]
            assert again.issuer.keys() == authority.issuer.keys()
        assert {file.name: file.read_bytes() for file in (home / "keys").iterdir()} == before

    def test_another_trust_domain(self, home: Path, authority: Authority) -> None:
        """A home belongs to one trust domain."""
        with pytest.raises(ConfigurationError, match=r"'acme\.example', not 'other\.example'"):
            Authority.open(home, trust_domain="other.example")

    def test_new_home_needs_a_trust_domain(self, tmp_path: Path) -> None:
        """Without a trust domain nothing is created."""
        with pytest.raises(ConfigurationError, match="needs `trust_domain=`"):
            Authority.open(tmp_path / "new")
        assert not (tmp_path / "new").exists()

    @pytest.mark.parametrize("name", ["", "Acme.Example", "acme.example/x", "a b", "ä.example"])
    def test_bad_trust_domain(self, tmp_path: Path, name: str) -> None:
        """A trust domain that no SPIFFE ID can have creates nothing."""
        with pytest.raises(ConfigurationError):
            Authority.open(tmp_path / "new", trust_domain=name)
        assert not (tmp_path / "new").exists()

    @pytest.mark.parametrize(("path", "mode"), [("key", 0o640), ("key", 0o604), ("keys", 0o750)])
    def test_key_others_can_read(
        self, home: Path, authority: Authority, path: str, mode: int
    ) -> None:
        """A key that others can read is refused; found and expected mode are named."""
        place = home / "keys" if path == "keys" else token_key_file(home, authority)
        place.chmod(mode)
        with pytest.raises(ConfigurationError, match=f"mode {mode:04o}, expected") as caught:
            Authority.open(home)
        assert str(place) in str(caught.value)

    def test_missing_key(self, home: Path, authority: Authority) -> None:
        """A home whose key is gone says so, and still enforces."""
        token_key_file(home, authority).unlink()
        with pytest.raises(ConfigurationError, match="the signing key is missing"):
            Authority.open(home)

    def test_guard_needs_no_key(
        self, home: Path, authority: Authority, policy_text: str, clock: Any
    ) -> None:
        """An enforcing process works without the signing key."""
        token = authority.issue("claims-agent")
        token_key_file(home, authority).unlink()
        with Guard.open(home, policy=policy_text, clock=clock) as guard:
            assert guard.login(token).agent.name == "claims-agent"

    @pytest.mark.parametrize(
        "content", [b"", b"not json", b"{}", b'{"keys": [], "keys": []}', b"\xff"]
    )
    def test_damaged_bundle(
        self, home: Path, authority: Authority, guard: Guard, content: bytes
    ) -> None:
        """A damaged trust bundle refuses every login; nothing is trusted instead."""
        token = authority.issue("claims-agent")
        database = sqlite3.connect(home / "state.db", isolation_level=None)
        database.execute("UPDATE trust_bundle SET document = ?", [content.decode("latin-1")])
        with pytest.raises(GuardUnavailable, match="bundle: trust bundle"):
            guard.login(token)

    def test_published_bundle_decides_nothing(
        self, home: Path, authority: Authority, guard: Guard
    ) -> None:
        """`bundle.json` is a copy for others: what is written into it is trusted by no guard."""
        stranger = SigningKey.generate()
        TrustBundle.of(stranger, trust_domain="acme.example").save(home / "bundle.json")
        token = mint_token(
            stranger,
            subject=authority.find("claims-agent").spiffe_id,
            audience="spiffe://acme.example/guard",
            issued_at=1_800_000_000,
            lifetime=60,
        )
        with pytest.raises(AuthenticationFailed, match="unknown_key"):
            guard.login(token)
        assert guard.login(authority.issue("claims-agent"))

    def test_home_that_is_a_file(self, tmp_path: Path) -> None:
        """A home that is a file is named."""
        (tmp_path / "home").write_text("x")
        with pytest.raises(ConfigurationError, match=str(tmp_path / "home")):
            Authority.open(tmp_path / "home", trust_domain="acme.example")

    def test_postgresql_is_not_here_yet(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """An address of a server is refused with a sentence; it never becomes a file name."""
        monkeypatch.setenv("TABARD_STORE", "postgresql://user:secret@db/x")
        with pytest.raises(ConfigurationError, match="found a postgresql address") as caught:
            Authority.open(tmp_path / "home", trust_domain="acme.example")
        assert "secret" not in str(caught.value)

    def test_environment_variables(
        self, tmp_path: Path, policy_text: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """`$TABARD_HOME`, `$TABARD_STORE` and `$TABARD_POLICY` stand in for arguments."""
        (tmp_path / "policy.yaml").write_text(policy_text)
        monkeypatch.setenv("TABARD_HOME", str(tmp_path / "there"))
        monkeypatch.setenv("TABARD_STORE", str(tmp_path / "elsewhere.db"))
        monkeypatch.setenv("TABARD_POLICY", str(tmp_path / "policy.yaml"))
        with Authority.open(trust_domain="acme.example") as authority:
            authority.register("claims-agent", team="claims", environment="prod")
            with Guard.open() as guard:
                assert guard.login(authority.issue("claims-agent"))
        assert (tmp_path / "elsewhere.db").exists()
        assert (tmp_path / "there" / "bundle.json").exists()
        assert not (tmp_path / "there" / "state.db").exists()


def token_key_file(home: Path, authority: Authority) -> Path:
    """Where the key lies that signs tokens now."""
    [key] = [k for k in authority.issuer.keys() if (k.use, k.state) == ("jwt-svid", "active")]
    return home / "keys" / f"{key.kid}.pem"


def _open_and_report(home: Path, queue: Any) -> None:
    with Authority.open(home, trust_domain="acme.example") as authority:
        authority.register(f"agent-{os.getpid()}", team="t", environment="dev")
        queue.put(token_key_file(home, authority).read_bytes())


def test_home_created_by_many_processes_at_once(home: Path) -> None:
    """Processes that create a home at the same time agree on one key and lose nothing."""
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    workers = [context.Process(target=_open_and_report, args=(home, queue)) for _ in range(4)]
    for worker in workers:
        worker.start()
    keys = {queue.get(timeout=60) for _ in workers}
    for worker in workers:
        worker.join()
    assert len(keys) == 1
    with Authority.open(home) as authority:
        assert len(authority.agents()) == 4


class TestRegister:
    def test_spiffe_id(self, authority: Authority) -> None:
        """An agent's identity follows from its name, team and environment."""
        assert str(authority.find("claims-agent").spiffe_id) == CLAIMS

    def test_same_facts_again(self, authority: Authority) -> None:
        """Registering again with the same facts returns the agent; other facts are refused."""
        again = authority.register("claims-agent", team="claims", environment="prod")
        assert again == authority.find("claims-agent")
        with pytest.raises(ConfigurationError, match="with other facts"):
            authority.register("claims-agent", team="claims", environment="prod", owner="x")

    def test_revoked_identity_is_never_reused(self, authority: Authority) -> None:
        """A revoked agent's identity cannot be registered again."""
        authority.revoke("claims-agent", reason="compromised")
        with pytest.raises(ConfigurationError, match="never reused"):
            authority.register("claims-agent", team="claims", environment="prod")

    @pytest.mark.parametrize("part", ["", "a b", "a/b", "..", ".", "ä", "a\n", "x" * 129, "a%20b"])
    def test_parts_that_no_spiffe_id_can_have(self, authority: Authority, part: str) -> None:
        """A name, team or environment that cannot stand in a SPIFFE ID is named."""
        for name, team, environment in ((part, "t", "e"), ("n", part, "e"), ("n", "t", part)):
            with pytest.raises(ConfigurationError, match=r"name|team|environment"):
                authority.register(name, team=team, environment=environment)
        assert len(authority.agents()) == 2

    def test_attributes(self, authority: Authority) -> None:
        """Labels are kept as text."""
        agent = authority.register(
            "b", team="t", environment="dev", purpose="p", attributes={"region": "eu"}
        )
        assert authority.find(agent) == agent
        wrong: Any
        for wrong in ({"n": 1}, {1: "n"}, 1, "ab", ["ab"], [("a", "b")], object()):
            with pytest.raises(ConfigurationError, match="from text to text"):
                authority.register("c", team="t", environment="dev", attributes=wrong)


class TestNaming:
    def test_unknown(self, authority: Authority) -> None:
        """An unknown name lists the known ones."""
        with pytest.raises(ConfigurationError, match="analytics-agent, claims-agent"):
            authority.issue("nobody")

    def test_ambiguous(self, authority: Authority) -> None:
        """A name borne twice lists the candidates; the SPIFFE ID or the Agent is unambiguous."""
        staging = authority.register("claims-agent", team="claims", environment="staging")
        with pytest.raises(ConfigurationError, match="name of 2 agents") as caught:
            authority.revoke("claims-agent", reason="x")
        assert CLAIMS in str(caught.value)
        assert str(staging.spiffe_id) in str(caught.value)
        authority.revoke(staging, reason="x")
        assert authority.find(CLAIMS).status == "active"
        assert authority.find(SpiffeId.parse(str(staging.spiffe_id))).status == "revoked"


class TestIssue:
    @pytest.mark.parametrize("lifetime", [0, -1, 3601, float("nan"), float("inf"), 0.5])
    def test_lifetime_out_of_bounds(self, authority: Authority, lifetime: float) -> None:
        """A token lives between a second and an hour."""
        with pytest.raises(ConfigurationError, match="lifetime"):
            authority.issue("claims-agent", lifetime=lifetime)

    @pytest.mark.parametrize("profile", [[], {}, None, 1, b"agent+jwt", "x"])
    def test_profile_that_is_none(self, authority: Authority, profile: Any) -> None:
        """A profile of a wrong type is refused as what it is."""
        with pytest.raises(ConfigurationError, match="profile"):
            authority.issue("claims-agent", profile=profile)

    def test_token_for_someone_else(self, authority: Authority, guard: Guard) -> None:
        """A token meant for another enforcement point is refused here."""
        token = authority.issue("claims-agent", audience="spiffe://acme.example/other")
        with pytest.raises(AuthenticationFailed, match="wrong_audience"):
            guard.login(token)

    def test_token_of_another_home(self, tmp_path: Path, guard: Guard, clock: Any) -> None:
        """A token of another authority, even of the same trust domain, is refused."""
        with Authority.open(tmp_path / "b", trust_domain="acme.example", clock=clock) as other:
            other.register("claims-agent", team="claims", environment="prod")
            with pytest.raises(AuthenticationFailed, match="unknown_key"):
                guard.login(other.issue("claims-agent"))

    def test_agent_that_is_not_registered(
        self, home: Path, authority: Authority, guard: Guard, clock: Any
    ) -> None:
        """A well-signed token for an identity nobody registered is refused."""
        token = mint_token(
            SigningKey.load(token_key_file(home, authority)),
            subject=SpiffeId.parse("spiffe://acme.example/env/prod/team/x/agent/ghost"),
            audience="spiffe://acme.example/guard",
            issued_at=clock.now,
            lifetime=60,
        )
        with pytest.raises(AuthenticationFailed, match="unregistered"):
            guard.login(token)

    def test_revoking_needs_a_reason(self, authority: Authority) -> None:
        """A revocation without a reason is refused and changes nothing."""
        for reason in ("", "  ", None):
            with pytest.raises(ConfigurationError, match="a reason is required"):
                authority.revoke("claims-agent", reason=reason)  # type: ignore[arg-type]
        assert authority.find("claims-agent").status == "active"

    def test_what_the_authority_does_is_on_record(self, authority: Authority, guard: Guard) -> None:
        """Registering, issuing and revoking are records; the token itself is in none."""
        token = authority.issue("claims-agent")
        authority.revoke("claims-agent", reason="compromised")
        text = str(list(guard.records()))
        types = [r["type"] for r in guard.records()]
        assert types == [
            "writer.open", "issuer.key", "issuer.key", "agent.registered", "agent.registered",
            "agent.issued", "agent.revoked",
        ]  # fmt: skip
        assert token not in text
        assert token.split(".")[2] not in text

    def test_store_failure_is_a_store_error(self, home: Path, authority: Authority) -> None:
        """Revoking with a locked database says so; nothing has changed."""
        authority._store._db.execute("PRAGMA busy_timeout = 10")  # type: ignore[attr-defined]
        other = sqlite3.connect(home / "state.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="locked"):
            authority.revoke("claims-agent", reason="x")
        other.execute("ROLLBACK")
        other.close()
        assert authority.find("claims-agent").status == "active"

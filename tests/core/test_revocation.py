"""The three levers: ban, evict, deny one token; each at once, each on record, none too wide."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tabard import (
    AuthenticationFailed,
    Authority,
    ConfigurationError,
    Guard,
    GuardUnavailable,
    Session,
    ToolCall,
)
from tabard.identity import RenewingSource

ALLOWED = ToolCall("claims_db.query", {"table": "claims", "claimant_id": "C-1"})
LOOKUP = ToolCall("policy_lookup", {"policy_no": "POL-123456"})


@pytest.fixture
def log_in(guard: Guard, authority: Authority) -> Callable[..., Session]:
    """A session of the claims agent, over a token of its own or over a given credential."""

    def open_session(credential: Any = None) -> Session:
        token = authority.issue("claims-agent") if credential is None else credential
        return guard.login(token, scope={"claimant_id": "C-1"})

    return open_session


def code(guard: Guard, session: Session) -> str:
    """What a call of the session comes to; a dry run must say the same."""
    dry = guard.check(ALLOWED, session=session).code
    try:
        guard.admit(ALLOWED, session=session).settle()
        found = "ok"
    except AuthenticationFailed as refusal:
        found = refusal.code
    assert found == dry
    return found


class TestEvict:
    def test_old_credentials_die_new_ones_count(
        self, guard: Guard, authority: Authority, log_in: Any
    ) -> None:
        """What was issued until now is refused, in the same second too; what comes after counts."""
        token = authority.issue("claims-agent")
        old = log_in()
        authority.evict("claims-agent", reason="laptop lost")
        assert code(guard, old) == "token_revoked"
        with pytest.raises(AuthenticationFailed, match="token_revoked"):
            log_in(token)
        assert code(guard, log_in()) == "ok"
        assert authority.find("claims-agent").status == "active"

    def test_nobody_else(self, guard: Guard, authority: Authority) -> None:
        """Other agents go on."""
        other = guard.login(authority.issue("analytics-agent"))
        authority.evict("claims-agent", reason="laptop lost")
        assert guard.admit(ToolCall("stats.mean", {"x": 1}), session=other)

    def test_source_recovers(
        self, guard: Guard, authority: Authority, log_in: Any, clock: Any
    ) -> None:
        """A session over a source is refused at once, and goes on when the source has renewed."""
        session = log_in(authority.source("claims-agent"))
        authority.evict("claims-agent", reason="laptop lost")
        assert code(guard, session) == "token_revoked"
        clock.now += 200
        assert code(guard, session) == "ok"

    def test_cut_off_never_goes_back(
        self, guard: Guard, authority: Authority, log_in: Any, clock: Any
    ) -> None:
        """A second eviction with a slower clock does not bring anything back."""
        clock.now += 20
        token = authority.issue("claims-agent")
        authority.evict("claims-agent", reason="one")
        clock.now -= 15
        authority.evict("claims-agent", reason="two")
        clock.now += 16
        with pytest.raises(AuthenticationFailed, match="token_revoked"):
            log_in(token)


class TestToken:
    def test_one_token(self, guard: Guard, authority: Authority, log_in: Any) -> None:
        """One token is refused, the agent's others go on."""
        one, two = log_in(), log_in()
        authority.revoke_token(one.token.jti, reason="pasted into a chat")
        assert (code(guard, one), code(guard, two)) == ("token_revoked", "ok")

    def test_malleable_twin_is_the_same_token(self, authority: Authority, log_in: Any) -> None:
        """The second valid spelling of a signature does not get round the refusal."""
        import base64

        order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
        token = authority.issue("claims-agent")
        head, body, text = token.split(".")
        signature = base64.urlsafe_b64decode(text + "==")
        s = order - int.from_bytes(signature[32:], "big")
        twin = base64.urlsafe_b64encode(signature[:32] + s.to_bytes(32, "big")).rstrip(b"=")
        session = log_in(f"{head}.{body}.{twin.decode()}")
        authority.revoke_token(session.token.jti, reason="x")
        for spelling in (token, f"{head}.{body}.{twin.decode()}"):
            with pytest.raises(AuthenticationFailed, match="token_revoked"):
                log_in(spelling)

    def test_refused_for_as_long_as_it_lives(
        self, guard: Guard, authority: Authority, clock: Any, home: Path
    ) -> None:
        """The refusal outlives the longest token, and is cleared away some time after."""
        token = authority.issue("claims-agent", lifetime=3600)
        jti = guard.login(token).token.jti
        authority.revoke_token(jti, reason="x")
        clock.now += 3599
        authority.revoke_token("x" * 22, reason="another")
        with pytest.raises(AuthenticationFailed, match="token_revoked"):
            guard.login(token)
        clock.now += 33 * 86_400
        authority.revoke_token("y" * 22, reason="another")
        rows = sqlite3.connect(home / "state.db").execute("SELECT name FROM refused")
        assert rows.fetchall() == [("y" * 22,)]

    @pytest.mark.parametrize("jti", ["", "short", None, 7, "x" * 65, "a b" * 8, "x" * 21 + "\n"])
    def test_no_token_id(self, authority: Authority, jti: Any) -> None:
        """Something that is no token id is refused, a whole token too."""
        with pytest.raises(ConfigurationError, match="expected a token's `jti`"):
            authority.revoke_token(jti, reason="x")
        with pytest.raises(ConfigurationError, match="expected a token's `jti`"):
            authority.revoke_token(authority.issue("claims-agent"), reason="x")


class TestBan:
    def test_unban(self, guard: Guard, authority: Authority, log_in: Any) -> None:
        """A ban can be taken back; what was held before stays refused, new credentials count."""
        token = authority.issue("claims-agent")
        session = log_in()
        authority.revoke("claims-agent", reason="compromised", author="ada")
        authority.unban("claims-agent", reason="false alarm", author="ada")
        assert code(guard, session) == "token_revoked"
        with pytest.raises(AuthenticationFailed, match="token_revoked"):
            log_in(token)
        assert code(guard, log_in()) == "ok"

    def test_unban_of_nobody(self, authority: Authority) -> None:
        """An agent that is not banned cannot be unbanned."""
        with pytest.raises(ConfigurationError, match="is not revoked"):
            authority.unban("claims-agent", reason="x")

    def test_team_and_environment(self, guard: Guard, authority: Authority) -> None:
        """A team, an environment, or both are banned in one act, and nobody else."""
        authority.register("b", team="claims", environment="dev")
        authority.register("c", team="claims", environment="prod")
        banned = authority.revoke_all(team="claims", environment="prod", reason="breach")
        assert sorted(agent.name for agent in banned) == ["c", "claims-agent"]
        active = sorted(a.name for a in authority.agents() if a.status == "active")
        assert active == ["analytics-agent", "b"]
        authority.revoke_all(environment="dev", reason="breach")
        assert [a.name for a in authority.agents() if a.status == "active"] == ["analytics-agent"]

    def test_nobody_is_meant(self, authority: Authority) -> None:
        """A ban of nobody, or of everybody by leaving out who, is an error."""
        with pytest.raises(ConfigurationError, match="name a team"):
            authority.revoke_all(reason="x")
        with pytest.raises(ConfigurationError, match="no active agent"):
            authority.revoke_all(team="typo", reason="x")
        assert all(agent.status == "active" for agent in authority.agents())

    def test_everything_is_on_record(self, guard: Guard, authority: Authority) -> None:
        """Each lever leaves a record with reason and author; no reason, no change."""
        authority.evict("claims-agent", reason="r1", author="ada")
        authority.revoke_token("x" * 22, reason="r2")
        authority.revoke("claims-agent", reason="r3", author="bob")
        authority.unban("claims-agent", reason="r4", author="bob")
        found = [(r["type"], r["reason"], r["author"]) for r in guard.records() if "reason" in r]
        assert found == [
            ("agent.evicted", "r1", "ada"),
            ("token.revoked", "r2", None),
            ("agent.revoked", "r3", "bob"),
            ("agent.unbanned", "r4", "bob"),
        ]
        for work in (
            lambda: authority.evict("claims-agent", reason=""),
            lambda: authority.revoke_token("x" * 22, reason=" "),
            lambda: authority.revoke_all(team="claims", reason=""),
        ):
            with pytest.raises(ConfigurationError, match="a reason is required"):
                work()


class TestClock:
    def test_clock_behind_the_last_token(self, authority: Authority, clock: Any) -> None:
        """An authority whose clock jumped back does not issue; a moment's wait is no jump."""
        clock.now += 1000
        authority.issue("claims-agent")
        clock.now -= 5
        authority.issue("claims-agent")
        clock.now -= 1
        with pytest.raises(GuardUnavailable, match="behind the last credential"):
            authority.issue("claims-agent")

    def test_also_after_reopening(self, authority: Authority, home: Path, clock: Any) -> None:
        """The last time is kept in the home, not in the process."""
        clock.now += 1000
        authority.issue("claims-agent")
        clock.now -= 500
        with Authority.open(home, clock=clock) as again:
            with pytest.raises(GuardUnavailable, match="behind the last credential"):
                again.issue("analytics-agent")


def database_version(home: Path) -> int:
    with sqlite3.connect(home / "state.db") as database:
        [version] = database.execute("PRAGMA user_version").fetchone()
    return int(version)


def test_home_of_the_first_version(home: Path, policy_text: str, clock: Any) -> None:
    """A home made before there were three levers is brought up to date by its authority."""
    from tabard.store import schema

    with Authority.open(home, trust_domain="acme.example", clock=clock) as authority:
        authority.register("claims-agent", team="claims", environment="prod")
        authority.revoke("claims-agent", reason="x")
    database = sqlite3.connect(home / "state.db", isolation_level=None)
    database.execute("ALTER TABLE agent DROP COLUMN min_iat")
    later = database.execute(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%' "
        "AND name NOT IN ('meta', 'agent', 'record', '_sqlite_migrations')"
    ).fetchall()
    database.execute("DROP VIEW entry")
    database.execute("DROP TRIGGER record_stays")
    database.execute(
        "CREATE TRIGGER record_stays BEFORE DELETE ON record BEGIN SELECT raise(ABORT, 'no'); END"
    )
    database.execute("DELETE FROM meta WHERE name = 'log_id'")
    for (table,) in later:
        database.execute(f"DROP TABLE {table}")
    database.execute(
        "DELETE FROM _sqlite_migrations WHERE name > '0001'  AND name NOT LIKE '0001%'"
    )
    database.execute("PRAGMA user_version = 1")
    database.close()
    with pytest.raises(ConfigurationError, match="older tabard"):
        Guard.open(home, policy=policy_text)
    with Authority.open(home, clock=clock) as authority:
        assert authority.find("claims-agent").status == "revoked"
        authority.register("analytics-agent", team="analytics", environment="prod")
        with Guard.open(home, policy=policy_text, clock=clock) as guard:
            assert guard.login(authority.issue("analytics-agent"))
            assert guard.verify().records > 0
        assert database_version(home) == schema.VERSION


class TestSource:
    """A source is asked once for another credential in the place of one that was taken back."""

    @pytest.mark.parametrize("profile", ["agent+jwt", "x509-svid"])
    @pytest.mark.parametrize("lever", ["evict", "token", "key"])
    def test_login_right_after(
        self, guard: Guard, authority: Authority, profile: str, lever: str
    ) -> None:
        source = authority.source("claims-agent", profile=profile)
        session = guard.login(source)
        if lever == "evict":
            authority.evict("claims-agent", reason="x")
        elif lever == "token":
            authority.revoke_token(session.token.jti, reason="x")
        else:
            authority.issuer.kill(session.token.kid, reason="x")
        with pytest.raises(AuthenticationFailed, match="token_revoked"):
            guard.admit(LOOKUP, session=session)
        guard.admit(LOOKUP, session=session).settle()
        guard.admit(LOOKUP, session=guard.login(source)).settle()

    def test_asked_once(self, guard: Guard, authority: Authority, clock: Any) -> None:
        """Neither a login nor a session asks on and on."""
        asked: list[str] = []
        token = authority.issue("claims-agent", lifetime=3600)

        def issue() -> str:
            asked.append(token)
            return token

        source = RenewingSource(issue, clock=clock)
        session = guard.login(source)
        authority.evict("claims-agent", reason="x")
        for _ in range(5):
            with pytest.raises(AuthenticationFailed, match="token_revoked"):
                guard.admit(LOOKUP, session=session)
        assert len(asked) == 2
        with pytest.raises(AuthenticationFailed, match="token_revoked"):
            guard.login(source)
        assert len(asked) == 3

    def test_banned(self, guard: Guard, authority: Authority) -> None:
        """Nobody issues for a banned agent; what is refused stays so."""
        source = authority.source("claims-agent")
        session = guard.login(source)
        authority.revoke("claims-agent", reason="x")
        for _ in range(3):
            with pytest.raises(AuthenticationFailed, match="token_revoked"):
                guard.admit(LOOKUP, session=session)
            with pytest.raises(AuthenticationFailed, match="token_revoked"):
                guard.login(source)

    def test_file(self, guard: Guard, authority: Authority, tmp_path: Path) -> None:
        """A file that was written anew is read anew, at the call after the one refused."""
        file = tmp_path / "token"
        file.touch(0o600)
        file.write_text(authority.issue("claims-agent"))
        session = guard.login(file)
        authority.evict("claims-agent", reason="x")
        with pytest.raises(AuthenticationFailed, match="token_revoked"):
            guard.login(file)
        file.write_text(authority.issue("claims-agent"))
        with pytest.raises(AuthenticationFailed, match="token_revoked"):
            guard.admit(LOOKUP, session=session)
        guard.admit(LOOKUP, session=session).settle()

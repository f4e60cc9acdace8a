"""The pipeline end to end: who may call, what is recorded, and what happens when parts fail."""

from __future__ import annotations

import asyncio
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from pathlib import Path
from typing import Any

import pytest

from tabard import (
    AccessDenied,
    AuthenticationFailed,
    Authority,
    ConfigurationError,
    Delegation,
    Guard,
    GuardUnavailable,
    ModelCall,
    NotPermitted,
    Retrieval,
    Session,
    ToolCall,
    admit,
    current_session,
)

ALLOWED = ToolCall("claims_db.query", {"table": "claims", "claimant_id": "C-1"})


class Raising:
    """Raises wherever it is looked at."""

    @property
    def name(self) -> str:
        raise ValueError("a foreign exception")

    def __format__(self, spec: str) -> str:
        raise ValueError("a foreign exception")

    def __bool__(self) -> bool:
        raise ValueError("a foreign exception")

    def __iter__(self) -> Any:
        raise ValueError("a foreign exception")


class Changing:
    """Prints itself differently each time."""

    def __init__(self) -> None:
        self.seen = 0

    def __format__(self, spec: str) -> str:
        self.seen += 1
        return "openai" if self.seen % 2 else "evil"


class Textless:
    """Has no text."""

    def __str__(self) -> str:
        raise ValueError("a foreign exception")


_ODD: Any = Raising()
_TEXTLESS: Any = Textless()
_SLY: Any = Changing()
HOSTILE_ACTIONS: dict[str, Any] = {
    "no action": _ODD,
    "provider": ModelCall("gpt-4", provider=_ODD),
    "model": ModelCall(_ODD, provider="openai"),
    "source": Retrieval(_ODD),
    "to": Delegation(_ODD),
    "injected": ToolCall("claims_db.query", {}, injected=_ODD),
    "injected numbers": ToolCall("claims_db.query", {"a": 1}, injected=frozenset([1, "a"])),  # type: ignore[list-item]
    "call id": ToolCall("claims_db.query", {}, call_id=_TEXTLESS),
    "credential as call id": ToolCall("claims_db.query", {}, call_id="tbk_0123456789_abcdefgh"),
    "changing provider": ModelCall("gpt-4", provider=_SLY),
    "changing source": Retrieval(_SLY),
}


class RaisingUsage(dict[str, int]):
    """A report that cannot be read."""

    def items(self) -> Any:
        raise RuntimeError("a foreign exception")


def last(guard: Guard) -> dict[str, Any]:
    return list(guard.records())[-1]


def refuse(guard: Guard, action: Any, session: Any = None) -> AccessDenied:
    """The refusal of a call, which must be the last thing on record."""
    with pytest.raises(AccessDenied) as caught:
        guard.admit(action, session=session)
    assert last(guard)["decision"]["code"] == caught.value.code
    assert last(guard)["decision"]["effect"] == "deny"
    return caught.value


class TestAdmission:
    def test_allowed_call_has_decision_then_outcome(self, guard: Guard, session: Session) -> None:
        """An allowed call leaves a decision before it runs and an outcome after."""
        with session, guard.admit(ALLOWED) as permit:
            assert last(guard)["type"] == "tool.decision"
            assert last(guard)["decision"]["rule"] == "claims-agent/claims-read"
        outcome = last(guard)
        assert outcome["type"] == "tool.outcome"
        assert outcome["outcome"]["status"] == "ok"
        assert outcome["call"] == permit.call

    def test_record_names_who_called(self, guard: Guard, session: Session) -> None:
        """A decision names agent, instance, session, credential id and policy."""
        guard.admit(ALLOWED, session=session)
        record = last(guard)
        assert (
            record["agent"]["id"] == "spiffe://acme.example/env/prod/team/claims/agent/claims-agent"
        )
        assert record["agent"]["instance"] == session.instance
        assert record["session"] == session.id
        assert record["cred"]["jti"] == session.token.jti
        assert record["decision"]["policy"] == guard.policy.digest

    def test_no_session_is_refused(self, guard: Guard) -> None:
        """A call without identity is refused and recorded."""
        error = refuse(guard, ALLOWED)
        assert isinstance(error, AuthenticationFailed)
        assert error.code == "no_identity"
        assert last(guard)["agent"] is None

    def test_module_level_admit_uses_the_latest_guard(self, guard: Guard) -> None:
        """Without a session, the refusal is recorded by the guard opened last."""
        with pytest.raises(AuthenticationFailed, match="no_identity"):
            admit(ALLOWED)
        assert last(guard)["decision"]["code"] == "no_identity"

    @pytest.mark.parametrize("fake", ["claims-agent", object(), 7, {"agent": "claims-agent"}])
    def test_only_a_session_object_is_a_session(self, guard: Guard, fake: Any) -> None:
        """A name, an id or a look-alike is no session."""
        assert refuse(guard, ALLOWED, fake).code == "foreign_session"
        with pytest.raises(AuthenticationFailed, match="foreign_session"):
            admit(ALLOWED, session=fake)

    def test_session_of_another_guard_is_foreign(
        self, guard: Guard, session: Session, home: Path, policy_text: str, clock: Any
    ) -> None:
        """A session is good for the guard that made it only."""
        with Guard.open(home, policy=policy_text, clock=clock) as other:
            assert refuse(other, ALLOWED, session).code == "foreign_session"

    def test_forged_session_object_is_foreign(self, guard: Guard, session: Session) -> None:
        """A Session made by hand, with every attribute copied, is not accepted."""
        forged = object.__new__(Session)
        for name in Session.__slots__:
            if name != "__weakref__" and hasattr(session, name):
                setattr(forged, name, getattr(session, name))
        assert refuse(guard, ALLOWED, forged).code == "foreign_session"

    def test_session_cannot_be_pickled(self, session: Session) -> None:
        """A session does not leave its process."""
        with pytest.raises(TypeError, match="cannot be pickled"):
            pickle.dumps(session)

    def test_refusal_survives_pickling(self, guard: Guard) -> None:
        """A refusal crosses a process pool as what it is."""
        error = refuse(guard, ALLOWED)
        copy = pickle.loads(pickle.dumps(error))
        assert (type(copy), copy.code, copy.reason, str(copy)) == (
            type(error),
            error.code,
            error.reason,
            str(error),
        )

    @pytest.mark.parametrize(
        "action",
        [None, "claims_db.query", ToolCall(""), ToolCall(None), ToolCall(7), ToolCall("a\ud800")],  # type: ignore[arg-type]
    )
    def test_malformed_action_is_refused(self, guard: Guard, session: Session, action: Any) -> None:
        """Something that is no action is refused and recorded."""
        assert refuse(guard, action, session).code == "malformed_action"

    @pytest.mark.parametrize("name", HOSTILE_ACTIONS)
    def test_action_that_cannot_be_looked_at(
        self, guard: Guard, session: Session, name: str
    ) -> None:
        """A name that raises, or is made of what prints itself, is refused, and on record."""
        action: Any = HOSTILE_ACTIONS[name]
        assert refuse(guard, action, session).code == "malformed_action"
        assert guard.check(action, session=session).code == "malformed_action"
        with pytest.raises(NotPermitted, match="malformed_action"):
            asyncio.run(guard.aadmit(action, session=session))
        with pytest.raises(AccessDenied):
            admit(action, session=session)
        with pytest.raises(AccessDenied):
            admit(action)
        assert last(guard)["action"]["name"] == "(malformed)"

    def test_subclass_of_an_action_is_refused(self, guard: Guard, session: Session) -> None:
        """An action whose name changes between decision and record is no action."""

        class Sly(ToolCall):
            pass

        assert refuse(guard, Sly("policy_lookup"), session).code == "malformed_action"

    def test_other_kinds_of_action(self, guard: Guard, session: Session) -> None:
        """Models are allowed by list; retrievals and delegations need a grant of their own."""
        assert guard.admit(ModelCall("gpt-4o-mini", provider="openai"), session=session)
        assert refuse(guard, ModelCall("gpt-3.5", provider="openai"), session).code == "model"
        assert refuse(guard, Retrieval("docs", "x"), session).code == "no_grant"
        assert refuse(guard, Delegation("analytics-agent"), session).code == "delegation"

    def test_aadmit_is_admit(self, guard: Guard, session: Session) -> None:
        """The async twin records and refuses the same."""

        async def run() -> None:
            with session:
                with await guard.aadmit(ALLOWED):
                    pass
                with pytest.raises(NotPermitted):
                    await guard.aadmit(ToolCall("rm"))

        asyncio.run(run())
        assert [r["type"] for r in guard.records()][-3:] == [
            "tool.decision",
            "tool.outcome",
            "tool.decision",
        ]


class TestArguments:
    @pytest.mark.parametrize(
        "value",
        [object(), {1: "x"}, {"a": {2: 3}}, "\ud800", b"\xff", [[[]] * 2] * 10, lambda: 1],
        ids=["object", "int-key", "nested-int-key", "surrogate", "bytes", "ok-list", "function"],
    )
    def test_what_cannot_be_examined_is_refused(
        self, guard: Guard, session: Session, value: Any
    ) -> None:
        """A value without a plain JSON form is refused, even where any value is granted."""
        expected = "arg.enum" if isinstance(value, list) else "arg.type"
        action = ToolCall("claims_db.query", {"table": value, "claimant_id": "C-1"})
        assert refuse(guard, action, session).code == expected

    def test_deep_and_circular_arguments_are_refused(self, guard: Guard, session: Session) -> None:
        """Nesting without end is refused, not followed."""
        deep: list[Any] = []
        for _ in range(100_000):
            deep = [deep]
        circle: list[Any] = []
        circle.append(circle)
        for value in (deep, circle):
            assert refuse(guard, ToolCall("stats.x", {"v": value}), session).code == "arg.type"

    def test_arguments_that_raise_are_refused(self, guard: Guard, session: Session) -> None:
        """A mapping that raises on purpose is an argument that cannot be examined."""

        class Evil(dict[str, Any]):
            def items(self) -> Any:
                raise NotImplementedError

        action = ToolCall("claims_db.query", Evil(table="claims"))
        assert refuse(guard, action, session).code == "arg.type"

    def test_values_stay_out_of_the_log(self, guard: Guard, session: Session) -> None:
        """Neither allowed nor refused values are written; names that look like data are not."""
        secret = "sk-" + "a" * 30
        guard.admit(ALLOWED, session=session)
        refuse(guard, ToolCall("policy_lookup", {"policy_no": secret}), session)
        refuse(guard, ToolCall("policy_lookup", {secret: "x", "policy_no": "POL-123456"}), session)
        text = "".join(str(record) for record in guard.records())
        assert secret not in text
        assert "C-1'" not in text
        assert last(guard)["action"]["args"]["names"] == ["policy_no"]
        assert last(guard)["action"]["args"]["n"] == 2

    def test_commitment_depends_on_the_value(self, guard: Guard, session: Session) -> None:
        """Equal arguments commit alike, others differently, in whatever order they are given."""
        calls = [
            {"table": "claims", "claimant_id": "C-1"},
            {"claimant_id": "C-1", "table": "claims"},
            {"table": "claim_events", "claimant_id": "C-1"},
        ]
        commits = []
        for arguments in calls:
            guard.admit(ToolCall("claims_db.query", arguments), session=session)
            commits.append(last(guard)["action"]["args"]["commit"])
        assert commits[0] == commits[1] != commits[2]


class TestSession:
    def test_innermost_session_is_current(self, guard: Guard, authority: Authority) -> None:
        """Entering nests, leaving restores, and a session can be entered again."""
        outer = guard.login(authority.issue("claims-agent"))
        inner = guard.login(authority.issue("analytics-agent"))
        with outer:
            with inner, outer:
                assert current_session() is outer
            assert current_session() is outer
        with inner:
            assert current_session() is inner
        assert current_session() is None

    def test_threads_inherit_only_a_copied_context(self, guard: Guard, session: Session) -> None:
        """A bare thread has no identity; one that runs in a copied context has."""
        with session, ThreadPoolExecutor(1) as pool:
            with pytest.raises(AuthenticationFailed, match="no_identity"):
                pool.submit(guard.admit, ALLOWED).result()
            context = copy_context()
            assert pool.submit(context.run, guard.admit, ALLOWED).result()

    def test_closed_session_is_refused(self, guard: Guard, session: Session) -> None:
        """Closing ends a session and is on record."""
        session.close()
        assert last(guard)["type"] == "session.close"
        assert refuse(guard, ALLOWED, session).code == "session_closed"

    def test_expired_token_ends_the_session(
        self, guard: Guard, session: Session, clock: Any
    ) -> None:
        """A session goes no further than its credential."""
        clock.now += 299
        assert guard.admit(ALLOWED, session=session)
        clock.now += 1
        assert refuse(guard, ALLOWED, session).code == "token_expired"

    def test_source_renews(self, guard: Guard, authority: Authority, clock: Any) -> None:
        """A session over a source goes on for hours, and each record names the token in use."""
        session = guard.login(authority.source("claims-agent"), scope={"claimant_id": "C-1"})
        tokens = set()
        for _ in range(100):
            clock.now += 100
            guard.admit(ALLOWED, session=session)
            tokens.add(last(guard)["cred"]["jti"])
        assert len(tokens) > 30

    def test_source_that_fails_is_used_up(
        self, guard: Guard, authority: Authority, clock: Any
    ) -> None:
        """While the authority is away the old token serves until it expires, and no longer."""
        token = authority.issue("claims-agent")

        class Away:
            calls = 0

            def credential(self) -> str:
                self.calls += 1
                if self.calls > 1:
                    raise ConnectionError("away")
                return token

        session = guard.login(Away(), scope={"claimant_id": "C-1"})
        clock.now += 200
        assert guard.admit(ALLOWED, session=session)
        clock.now += 100
        assert refuse(guard, ALLOWED, session).code == "token_expired"

    def test_source_of_another_agent_is_refused(
        self, guard: Guard, authority: Authority, clock: Any
    ) -> None:
        """A source cannot change who a session is."""
        names = iter(["claims-agent", "analytics-agent"])

        class Changing:
            def credential(self) -> str:
                return authority.issue(next(names))

        session = guard.login(Changing())
        clock.now += 200
        assert refuse(guard, ALLOWED, session).code == "identity_changed"

    def test_login_from_the_environment(
        self, guard: Guard, authority: Authority, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Without an argument, `$TABARD_CREDENTIAL` is the credential; empty is none."""
        with pytest.raises(AuthenticationFailed, match="no_identity"):
            guard.login()
        monkeypatch.setenv("TABARD_CREDENTIAL", authority.issue("claims-agent"))
        assert guard.login().agent.name == "claims-agent"

    @pytest.mark.parametrize("text", ["", "hello", "a.b.c", b"\xff", "x" * 100_000])
    def test_text_that_is_no_token(self, guard: Guard, text: Any) -> None:
        """Text that is no token is refused; the attempt is recorded by fingerprint only."""
        with pytest.raises(AuthenticationFailed) as caught:
            guard.login(text)
        record = last(guard)
        assert record["type"] == "auth.failed"
        assert record["decision"]["code"] == caught.value.code
        if text and isinstance(text, str):
            assert text not in str(record)

    @pytest.mark.parametrize("thing", [7, object(), ["a"], {"token": "x"}])
    def test_credential_of_a_wrong_kind(self, guard: Guard, thing: Any) -> None:
        """Something that is neither text nor a source is refused with one sentence."""
        with pytest.raises(AuthenticationFailed, match="malformed"):
            guard.login(thing)

    def test_user_is_kept_as_pseudonym(self, guard: Guard, authority: Authority) -> None:
        """`on_behalf_of` is in every record as a keyed pseudonym, the same for the same user."""
        token = authority.issue("claims-agent")
        first = guard.login(token, on_behalf_of="jane@acme.example")
        second = guard.login(token, on_behalf_of="jane@acme.example")
        assert first.on_behalf_of == second.on_behalf_of != "jane@acme.example"
        assert last(guard)["on_behalf_of"] == first.on_behalf_of
        assert "jane" not in "".join(str(r) for r in guard.records())

    def test_scope_is_a_copy(self, guard: Guard, authority: Authority) -> None:
        """The scope bound at login does not change with the mapping it came from."""
        scope = {"claimant_id": "C-1"}
        session = guard.login(authority.issue("claims-agent"), scope=scope)
        scope["claimant_id"] = "C-2"
        assert guard.admit(ALLOWED, session=session)
        with pytest.raises(TypeError):
            session.scope["claimant_id"] = "C-2"  # type: ignore[index]


class TestRevocation:
    def test_next_call_is_refused(
        self, guard: Guard, session: Session, authority: Authority
    ) -> None:
        """Revocation stops a session that is already open, and nobody else."""
        other = guard.login(authority.issue("analytics-agent"))
        assert guard.admit(ALLOWED, session=session)
        authority.revoke("claims-agent", reason="compromised")
        error = refuse(guard, ALLOWED, session)
        assert isinstance(error, AuthenticationFailed)
        assert error.code == "token_revoked"
        assert guard.admit(ToolCall("stats.mean", {"x": 1}), session=other)

    def test_login_and_issue_are_refused(self, guard: Guard, authority: Authority) -> None:
        """A revoked agent neither logs in with an old token nor gets a new one."""
        token = authority.issue("claims-agent")
        authority.revoke("claims-agent", reason="compromised")
        with pytest.raises(AuthenticationFailed, match="token_revoked"):
            guard.login(token)
        with pytest.raises(AuthenticationFailed, match="token_revoked"):
            authority.issue("claims-agent")

    def test_survives_reopening(
        self, guard: Guard, authority: Authority, home: Path, policy_text: str, clock: Any
    ) -> None:
        """Revocation outlives the process that asked for it."""
        token = authority.issue("claims-agent")
        authority.revoke("claims-agent", reason="compromised")
        authority.close()
        guard.close()
        with Guard.open(home, policy=policy_text, clock=clock) as reopened:
            with pytest.raises(AuthenticationFailed, match="token_revoked"):
                reopened.login(token)

    def test_shadow_mode_does_not_soften_identity(
        self, home: Path, authority: Authority, clock: Any, policy_text: str
    ) -> None:
        """Shadow mode lets a denied call run and says so; a revoked agent stays refused."""
        text = policy_text.replace("version: 1", "version: 1\nmode: shadow")
        with Guard.open(home, policy=text, clock=clock) as guard:
            session = guard.login(authority.issue("claims-agent"))
            permit = guard.admit(ToolCall("rm"), session=session)
            assert (permit.decision.effect, permit.decision.mode) == ("deny", "shadow")
            authority.revoke("claims-agent", reason="compromised")
            assert refuse(guard, ToolCall("rm"), session).code == "token_revoked"
            assert refuse(guard, ToolCall("rm")).code == "no_identity"


class TestFailingClosed:
    def test_policy_bug(
        self, guard: Guard, session: Session, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Whatever the policy code raises is a recorded refusal, also in shadow mode."""

        def explode(*_: Any, **__: Any) -> None:
            raise NotImplementedError("secret detail")

        monkeypatch.setattr("tabard.delegation.decide", explode)
        error = refuse(guard, ALLOWED, session)
        assert isinstance(error, GuardUnavailable)
        assert error.code == "policy"
        assert "secret detail" not in str(error)

    @pytest.mark.parametrize("reading", [float("nan"), -1.0, None, "noon", 1e300, True])
    def test_clock_gives_nonsense(
        self, guard: Guard, session: Session, clock: Any, reading: Any
    ) -> None:
        """A clock without a time is a recorded refusal."""
        clock.now = reading
        error = refuse(guard, ALLOWED, session)
        assert (type(error), error.code) == (GuardUnavailable, "clock")

    def test_clock_goes_back(self, guard: Guard, session: Session, clock: Any) -> None:
        """A clock that jumps back behind the session is a refusal; a small step is not."""
        clock.now += 100
        guard.admit(ALLOWED, session=session)
        clock.now -= 20
        guard.admit(ALLOWED, session=session)
        clock.now -= 60
        assert refuse(guard, ALLOWED, session).code == "clock"

    def test_closed_guard_refuses(self, guard: Guard, session: Session) -> None:
        """A guard whose store is closed admits nothing."""
        guard.close()
        with pytest.raises(GuardUnavailable) as caught:
            guard.admit(ALLOWED, session=session)
        assert caught.value.code == "store"
        assert guard.check(ALLOWED, session=session).code == "store"

    def test_outcome_that_cannot_be_written_blocks_the_next_call(
        self, guard: Guard, session: Session, home: Path
    ) -> None:
        """No call runs while an earlier outcome is missing; it is written first afterwards."""
        import sqlite3

        permit = guard.admit(ALLOWED, session=session)
        guard._store._db.execute("PRAGMA busy_timeout = 10")  # type: ignore[attr-defined]
        other = sqlite3.connect(home / "state.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        assert permit.settle() is True
        with pytest.raises(GuardUnavailable, match="store"):
            guard.admit(ALLOWED, session=session)
        other.execute("COMMIT")
        other.close()
        guard.admit(ALLOWED, session=session)
        written = [r["type"] for r in guard.records()][-3:]
        assert written == ["tool.outcome", "tool.decision", "audit.recovered"]
        assert guard.verify().records > 0

    def test_ends_in_exactly_one_outcome(self, guard: Guard, session: Session) -> None:
        """Settling twice, or failing after settling, changes nothing."""
        permit = guard.admit(ALLOWED, session=session)
        assert permit.settle(usage={"input_tokens": 3, "output_tokens": -1}) is True
        assert permit.settle() is False
        assert permit.fail(ValueError("x")) is False
        outcomes = [r for r in guard.records() if r["type"] == "tool.outcome"]
        assert [o["outcome"]["status"] for o in outcomes] == ["ok"]
        assert outcomes[0]["usage"] == {"input_tokens": 3}

    @pytest.mark.parametrize(
        "usage",
        [RaisingUsage(), {("a",): 1}, {1: 1}, {"x" * 80: 1}, {"a b": 1}, 7, "ab", [("a", 1)]],
        ids=str,
    )
    def test_usage_that_cannot_be_read(self, guard: Guard, session: Session, usage: Any) -> None:
        """The call has run, so its outcome is on record, with no usage."""
        for failure in (None, "timeout"):
            permit = guard.admit(ALLOWED, session=session)
            if failure is None:
                assert permit.settle(usage=usage) is True
            else:
                assert permit.fail(failure, usage=usage) is True
            assert last(guard)["type"] == "tool.outcome"
            assert "usage" not in last(guard)

    def test_check_never_raises(
        self, guard: Guard, session: Session, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What goes wrong inside tabard is a refusal in a dry run as well."""
        monkeypatch.setattr(guard._pipeline, "_judge", None)
        assert guard.check(ALLOWED, session=session).code == "internal"

    def test_failure_keeps_the_type_only(self, guard: Guard, session: Session) -> None:
        """An error's text may hold personal data: only its type is recorded."""
        with pytest.raises(ValueError, match="C-99"), guard.admit(ALLOWED, session=session):
            raise ValueError("no row for C-99")
        assert last(guard)["outcome"]["error_type"] == "ValueError"
        assert "C-99" not in str(last(guard))

    def test_open_without_policy(self, home: Path, authority: Authority) -> None:
        """No policy is a configuration error, never a policy that allows."""
        with pytest.raises(ConfigurationError, match="without one nothing is allowed"):
            Guard.open(home)

    @pytest.mark.parametrize("wait", [None, "x", "1", [], True, -1, float("nan"), 10**400])
    def test_wait_that_is_no_time(
        self, home: Path, authority: Authority, policy_text: str, wait: Any
    ) -> None:
        """Said when the guard is opened, and not by each call."""
        with pytest.raises(ConfigurationError, match="approval_wait"):
            Guard.open(home, policy=policy_text, approval_wait=wait)

    def test_open_without_home(self, tmp_path: Path, policy_text: str) -> None:
        """A folder without a home is named, with what makes one; nothing is created."""
        with pytest.raises(ConfigurationError, match=r"Authority\.open"):
            Guard.open(tmp_path / "nowhere", policy=policy_text)
        assert not (tmp_path / "nowhere").exists()


class TestCheck:
    def test_no_side_effects(self, guard: Guard, session: Session) -> None:
        """A dry run decides the same and writes nothing."""
        before = len(list(guard.records()))
        assert guard.check(ALLOWED, session=session).effect == "allow"
        assert guard.check(ToolCall("rm"), session=session).code == "no_grant"
        assert guard.check(ALLOWED).code == "no_identity"
        assert len(list(guard.records())) == before

    def test_sees_revocation(self, guard: Guard, session: Session, authority: Authority) -> None:
        """A dry run tells of a revocation."""
        authority.revoke("claims-agent", reason="compromised")
        assert guard.check(ALLOWED, session=session).code == "token_revoked"


def test_threads_share_one_guard(guard: Guard, session: Session) -> None:
    """Many threads admit at once; every call has its two records and the chain holds."""
    errors: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(25):
                with guard.admit(ALLOWED, session=session):
                    pass
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    types = [record["type"] for record in guard.records()]
    assert types.count("tool.decision") == types.count("tool.outcome") == 200
    guard.verify()


@pytest.mark.parametrize("count", [-1, True, 1.5, float("nan"), "5", [1]])
@pytest.mark.parametrize("which", ["input_tokens", "max_output_tokens"])
def test_tokens_that_are_none(guard: Guard, session: Session, count: Any, which: str) -> None:
    """A number of tokens is a whole one; -1 means no limit to some providers."""
    action = ModelCall("openai/gpt-4o", **{which: count})
    with pytest.raises(NotPermitted, match="malformed_action"):
        guard.admit(action, session=session)

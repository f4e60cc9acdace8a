"""Approvals: a person's yes to exactly one call, by somebody who may give it, good once."""

from __future__ import annotations

import asyncio
import pickle
import sqlite3
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tabard import (
    AccessDenied,
    ApprovalRequired,
    AuthenticationFailed,
    Authority,
    Guard,
    NotPermitted,
    Session,
    ToolCall,
)
from tabard.retention import Retention
from tabard.sealing import Seal
from tabard.subject import Subjects

POLICY = """\
version: 1
agents:
  claims-agent:
    scope: {claimant: optional}
    grants:
      - {id: small, tools: [pay], args: {amount: {max: 50}, to: {}}}
    approvals:
      - id: large
        tools: [pay]
        when: {amount: {max: 500}, to: {}}
        by: supervisor
        ttl: 10m
        show: [amount]
    delegates_to: [analytics-agent]
  analytics-agent:
    grants: [{id: pay, tools: [pay], unknown_args: allow}]
deny:
  - {id: no-secrets, tools: ["**"], any_arg: {regex: ".*sk-.*"}}
"""
LARGE = ToolCall("pay", {"amount": 300, "to": "BE71"})


@pytest.fixture
def policy_text() -> str:
    return POLICY


@pytest.fixture
def session(guard: Guard, authority: Authority) -> Session:
    return guard.login(authority.issue("claims-agent", lifetime=3600))


@pytest.fixture
def anna(guard: Guard, authority: Authority) -> Session:
    """A person with the role the policy asks for."""
    authority.register(
        "anna", team="claims", environment="prod", attributes={"roles": "auditor, supervisor"}
    )
    return guard.login(authority.issue("anna", lifetime=3600))


def ask(guard: Guard, session: Session, action: ToolCall = LARGE) -> str:
    """Make a call that needs a yes; returns the request's id."""
    with pytest.raises(ApprovalRequired) as caught:
        guard.admit(action, session=session)
    assert caught.value.code == "ask"
    assert caught.value.request is not None
    return caught.value.request


def refused(answer: Callable[[], Any]) -> str:
    with pytest.raises(AccessDenied) as caught:
        answer()
    return caught.value.code


class TestOneCall:
    def test_asked_then_granted(self, guard: Guard, session: Session, anna: Session) -> None:
        """The call is refused with a request; after a yes the same call goes ahead, once."""
        request = ask(guard, session)
        assert ask(guard, session) == request  # asking again is no new question
        guard.approvals.grant(request, session=anna, reason="invoice seen")
        permit = guard.admit(LARGE, session=session)
        assert (permit.decision.effect, permit.decision.rule) == ("allow", "claims-agent/large")
        permit.settle()
        assert ask(guard, session) != request

    def test_small_needs_nobody(self, guard: Guard, session: Session) -> None:
        """What a grant allows is not asked about."""
        guard.admit(ToolCall("pay", {"amount": 50, "to": "x"}), session=session)

    @pytest.mark.parametrize(
        ("arguments", "code"),
        [
            ({"amount": 501, "to": "x"}, "arg.max"),
            ({"amount": 300}, "arg.missing"),
            ({"amount": 300, "to": "x", "more": 1}, "arg.max"),
            ({"amount": 300, "to": "sk-1"}, "denied_by_rule"),
        ],
    )
    def test_arguments_are_checked(
        self, guard: Guard, session: Session, arguments: dict[str, Any], code: str
    ) -> None:
        """A call that fits no rule is refused, and nobody is asked."""
        assert refused(lambda: guard.admit(ToolCall("pay", arguments), session=session)) == code
        assert guard.approvals.requests() == []

    @pytest.mark.parametrize(
        "other",
        [
            ToolCall("pay", {"amount": 301, "to": "BE71"}),
            ToolCall("pay", {"amount": 300, "to": "BE72"}),
            ToolCall("pay", {"amount": 300.0, "to": "BE71"}),
        ],
    )
    def test_bound_to_the_arguments(
        self, guard: Guard, session: Session, anna: Session, other: ToolCall
    ) -> None:
        """A yes to one call is none to another."""
        request = ask(guard, session)
        guard.approvals.grant(request, session=anna)
        assert ask(guard, session, other) != request
        guard.admit(LARGE, session=session)

    def test_bound_to_the_session(
        self, guard: Guard, authority: Authority, session: Session, anna: Session
    ) -> None:
        """A yes to one run is none to another of the same agent."""
        guard.approvals.grant(ask(guard, session), session=anna)
        ask(guard, guard.login(authority.issue("claims-agent")))

    def test_two_calls_at_once(self, guard: Guard, session: Session, anna: Session) -> None:
        """Of eight threads with one yes between them, one runs."""
        guard.approvals.grant(ask(guard, session), session=anna)
        ran: list[int] = []

        def work() -> None:
            try:
                guard.admit(LARGE, session=session)
                ran.append(1)
            except ApprovalRequired:
                pass

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(ran) == 1

    def test_denied(self, guard: Guard, session: Session, anna: Session, clock: Any) -> None:
        """A no holds for the rule's `ttl`; then the call may be asked about again."""
        request = ask(guard, session)
        guard.approvals.deny(request, session=anna, reason="no invoice")
        assert refused(lambda: guard.admit(LARGE, session=session)) == "approval_denied"
        clock.now += 601
        assert ask(guard, session) != request

    def test_expiry(self, guard: Guard, session: Session, anna: Session, clock: Any) -> None:
        """A question, and a yes, are over after the rule's `ttl`."""
        request = ask(guard, session)
        clock.now += 600
        answer = lambda: guard.approvals.grant(request, session=anna)  # noqa: E731
        assert refused(answer) == "approval_over"
        second = ask(guard, session)
        guard.approvals.grant(second, session=anna)
        clock.now += 600
        assert ask(guard, session) not in (request, second)

    def test_rules_are_checked_again(
        self, guard: Guard, authority: Authority, session: Session, anna: Session
    ) -> None:
        """A yes does not help an agent that was revoked meanwhile."""
        guard.approvals.grant(ask(guard, session), session=anna)
        authority.revoke("claims-agent", reason="x")
        assert refused(lambda: guard.admit(LARGE, session=session)) == "token_revoked"

    def test_deny_rule_beats_a_yes(
        self, home: Path, guard: Guard, session: Session, anna: Session, monkeypatch: Any
    ) -> None:
        """A deny rule that came meanwhile beats the yes."""
        from tabard.policy import load

        guard.approvals.grant(ask(guard, session), session=anna)
        stricter = load(POLICY + "  - {id: freeze, tools: [pay]}\n")
        monkeypatch.setattr(guard._policies, "_policy", stricter)
        assert refused(lambda: guard.admit(LARGE, session=session)) == "denied_by_rule"


class TestWhoMayAnswer:
    def test_role(self, guard: Guard, authority: Authority, session: Session) -> None:
        """Who has not the role is refused, and that is on record."""
        authority.register("bob", team="claims", environment="prod", attributes={"roles": "boss"})
        bob = guard.login(authority.issue("bob"))
        request = ask(guard, session)
        assert refused(lambda: guard.approvals.grant(request, session=bob)) == "approval_role"
        [*_, last] = guard.records()
        assert (last["type"], last["approval"]["code"]) == ("approval.refused", "approval_role")
        assert last["agent"]["name"] == "bob"
        ask(guard, session)

    def test_not_oneself(self, guard: Guard, authority: Authority, clock: Any) -> None:
        """Nobody answers their own question, role or not."""
        authority.register(
            "claims-agent", team="other", environment="dev", attributes={"roles": "supervisor"}
        )
        own = guard.login(
            authority.issue("spiffe://acme.example/env/dev/team/other/agent/claims-agent")
        )
        request = ask(guard, own)
        assert refused(lambda: guard.approvals.grant(request, session=own)) == "approval_own"

    def test_not_twice(self, guard: Guard, session: Session, anna: Session) -> None:
        """An answer stands."""
        request = ask(guard, session)
        guard.approvals.deny(request, session=anna)
        assert refused(lambda: guard.approvals.grant(request, session=anna)) == "approval_over"

    def test_revoked_person(
        self, guard: Guard, authority: Authority, session: Session, anna: Session
    ) -> None:
        """A person who was revoked answers nothing."""
        request = ask(guard, session)
        authority.revoke("anna", reason="left")
        with pytest.raises(AuthenticationFailed, match="token_revoked"):
            guard.approvals.grant(request, session=anna)

    @pytest.mark.parametrize("thing", [None, "anna", 5, object()])
    def test_no_session(self, guard: Guard, session: Session, thing: Any) -> None:
        """Only a session answers."""
        request = ask(guard, session)
        with pytest.raises(AuthenticationFailed, match="foreign_session"):
            guard.approvals.grant(request, session=thing)

    def test_closed_session(self, guard: Guard, session: Session, anna: Session) -> None:
        """A session that has ended answers nothing."""
        request = ask(guard, session)
        anna.close()
        with pytest.raises(AuthenticationFailed, match="session_closed"):
            guard.approvals.grant(request, session=anna)

    def test_no_such_request(self, guard: Guard, anna: Session) -> None:
        """A request that does not exist is not answered."""
        assert refused(lambda: guard.approvals.grant("apr_0", session=anna)) == "no_request"


class TestWaiting:
    @pytest.fixture
    def patient(self, home: Path, authority: Authority, clock: Any) -> Any:
        with Guard.open(home, policy=POLICY, clock=clock, approval_wait=20.0) as guard:
            yield guard

    def _answer_soon(self, guard: Guard, person: Session, how: str) -> threading.Thread:
        def answer() -> None:
            while not (asked := [r for r in guard.approvals.requests() if r.state == "pending"]):
                time.sleep(0.01)
            getattr(guard.approvals, how)(asked[0].id, session=person)

        thread = threading.Thread(target=answer)
        thread.start()
        return thread

    def test_goes_on(
        self, patient: Guard, guard: Guard, authority: Authority, anna: Session
    ) -> None:
        """A waiting call goes ahead as soon as somebody agrees, in whatever process."""
        session = patient.login(authority.issue("claims-agent"))
        thread = self._answer_soon(guard, anna, "grant")
        patient.admit(LARGE, session=session).settle()
        thread.join()

    def test_refused(
        self, patient: Guard, guard: Guard, authority: Authority, anna: Session
    ) -> None:
        """A waiting call is refused as soon as somebody refuses it."""
        session = patient.login(authority.issue("claims-agent"))
        thread = self._answer_soon(guard, anna, "deny")
        with pytest.raises(NotPermitted, match="approval_denied"):
            patient.admit(LARGE, session=session)
        thread.join()

    def test_async(self, patient: Guard, guard: Guard, authority: Authority, anna: Session) -> None:
        """From an event loop, the loop goes on meanwhile."""
        session = patient.login(authority.issue("claims-agent"))
        ticks: list[int] = []

        async def tick() -> None:
            while True:
                ticks.append(1)
                await asyncio.sleep(0.01)

        async def main() -> None:
            beside = asyncio.create_task(tick())
            (await patient.aadmit(LARGE, session=session)).settle()
            beside.cancel()

        timer = threading.Timer(0.3, lambda: self._answer_soon(guard, anna, "grant").join())
        timer.start()
        asyncio.run(main())
        timer.join()
        assert len(ticks) > 5

    def test_revoked_while_waiting(
        self, patient: Guard, authority: Authority, guard: Guard, anna: Session
    ) -> None:
        """A yes that comes after the revocation lets nothing run."""
        session = patient.login(authority.issue("claims-agent"))

        def revoke_then_grant() -> None:
            while not (asked := guard.approvals.requests()):
                time.sleep(0.01)
            authority.revoke("claims-agent", reason="x")
            guard.approvals.grant(asked[0].id, session=anna)

        thread = threading.Thread(target=revoke_then_grant)
        thread.start()
        with pytest.raises(AuthenticationFailed, match="token_revoked"):
            patient.admit(LARGE, session=session)
        thread.join()

    def test_nobody_answers(self, home: Path, authority: Authority, clock: Any) -> None:
        """Without an answer in time the call is refused, and the question stays open."""
        with Guard.open(home, policy=POLICY, clock=clock, approval_wait=0.2) as guard:
            ask(guard, guard.login(authority.issue("claims-agent")))
            assert [r.state for r in guard.approvals.requests()] == ["pending"]


class TestOnRecord:
    def test_who_agreed(self, guard: Guard, session: Session, anna: Session) -> None:
        """Question, answer and call are on record, with who answered; values are not."""
        request = ask(guard, session)
        guard.approvals.grant(request, session=anna, reason="invoice seen")
        guard.admit(LARGE, session=session)
        records = [r for r in guard.records() if "approval" in r]
        assert [r["type"] for r in records] == [
            "tool.decision", "approval.granted", "tool.decision",
        ]  # fmt: skip
        asked, granted, ran = records
        assert (asked["decision"]["effect"], asked["approval"]["id"]) == ("ask", request)
        assert (granted["agent"]["name"], granted["approval"]["reason"]) == ("anna", "invoice seen")
        assert ran["approval"]["by"] == anna.spiffe_id
        assert "BE71" not in str(records)
        assert guard.verify()

    def test_only_what_the_policy_shows(
        self, guard: Guard, session: Session, anna: Session
    ) -> None:
        """The approver sees the arguments under `show` and no others; they go when it is used."""
        request = ask(guard, session)
        [found] = guard.approvals.requests()
        assert found.shown == {"amount": 300}
        assert "300" not in repr(found)
        guard.approvals.grant(request, session=anna)
        guard.admit(LARGE, session=session)
        assert guard.approvals.requests()[0].shown == {}

    def test_dry_run_asks_nobody(self, guard: Guard, session: Session, anna: Session) -> None:
        """`check` says that a yes is needed, or is there, and neither asks nor uses it."""
        assert guard.check(LARGE, session=session).effect == "ask"
        assert guard.approvals.requests() == []
        guard.approvals.grant(ask(guard, session), session=anna)
        for _ in range(2):
            assert guard.check(LARGE, session=session).effect == "allow"

    def test_refusal_crosses_processes(self, guard: Guard, session: Session) -> None:
        """The refusal keeps its request when it is pickled."""
        with pytest.raises(ApprovalRequired) as caught:
            guard.admit(LARGE, session=session)
        assert caught.value.request is not None
        copy = pickle.loads(pickle.dumps(caught.value))
        assert (copy.request, copy.reason) == (caught.value.request, caught.value.reason)
        assert caught.value.request in str(copy)


class TestWhatIsShown:
    """The values an approver gets to see are kept no longer than the question is open."""

    SECRET = "shown canary 7281"

    @pytest.fixture
    def policy_text(self) -> str:
        return POLICY.replace("show: [amount]", "show: [amount, to]")

    @pytest.fixture
    def jane(self, guard: Guard, authority: Authority) -> Session:
        token = authority.issue("claims-agent", lifetime=3600)
        return guard.login(token, on_behalf_of="jane")

    def call(self, to: str = SECRET) -> ToolCall:
        return ToolCall("pay", {"amount": 300, "to": to})

    def kept(self, home: Path) -> bool:
        """Whether the value lies anywhere in the home, free pages and write-ahead log included."""
        files = [path for path in home.rglob("*") if path.is_file()]
        return any(self.SECRET.encode() in path.read_bytes() for path in files)

    @pytest.mark.parametrize("granted", [False, True])
    def test_erased_with_the_user(
        self, guard: Guard, jane: Session, anna: Session, home: Path, clock: Any, granted: bool
    ) -> None:
        """Erasing a user takes along what was shown of their calls, and ends the question."""
        request = ask(guard, jane, self.call())
        if granted:
            guard.approvals.grant(request, session=anna)
        assert self.kept(home)
        Subjects(store=guard._store, clock=clock).erase(user="jane", reason="asked")
        assert not self.kept(home)
        assert guard.approvals.requests()[0].standing(clock.now) == "expired"
        assert ask(guard, jane, self.call()) != request

    def test_a_no_stands_after_an_erasure(
        self, guard: Guard, jane: Session, anna: Session, clock: Any
    ) -> None:
        guard.approvals.deny(ask(guard, jane, self.call()), session=anna)
        Subjects(store=guard._store, clock=clock).erase(user="jane", reason="asked")
        assert refused(lambda: guard.admit(self.call(), session=jane)) == "approval_denied"

    def test_of_another_user_stays(
        self, guard: Guard, jane: Session, authority: Authority, clock: Any
    ) -> None:
        john = guard.login(authority.issue("claims-agent"), on_behalf_of="john")
        ask(guard, jane, self.call())
        ask(guard, john, self.call("x"))
        Subjects(store=guard._store, clock=clock).erase(user="jane", reason="asked")
        assert [r.shown for r in guard.approvals.requests()] == [{}, {"amount": 300, "to": "x"}]

    def test_gone_with_its_record(
        self, guard: Guard, session: Session, clock: Any, home: Path
    ) -> None:
        """Pruning drops a question with its record, answered or not."""
        ask(guard, session, self.call())
        Seal.open(home).seal()
        clock.now += 60
        retention = Retention(store=guard._store, clock=clock)
        plan = retention.plan(datetime.fromtimestamp(clock.now, UTC))
        retention.prune(plan, reason="over")
        assert guard.approvals.requests() == []
        assert not self.kept(home)
        ask(guard, session, self.call())

    @pytest.mark.parametrize("state", ["pending", "granted"])
    @pytest.mark.parametrize("touch", ["login", "ask", "answer", "use"])
    def test_gone_when_it_is_over(
        self, guard: Guard, session: Session, anna: Session, authority: Authority, clock: Any,
        state: str, touch: str,
    ) -> None:  # fmt: skip
        """A question nobody answered, or a yes nobody used, shows nothing once it is over."""
        request = ask(guard, session, self.call())
        if state == "granted":
            guard.approvals.grant(request, session=anna)
        clock.now += 500
        other = ask(guard, session, self.call("x"))
        if touch == "use":
            guard.approvals.grant(other, session=anna)
        clock.now += 101
        if touch == "login":
            guard.login(authority.issue("claims-agent"))
        elif touch == "ask":
            ask(guard, session, self.call("y"))
        elif touch == "answer":
            guard.approvals.deny(other, session=anna)
        else:
            guard.admit(self.call("x"), session=session)
        assert guard.approvals.requests()[0].shown == {}


class TestDelegated:
    def test_parent_has_to_be_asked(self, guard: Guard, session: Session, anna: Session) -> None:
        """Who works for an agent that needs a yes needs one, too; and cannot give it."""
        child = session.delegate("analytics-agent", tools=["pay"])
        request = ask(guard, child)
        assert refused(lambda: guard.approvals.grant(request, session=child)) in (
            "approval_delegated", "approval_own",
        )  # fmt: skip
        assert refused(lambda: guard.approvals.grant(request, session=session)) == "approval_own"
        guard.approvals.grant(request, session=anna)
        guard.admit(LARGE, session=child)


class TestShadow:
    @pytest.fixture
    def policy_text(self) -> str:
        return POLICY.replace("version: 1", "version: 1\nmode: shadow")

    def test_asks_nobody(self, guard: Guard, session: Session) -> None:
        """Shadow mode says that it would have asked, and goes on."""
        permit = guard.admit(LARGE, session=session)
        assert permit.decision.effect == "ask"
        assert guard.approvals.requests() == []


class TestTwoQuestions:
    @pytest.fixture
    def policy_text(self) -> str:
        return POLICY.replace(
            "    grants: [{id: pay, tools: [pay], unknown_args: allow}]",
            "    approvals: [{id: own, tools: [pay], unknown_args: allow, by: clerk}]",
        )

    def test_both_have_to_agree(
        self, guard: Guard, authority: Authority, session: Session, anna: Session
    ) -> None:
        """Where the rules of two agents ask, one yes is not enough."""
        authority.register("ben", team="claims", environment="prod", attributes={"roles": "clerk"})
        ben = guard.login(authority.issue("ben", lifetime=3600))
        child = session.delegate("analytics-agent", tools=["pay"])
        first = ask(guard, child)
        assert refused(lambda: guard.approvals.grant(first, session=anna)) == "approval_role"
        guard.approvals.grant(first, session=ben)
        second = ask(guard, child)
        assert second != first
        assert refused(lambda: guard.approvals.grant(second, session=ben)) == "approval_role"
        guard.approvals.grant(second, session=anna)
        guard.admit(LARGE, session=child).settle()
        assert ask(guard, child) not in (first, second)

    def test_yes_of_another_role(
        self, guard: Guard, session: Session, anna: Session, monkeypatch: Any
    ) -> None:
        """A yes given in one role is none once the policy asks for another."""
        from tabard.policy import load

        request = ask(guard, session)
        guard.approvals.grant(request, session=anna)
        stricter = load(guard.policy.text.replace("by: supervisor", "by: director"))
        monkeypatch.setattr(guard._policies, "_policy", stricter)
        assert ask(guard, session) != request


def test_home_of_before_values_had_an_owner(
    home: Path, guard: Guard, session: Session, clock: Any
) -> None:
    """Whose the values of older questions are is not known: they go, and are asked about anew."""
    request = ask(guard, session)
    with sqlite3.connect(home / "state.db") as database:
        database.execute("DROP INDEX approval_by_subject")
        database.execute("DROP INDEX approval_that_shows")
        database.execute("ALTER TABLE approval DROP COLUMN pseudonym")
        database.execute("DELETE FROM _sqlite_migrations WHERE name = '0009_shown'")
        database.execute("PRAGMA user_version = 8")
    Authority.open(home, clock=clock).close()
    [found] = guard.approvals.requests()
    assert (found.shown, found.standing(clock.now)) == ({}, "expired")
    assert ask(guard, session) != request

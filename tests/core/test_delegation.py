"""Delegation: rights only narrow, the chain is on record, and it stops with any agent in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tabard import (
    AccessDenied,
    AuthenticationFailed,
    Authority,
    ConfigurationError,
    Guard,
    ModelCall,
    NotPermitted,
    Session,
    ToolCall,
    current_session,
)

POLICY = """\
version: 1
agents:
  lead:
    models: {allow: ["openai/*"]}
    scope: {claimant_id: optional}
    grants:
      - {id: pay, tools: ["payments.transfer"], args: {amount: {max: 500}}}
      - {id: read, tools: ["claims.*"], unknown_args: allow}
    delegates_to: [payer, reader, a, b, c, d, lead]
  payer:
    models: {allow: ["openai/gpt-4o", "local/llama"]}
    scope: {claimant_id: optional}
    grants:
      - id: pay
        tools: ["payments.*"]
        args: {amount: {max: 900}, claimant_id: {equals_scope: claimant_id, optional: true}}
      - {id: read, tools: ["claims.query"], unknown_args: allow}
    delegates_to: [reader]
  reader: {grants: [{id: r, tools: ["**"], unknown_args: allow}]}
  shy: {mode: shadow, delegates_to: [reader], rates: [{tools: ["claims.*"], limit: 1, per: 1h}]}
  a: &any
    grants: [{id: r, tools: ["claims.*"], unknown_args: allow}]
    delegates_to: [a, b, c, d, lead]
  b: *any
  c: *any
  d: *any
  slow:
    grants: [{id: r, tools: ["claims.*"]}]
    rates: [{tools: ["claims.*"], limit: 2, per: 1h}]
    delegates_to: [a, b, bold, slow]
  bold: {mode: shadow, grants: [{id: r, tools: ["claims.*"]}], delegates_to: [a]}
"""
NAMES = ("lead", "payer", "reader", "shy", "a", "b", "c", "d", "slow", "bold")
READ = ToolCall("claims.query", {})


@pytest.fixture
def authority(home: Any, clock: Any) -> Iterator[Authority]:
    with Authority.open(home, trust_domain="acme.example", clock=clock) as opened:
        for name in NAMES:
            opened.register(name, team="t", environment="prod")
        yield opened


@pytest.fixture
def policy_text() -> str:
    return POLICY


@pytest.fixture
def log_in(guard: Guard, authority: Authority) -> Callable[..., Session]:
    return lambda name, **kw: guard.login(authority.source(name), **kw)


@pytest.fixture
def lead(log_in: Any) -> Session:
    opened: Session = log_in("lead", scope={"claimant_id": "C-1"}, on_behalf_of="jane@acme")
    return opened


def refused(guard: Guard, session: Session, action: Any) -> str:
    with pytest.raises(AccessDenied) as caught:
        guard.admit(action, session=session)
    record = list(guard.records())[-1]
    assert record["decision"]["code"] == caught.value.code
    return caught.value.code


def pay(amount: object, **more: object) -> ToolCall:
    return ToolCall("payments.transfer", {"amount": amount, **more})


class TestNarrowing:
    @pytest.mark.parametrize(
        ("action", "code"),
        [
            (pay(500), None),
            (pay(501), "arg.max"),  # the child may, the parent may not
            (pay(901), "arg.max"),  # neither may
            (pay(1, claimant_id="C-1"), "arg.unknown"),  # the parent's grant does not know it
            (ToolCall("payments.refund", {"amount": 1}), "no_grant"),  # not the parent's
            (READ, "delegation"),  # both may, and it was not handed over
            (ToolCall("claims.delete", {}), "no_grant"),  # not the child's
            (ModelCall("gpt-4o", provider="openai"), None),
            (ModelCall("gpt-4.1", provider="openai"), "model"),  # not the child's
            (ModelCall("llama", provider="local"), "model"),  # not the parent's
        ],
        ids=str,
    )
    def test_both_policies_and_the_mandate(
        self, guard: Guard, lead: Session, action: Any, code: str | None
    ) -> None:
        """What the child may do is what child, parent and mandate all allow."""
        child = lead.delegate("payer", tools=["payments.*"])
        if code is None:
            guard.admit(action, session=child).settle()
        else:
            assert refused(guard, child, action) == code

    def test_models_of_the_mandate(self, guard: Guard, lead: Session) -> None:
        """Models can be narrowed like tools; an empty list hands over none."""
        call = ModelCall("gpt-4o", provider="openai")
        guard.admit(call, session=lead.delegate("payer", tools=[], models=["openai/gpt-4o"]))
        for models in ([], ["openai/gpt-4"]):
            child = lead.delegate("payer", tools=["**"], models=models)
            assert refused(guard, child, call) == "delegation"

    def test_no_tools(self, guard: Guard, lead: Session) -> None:
        """Handing over nothing hands over nothing."""
        assert refused(guard, lead.delegate("payer", tools=[]), pay(1)) == "delegation"

    def test_grandchild_keeps_every_limit(self, guard: Guard, lead: Session) -> None:
        """A mandate wider than the one above it widens nothing."""
        child = lead.delegate("payer", tools=["claims.query"])
        grandchild = child.delegate("reader", tools=["**"])
        guard.admit(READ, session=grandchild)
        assert refused(guard, grandchild, pay(1)) == "delegation"
        assert refused(guard, grandchild, ToolCall("claims.list", {})) == "no_grant"
        assert refused(guard, grandchild, ToolCall("stats.run", {})) == "no_grant"

    def test_only_to_whom_the_policy_names(self, guard: Guard, lead: Session, log_in: Any) -> None:
        """`delegates_to` of every agent in the chain has to name who takes over; on record."""
        with pytest.raises(NotPermitted) as caught:
            log_in("reader").delegate("payer", tools=["**"])
        assert (caught.value.code, caught.value.action) == ("delegation", "payer")
        child = lead.delegate("a", tools=["**"])
        with pytest.raises(NotPermitted, match="delegation"):
            child.delegate("payer", tools=["**"])
        assert [r["type"] for r in guard.records()][-1] == "delegation.decision"

    def test_shadow_mode_does_not_widen_a_mandate(self, guard: Guard, log_in: Any) -> None:
        """Shadow mode lets pass what a policy denies, never what was not handed over."""
        child = log_in("shy").delegate("reader", tools=["claims.*"])
        permit = guard.admit(READ, session=child)
        assert (permit.decision.effect, permit.decision.mode) == ("deny", "shadow")
        assert refused(guard, child, pay(1)) == "delegation"

    def test_scope_and_user_are_the_parents(self, guard: Guard, lead: Session) -> None:
        """The data scope is inherited and bound; so is the user, as a pseudonym."""
        child = lead.delegate("reader", tools=["claims.*"])
        assert (child.scope, child.on_behalf_of) == (lead.scope, lead.on_behalf_of)
        with pytest.raises(TypeError):
            child.scope["claimant_id"] = "C-2"  # type: ignore[index]
        assert "jane" not in str(list(guard.records()))

    @settings(
        max_examples=60,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )
    @given(
        tool=st.sampled_from(["payments.transfer", "payments.refund", "claims.query", "x"]),
        amount=st.integers(0, 1000),
        handed=st.lists(st.sampled_from(["payments.*", "claims.query", "**", "x"]), max_size=2),
    )
    def test_never_more_than_either(
        self, lead: Session, tool: str, amount: int, handed: list[str]
    ) -> None:
        """Whatever is asked for, the child never may what the parent may not."""
        guard, action = lead.guard, ToolCall(tool, {"amount": amount})
        child = lead.delegate("payer", tools=handed)
        if guard.check(action, session=child).permits:
            assert guard.check(action, session=lead).permits
            assert handed


class TestChain:
    def test_on_record(self, guard: Guard, lead: Session) -> None:
        """Every record of the child has the whole chain, nearest first, and the same run."""
        child = lead.delegate("payer", tools=["**"])
        grandchild = child.delegate("reader", tools=["**"])
        guard.admit(READ, session=grandchild).settle()
        decision, outcome = list(guard.records())[-2:]
        for record in (decision, outcome):
            assert record["agent"]["id"] == grandchild.spiffe_id
            assert record["cred"]["kind"] == "delegated"
            assert record["act"] == {
                "sub": child.spiffe_id,
                "session": child.id,
                "act": {"sub": lead.spiffe_id, "session": lead.id},
            }
            assert record["txn"] == lead.token.txn

    def test_depth(self, guard: Guard, lead: Session) -> None:
        """Four agents behind one another, and not a fifth."""
        session = lead
        for name in ("a", "b", "c", "d"):
            session = session.delegate(name, tools=["claims.*"])
            guard.admit(READ, session=session)
        with pytest.raises(NotPermitted) as caught:
            session.delegate("a", tools=["claims.*"])
        assert caught.value.code == "delegation_depth"

    def test_as_current_session(self, guard: Guard, lead: Session) -> None:
        """Inside the block the other agent calls; after it, this one again."""
        with lead:
            with lead.delegate("payer", tools=["payments.*"]) as child:
                assert current_session() is child
                guard.admit(pay(1))
            assert current_session() is lead

    def test_lifetime(self, guard: Guard, lead: Session, clock: Any) -> None:
        """It ends after its `ttl`, though the parent goes on."""
        child = lead.delegate("payer", tools=["**"], ttl=60)
        clock.now += 59
        guard.admit(READ, session=child)
        clock.now += 1
        assert refused(guard, child, READ) == "token_expired"
        guard.admit(READ, session=lead)

    def test_not_beyond_a_parent_that_ends(
        self, guard: Guard, authority: Authority, clock: Any
    ) -> None:
        """A parent on a single token takes its child along when that expires."""
        lead = guard.login(authority.issue("lead", lifetime=100))
        child = lead.delegate("payer", tools=["**"], ttl=3600)
        assert child.token.expires_at == clock.now + 100
        clock.now += 100
        assert refused(guard, child, READ) == "token_expired"

    def test_parent_renews(self, guard: Guard, lead: Session, clock: Any) -> None:
        """A parent over a source renews itself for its child, too."""
        child = lead.delegate("payer", tools=["**"], ttl=3600)
        for _ in range(20):
            clock.now += 170
            guard.admit(READ, session=child)

    @pytest.mark.parametrize("who", ["lead", "payer", "reader"])
    @pytest.mark.parametrize("lever", ["revoke", "evict"])
    def test_stops_with_any_agent_in_it(
        self, guard: Guard, authority: Authority, lead: Session, who: str, lever: str
    ) -> None:
        """Whichever agent of the chain is stopped, the last one stops; others go on."""
        child = lead.delegate("payer", tools=["**"])
        grandchild = child.delegate("reader", tools=["**"])
        guard.admit(READ, session=grandchild)
        getattr(authority, lever)(who, reason="compromised")
        assert refused(guard, grandchild, READ) == "token_revoked"
        assert guard.check(READ, session=grandchild).code == "token_revoked"
        with pytest.raises(AuthenticationFailed):
            grandchild.delegate("reader", tools=["**"])
        guard.admit(READ, session=guard.login(authority.issue("a")))

    def test_stops_with_one_token_of_the_parent(
        self, guard: Guard, authority: Authority, lead: Session
    ) -> None:
        """Denying the parent's token, or the delegation by its own id, stops the child."""
        child, other = (lead.delegate("payer", tools=["**"]) for _ in range(2))
        authority.revoke_token(child.token.jti, reason="x")
        assert refused(guard, child, READ) == "token_revoked"
        guard.admit(READ, session=other)
        authority.revoke_token(lead.token.jti, reason="x")
        assert refused(guard, other, READ) == "token_revoked"

    def test_stops_with_the_parents_session(self, guard: Guard, lead: Session) -> None:
        """Closing the parent's session ends the child's; the reverse does not hold."""
        child, other = (lead.delegate("payer", tools=["**"]) for _ in range(2))
        other.close()
        assert refused(guard, other, READ) == "session_closed"
        guard.admit(READ, session=lead)
        lead.close()
        assert refused(guard, child, READ) == "session_closed"

    def test_closed_or_revoked_parent_cannot_delegate(
        self, guard: Guard, authority: Authority, lead: Session, log_in: Any
    ) -> None:
        """Who may not call any more, may not let others call."""
        lead.close()
        with pytest.raises(AuthenticationFailed, match="session_closed"):
            lead.delegate("payer", tools=["**"])
        again = log_in("lead")
        authority.revoke("payer", reason="x")
        with pytest.raises(AuthenticationFailed, match="token_revoked"):
            again.delegate("payer", tools=["**"])


class TestMisuse:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"tools": "claims.*"}, "tools: expected a list of names, found one text"),
            ({"tools": [5]}, "tools: "),
            ({"tools": [""]}, "tools: "),
            ({"tools": None}, "tools: "),
            ({"tools": ["**"], "models": "gpt"}, "models: expected a list"),
            ({"tools": ["**"], "ttl": 0}, "ttl: expected 1 to 3600 seconds"),
            ({"tools": ["**"], "ttl": 3601}, "ttl: expected 1 to 3600 seconds"),
            ({"tools": ["**"], "ttl": float("nan")}, "ttl: expected 1 to 3600 seconds"),
            ({"tools": ["**"], "ttl": "60"}, "ttl: expected 1 to 3600 seconds"),
        ],
    )
    def test_one_clear_sentence(self, lead: Session, arguments: Any, message: str) -> None:
        with pytest.raises(ConfigurationError) as caught:
            lead.delegate("payer", **arguments)
        assert message in str(caught.value)

    def test_unknown_agent(self, lead: Session) -> None:
        """An agent nobody registered, or a name borne by two, is asked back."""
        with pytest.raises(AccessDenied, match="may not delegate to this one"):
            lead.delegate("ghost", tools=["**"])

    def test_session_of_another_guard(
        self, home: Any, lead: Session, policy_text: str, clock: Any
    ) -> None:
        """A delegated session is worth nothing to another guard."""
        child = lead.delegate("payer", tools=["**"])
        with Guard.open(home, policy=policy_text, clock=clock) as other:
            assert refused(other, child, READ) == "foreign_session"


def test_agent_nobody_knows(guard: Guard, lead: Session) -> None:
    """Handing work to a name nobody bears is refused, is on record, and tells no other names."""
    with pytest.raises(AccessDenied) as caught:
        lead.delegate("ghost", tools=["**"])
    assert "payer" not in str(caught.value)
    decided = [r for r in guard.records() if r["type"] == "delegation.decision"]
    assert (decided[-1]["action"]["name"], decided[-1]["decision"]["effect"]) == ("ghost", "deny")


class TestRates:
    def test_parents_rate_counts(self, guard: Guard, log_in: Any) -> None:
        """A child cannot call more often than its parent may, nor several children together."""
        slow = log_in("slow")
        first, second = (slow.delegate("a", tools=["**"]) for _ in range(2))
        assert guard.check(READ, session=first).permits
        guard.admit(READ, session=first).settle()
        guard.admit(READ, session=second.delegate("b", tools=["**"])).settle()
        for session in (first, second, slow):
            assert guard.check(READ, session=session).code == "rate"
            assert refused(guard, session, READ) == "rate"
        assert list(guard.records())[-1]["decision"]["rule"] == "slow/rates[0]"
        guard.admit(READ, session=log_in("a")).settle()

    def test_each_call_counts_once(self, guard: Guard, log_in: Any) -> None:
        """Also where an agent is in the chain twice, or itself the child."""
        child = log_in("slow").delegate("slow", tools=["**"])
        for _ in range(2):
            guard.admit(READ, session=child).settle()
        assert refused(guard, child, READ) == "rate"

    def test_mode_is_that_of_whose_rate_it_is(self, guard: Guard, log_in: Any) -> None:
        """A child in shadow mode softens no rate of its parent; a parent's shadow blocks nobody."""
        child = log_in("slow").delegate("bold", tools=["**"])
        for _ in range(2):
            guard.admit(READ, session=child).settle()
        assert refused(guard, child, READ) == "rate"
        child = log_in("shy").delegate("reader", tools=["**"])
        for _ in range(3):
            guard.admit(READ, session=child).settle()
        last = [r for r in guard.records() if r["type"] == "tool.decision"][-1]["decision"]
        assert (last["code"], last["mode"]) == ("rate", "shadow")

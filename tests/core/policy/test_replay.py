"""Replay and suggestion: what the log tells of a policy, and what it says it cannot tell."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tabard import AccessDenied, Action, Authority, Delegation, Guard, ModelCall, Session, ToolCall
from tabard.policy import decide, load
from tabard.policy.document import Document
from tabard.policy.loader import load_document
from tabard.policy.observed import observed_calls
from tabard.policy.replay import replay
from tabard.policy.suggestion import suggest_grants

POLICY = """\
version: 1
agents:
  claims-agent:
    models: {allow: ["m/a"], max_output_tokens: 100}
    delegates_to: [analytics-agent]
    grants:
      - {id: read, tools: [read], args: {table: {enum: [claims]}, rows: {max: 10, optional: true}}}
      - {id: free, tools: [free], args: {x: {}}}
    approvals:
      - {id: pay, tools: [pay], when: {amount: {max: 5}}, by: lead}
  analytics-agent: {}
deny:
  - {id: secret, tools: ["**"], any_arg: {regex: ".*sk-.*"}}
"""
CALLS: list[Action] = [
    ToolCall("read", {"table": "claims"}),
    ToolCall("read", {"table": "claims", "rows": 5}),
    ToolCall("read", {"table": "people"}),
    ToolCall("free", {"x": 1}),
    ToolCall("pay", {"amount": 5}),
    ToolCall("drop"),
    ModelCall("m/a", max_output_tokens=50),
    Delegation("analytics-agent"),
]


@pytest.fixture
def policy_text() -> str:
    return POLICY


@pytest.fixture
def session(guard: Guard, authority: Authority) -> Session:
    return guard.login(authority.issue("claims-agent"))


def make_calls(guard: Guard, session: Session) -> None:
    for call in CALLS:
        try:
            guard.admit(call, session=session).settle()
        except AccessDenied:
            continue


def differences(guard: Guard, proposed: str, *, kept: bool = True) -> dict[tuple[str, str], str]:
    """What a proposed policy changes, by action and what was decided."""
    texts = {guard.policy.digest: load_document(POLICY)[0]}

    def earlier(digest: str) -> Document | None:
        return texts.get(digest) if kept else None

    total, found = replay(
        observed_calls(guard.records()), load_document(proposed)[0], earlier=earlier
    )
    assert total == len(CALLS)
    return {(d.name, d.before): d.after for d in found}


@pytest.fixture
def made(guard: Guard, session: Session) -> Guard:
    make_calls(guard, session)
    return guard


def test_same_policy(made: Guard) -> None:
    """The policy that decided answers as it did, but where a refusal hung on a value."""
    assert differences(made, POLICY) == {("read", "deny"): "unknown"}


def test_without_the_old_text(made: Guard) -> None:
    """Where the old policy was not kept, what hangs on values cannot be told."""
    found = differences(made, POLICY, kept=False)
    assert found[("read", "allow")] == found[("pay", "ask")] == "unknown"
    assert ("m/a", "allow") not in found


@pytest.mark.parametrize(
    ("old", "new", "changes"),
    [
        ("{id: free, tools: [free]", "{id: free, tools: [other]", {("free", "allow"): "deny"}),
        ("args: {x: {}}", "args: {x: {}, y: {}}", {("free", "allow"): "deny"}),
        ("args: {x: {}}", "args: {z: {optional: true}}", {("free", "allow"): "deny"}),
        ("args: {x: {}}", "unknown_args: allow", {}),
        ("args: {x: {}}", "args: {x: {max: 1}}", {("free", "allow"): "unknown"}),
        ("max: 10", "max: 20", {("read", "allow"): "unknown"}),
        ("tools: [read]", "tools: [read, drop]", {("drop", "deny"): "deny"}),
        ("max_output_tokens: 100", "max_output_tokens: 10", {("m/a", "allow"): "deny"}),
        ('allow: ["m/a"]', 'allow: ["m/b"]', {("m/a", "allow"): "deny"}),
        ("delegates_to: [analytics-agent]", "", {("analytics-agent", "allow"): "deny"}),
        (".*sk-.*", ".*key-.*", {("free", "allow"): "unknown", ("pay", "ask"): "unknown"}),
        (
            "- {id: secret",
            "- {id: no, tools: [free]}\n  - {id: secret",
            {("free", "allow"): "deny"},
        ),
        ("- {id: pay, tools: [pay]", "- {id: pay, tools: [x]", {("pay", "ask"): "deny"}),
        (
            "  claims-agent:\n",
            "  claims-agent:\n    match: {team: x}\n",
            {("free", "allow"): "deny"},
        ),
        (
            "  claims-agent:\n",
            "  claims-agent:\n    scope: {k: required}\n",
            {("free", "allow"): "deny"},
        ),
        ("  claims-agent:\n", "  claims-agent:\n    windows: []\n", {("pay", "ask"): "deny"}),
        ("version: 1\n", "version: 1\ntools: {free: {data_class: personal}, fre*: {}}\n", {}),
    ],
)
def test_change(made: Guard, old: str, new: str, changes: dict[tuple[str, str], str]) -> None:
    """Each change of a policy shows in the calls it touches."""
    text = POLICY.replace(old, new, 1)
    if "data_class" in new:
        text = text.replace("tools: [free], args", "tools: ['fre*'], args")
        changes = {("free", "allow"): "deny"}
    found = differences(made, text)
    for key, after in changes.items():
        if key[1] != after:
            assert found.get(key) == after


def test_never_wrong(made: Guard, home: Path, authority: Authority, clock: Any) -> None:
    """Whatever is told with certainty is what the proposed policy really decides."""
    variants = [
        POLICY.replace("max: 10", "max: 3"),
        POLICY.replace("[claims]", "[people]"),
        POLICY.replace("max: 5", "max: 4"),
        POLICY.replace("tools: [read]", "tools: ['**']"),
        POLICY.replace("grants:", "grants:\n      - {tools: ['*'], unknown_args: allow}"),
    ]
    for text in variants:
        told = differences(made, text)
        with Guard.open(home, policy=load(text), clock=clock) as guard:
            session = guard.login(authority.issue("claims-agent"))
            for call in CALLS:
                real = guard.check(call, session=session).effect
                then = made.check(call, session=made.login(authority.issue("claims-agent"))).effect
                assert told.get((call.name, then), then) in (real, "unknown")


class TestSuggestion:
    @pytest.fixture
    def policy_text(self) -> str:
        return "version: 1\nmode: shadow\nagents: {claims-agent: {}}\n"

    def test_least_privilege(self, guard: Guard, session: Session) -> None:
        """What was seen is granted with the types it had, and loads as a policy."""
        make_calls(guard, session)
        text = suggest_grants(observed_calls(guard.records()), "claims-agent")
        assert '"rows": {type: integer, optional: true}' in text
        assert '"table": {type: string}' in text
        assert "claims" not in text.replace("claims-agent", "")  # no value
        suggested = load(f"version: 1\n{text}")
        with_it = Guard(
            store=guard._store, policy=suggested, audience=guard.audience, clock=guard._clock
        )
        again = with_it.login(_token(guard))
        for call in CALLS:
            assert with_it.check(call, session=again).effect == "allow", call.name
        others: list[Action] = [
            ToolCall("read", {"table": "claims", "more": 1}),
            ToolCall("read", {"table": 5}),
            ToolCall("reader", {"table": "claims"}),
            ModelCall("m/b", max_output_tokens=50),
            ModelCall("m/a", max_output_tokens=51),
        ]
        for other in others:
            assert with_it.check(other, session=again).effect == "deny"

    def test_what_cannot_be_generalised(self, guard: Guard, session: Session) -> None:
        """Odd names and mixed types are said, and stay refused."""
        for arguments in ({"a": 1}, {"a": "x"}, {"a b": 1}, {"n": 1}, {"n": 1.5}):
            guard.admit(ToolCall("t", arguments), session=session).settle()
        text = suggest_grants(observed_calls(guard.records()), "claims-agent")
        assert "had arguments whose names are not in the log" in text
        assert "seen as integer, string: no one type to ask for" in text
        assert '"n": {type: number}' in text
        assert load(f"version: 1\n{text}")

    def suggested(self, guard: Guard, session: Session, *seen: Action) -> tuple[str, Any]:
        """The suggestion after some calls, and what it says to a call."""
        for call in seen:
            guard.admit(call, session=session).settle()
        text = suggest_grants(observed_calls(guard.records()), "claims-agent")
        policy = load(f"version: 1\n{text}")
        return text, lambda call: decide(session.agent, call, policy, 0.0).effect

    @pytest.mark.parametrize(
        ("seen", "others"),
        [
            ([{"a": 1}, {"b": 1}], [{}, {"a": 1, "b": 1}]),
            ([{"a": 1}, {"a": 1, "b": 1, "c": 1}], [{"a": 1, "b": 1}, {"a": 1, "c": 1}, {}]),
            ([{"a": 1}, {}], [{"b": 1}]),
            ([{"a": 1, "b": 1}, {}, {"a b": 1}], [{"a": 1}, {"b": 1}]),
        ],
    )
    def test_combinations(self, guard: Guard, session: Session, seen: Any, others: Any) -> None:
        """Arguments that were never seen together, or left out together, stay refused."""
        _, effect = self.suggested(guard, session, *(ToolCall("t", args) for args in seen))
        odd = {"a b"}
        assert {effect(ToolCall("t", a)) for a in seen if not odd & set(a)} == {"allow"}
        assert {effect(ToolCall("t", args)) for args in others} == {"deny"}

    def test_only_calls_without_names(self, guard: Guard, session: Session) -> None:
        """A tool of which nothing can be granted leaves a policy that loads, and a comment."""
        text, effect = self.suggested(guard, session, ToolCall("t", {"a b": 1}))
        assert 'tool "t": it had arguments whose names' in text
        assert effect(ToolCall("t")) == "deny"

    @pytest.mark.parametrize("limits", [(None,), (5, None), (0,), (0, 7)])
    def test_limits_of_models(self, guard: Guard, session: Session, limits: Any) -> None:
        """Every model call that ran is allowed, with a limit or without one, or with one of 0."""
        calls = [ModelCall("m/a", max_output_tokens=limit) for limit in limits]
        text, effect = self.suggested(guard, session, *calls)
        assert {effect(call) for call in calls} == {"allow"}
        assert ("no max_output_tokens: 1 call set no limit" in text) is (None in limits)

    @pytest.mark.parametrize("name", ["pay\U0001f600", "caf\u00e9", "del\x7f", "a\u2028b", '"\\'])
    def test_names_are_read_back(self, guard: Guard, session: Session, name: str) -> None:
        """A name is the same one after YAML has read it, whatever is in it."""
        _, effect = self.suggested(guard, session, ToolCall(name), ModelCall(name))
        assert effect(ToolCall(name)) == "allow"
        assert effect(ModelCall(name)) == "allow"

    def test_nothing_seen(self, guard: Guard) -> None:
        """An agent nothing was seen of gets nothing."""
        text = suggest_grants(observed_calls(guard.records()), "claims-agent")
        assert "nothing was seen" in text


def _token(guard: Guard) -> str:
    return Authority.open(guard._store.path.parent, clock=guard._clock).issue("claims-agent")  # type: ignore[attr-defined]


def test_cedar_is_not_guessed(home: Path, guard: Guard, authority: Authority, clock: Any) -> None:
    """What Cedar was not asked about, or refused, is never told as allowed."""
    text = POLICY + (
        "cedar: |\n  permit(principal, action, resource);\n"
        '  forbid(principal, action, resource == Tool::"free");\n'
    )
    policy = load(text)
    with Guard.open(home, policy=policy, clock=clock) as other:
        make_calls(other, other.login(authority.issue("claims-agent")))
        wider = text.replace("tools: [read]", "tools: [read, drop]").replace(
            "{table:", "{t: {}, table:"
        )
        for proposed in (text, wider.replace("t: {}, ", ""), text + "\n"):
            _, found = replay(
                observed_calls(other.records()),
                load_document(proposed)[0],
                earlier=lambda _: load_document(text)[0],
            )
            assert not [d for d in found if d.before == "deny" and d.after == "allow"]


def test_agent_that_was_unknown(guard: Guard, authority: Authority) -> None:
    """A deny rule that looks at values was never asked about an agent without a section."""
    guard_text = guard.policy.text.replace("  analytics-agent: {}\n", "")
    unknown = Guard(
        store=guard._store, policy=load(guard_text), audience=guard.audience, clock=guard._clock
    )
    session = unknown.login(authority.issue("analytics-agent"))
    with pytest.raises(AccessDenied, match="unknown_agent"):
        unknown.admit(ToolCall("free", {"x": "sk-1"}), session=session)
    proposed = guard_text.replace(
        "deny:", "  analytics-agent: {grants: [{tools: [free], unknown_args: allow}]}\ndeny:"
    )
    _, found = replay(
        observed_calls(unknown.records()),
        load_document(proposed)[0],
        earlier=lambda _: load_document(guard_text)[0],
    )
    assert [(d.before, d.after) for d in found] == [("deny", "unknown")]


@pytest.mark.parametrize("value", ["true", "1.0", "'1'"])
def test_values_of_other_types(guard: Guard, session: Session, value: str) -> None:
    """`1`, `1.0`, `true` and `"1"` are different conditions."""
    text = POLICY.replace("args: {x: {}}", "args: {x: {enum: [1]}}")
    other = Guard(
        store=guard._store, policy=load(text), audience=guard.audience, clock=guard._clock
    )
    again = other.login(_token(guard))
    other.admit(ToolCall("free", {"x": 1}), session=again).settle()
    _, found = replay(
        observed_calls(guard.records()),
        load_document(text.replace("enum: [1]", f"enum: [{value}]"))[0],
        earlier=lambda _: load_document(text)[0],
    )
    assert [(d.before, d.after) for d in found] == [("allow", "unknown")]


class TestSuggestionInEnforceMode:
    def test_refused_calls_are_left_out(self, guard: Guard, session: Session) -> None:
        """What did not run, and what a person was asked about, is said and not granted."""
        make_calls(guard, session)
        text = suggest_grants(observed_calls(guard.records()), "claims-agent")
        assert '# left out, 1 times: tool "drop": it was refused (no_grant)' in text
        assert '"pay": a person is asked about it' in text
        assert 'tools: ["drop"]' not in text
        assert 'tools: ["pay"]' not in text


class TestNamesLikePatterns:
    @pytest.fixture
    def policy_text(self) -> str:
        return "version: 1\nmode: shadow\nagents: {claims-agent: {}}\n"

    def test_left_out(self, guard: Guard, session: Session) -> None:
        """A tool or model whose name is a pattern in a policy cannot be granted by it."""
        for action in (
            ToolCall("**"),
            ToolCall("a.*"),
            ModelCall("**"),
            ModelCall("@x"),
            ToolCall("null", {"null": 1}),
        ):
            guard.admit(action, session=session).settle()
        text = suggest_grants(observed_calls(guard.records()), "claims-agent")
        assert text.count("take its name for a pattern") == 4
        policy = load(f"version: 1\n{text}")
        rules = policy.agents["claims-agent"]
        assert not rules.grants.matching("anything")
        assert not rules.models.matching("anything")

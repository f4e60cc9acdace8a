# ruff: noqa: E501
"""Explaining a decision, and finding what is odd in a policy."""

from __future__ import annotations

from typing import Any

import pytest

from tabard import Action, Agent, Delegation, ModelCall, ToolCall
from tabard.policy import decide, load
from tabard.policy.checks import find_suspicious
from tabard.policy.explanation import Explanation, explain
from tabard.policy.loader import load_document

NOW = 1_800_000_000.0
POLICY = """\
version: 1
windows: {w: {tz: UTC, from: "07:00", to: "09:00"}}
tools: {read: {data_class: internal}}
purposes: {p: {}}
agents:
  clerk:
    match: {team: desk}
    windows: [w]
    scope: {k: required}
    max_data_class: internal
    models: {allow: ["m/a"], max_output_tokens: 10}
    delegates_to: [boss]
    grants:
      - {id: strict, tools: [read], args: {table: {enum: [a]}, rows: {max: 5}, who: {equals_scope: k}}}
      - {id: loose, tools: [read], args: {table: {enum: [b]}}}
    approvals:
      - {id: pay, tools: [pay], when: {amount: {max: 5}}, by: lead}
  boss: {}
deny:
  - {id: secrets, tools: ["**"], any_arg: {regex: ".*sk-.*"}}
"""


def explained(
    action: Action,
    *,
    team: str = "desk",
    scope: Any = None,
    now: float = NOW,
    text: str = POLICY,
) -> Explanation:
    clerk = Agent.named("clerk", team=team, environment="dev", trust_domain="acme.example")
    bound = {"k": "x"} if scope is None else scope
    found = explain(clerk, action, load(text), now, scope=bound)
    assert found.decision == decide(clerk, action, load(text), now, scope=bound)
    return found


def test_allowed() -> None:
    """The rule that allows, and what would take that away."""
    found = explained(ToolCall("read", {"table": "b"}))
    assert [c.rule for c in found.candidates if not c.failures] == ["clerk/loose"]
    assert found.nearest == ("without clerk/loose it would be denied",)
    assert all(fact.holds for fact in found.facts)


def test_allowed_and_asked_about() -> None:
    """Where a grant and an approval both fit, the nearest change drops the grants alone."""
    text = POLICY.replace(
        "    approvals:\n",
        "      - {id: small, tools: [pay], args: {amount: {max: 1}}}\n    approvals:\n",
    )
    found = explained(ToolCall("pay", {"amount": 1}), text=text)
    assert found.decision.effect == "allow"
    assert found.nearest == ("without clerk/small a person would be asked",)
    dropped = text.replace("id: small, tools: [pay]", "id: small, tools: [x]")
    assert explained(ToolCall("pay", {"amount": 1}), text=dropped).decision.effect == "ask"


def test_every_condition_that_fails() -> None:
    """Each candidate with all it lacks; the nearest is the one that lacks least."""
    found = explained(ToolCall("read", {"table": "c", "rows": 9, "who": "y"}))
    strict, loose = found.candidates
    assert strict.failures == (
        "`table` has to pass `enum`", "`rows` has to pass `max`", "`who` has to pass `equals_scope`",
    )  # fmt: skip
    assert len(loose.failures) == 3
    assert "clerk/strict" in found.nearest[0]


@pytest.mark.parametrize(
    ("how", "name"),
    [
        ({"team": "other"}, "match"),
        ({"scope": {}}, "scope"),
        ({"now": NOW + 7200}, "window"),
    ],
)
def test_facts(how: Any, name: str) -> None:
    """What does not hold for any call of the agent is among the nearest changes."""
    found = explained(ToolCall("read", {"table": "b"}), **how)
    assert [fact.name for fact in found.facts if not fact.holds] == [name]
    assert found.nearest[0].startswith(f"{name}: ")


@pytest.mark.parametrize(
    ("action", "effect", "part"),
    [
        (ToolCall("drop"), "deny", "a rule that names the tool `drop`"),
        (ToolCall("read", {"table": "sk-1"}), "deny", "deny: deny/secrets"),
        (ToolCall("pay", {"amount": 5}), "ask", "without clerk/pay"),
        (ToolCall("pay", {"amount": 6}), "deny", "clerk/pay: `amount` has to pass `max`"),
        (ModelCall("m/a"), "deny", "has to be set, to at most 10"),
        (ModelCall("m/b"), "deny", "a rule that names the model `m/b`"),
        (Delegation("boss"), "allow", "without clerk/delegates_to"),
        (Delegation("clerk"), "deny", "a rule that names the delegation `clerk`"),
    ],
)
def test_nearest(action: Action, effect: str, part: str) -> None:
    """The least that would have to change, in words; no value in it."""
    found = explained(action)
    assert found.decision.effect == effect
    assert part in " ".join(found.nearest)
    assert "sk-1" not in str(found)


def test_unknown_agent() -> None:
    """An agent the policy does not name needs a section first."""
    stranger = Agent.named("x", team="t", environment="e", trust_domain="acme.example")
    found = explain(stranger, ToolCall("read"), load(POLICY), NOW, scope={})
    assert found.nearest == ("a section for `x` under `agents`",)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("agents: {a: {delegates_to: [b]}}", "`b` has no section"),
        ("agents: {a: {grants: [{tools: [t], unknown_args: allow}, {tools: [t], args: {x: {}}}]}}",
         "grants.1: never reached"),
        ("agents: {a: {grants: [{tools: [t]}, {tools: [t]}]}}", "grants.1: never reached"),
        ("agents: {a: {grants: [{tools: ['**'], unknown_args: allow}], "
         "approvals: [{tools: [t], by: r}]}}", "approvals.0: never reached"),
        ("agents: {a: {grants: [{tools: [t]}]}}\ndeny: [{tools: ['**']}]", "never allowed, deny.0"),
        ("agents: {a: {}}\nwindows: {w: {tz: UTC, from: '01:00', to: '02:00'}}", "windows.w: nothing"),
        ("agents: {a: {}}\npurposes: {p: {}}", "purposes.p: nothing"),
        ("agents: {a: {}}\nsets: {s: [m]}", "sets.s: nothing"),
        ("agents: {a: {grants: [{tools: ['x.*']}]}}\ntools: {t: {}}", "`x.*` matches no tool"),
        ("agents: {a: {}}\ndeny: [{tools: [x]}]\ntools: {t: {}}", "deny.0.tools: `x` matches no"),
        ("agents: {a: {rates: [{tools: [x], limit: 1, per: 1m}]}}\ntools: {t: {}}", "rates.0.tools"),
        ("agents: {stranger: {}}", "no agent of this name is registered"),
    ],
)  # fmt: skip
def test_oddity(text: str, part: str) -> None:
    """What loads and yet cannot be meant is told, with its path."""
    document, _ = load_document(f"version: 1\n{text}\n")
    found = find_suspicious(document, agents={"a", "b"})
    assert any(part in line for line in found), found


def test_nothing_odd() -> None:
    """A policy that means what it says gives no line."""
    text = POLICY.replace("purposes: {p: {}}\n", "").replace(
        "tools: {read", "tools: {pay: {}, read"
    )
    document, _ = load_document(text)
    assert find_suspicious(document, agents={"clerk", "boss"}) == []


def test_tools_of_the_log_are_known() -> None:
    """A tool that was called is one, whether or not the policy says what it is."""
    document, _ = load_document("version: 1\nagents: {a: {grants: [{tools: ['x.*']}]}}\n")
    assert find_suspicious(document, tools={"x.y"}) == []
    assert find_suspicious(document, tools={"z"}) != []

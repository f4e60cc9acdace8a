"""Cedar policies only narrow, and everything but a clean `Allow` is a refusal."""

from __future__ import annotations

import math
from typing import Any

import pytest

from tabard import Agent, ConfigurationError, Decision, Delegation, ModelCall, Retrieval, ToolCall
from tabard.policy import decide, load

NOW = 1_800_000_000.0
NATIVE = """\
version: 1
agents:
  clerk:
    models: {allow: ["openai/*"]}
    scope: {region: optional}
    delegates_to: [boss]
    grants: [{id: all, tools: [pay, read, "retrieval.docs"], unknown_args: allow}]
    approvals: [{id: ask, tools: [wire], unknown_args: allow, by: lead}]
  boss: {}
"""
PERMIT = "permit(principal, action, resource);"


def decided(cedar: str, action: Any, scope: Any = None) -> Decision:
    text = NATIVE + "cedar: |\n" + "".join(f"  {line}\n" for line in cedar.splitlines())
    clerk = Agent.named("clerk", team="desk", environment="dev", trust_domain="acme.example")
    return decide(clerk, action, load(text), NOW, scope=scope or {})


@pytest.mark.parametrize(
    "action",
    [ToolCall("pay", {"amount": 5}), ModelCall("openai/x"), Retrieval("docs", "q"),
     Delegation("boss")],
)  # fmt: skip
def test_permitted(action: Any) -> None:
    """What both allow goes ahead, under the native rule."""
    found = decided(PERMIT, action)
    assert (found.effect, found.code) == ("allow", "ok")


def test_only_narrows() -> None:
    """Cedar cannot allow what the file denies."""
    assert decided(PERMIT, ToolCall("drop")).code == "no_grant"


def test_nothing_permits() -> None:
    """Without a permit Cedar denies, as always."""
    found = decided('forbid(principal, action, resource == Tool::"x");', ToolCall("pay"))
    assert (found.code, found.rule) == ("cedar", "cedar")


def test_forbid_by_its_id() -> None:
    """The forbidding policy is named."""
    text = (
        PERMIT + '\n@id("big") forbid(principal, action, resource)'
        " when { context.args.amount > 100 };"
    )
    assert decided(text, ToolCall("pay", {"amount": 100})).effect == "allow"
    found = decided(text, ToolCall("pay", {"amount": 101}))
    assert (found.effect, found.code, found.rule) == ("deny", "cedar", "cedar/big")


@pytest.mark.parametrize(
    "arguments", [{}, {"amount": "100"}, {"amount": None}, {"amount": 1.5}, {"amount": [1]}]
)
def test_forbid_that_fails_to_evaluate(arguments: Any) -> None:
    """Cedar would skip a `forbid` that fails; here that is a refusal."""
    text = PERMIT + "\nforbid(principal, action, resource) when { context.args.amount > 100 };"
    found = decided(text, ToolCall("pay", arguments))
    assert (found.effect, found.code) == ("deny", "cedar")


@pytest.mark.parametrize(
    "value",
    [
        {"__extn": {"fn": "decimal", "arg": "1.0"}},
        {"deep": [{"__entity": {"type": "Agent", "id": "boss"}}]},
        {"__expr": "1"},
        2**63,
        -(2**64),
        math.nan,
        math.inf,
        1.23456,
        1e300,
        [None],
    ],
)
def test_what_has_no_cedar_form(value: Any) -> None:
    """What Cedar would take for something else, or cannot take, is refused."""
    assert decided(PERMIT, ToolCall("pay", {"value": value})).code == "cedar"


def test_converted() -> None:
    """Fractions are decimals, null is absent, and the rest is as it is."""
    text = (
        "permit(principal, action, resource) when {\n"
        ' context.args.rate == decimal("1.25") && !(context.args has gone) &&\n'
        ' context.args.list.contains("a") && context.args.flag && context.scope.region == "be" &&\n'
        ' principal.team == "desk" && principal.environment == "dev" && context.now > 0 &&\n'
        ' resource == Tool::"pay" && action == Action::"tool" && principal == Agent::"clerk"\n};'
    )
    call = ToolCall("pay", {"rate": 1.25, "gone": None, "list": ["a"], "flag": True})
    assert decided(text, call, {"region": "be"}).effect == "allow"


def test_question_is_narrowed_too() -> None:
    """Nobody is asked about what Cedar forbids."""
    assert decided(PERMIT, ToolCall("wire")).effect == "ask"
    text = PERMIT + '\nforbid(principal, action, resource == Tool::"wire");'
    assert decided(text, ToolCall("wire")).code == "cedar"


def test_names_cannot_break_out() -> None:
    """A name with quotes in it stays one name."""
    text = NATIVE.replace("tools: [pay,", "tools: ['**', pay,") + f"cedar: '{PERMIT}'\n"
    clerk = Agent.named("clerk", team="desk", environment="dev", trust_domain="acme.example")
    for name in ('x", action: "y', 'a"::b', "né\n", "\\"):
        assert decide(clerk, ToolCall(name), load(text), NOW).effect == "allow"


def test_not_a_policy_set() -> None:
    """Text that is no policy set is refused when the file is loaded."""
    with pytest.raises(ConfigurationError, match="cedar: not a Cedar policy set"):
        load(NATIVE + "cedar: 'permit('\n")

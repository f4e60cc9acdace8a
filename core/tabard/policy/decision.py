r"""May this agent do this now? One pure function: no I/O, no clock, no framework.

>>> from tabard.policy import load
>>> from tabard.actions import ToolCall
>>> from tabard.identity import Agent
>>> policy = load("version: 1\nagents: {clerk: {grants: [{id: find, tools: [search]}]}}")
>>> clerk = Agent.named("clerk", team="desk", environment="dev", trust_domain="acme.example")
>>> decide(clerk, ToolCall("search"), policy, 0.0)
Decision(effect='allow', code='ok', rule='clerk/find', reason='granted', mode='enforce')
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from tabard.actions import Action, Delegation, ModelCall, Retrieval, ToolCall
from tabard.identity.agent import Agent
from tabard.policy.constraints import MAX_SUBJECT
from tabard.policy.rules import AgentRules, GrantRule, Mode, Policy, Prohibition

_NO_SCOPE: Mapping[str, object] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The answer to one call.

    Attributes:
        effect: `allow` or `deny`.
        code: `ok`, or the stable reason of the denial.
        rule: The rule that decided, for example `claims-agent/claims-read`, or None.
        reason: One sentence without any argument value.
        mode: `enforce`, or `shadow`: recorded, and never blocking.
    """

    effect: Literal["allow", "deny"]
    code: str
    rule: str | None = None
    reason: str
    mode: Mode = "enforce"

    @property
    def permits(self) -> bool:
        """Whether the call goes ahead: allowed, or denied in shadow mode only."""
        return self.effect == "allow" or self.mode == "shadow"


def decide(
    agent: Agent,
    action: Action,
    policy: Policy,
    now: float,
    *,
    scope: Mapping[str, object] = _NO_SCOPE,
) -> Decision:
    """Decide one call.

    Args:
        agent: The verified identity that calls.
        action: What it is about to do; arguments are plain JSON values.
        policy: The compiled policy.
        now: POSIX seconds; decides the time windows.
        scope: The data scope bound at login.

    Returns:
        Always a decision: whatever is not granted is denied.
    """
    rules = policy.agents.get(agent.name)
    if rules is None:
        return _deny(policy.mode, "unknown_agent", None, "the policy names no such agent")
    denial = _check_prohibitions(rules, action) or _check_circumstances(rules, agent, now, scope)
    return denial or _check_grants(rules, action, scope)


def _deny(mode: Mode, code: str, rule: str | None, reason: str) -> Decision:
    return Decision(effect="deny", code=code, rule=rule, reason=reason, mode=mode)


def _allow(rules: AgentRules, rule: str) -> Decision:
    return Decision(effect="allow", code="ok", rule=rule, reason="granted", mode=rules.mode)


def _check_prohibitions(rules: AgentRules, action: Action) -> Decision | None:
    """The deny rules, before anything else: they beat every grant."""
    if isinstance(action, ModelCall):
        matching = rules.denied_models.matching(action.name)
    elif isinstance(action, ToolCall | Retrieval):
        matching = rules.denied_tools.matching(action.name)
    else:
        return None
    for rule in matching:
        if rule.any_arg is None or _finds(rule, action):
            return _deny(rules.mode, "denied_by_rule", rule.rule, rule.reason)
    return None


def _finds(rule: Prohibition, action: Action) -> bool:
    """Whether a pattern occurs in any argument; what is too long to examine counts as found."""
    assert rule.any_arg is not None  # noqa: S101  narrowed by the caller
    arguments = getattr(action, "arguments", {})
    return any(len(t) > MAX_SUBJECT or rule.any_arg.matches(t) for t in _texts(arguments))


def _texts(value: object) -> Iterator[str]:
    """Every text in a JSON value: strings, the names of members, and numbers as written."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for name, item in value.items():
            yield name
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
    else:
        yield json.dumps(value)


def _check_circumstances(
    rules: AgentRules, agent: Agent, now: float, scope: Mapping[str, object]
) -> Decision | None:
    """What holds for every call of an agent: who it is, its data scope, the time."""
    teams, environments = rules.teams, rules.environments
    if (teams is not None and agent.team not in teams) or (
        environments is not None and agent.environment not in environments
    ):
        reason = "the verified team or environment is not the one the policy names"
        return _deny(rules.mode, "match", f"{rules.name}/match", reason)
    for key in rules.required_scope:
        if scope.get(key) is None:
            reason = f"the session has no data scope `{key}`"
            return _deny(rules.mode, "scope", f"{rules.name}/scope/{key}", reason)
    windows = rules.windows
    if windows is not None and not any(window.is_open(now) for window in windows):
        reason = "outside the agent's time windows"
        return _deny(rules.mode, "window", f"{rules.name}/windows", reason)
    return None


def _check_grants(rules: AgentRules, action: Action, scope: Mapping[str, object]) -> Decision:
    if isinstance(action, ModelCall):
        models = rules.models.matching(action.name)
        if models:
            return _allow(rules, models[0])
        reason = "the model is not on the agent's list"
        return _deny(rules.mode, "model", f"{rules.name}/models", reason)
    if isinstance(action, Delegation):
        if action.to in rules.delegates_to:
            return _allow(rules, f"{rules.name}/delegates_to")
        reason = "the agent may not delegate to this one"
        return _deny(rules.mode, "delegation", f"{rules.name}/delegates_to", reason)
    if isinstance(action, ToolCall | Retrieval):
        return _check_tool(rules, action, scope)
    return _deny(rules.mode, "no_grant", None, "not a kind of action that can be granted")


def _check_tool(
    rules: AgentRules, action: ToolCall | Retrieval, scope: Mapping[str, object]
) -> Decision:
    """Allow by the first grant whose constraints all hold; else name what the first one missed."""
    first: Decision | None = None
    for grant in rules.grants.matching(action.name):
        failed = _check_arguments(grant, action, scope)
        if failed is None:
            return _allow(rules, grant.rule)
        first = first or _deny(rules.mode, failed[0], grant.rule, failed[1])
    return first or _deny(rules.mode, "no_grant", None, "no grant names this tool")


def _check_arguments(
    grant: GrantRule, action: ToolCall | Retrieval, scope: Mapping[str, object]
) -> tuple[str, str] | None:
    """The code and reason of the first argument that is missing, unknown or out of bounds."""
    arguments = action.arguments
    for name in grant.required:
        if name not in arguments:
            return "arg.missing", f"argument `{name}` is required"
    for name, value in arguments.items():
        check = grant.checks.get(name)
        if check is None:
            if not grant.open_ended and name not in action.injected:
                return "arg.unknown", "an argument was given that the grant does not name"
        elif (failed := check(value, scope)) is not None:
            return f"arg.{failed}", f"argument `{name}` fails the grant's `{failed}`"
    return None

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
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

from tabard.actions import Action, Delegation, ModelCall, Retrieval, ToolCall
from tabard.identity.agent import Agent
from tabard.policy.constraints import MAX_SUBJECT

if TYPE_CHECKING:
    from tabard.policy.rules import AgentRules, GrantRule, Mode, Policy, Prohibition
    from tabard.policy.terms import Approval, Terms

_NO_SCOPE: Mapping[str, object] = {}
_TOOLS = (ToolCall, Retrieval)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The answer to one call.

    Attributes:
        effect: `allow`, `deny`, or `ask`: a person has to agree first.
        code: `ok`, `ask`, or the stable reason of the denial.
        rule: The rule that decided, for example `claims-agent/claims-read`, or None.
        reason: One sentence without any argument value.
        mode: `enforce`, or `shadow`: recorded, and never blocking.
        approvals: Who is asked, for how long: all of them have to agree; only with `ask`.
        terms: What a call that may go ahead is bound to: budgets, rates, and what is recorded.
        above: The same of each agent that the caller acts for, by SPIFFE ID: their rates count too.
    """

    effect: Literal["allow", "deny", "ask"]
    code: str
    rule: str | None = None
    reason: str
    mode: Mode = "enforce"
    approvals: tuple[Approval, ...] = field(default=(), repr=False)
    terms: Terms | None = field(default=None, repr=False)
    above: tuple[tuple[str, Terms], ...] = field(default=(), repr=False)

    @property
    def permits(self) -> bool:
        """Whether the call goes ahead: allowed, or stopped in shadow mode only."""
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
    decision = (
        _check_prohibitions(rules, action)
        or _check_circumstances(rules, agent, now, scope)
        or _check_data(rules, action, policy)
        or _check_grants(rules, action, scope)
    )
    if policy.cedar is not None and decision.effect != "deny":
        narrowed = policy.cedar.narrow(agent, action, scope, now)
        if narrowed is not None:
            decision = _deny(rules.mode, "cedar", *narrowed)
    terms = _terms(rules, action)
    if terms is not None and (decision.effect != "deny" or decision.permits):
        return Decision(
            effect=decision.effect,
            code=decision.code,
            rule=decision.rule,
            reason=decision.reason,
            mode=decision.mode,
            approvals=decision.approvals,
            terms=terms,
        )
    return decision


def _terms(rules: AgentRules, action: Action) -> Terms | None:
    if _is_tool(action):
        return rules.terms.of_tool(action.name)
    return rules.terms.of_models if isinstance(action, ModelCall) else rules.terms.of_delegations


def _is_tool(action: Action) -> bool:
    return isinstance(action, _TOOLS)


def _deny(mode: Mode, code: str, rule: str | None, reason: str) -> Decision:
    return Decision(effect="deny", code=code, rule=rule, reason=reason, mode=mode)


@lru_cache(maxsize=4096)
def _allow(mode: Mode, rule: str) -> Decision:
    return Decision(effect="allow", code="ok", rule=rule, reason="granted", mode=mode)


def _ask(rules: AgentRules, rule: GrantRule) -> Decision:
    assert rule.approval is not None  # noqa: S101  the caller has looked
    return Decision(
        effect="ask",
        code="ask",
        rule=rule.rule,
        reason=f"a person in the role `{rule.approval.role}` has to agree first",
        mode=rules.mode,
        approvals=(rule.approval,),
    )


def _check_prohibitions(rules: AgentRules, action: Action) -> Decision | None:
    """The deny rules, before anything else: they beat every grant."""
    if isinstance(action, ModelCall):
        matching = rules.denied_models.matching(action.name)
    elif isinstance(action, _TOOLS):
        matching = rules.denied_tools.matching(action.name)
    else:
        return None
    for rule in matching:
        if rule.any_arg is None or finds(rule, action):
            return _deny(rules.mode, "denied_by_rule", rule.rule, rule.reason)
    return None


def finds(rule: Prohibition, action: Action) -> bool:
    """Whether a pattern occurs in any argument; what is too long to examine counts as found."""
    assert rule.any_arg is not None  # noqa: S101  narrowed by the caller
    matches = rule.any_arg.matches
    for text in _texts(getattr(action, "arguments", {})):
        if len(text) > MAX_SUBJECT or matches(text):
            return True
    return False


def _texts(value: object) -> Iterator[str]:
    """Every text in a JSON value: strings, the names of members, and numbers as written."""
    if isinstance(value, str):
        yield value
    elif type(value) is int:
        yield str(value)
    elif isinstance(value, Mapping):
        for name, item in value.items():
            yield name
            if type(item) is str:
                yield item
            else:
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


def _check_data(rules: AgentRules, action: Action, policy: Policy) -> Decision | None:
    """What the tool is: whether its data is not too sensitive, and is used for what it may be."""
    facts = policy.tools.facts(action.name) if _is_tool(action) else None
    if facts is None:
        return None
    if facts.rank > rules.clearance:
        reason = "the tool's data class is above the agent's"
        return _deny(rules.mode, "data_class", f"{rules.name}/max_data_class", reason)
    if facts.purposes is not None and rules.purpose not in facts.purposes:
        reason = "the tool may not be used for the agent's purpose"
        return _deny(rules.mode, "purpose", facts.rule, reason)
    return None


def _check_grants(rules: AgentRules, action: Action, scope: Mapping[str, object]) -> Decision:
    if isinstance(action, ModelCall):
        return _check_model(rules, action)
    if isinstance(action, Delegation):
        if action.to in rules.delegates_to:
            return _allow(rules.mode, f"{rules.name}/delegates_to")
        reason = "the agent may not delegate to this one"
        return _deny(rules.mode, "delegation", f"{rules.name}/delegates_to", reason)
    if isinstance(action, _TOOLS):
        return _check_tool(rules, action, scope)
    return _deny(rules.mode, "no_grant", None, "not a kind of action that can be granted")


def _check_model(rules: AgentRules, action: ModelCall) -> Decision:
    models = rules.models.matching(action.name)
    if not models:
        reason = "the model is not on the agent's list"
        return _deny(rules.mode, "model", f"{rules.name}/models", reason)
    cap, asked = rules.max_output_tokens, action.max_output_tokens
    if cap is not None and (type(asked) is not int or not 0 <= asked <= cap):
        found = "no limit" if asked is None else f"a limit of {asked}"
        reason = f"the call sets {found} to its output, the policy's is {cap} tokens"
        rule = f"{rules.name}/models/max_output_tokens"
        return _deny(rules.mode, "model.max_output_tokens", rule, reason)
    return _allow(rules.mode, models[0])


def _check_tool(
    rules: AgentRules, action: ToolCall | Retrieval, scope: Mapping[str, object]
) -> Decision:
    """Allow by the first grant that fits, else ask by the first approval; else name what failed."""
    first: Decision | None = None
    for grant in (*rules.grants.matching(action.name), *rules.approvals.matching(action.name)):
        failed = _check_arguments(grant, action, scope)
        if failed is None:
            return _allow(rules.mode, grant.rule) if grant.approval is None else _ask(rules, grant)
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

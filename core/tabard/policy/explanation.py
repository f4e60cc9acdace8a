"""Why a policy decides as it does: the facts, every rule that could have fitted, and what is near.

Everything is looked at, where a decision stops at the first refusal.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from tabard.actions import Action, Delegation, ModelCall
from tabard.identity.agent import Agent
from tabard.policy.decision import Decision, decide, finds
from tabard.policy.rules import AgentRules, GrantRule, Policy


@dataclass(frozen=True, slots=True)
class Fact:
    """One thing that has to hold for every call of the agent.

    Attributes:
        name: `match`, `scope`, `window`, `data_class`, `purpose` or `deny`.
        holds: Whether it does.
        detail: What was found, and what was wanted.
    """

    name: str
    holds: bool
    detail: str


@dataclass(frozen=True, slots=True)
class Candidate:
    """A rule that names the tool or model.

    Attributes:
        rule: The rule.
        effect: What it leads to when it fits: `allow` or `ask`.
        failures: Every condition that does not hold; none when it fits.
    """

    rule: str
    effect: str
    failures: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """A decision, and everything it hangs on.

    Attributes:
        decision: The decision.
        facts: What has to hold for every call.
        candidates: The rules that could have fitted, in the order of the file.
        nearest: The least that would have to change to turn the decision round.
    """

    decision: Decision
    facts: tuple[Fact, ...]
    candidates: tuple[Candidate, ...]
    nearest: tuple[str, ...]


def explain(
    agent: Agent, action: Action, policy: Policy, now: float, *, scope: Mapping[str, object]
) -> Explanation:
    """Explain what `decide` says to the same call.

    Args:
        agent: The identity that calls.
        action: What it is about to do; arguments are plain JSON values.
        policy: The compiled policy.
        now: POSIX seconds.
        scope: The data scope bound at login.
    """
    decision = decide(agent, action, policy, now, scope=scope)
    rules = policy.agents.get(agent.name)
    if rules is None:
        missing = f"a section for `{agent.name}` under `agents`"
        return Explanation(decision=decision, facts=(), candidates=(), nearest=(missing,))
    facts = tuple(_facts(rules, agent, action, policy, now, scope))
    candidates = tuple(_candidates(rules, action, scope))
    nearest = tuple(_nearest(decision, action, facts, candidates))
    return Explanation(decision=decision, facts=facts, candidates=candidates, nearest=nearest)


def _facts(
    rules: AgentRules,
    agent: Agent,
    action: Action,
    policy: Policy,
    now: float,
    scope: Mapping[str, object],
) -> Iterator[Fact]:
    is_model = isinstance(action, ModelCall)
    denied = () if isinstance(action, Delegation) else (
        rules.denied_models if is_model else rules.denied_tools
    ).matching(action.name)  # fmt: skip
    for rule in denied:
        hit = rule.any_arg is None or finds(rule, action)
        yield Fact("deny", not hit, f"{rule.rule}: {rule.reason}")
    for what, found, wanted in (
        ("team", agent.team, rules.teams),
        ("environment", agent.environment, rules.environments),
    ):
        if wanted is not None:
            listed = ", ".join(sorted(wanted))
            yield Fact("match", found in wanted, f"the {what} is {found}, wanted: {listed}")
    for key in rules.required_scope:
        there = scope.get(key) is not None
        yield Fact("scope", there, f"`{key}` is {'bound' if there else 'not bound'}")
    if rules.windows is not None:
        open_now = any(window.is_open(now) for window in rules.windows)
        yield Fact("window", open_now, f"{len(rules.windows)} windows, one has to be open")
    tool = None if is_model or isinstance(action, Delegation) else policy.tools.facts(action.name)
    if tool is not None and tool.data_class is not None:
        detail = f"the tool's data is {tool.data_class}, the agent's `max_data_class` decides"
        yield Fact("data_class", tool.rank <= rules.clearance, detail)
    if tool is not None and tool.purposes is not None:
        detail = (
            f"the tool is for {', '.join(sorted(tool.purposes))}; the agent's is {rules.purpose}"
        )
        yield Fact("purpose", rules.purpose in tool.purposes, detail)


def _candidates(
    rules: AgentRules, action: Action, scope: Mapping[str, object]
) -> Iterator[Candidate]:
    if isinstance(action, Delegation):
        if action.to in rules.delegates_to:
            yield Candidate(f"{rules.name}/delegates_to", "allow", ())
        return
    if isinstance(action, ModelCall):
        cap, asked = rules.max_output_tokens, action.max_output_tokens
        bounded = cap is None or (asked is not None and asked <= cap)
        missing = f"`max_output_tokens` has to be set, to at most {cap}"
        lacking: tuple[str, ...] = () if bounded else (missing,)
        for rule in rules.models.matching(action.name):
            yield Candidate(rule, "allow", lacking)
        return
    for grant in (*rules.grants.matching(action.name), *rules.approvals.matching(action.name)):
        effect = "allow" if grant.approval is None else "ask"
        yield Candidate(grant.rule, effect, tuple(_failures(grant, action, scope)))


def _failures(grant: GrantRule, action: Action, scope: Mapping[str, object]) -> Iterator[str]:
    """Every condition of a rule that a call does not meet; names, and never a value."""
    arguments: Mapping[str, object] = getattr(action, "arguments", {})
    injected: frozenset[str] = getattr(action, "injected", frozenset())
    for name in grant.required:
        if name not in arguments:
            yield f"`{name}` has to be given"
    for name, value in arguments.items():
        check = grant.checks.get(name)
        if check is None:
            if not grant.open_ended and name not in injected:
                yield f"`{name}` is not named by the rule"
        elif (failed := check(value, scope)) is not None:
            yield f"`{name}` has to pass `{failed}`"


def _nearest(
    decision: Decision, action: Action, facts: tuple[Fact, ...], candidates: tuple[Candidate, ...]
) -> Iterator[str]:
    if decision.effect != "deny":
        fitting = [one for one in candidates if not one.failures]
        # Without the rules that allow, those that ask are still there.
        dropped = [one.rule for one in fitting if one.effect == decision.effect]
        asking = decision.effect == "allow" and any(one.effect == "ask" for one in fitting)
        outcome = "a person would be asked" if asking else "it would be denied"
        yield f"without {' and '.join(dropped)} {outcome}"
        return
    for fact in facts:
        if not fact.holds:
            yield f"{fact.name}: {fact.detail}"
    if candidates:
        best = min(candidates, key=lambda one: len(one.failures))
        for failure in best.failures:
            yield f"{best.rule}: {failure}"
    else:
        yield f"a rule that names the {action.kind} `{action.name}`"
    if decision.code == "cedar":
        yield f"{decision.rule}: {decision.reason}"

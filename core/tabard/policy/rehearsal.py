"""Tries a policy on cases: which hold, and which rules no case reaches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from tabard.actions import Action, ModelCall
from tabard.budget import Pricer, TokenUsage, format_amount
from tabard.errors import ConfigurationError
from tabard.policy.cases import Case
from tabard.policy.decision import Decision, decide
from tabard.policy.rules import Policy
from tabard.policy.standin import stand_in
from tabard.policy.terms import Terms


@dataclass(frozen=True, slots=True)
class Trial:
    """What a policy has decided about a case.

    Attributes:
        case: The case.
        decision: The decision.
    """

    case: Case
    decision: Decision

    @property
    def failures(self) -> list[str]:
        """What differs from what was expected; empty when the case holds."""
        wanted, found = self.case.expect, self.decision
        pairs = {
            "decision": (wanted.decision, found.effect),
            "code": (wanted.code, found.code),
            "rule": (wanted.rule, found.rule),
        }
        return [
            f"{name}: expected {expected}, found {got or 'none'}"
            for name, (expected, got) in pairs.items()
            if expected not in (None, got)
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rehearsal:
    """How a policy did.

    Attributes:
        trials: One for each case, in their order.
        rules: Every grant, approval, deny rule and model pattern of the policy.
        unreached: Those of them that decided no case.
    """

    trials: tuple[Trial, ...]
    rules: tuple[str, ...]
    unreached: tuple[str, ...]

    @property
    def holds(self) -> bool:
        """Whether every case does."""
        return not any(trial.failures for trial in self.trials)


def rehearse(policy: Policy, cases: Sequence[Case], pricer: Pricer) -> Rehearsal:
    """Try a policy on cases.

    Args:
        policy: The policy.
        cases: The calls, and what is expected.
        pricer: Knows what models cost; asked where a case has `input_tokens`.

    Raises:
        ConfigurationError: A case does not say when, and the decision hangs on it.
    """
    trials = []
    for index, case in enumerate(cases):
        try:
            trials.append(Trial(case, _try(policy, case, pricer)))
        except ConfigurationError as error:
            raise ConfigurationError(f"cases.{index}.{error}") from None
    rules = tuple(dict.fromkeys(_rules(policy)))
    reached = {trial.decision.rule for trial in trials}
    return Rehearsal(
        trials=tuple(trials),
        rules=rules,
        unreached=tuple(rule for rule in rules if rule not in reached),
    )


def _try(policy: Policy, case: Case, pricer: Pricer) -> Decision:
    agent = stand_in(policy, case.agent, team=case.team, environment=case.environment)
    now = _moment(policy, case)
    decision = decide(agent, case.action(), policy, now, scope=case.scope)
    if decision.terms is None or not decision.permits:
        return decision
    return _pay(decision, decision.terms, case.action(), policy, now, pricer)


def _moment(policy: Policy, case: Case) -> float:
    """When a case happens. The time of the test is never taken for it: it would fail at night."""
    if case.at is not None:
        return case.at
    rules = policy.agents.get(case.agent)
    needed = {
        "the agent has time windows": rules is not None and rules.windows is not None,
        "prices change over time": case.input_tokens is not None,
        "Cedar policies may ask for the time": policy.cedar is not None,
    }
    for why, so in needed.items():
        if so:
            raise ConfigurationError(f"at: `{case.name}` has to say when: {why}")
    return 0.0


def _pay(
    decision: Decision, terms: Terms, action: Action, policy: Policy, now: float, pricer: Pricer
) -> Decision:
    """What becomes of an allowed call when its budgets are asked, of which nothing is spent."""
    amount = terms.cost
    if not terms.budgets or (isinstance(action, ModelCall) and action.input_tokens is None):
        return decision
    if isinstance(action, ModelCall):
        price = None
        if action.max_output_tokens is not None:
            usage = TokenUsage(
                input_tokens=action.input_tokens or 0, output_tokens=action.max_output_tokens
            )
            price = policy.tariff.price_at_most(action.name, usage, pricer, now)
        if price is None:
            reason = "no price is known for the call, or it sets no limit to its output"
            return _refuse(decision, "unknown_price", terms.budgets[0].rule, reason)
        amount = price.amount
    # In the order in which the store asks them: by the names of their windows.
    for budget in sorted(terms.budgets, key=lambda one: (one.of, one.per)):
        if amount > budget.limit:
            currency = policy.tariff.currency
            reason = (
                f"the call can cost {format_amount(amount, currency)}, the {budget.per} budget "
                f"is {format_amount(budget.limit, currency)}"
            )
            return _refuse(decision, "budget", budget.rule, reason)
    return decision


def _refuse(decision: Decision, code: str, rule: str, reason: str) -> Decision:
    return replace(decision, effect="deny", code=code, rule=rule, reason=reason)


def _rules(policy: Policy) -> Iterator[str]:
    """What there is to reach, agent by agent, then the deny rules."""
    for rules in policy.agents.values():
        yield from rules.models.rules()
        yield from (grant.rule for grant in rules.grants.rules())
        yield from (asked.rule for asked in rules.approvals.rules())
    for rules in policy.agents.values():
        for index in (rules.denied_tools, rules.denied_models):
            yield from (denied.rule for denied in index.rules())

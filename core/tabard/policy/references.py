"""Finds names in a policy that point at nothing: sets, windows, scope keys, agents."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from tabard.policy.cedar import CedarPolicies
from tabard.policy.document import AgentSection, Constraint, DenyRule, Document
from tabard.policy.patterns import NamePattern


def find_broken_references(document: Document) -> list[str]:
    """Every dangling or duplicate name, each as one sentence that starts with its path."""
    problems = [
        *_in_money(document),
        *_in_sets(document),
        *_in_tools(document),
        *_in_cedar(document),
    ]
    problems += _duplicates("data_classes", "the class", document.data_classes)
    for name, agent in document.agents.items():
        problems += (f"agents.{name}.{problem}" for problem in _in_agent(agent, document))
    for index, rule in enumerate(document.deny):
        problems += (f"deny.{index}.{problem}" for problem in _in_deny(rule, document))
    problems += _in_team_budgets(document)
    problems += _duplicates("deny", "the id", (rule.id for rule in document.deny))
    return problems


def _in_money(document: Document) -> Iterator[str]:
    if document.currency in document.fx:
        yield f"fx.{document.currency}: this is the policy's own currency, worth 1"
    for model, price in document.prices.items():
        if price.currency not in (None, document.currency, *document.fx):
            where = f"prices.{model}.currency"
            yield f"{where}: no exchange rate for `{price.currency}`, {_known(document.fx)}"


def _in_team_budgets(document: Document) -> Iterator[str]:
    """A team's budget is one, so its days have to begin at one time."""
    zones: dict[str, str] = {}
    for name, agent in document.agents.items():
        for index, budget in enumerate(agent.budgets):
            if budget.of == "team" and zones.setdefault(budget.per, budget.tz) != budget.tz:
                where = f"agents.{name}.budgets.{index}.tz"
                yield f"{where}: found `{budget.tz}`, another team budget has `{zones[budget.per]}`"


def _in_tools(document: Document) -> Iterator[str]:
    for name, tool in document.tools.items():
        if tool.data_class is not None and tool.data_class not in document.data_classes:
            yield f"tools.{name}.data_class: {_no_class(tool.data_class, document)}"
        for purpose in tool.purposes or ():
            if purpose not in document.purposes:
                yield f"tools.{name}.purposes: {_no_purpose(purpose, document)}"


def _no_class(name: str, document: Document) -> str:
    return f"no data class `{name}`, {_known(document.data_classes)}"


def _no_purpose(name: str, document: Document) -> str:
    return f"no purpose `{name}`, {_known(document.purposes)}"


def _in_cedar(document: Document) -> Iterator[str]:
    if document.cedar is not None:
        try:
            CedarPolicies.parse(document.cedar)
        except ValueError as error:
            yield f"cedar: {error}"


def _in_agent(agent: AgentSection, document: Document) -> Iterator[str]:
    for window in agent.windows or ():
        if window not in document.windows:
            yield f"windows: no window `{window}`, {_known(document.windows)}"
    if agent.purpose is not None and agent.purpose not in document.purposes:
        yield f"purpose: {_no_purpose(agent.purpose, document)}"
    if agent.max_data_class not in (None, *document.data_classes):
        yield f"max_data_class: {_no_class(str(agent.max_data_class), document)}"
    yield from _in_models("models.allow", agent.models.allow, document)
    for index, grant in enumerate(agent.grants):
        yield from _in_arguments(f"grants.{index}.args", grant.args, agent)
        yield from _too_sensitive(f"grants.{index}.tools", grant.tools, agent, document)
    for index, asked in enumerate(agent.approvals):
        yield from _in_arguments(f"approvals.{index}.when", asked.when, agent)
        yield from _too_sensitive(f"approvals.{index}.tools", asked.tools, agent, document)
    ids = [*(grant.id for grant in agent.grants), *(asked.id for asked in agent.approvals)]
    yield from _duplicates("grants and approvals", "the id", ids)
    spans = (f"{budget.per}/{budget.of}/{budget.tz}" for budget in agent.budgets)
    yield from _duplicates("budgets", "the period", spans)
    counted = (f"{rate.per} s of {', '.join(sorted(rate.tools))}" for rate in agent.rates)
    yield from _duplicates("rates", "the limit for", counted)


def _in_arguments(
    where: str, constraints: Mapping[str, Constraint], agent: AgentSection
) -> Iterator[str]:
    for argument, constraint in constraints.items():
        for key in _scope_keys(constraint):
            if key not in agent.scope:
                place = f"{where}.{argument}.equals_scope"
                yield f"{place}: no scope key `{key}`, {_known(agent.scope)}"


def _too_sensitive(
    where: str, tools: Iterable[str], agent: AgentSection, document: Document
) -> Iterator[str]:
    """A rule that could never hold: it names a tool whose data is above the agent's class."""
    classes = document.data_classes
    highest = classes[0] if agent.max_data_class not in classes else agent.max_data_class
    for tool in tools:
        section = document.tools.get(tool)
        wanted = section.data_class if section is not None else None
        if wanted in classes and classes.index(wanted) > classes.index(highest):
            yield f"{where}: `{tool}` has the data class `{wanted}`, the agent's is `{highest}`"


def _in_deny(rule: DenyRule, document: Document) -> Iterator[str]:
    for name in rule.agents or ():
        if name not in document.agents:
            yield f"agents: no agent `{name}`, {_known(document.agents)}"
    yield from _in_models("models", rule.models or [], document)
    for model in rule.models or ():
        in_set = model.startswith("@")
        for pattern in document.sets.get(model[1:], ()) if in_set else (model,):
            if pattern == "*" or pattern.endswith("/*"):
                found = f"`{pattern}` of `{model}`" if in_set else f"`{pattern}`"
                wider = f"{pattern}*"
                yield f"models: {found} spares names with a dot such as gpt-3.5; write `{wider}`"


def _in_sets(document: Document) -> Iterator[str]:
    for name, patterns in document.sets.items():
        for pattern in patterns:
            if pattern.startswith("@"):
                yield f"sets.{name}: a set cannot hold another one, found `{pattern}`"


def _in_models(where: str, patterns: Iterable[str], document: Document) -> Iterator[str]:
    for pattern in patterns:
        if pattern.startswith("@"):
            if pattern[1:] not in document.sets:
                yield f"{where}: no set `{pattern}`, {_known(document.sets)}"
            continue
        try:
            NamePattern.parse(pattern)
        except ValueError as error:
            yield f"{where}: {error}"


def _scope_keys(constraint: Constraint) -> Iterator[str]:
    if constraint.equals_scope is not None:
        yield constraint.equals_scope
    if constraint.each is not None:
        yield from _scope_keys(constraint.each)


def _duplicates(where: str, what: str, names: Iterable[str | None]) -> list[str]:
    counts = Counter(name for name in names if name is not None)
    return [f"{where}: {what} `{name}` is there {n} times" for name, n in counts.items() if n > 1]


def _known(names: Iterable[str]) -> str:
    listed = ", ".join(sorted(names))
    return f"expected one of: {listed}" if listed else "and none is defined"

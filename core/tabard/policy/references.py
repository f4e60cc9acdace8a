"""Finds names in a policy that point at nothing: sets, windows, scope keys, agents."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from tabard.policy.document import AgentSection, Constraint, DenyRule, Document
from tabard.policy.patterns import NamePattern


def find_broken_references(document: Document) -> list[str]:
    """Every dangling or duplicate name, each as one sentence that starts with its path."""
    problems: list[str] = []
    for name, agent in document.agents.items():
        problems += (f"agents.{name}.{problem}" for problem in _in_agent(agent, document))
    for index, rule in enumerate(document.deny):
        problems += (f"deny.{index}.{problem}" for problem in _in_deny(rule, document))
    problems += _duplicates("deny", (rule.id for rule in document.deny))
    return problems


def _in_agent(agent: AgentSection, document: Document) -> Iterator[str]:
    for window in agent.windows or ():
        if window not in document.windows:
            yield f"windows: no window `{window}`, {_known(document.windows)}"
    yield from _in_models("models.allow", agent.models.allow, document)
    for other in agent.delegates_to:
        if other not in document.agents:
            yield f"delegates_to: no agent `{other}`, {_known(document.agents)}"
    for index, grant in enumerate(agent.grants):
        for argument, constraint in grant.args.items():
            for key in _scope_keys(constraint):
                if key not in agent.scope:
                    where = f"grants.{index}.args.{argument}.equals_scope"
                    yield f"{where}: no scope key `{key}`, {_known(agent.scope)}"
    yield from _duplicates("grants", (grant.id for grant in agent.grants))


def _in_deny(rule: DenyRule, document: Document) -> Iterator[str]:
    for name in rule.agents or ():
        if name not in document.agents:
            yield f"agents: no agent `{name}`, {_known(document.agents)}"
    yield from _in_models("models", rule.models or [], document)


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


def _duplicates(where: str, ids: Iterable[str | None]) -> list[str]:
    counts = Counter(rule_id for rule_id in ids if rule_id is not None)
    return [f"{where}: the id `{i}` is used {n} times" for i, n in counts.items() if n > 1]


def _known(names: Iterable[str]) -> str:
    listed = ", ".join(sorted(names))
    return f"expected one of: {listed}" if listed else "and none is defined"

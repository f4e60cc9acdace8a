"""What is suspicious in a policy that loads: rules nobody can reach, names that point nowhere."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from tabard.policy.document import AgentSection, ApprovalRule, Constraint, DenyRule, Document, Grant
from tabard.policy.patterns import NamePattern


def find_suspicious(
    document: Document, *, agents: Collection[str] = (), tools: Collection[str] = ()
) -> list[str]:
    """Every oddity as one sentence that begins with its path.

    Args:
        document: The policy.
        agents: The names registered in the home, where one is looked at; else none.
        tools: The tools seen in its log.
    """
    found = [*_in_rules(document), *_unused(document), *_nowhere(document, set(tools))]
    if agents:
        for name in document.agents:
            if name not in agents:
                found.append(f"agents.{name}: no agent of this name is registered")
    return found


def _in_rules(document: Document) -> Iterator[str]:
    for name, agent in document.agents.items():
        for other in agent.delegates_to:
            if other not in document.agents:
                yield f"agents.{name}.delegates_to: `{other}` has no section, so it may do nothing"
        rules: list[tuple[str, Grant | ApprovalRule]] = [
            *((f"grants.{n}", grant) for n, grant in enumerate(agent.grants)),
            *((f"approvals.{n}", asked) for n, asked in enumerate(agent.approvals)),
        ]
        for position, (path, rule) in enumerate(rules):
            where = f"agents.{name}.{path}"
            for before, earlier in rules[:position]:
                if _covers(earlier, rule):
                    yield f"{where}: never reached, {before} accepts every call of its tools"
                    break
            for number, deny in enumerate(document.deny):
                if _forbids(deny, name, rule):
                    yield f"{where}: never allowed, deny.{number} forbids all its tools"
                    break


def _covers(earlier: Grant | ApprovalRule, later: Grant | ApprovalRule) -> bool:
    """Whether whatever reaches the later rule was accepted by the earlier one already."""
    if not set(later.tools) <= set(earlier.tools) and "**" not in earlier.tools:
        return False
    first, second = _conditions(earlier), _conditions(later)
    if first == second and earlier.unknown_args == later.unknown_args:
        return True
    anything = all(c == Constraint(optional=True) for c in first.values())
    return anything and earlier.unknown_args == "allow"


def _conditions(rule: Grant | ApprovalRule) -> dict[str, Constraint]:
    return rule.args if isinstance(rule, Grant) else rule.when


def _forbids(deny: DenyRule, agent: str, rule: Grant | ApprovalRule) -> bool:
    if deny.any_arg is not None or deny.tools is None:
        return False
    concerned = deny.agents is None or agent in deny.agents
    return concerned and ("**" in deny.tools or set(rule.tools) <= set(deny.tools))


def _unused(document: Document) -> Iterator[str]:
    sections = list(document.agents.values())
    used: dict[str, set[str | None]] = {
        "windows": {w for s in sections for w in s.windows or ()},
        "purposes": {s.purpose for s in sections}
        | {p for tool in document.tools.values() for p in tool.purposes or ()},
        "sets": {
            text[1:]
            for patterns in (
                *(s.models.allow for s in sections),
                *(rule.models or [] for rule in document.deny),
            )
            for text in patterns
            if text.startswith("@")
        },
        "fx": {price.currency for price in document.prices.values()} | {"USD"},
    }
    for section, names in used.items():
        for name in getattr(document, section):
            if name not in names:
                yield f"{section}.{name}: nothing uses it"


def _nowhere(document: Document, seen: set[str]) -> Iterator[str]:
    """Patterns for tools that match nothing which is known to be one."""
    known = seen | {name for name in document.tools if "*" not in name}
    if not known:
        return
    for path, text in _tool_patterns(document):
        pattern = NamePattern.parse(text)
        if not any(pattern.matches(name) for name in known):
            yield f"{path}: `{text}` matches no tool that is named under `tools` or was ever called"


def _tool_patterns(document: Document) -> Iterator[tuple[str, str]]:
    for name, agent in document.agents.items():
        yield from _of_agent(f"agents.{name}", agent)
    for number, rule in enumerate(document.deny):
        for text in rule.tools or ():
            yield f"deny.{number}.tools", text


def _of_agent(path: str, agent: AgentSection) -> Iterator[tuple[str, str]]:
    lists = {
        "grants": [rule.tools for rule in agent.grants],
        "approvals": [rule.tools for rule in agent.approvals],
        "rates": [rule.tools for rule in agent.rates],
    }
    for kind, rules in lists.items():
        for number, tools in enumerate(rules):
            for text in tools:
                yield f"{path}.{kind}.{number}.tools", text

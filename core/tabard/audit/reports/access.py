"""`report access`: each permission of a policy and its last use, for least privilege."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tabard.audit.entries import Entry
from tabard.audit.reports.asked import Asked, asked_section, nothing_section
from tabard.audit.reports.reading import (
    Reading,
    Tally,
    action_of,
    agent_of,
    by_count,
    effect_of,
    is_decision,
    moment,
    text,
    together,
)
from tabard.audit.reports.report import LogFacts, Report, Row, Section, Span, Standing, Table

if TYPE_CHECKING:
    from tabard.audit.reports.declared import Declared
    from tabard.policy.rules import AgentRules

_KINDS = frozenset({"tool", "retrieval", "model", "delegation"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Permission:
    """One thing a policy allows one agent.

    Attributes:
        agent: The agent's name.
        kind: `grant`, `approval`, `model` or `delegation`.
        rule: What records call it.
        names: What it names, as it was written.
        target: For a delegation: to whom; else empty.
    """

    agent: str
    kind: str
    rule: str
    names: str
    target: str = ""

    @property
    def key(self) -> tuple[str, str]:
        """What its uses are counted under."""
        return self.rule, self.target


def permissions(declared: Declared) -> Iterator[Permission]:
    """Everything a policy allows, in its own order."""
    for agent, section in declared.document.agents.items():
        for index, grant in enumerate(section.grants):
            rule = f"{agent}/{grant.id or f'grants[{index}]'}"
            yield Permission(agent=agent, kind="grant", rule=rule, names=", ".join(grant.tools))
        for index, asked in enumerate(section.approvals):
            rule = f"{agent}/{asked.id or f'approvals[{index}]'}"
            yield Permission(agent=agent, kind="approval", rule=rule, names=", ".join(asked.tools))
        for model in dict.fromkeys(section.models.allow):
            rule = f"{agent}/models/{model}"
            yield Permission(agent=agent, kind="model", rule=rule, names=model)
        for other in dict.fromkeys(section.delegates_to):
            rule = f"{agent}/delegates_to"
            yield Permission(agent=agent, kind="delegation", rule=rule, names=other, target=other)


class _Uses:
    """The allowed calls, by the permission that allowed them."""

    def __init__(self, declared: Declared) -> None:
        self._declared = declared
        self.decisions = 0
        self.used: defaultdict[tuple[str, str], Tally] = defaultdict(Tally)
        self.asked: defaultdict[tuple[str, str], Tally] = defaultdict(Tally)
        self.perhaps: defaultdict[tuple[str, str], Tally] = defaultdict(Tally)
        self.outside: defaultdict[tuple[str, str, str], Tally] = defaultdict(Tally)
        self.agents: set[str] = set()

    def add(self, entry: Entry) -> None:
        if not is_decision(entry):
            return
        self.decisions += 1
        rule, effect = text(entry, "decision.rule"), effect_of(entry)
        target = text(entry, "action.name") if entry.kind == "delegation.decision" else ""
        self.agents.add(text(entry, "agent.name"))
        if effect == "ask":
            self.asked[rule, target].add(entry)
        if effect != "allow":
            return
        if self._covers(entry, rule):
            self.used[rule, target].add(entry)
        else:
            self.outside[agent_of(entry), rule or "(none)", action_of(entry)].add(entry)
        if entry.get("act") is not None:
            self._add_delegated(entry, rule)

    def _covers(self, entry: Entry, rule: str) -> bool:
        """Whether the present policy still has that rule, for that action."""
        found = self._declared.policy.agents.get(rule.partition("/")[0])
        return found is not None and rule in set(_rules_for(found, entry))

    def _add_delegated(self, entry: Entry, decided: str) -> None:
        """The policies of all agents in a chain counted, and the record names one rule of them."""
        for name in (text(entry, "agent.name"), *_actors(entry.get("act"))):
            rules = self._declared.policy.agents.get(name)
            for rule in () if rules is None else _rules_for(rules, entry):
                if rule != decided:
                    target = text(entry, "action.name") if rule.endswith("/delegates_to") else ""
                    self.perhaps[rule, target].add(entry)


def _rules_for(rules: AgentRules, entry: Entry) -> Iterator[str]:
    """The rules of an agent that name what a call was about."""
    name, kind = text(entry, "action.name"), text(entry, "action.kind")
    if kind == "model":
        yield from rules.models.matching(name)
    elif kind == "delegation":
        if name in rules.delegates_to:
            yield f"{rules.name}/delegates_to"
    elif kind in _KINDS:
        yield from (rule.rule for rule in rules.grants.matching(name))
        yield from (rule.rule for rule in rules.approvals.matching(name))


def _actors(act: object) -> Iterator[str]:
    """The names of the agents somebody works for, nearest first."""
    while isinstance(act, dict):
        yield str(act.get("sub")).rpartition("/")[2]
        act = act.get("act")


def report_access(
    entries: Iterable[Entry], log: LogFacts, declared: Declared, *, span: Span | None = None
) -> Report:
    """Which permissions were used, and which never.

    Args:
        entries: Those of the span, oldest first.
        log: The log they come from.
        declared: The policy with the permissions.
        span: What was asked for.

    Raises:
        AuditError: An entry has no time.
    """
    reading, uses = Reading(entries), _Uses(declared)
    for entry in reading:
        uses.add(entry)
    parts = list(_sections(uses, declared)) if uses.decisions else [nothing_section("decision")]
    return Report(
        name="access",
        title="Access review: permissions and their last use",
        question="Which permission of the policy was used last when, and which was never used?",
        law=("SOC 2 CC6.1 to CC6.3", "NIST SP 800-53 AC-6 (least privilege)"),
        span=span or Span(),
        extent=reading.extent,
        log=log,
        policy=declared.policy.digest,
        sections=(*parts, _not_told()),
    )


def _sections(uses: _Uses, declared: Declared) -> Iterator[Section]:
    yield Section(
        heading="Permissions",
        intro="Every permission of the policy with its use in this span; what was never used is a "
        "candidate for removal, and no more than that.",
        table=Table(
            columns=("agent", "kind", "rule", "names", "uses", "asked", "in a chain", "last use",
                     "finding"),
            rows=tuple(_row(one, uses) for one in permissions(declared)),
        ),
    )  # fmt: skip
    outside = {" | ".join(key): (key, tally) for key, tally in uses.outside.items()}
    rows = [
        Row(cells=(*outside[name][0], tally.count, moment(tally.last)), cites=tally.cites)
        for name, tally in by_count({name: pair[1] for name, pair in outside.items()})
    ]
    yield Section(
        heading="Used outside the present policy",
        intro="Calls that were allowed then by a rule this policy does not have, or that does not "
        "name the action any more.",
        table=Table(columns=("agent", "rule", "action", "calls", "last"), rows=tuple(rows)),
    )


def _row(one: Permission, uses: _Uses) -> Row:
    none = Tally()
    used, asked = uses.used.get(one.key, none), uses.asked.get(one.key, none)
    perhaps = uses.perhaps.get(one.key, none)
    every = together((used, asked, perhaps))
    if used.count:
        finding = "used"
    elif perhaps.count:
        finding = "perhaps used: calls in a delegation name one rule of several"
    elif asked.count:
        finding = "asked for, never allowed in this span"
    else:
        finding = "not used in this span: candidate for removal"
    cells = (one.agent, one.kind, one.rule, one.names, used.count, asked.count, perhaps.count)
    last = moment(together((used, perhaps)).last)
    standing: Standing = "evidenced" if every.count else "declared"
    return Row(cells=(*cells, last, finding), cites=every.cites, standing=standing)


def _not_told() -> Section:
    return asked_section(
        "What this log cannot tell",
        [
            Asked(
                point="need",
                what="whether an agent still needs a permission it uses, or seldom uses",
                supplier="the owner of the agent",
            ),
            Asked(
                point="elsewhere",
                what="what the agent's own accounts may do in the systems behind the tools",
                supplier="the operators of those systems",
            ),
        ],
    )

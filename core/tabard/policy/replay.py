"""What a proposed policy would have said to the calls in a log, and where that cannot be told.

The log keeps argument values as commitments only. So a condition on a value is known to hold only
where the policy that decided then had the very same condition and let the call pass; otherwise the
answer is that it cannot be told. Nothing is guessed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from tabard.policy.document import (
    AgentSection,
    ApprovalRule,
    Constraint,
    DenyRule,
    Document,
    Grant,
    UnknownArguments,
)
from tabard.policy.observed import ObservedCall
from tabard.policy.patterns import NamePattern

Answer = Literal["allow", "ask", "deny", "unknown"]
_Fit = Literal["yes", "no", "unknown"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Calls of one kind that a proposed policy answers in another way, or perhaps.

    Attributes:
        agent: The agent's name.
        kind: Of the action.
        name: The tool, model, retriever or agent.
        before: What was decided.
        after: What would be decided; `unknown` where the log does not tell.
        why: The rule or the reason.
        calls: How many.
        example: The id of one of the records.
    """

    agent: str
    kind: str
    name: str
    before: str
    after: Answer
    why: str
    calls: int
    example: str


def replay(
    calls: Iterable[ObservedCall],
    proposed: Document,
    *,
    earlier: Callable[[str], Document | None],
) -> tuple[int, list[Difference]]:
    """Put the calls of a log to a proposed policy.

    Args:
        calls: From the log.
        proposed: The policy.
        earlier: Finds the policy of a digest, if its text was kept.

    Returns:
        How many calls there were, and those that would be answered in another way, or perhaps.
    """
    total, counts = 0, Counter[tuple[str, str, str, str, Answer, str]]()
    examples: dict[tuple[str, str, str, str, Answer, str], str] = {}
    for call in calls:
        total += 1
        answer, why = _Replay(call, proposed, earlier(call.policy)).answer()
        if answer != call.effect:
            key = (call.agent, call.kind, call.name, call.effect, answer, why)
            counts[key] += 1
            examples.setdefault(key, call.id)
    return total, [
        Difference(
            agent=key[0], kind=key[1], name=key[2], before=key[3], after=key[4], why=key[5],
            calls=number, example=examples[key],
        )
        for key, number in counts.most_common()
    ]  # fmt: skip


class _Replay:
    """One call under a proposed policy."""

    def __init__(self, call: ObservedCall, proposed: Document, earlier: Document | None) -> None:
        self._call = call
        self._new = proposed
        self._old = earlier
        self._section = proposed.agents.get(call.agent)
        self._before = None if earlier is None else earlier.agents.get(call.agent)

    def answer(self) -> tuple[Answer, str]:
        section, call = self._section, self._call
        if section is None:
            return "deny", "unknown_agent"
        circumstance = self._circumstance(section)
        if circumstance is not None:
            return "deny", circumstance
        prohibited = self._prohibited()
        if prohibited[0] == "yes":
            return "deny", prohibited[1]
        answer, why = self._granted(section)
        if answer in ("allow", "ask"):
            if prohibited[0] == "unknown":
                return "unknown", f"{prohibited[1]}: the values are not in the log"
            if self._new.cedar is not None:
                narrowed = self._narrowed(self._new.cedar)
                if narrowed is not None:
                    return narrowed
            if call.delegated:
                return "unknown", "delegation: the policies of several agents counted"
        return answer, why

    def _narrowed(self, cedar: str) -> tuple[Answer, str] | None:
        """What Cedar makes of it: known only where the very same text was asked about the call."""
        same = self._old is not None and self._old.cedar == cedar
        if same and self._call.code == "cedar":
            return "deny", "cedar"
        if same and self._call.code in ("ok", "ask"):
            return None
        return "unknown", "cedar: its conditions need values that are not in the log"

    def _circumstance(self, section: AgentSection) -> str | None:
        call, match = self._call, section.match
        if match.team is not None and call.team not in match.team:
            return "match"
        if match.environment is not None and call.environment not in match.environment:
            return "match"
        for key, need in section.scope.items():
            if need == "required" and key not in call.scope:
                return "scope"
        windows = section.windows
        if windows is not None and not any(self._new.windows[w].is_open(call.at) for w in windows):
            return "window"
        return self._data(section) if call.kind in ("tool", "retrieval") else None

    def _data(self, section: AgentSection) -> str | None:
        classes = self._new.data_classes
        clearance = classes.index(section.max_data_class) if section.max_data_class else 0
        for name, tool in self._new.tools.items():
            if NamePattern.parse(name).matches(self._call.name):
                if tool.data_class and classes.index(tool.data_class) > clearance:
                    return "data_class"
                if tool.purposes is not None and section.purpose not in tool.purposes:
                    return "purpose"
        return None

    def _prohibited(self) -> tuple[_Fit, str]:
        """Whether a deny rule hits; one that looks at values only where the old one had it, too."""
        found: tuple[_Fit, str] = ("no", "")
        for index, rule in enumerate(self._new.deny):
            if not self._concerns(rule, self._new):
                continue
            name = f"deny/{rule.id or index}"
            if rule.any_arg is None:
                return "yes", name
            if self._call.arguments or not self._call.complete:
                # Who the old policy did not know was refused before any of its rules was looked at.
                known = (
                    self._before is not None
                    and self._call.code != "denied_by_rule"
                    and any(
                        old.any_arg == rule.any_arg and self._concerns(old, self._old)
                        for old in (self._old.deny if self._old else ())
                    )
                )
                found = found if known else ("unknown", name)
        return found

    def _concerns(self, rule: DenyRule, document: Document | None) -> bool:
        if document is None or (rule.agents is not None and self._call.agent not in rule.agents):
            return False
        wanted = rule.models if self._call.kind == "model" else rule.tools
        return self._call.kind != "delegation" and _names(wanted or (), self._call.name, document)

    def _granted(self, section: AgentSection) -> tuple[Answer, str]:
        call = self._call
        if call.kind == "delegation":
            listed = call.name in section.delegates_to
            return ("allow", "delegates_to") if listed else ("deny", "delegation")
        if call.kind == "model":
            return self._model(section)
        grants, maybe = self._first_fit(section.grants)
        if grants is not None:
            return "allow", grants
        asks, unsure = self._first_fit(section.approvals)
        if maybe or unsure:
            return "unknown", f"{maybe or unsure}: the values are not in the log"
        return ("ask", asks) if asks is not None else ("deny", "no grant fits")

    def _first_fit(self, rules: Sequence[Grant | ApprovalRule]) -> tuple[str | None, str | None]:
        """The first rule that surely fits, else the first that perhaps does."""
        perhaps = None
        for index, rule in enumerate(rules):
            if _names(rule.tools, self._call.name, self._new):
                name = f"{self._call.agent}/{rule.id or index}"
                fits = self._fits(_conditions(rule), rule.unknown_args)
                if fits == "yes":
                    return name, None
                perhaps = perhaps or (name if fits == "unknown" else None)
        return None, perhaps

    def _model(self, section: AgentSection) -> tuple[Answer, str]:
        if not _names(section.models.allow, self._call.name, self._new):
            return "deny", "model"
        cap, asked = section.models.max_output_tokens, self._call.max_output_tokens
        if cap is not None and (asked is None or asked > cap):
            return "deny", "model.max_output_tokens"
        return "allow", "models"

    def _fits(self, wanted: Mapping[str, Constraint], unknown: UnknownArguments) -> _Fit:
        call = self._call
        if call.complete:
            if any(not c.optional and name not in call.arguments for name, c in wanted.items()):
                return "no"
        strangers = call.arguments - set(wanted) - call.injected
        if strangers and unknown == "deny":
            return "no"
        known = call.complete or unknown == "allow"
        conditions = [(name, wanted[name]) for name in call.arguments if name in wanted]
        if known and all(_asks_nothing(c) or self._held(name, c) for name, c in conditions):
            return "yes"
        return "unknown"

    def _held(self, argument: str, wanted: Constraint) -> bool:
        """Whether every old rule that can have let the call pass had this very condition."""
        if self._call.effect == "deny" or self._before is None or self._old is None:
            return False
        rules = self._before.grants if self._call.effect == "allow" else self._before.approvals
        able = [
            _conditions(rule) for rule in rules if _names(rule.tools, self._call.name, self._old)
        ]
        return bool(able) and all(argument in old and _same(old[argument], wanted) for old in able)


def _conditions(rule: Grant | ApprovalRule) -> Mapping[str, Constraint]:
    return rule.args if isinstance(rule, Grant) else rule.when


def _same(old: Constraint, new: Constraint) -> bool:
    """Whether two constraints are the same, `1`, `1.0` and `true` being three different things."""
    return _written(old) == _written(new)


def _asks_nothing(constraint: Constraint) -> bool:
    return _written(constraint) == _written(Constraint())


def _written(constraint: Constraint) -> str:
    return constraint.model_dump_json(exclude={"optional"})


def _names(patterns: Iterable[str], name: str, document: Document) -> bool:
    return any(pattern.matches(name) for pattern in _expanded(patterns, document))


def _expanded(patterns: Iterable[str], document: Document) -> Iterator[NamePattern]:
    for text in patterns:
        for each in document.sets.get(text[1:], []) if text.startswith("@") else [text]:
            yield NamePattern.parse(each)

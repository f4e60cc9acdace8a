"""What an allowed call is bound to: who pays, how often, how long, and what the data is for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from tabard.budget.periods import Period
from tabard.policy.names import NameIndex

_MEMO_LIMIT = 4096
"""Names remembered; a model that invents tool names must not fill the memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """That a person has to agree first.

    Attributes:
        rule: The rule that asks.
        role: Who may answer.
        ttl: Seconds there are for an answer, and then for the call.
        shown: The arguments whose values the approver gets to see.
    """

    rule: str
    role: str
    ttl: int
    shown: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetLimit:
    """The most that may be spent in a period, in nano-units of the policy's currency."""

    rule: str
    currency: str
    per: Period
    limit: int
    tz: str
    of: Literal["agent", "team"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RateCap:
    """The most calls there may be in any stretch of `per` seconds.

    Its key does not change when other limits of the file do.
    """

    rule: str
    key: str
    limit: int
    per: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DataUse:
    """What data a call is about, and why; on record with it."""

    data_class: str | None = None
    asset: str | None = None
    purpose: str | None = None
    legal_basis: str | None = None
    data_subjects: tuple[str, ...] = ()
    retention_days: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolFacts:
    """What a tool is, whoever uses it.

    Attributes:
        data_class: The class of its data, or None.
        rank: The place of that class in the policy's list; -1 without one.
        asset: What it reaches, in the operator's words.
        purposes: What it may be used for; None for anything.
        cost: Nano-units a call of it takes.
        kept_arguments: The arguments that are kept, encrypted.
        keeps_result: Whether its result is.
        rule: The entry that says so.
    """

    data_class: str | None
    rank: int
    asset: str | None
    purposes: frozenset[str] | None
    cost: int
    kept_arguments: tuple[str, ...]
    keeps_result: bool
    rule: str

    def joined(self, other: ToolFacts) -> ToolFacts:
        """The facts of a tool that two entries are about: the stricter of each."""
        higher = self if self.rank >= other.rank else other
        both = (self.purposes, other.purposes)
        some = [purposes for purposes in both if purposes is not None]
        return ToolFacts(
            data_class=higher.data_class,
            rank=higher.rank,
            asset=self.asset or other.asset,
            purposes=frozenset.intersection(*some) if some else None,
            cost=max(self.cost, other.cost),
            kept_arguments=tuple(dict.fromkeys((*self.kept_arguments, *other.kept_arguments))),
            keeps_result=self.keeps_result or other.keeps_result,
            rule=higher.rule,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What the store has to agree to before an allowed call runs, and what is on record of it.

    Attributes:
        budgets: Those it is paid from.
        cost: Nano-units it takes for sure (a tool's price); a model's is worked out.
        rates: The limits it counts against.
        max_output_tokens: The longest answer of a model, or None.
        data: What data it is about.
        kept_arguments: The arguments that are kept, encrypted; all others are committed to only.
        keeps_result: Whether the result is kept as well.
        mode: Whether these limits block, or are only recorded: as their agent's section says.
    """

    budgets: tuple[BudgetLimit, ...] = ()
    cost: int = 0
    rates: tuple[RateCap, ...] = ()
    max_output_tokens: int | None = None
    data: DataUse | None = None
    kept_arguments: tuple[str, ...] = ()
    keeps_result: bool = False
    mode: Literal["enforce", "shadow"] = "enforce"


class TermsTable:
    """The terms of one agent, worked out once per tool name."""

    __slots__ = (
        "_data",
        "_facts",
        "_memo",
        "_mode",
        "_rates",
        "budgets",
        "of_delegations",
        "of_models",
    )

    def __init__(
        self,
        *,
        budgets: tuple[BudgetLimit, ...],
        rates: NameIndex[RateCap],
        max_output_tokens: int | None,
        data: DataUse | None,
        mode: Literal["enforce", "shadow"],
        facts: Callable[[str], ToolFacts | None],
    ) -> None:
        self.budgets = budgets
        self._mode = mode
        self._rates = rates
        self._data = data
        self._facts = facts
        self._memo: dict[str, Terms | None] = {}
        self.of_delegations = self._some(Terms(data=data))
        self.of_models = self._some(
            Terms(budgets=budgets, max_output_tokens=max_output_tokens, data=data)
        )

    def of_tool(self, name: str) -> Terms | None:
        """The terms of a tool, or None when there are none."""
        try:
            return self._memo[name]
        except KeyError:
            if len(self._memo) >= _MEMO_LIMIT:
                self._memo.clear()
            found = self._memo[name] = self._work_out(name)
            return found

    def _work_out(self, name: str) -> Terms | None:
        facts = self._facts(name)
        data, cost = self._data, 0
        kept: tuple[str, ...] = ()
        keeps_result = False
        if facts is not None:
            cost, kept, keeps_result = facts.cost, facts.kept_arguments, facts.keeps_result
            if facts.data_class or facts.asset:
                known = data or DataUse()
                data = replace(known, data_class=facts.data_class, asset=facts.asset)
        budgets = self.budgets if cost else ()
        rates = self._rates.matching(name)
        return self._some(
            Terms(
                budgets=budgets,
                cost=cost,
                rates=rates,
                data=data,
                kept_arguments=kept,
                keeps_result=keeps_result,
            )
        )

    def _some(self, terms: Terms) -> Terms | None:
        return None if terms == Terms() else replace(terms, mode=self._mode)

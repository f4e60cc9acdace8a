"""Compiles what a policy says about money, rates and data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, time
from typing import TypeVar

from tabard.budget.pricing import ModelPrice
from tabard.policy.document import AgentSection, Document
from tabard.policy.names import NameIndex
from tabard.policy.patterns import NamePattern
from tabard.policy.rules import ToolTable
from tabard.policy.spending import Price, RateLimit
from tabard.policy.tariff import OwnPrice, PinnedRate, Tariff
from tabard.policy.terms import BudgetLimit, DataUse, RateCap, TermsTable, ToolFacts

Section = TypeVar("Section")


def compile_tools(document: Document) -> NameIndex[ToolFacts]:
    """What each tool is, by name."""
    return NameIndex(
        (
            pattern,
            ToolFacts(
                data_class=section.data_class,
                rank=-1 if section.data_class is None else rank_of(section.data_class, document),
                asset=section.asset,
                purposes=None if section.purposes is None else frozenset(section.purposes),
                cost=section.cost,
                kept_arguments=section.capture.args,
                keeps_result=section.capture.result,
                rule=f"tools/{pattern.text}",
            ),
        )
        for pattern, section in _closest_first(document.tools)
    )


def _closest_first(sections: Mapping[str, Section]) -> Iterator[tuple[NamePattern, Section]]:
    """Entries by name, the closest pattern first: the digest does not know the file's order."""
    parsed = [NamePattern.parse(name) for name in sorted(sections)]
    for pattern in sorted(parsed, key=lambda one: one.closeness, reverse=True):
        yield pattern, sections[pattern.text]


def rank_of(data_class: str, document: Document) -> int:
    """The place of a data class in the policy's list, 0 for the lowest."""
    return document.data_classes.index(data_class)


def compile_tariff(document: Document) -> Tariff:
    """The currency, the exchange rates and the operator's own prices."""
    return Tariff(
        currency=document.currency,
        rates={
            currency: PinnedRate(
                rate=pinned.rate,
                since=datetime.combine(pinned.as_of, time(), UTC).timestamp(),
                day=pinned.as_of.isoformat(),
            )
            for currency, pinned in document.fx.items()
        },
        prices=NameIndex(
            (pattern, OwnPrice(pattern.closeness, _compile_price(price, document.currency)))
            for pattern, price in _closest_first(document.prices)
        ),
    )


def _compile_price(price: Price, currency: str) -> ModelPrice:
    return ModelPrice(
        input=price.input,
        output=price.output,
        cache_read=price.cache_read,
        cache_write=price.cache_write,
        currency=price.currency or currency,
    )


def compile_terms(
    agent: str, section: AgentSection, document: Document, tools: ToolTable
) -> TermsTable:
    """What the calls of one agent are bound to."""
    return TermsTable(
        budgets=tuple(
            BudgetLimit(
                rule=f"{agent}/budgets[{index}]",
                currency=document.currency,
                per=budget.per,
                limit=budget.limit,
                tz=budget.tz,
                of=budget.of,
            )
            for index, budget in enumerate(section.budgets)
        ),
        rates=NameIndex(
            (NamePattern.parse(tool), cap)
            for index, rate in enumerate(section.rates)
            for cap in [_compile_rate(f"{agent}/rates[{index}]", rate)]
            for tool in rate.tools
        ),
        max_output_tokens=section.models.max_output_tokens,
        data=_compile_purpose(section.purpose, document),
        mode=section.mode or document.mode,
        facts=tools.facts,
    )


def _compile_rate(rule: str, rate: RateLimit) -> RateCap:
    key = f"{rate.per}s:{','.join(sorted(rate.tools))}"
    return RateCap(rule=rule, key=key, limit=rate.limit, per=rate.per)


def _compile_purpose(name: str | None, document: Document) -> DataUse | None:
    if name is None:
        return None
    purpose = document.purposes[name]
    return DataUse(
        purpose=name,
        legal_basis=purpose.legal_basis,
        data_subjects=purpose.data_subjects,
        retention_days=purpose.retention_days,
    )

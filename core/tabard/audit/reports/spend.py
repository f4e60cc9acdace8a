"""`report spend`: what was held and spent, by budget period, agent, and model, against limits."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from tabard.audit.entries import Entry
from tabard.audit.reports.asked import Asked, asked_section, nothing_section
from tabard.audit.reports.charges import Account, Charges
from tabard.audit.reports.reading import Reading, Tally, moment, text, time_of, whole
from tabard.audit.reports.report import (
    Bar,
    Bars,
    Cell,
    Cites,
    LogFacts,
    Money,
    Report,
    Row,
    Section,
    Span,
    Table,
)
from tabard.budget.money import format_amount

if TYPE_CHECKING:
    from tabard.audit.reports.declared import Declared

_BARS = 20
_MONEY = ("held at most", "settled", "estimated", "expired", "still held", "calls")


def report_spend(
    entries: Iterable[Entry],
    log: LogFacts,
    declared: Declared | None = None,
    *,
    span: Span | None = None,
) -> Report:
    """What was spent.

    Args:
        entries: Those of the span, oldest first.
        log: The log they come from.
        declared: The policy with the limits; None for none.
        span: What was asked for.

    Raises:
        AuditError: An entry has no time.
    """
    reading, charges, decisions = Reading(entries), Charges(), 0
    for entry in reading:
        decisions += entry.kind.endswith(".decision")
        charges.add(entry)
    parts = [*_sections(charges, declared)] if decisions else [nothing_section("decision")]
    return Report(
        name="spend",
        title="Spending",
        question="What did the calls of which agent cost, and how much of which budget is used?",
        law=("no text asks for this report", "OWASP ASI08 (cascading failures)"),
        span=span or Span(),
        extent=reading.extent,
        log=log,
        policy=None if declared is None else declared.policy.digest,
        sections=(*parts, _not_told(charges)),
    )


def _sections(charges: Charges, declared: Declared | None) -> Iterator[Section]:
    yield _windows(charges, declared)
    yield _accounts(
        "By agent and team",
        ("agent", "team"),
        {(agent, team): (one, cur) for (cur, agent, team), one in charges.agents.items()}
        if len({key[0] for key in charges.agents}) < 2
        else {(f"{a}, {cur}", t): (one, cur) for (cur, a, t), one in charges.agents.items()},
    )
    yield _accounts(
        "By model and tool",
        ("model or tool",),
        {(f"{action}, {cur}",): (one, cur) for (cur, action), one in charges.actions.items()},
        tokens=True,
    )
    yield _events(charges)


def _windows(charges: Charges, declared: Declared | None) -> Section:
    rows, bars = [], []
    for key, account in sorted(charges.windows.items(), key=lambda item: -item[1].used):
        currency, whose, period = _read_key(key)
        limit = _limit(key, charges.drawn_by[key], declared)
        most: Cell = (
            "not in the policy" if limit is None else Money(amount=limit, currency=currency)
        )
        share = "" if not limit else f"{100 * account.used / limit:.1f} %"
        rows.append(
            Row(
                cells=(whose, period, *_money(account, currency), most, share),
                cites=account.tally.cites,
            )
        )
        words = format_amount(account.used, currency)
        if limit is not None:
            words += f" of {format_amount(limit, currency)}"
        bars.append(
            Bar(label=f"{_short(whose)}, {period}", value=account.used, words=words, limit=limit)
        )
    columns = ("paid by", "period", *_MONEY, "limit", "used")
    limited = [bar for bar in bars if bar.limit is not None][:_BARS]
    charts = (Bars(title="Spent and held against budgets", bars=tuple(limited)),) if limited else ()
    return Section(
        heading="By budget period",
        intro="A call that is paid from several budgets counts in each. The limit is the one of "
        "the policy the report was given, the lowest where agents of a team differ.",
        table=Table(columns=columns, rows=tuple(rows)),
        charts=charts,
    )


def _read_key(key: str) -> tuple[str, str, str]:
    """The currency, the payer and the period of a budget period's name."""
    whose, _, period = key.rpartition("|")
    currency, _, payer = whose.partition(" ")
    return currency, payer, period


def _short(whose: str) -> str:
    return whose.rpartition("/")[2]


def _limit(key: str, agents: set[str], declared: Declared | None) -> int | None:
    """What the policy says of a budget period, by the agents that have drawn on it."""
    currency, whose, period = _read_key(key)
    per, _, rest = period.partition(":")
    zone = rest.rpartition(":")[2] if per in ("hour", "day", "month") else "UTC"
    wanted = (currency, whose.partition(" ")[0], per, zone)
    rules = {} if declared is None else declared.policy.agents
    limits = [
        budget.limit
        for name in agents
        if name in rules
        for budget in rules[name].terms.budgets
        if (budget.currency, budget.of, budget.per, budget.tz) == wanted
    ]
    return min(limits, default=None)


def _money(account: Account, currency: str) -> tuple[Cell, ...]:
    amounts = (account.held, account.settled, account.estimated, account.expired, account.open)
    return (*(Money(amount=one, currency=currency) for one in amounts), account.tally.count)


def _accounts(
    heading: str,
    names: tuple[str, ...],
    accounts: dict[tuple[str, ...], tuple[Account, str]],
    *,
    tokens: bool = False,
) -> Section:
    rows = []
    for name, (account, currency) in sorted(accounts.items(), key=lambda i: (-i[1][0].used, i[0])):
        used: tuple[Cell, ...] = (account.input_tokens, account.output_tokens) if tokens else ()
        cells = (*name, *_money(account, currency), *used)
        rows.append(Row(cells=cells, cites=account.tally.cites))
    columns = (*names, *_MONEY, *(("input tokens", "output tokens") if tokens else ()))
    return Section(
        heading=heading,
        intro="Each call counts once.",
        table=Table(columns=columns, rows=tuple(rows)),
    )


def _events(charges: Charges) -> Section:
    told: tuple[tuple[str, Tally], ...] = (
        ("calls refused for want of money or of a price", charges.stopped),
        ("ends of calls that were decided before the span", charges.late),
    )
    rows = [
        Row(cells=(what, tally.count, moment(tally.last), None), cites=tally.cites)
        for what, tally in told
        if tally.count
    ]
    for entry in charges.resets:
        key, reason = text(entry, "budget.key"), text(entry, "reason")
        spent = Money(amount=whole(entry, "budget.spent"), currency=_read_key(key)[0])
        cells = (f"begun anew: {key}", spent, moment(time_of(entry)), reason)
        rows.append(Row(cells=cells, cites=Cites.of([entry.index])))
    columns = ("what", "count or amount", "last", "reason")
    return Section(
        heading="Stops and corrections",
        intro="What the sums above do not show.",
        table=Table(columns=columns, rows=tuple(rows)),
    )


def _not_told(charges: Charges) -> Section:
    count = charges.unpriced.count
    return asked_section(
        "What this log cannot tell",
        [
            Asked(
                point="invoices",
                what="what the providers have billed",
                supplier="the providers' invoices; prices here are those of the policy or of a "
                "list",
            ),
            Asked(
                point="unpriced calls",
                what="the cost of model calls that no budget pays for",
                shown=f"{count} such calls ran; no price was worked out" if count else "",
                supplier="the providers' invoices, or a budget in the policy from now on",
                tally=charges.unpriced,
            ),
        ],
    )

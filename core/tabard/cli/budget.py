"""`tabard budget`: what every agent has spent, and starting a period anew."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from tabard.budget import format_amount
from tabard.budgets import Budgets, Standing
from tabard.cli.output import AsJson, Author, Reason, bar, print_json, print_table, say
from tabard.cli.sources import PolicyOption, chosen_policy
from tabard.home import Home
from tabard.store import SqliteStore

app = typer.Typer(help="Budgets.", no_args_is_help=True)

_SESSIONS = 5
"""Sessions of a budget that a table shows."""


@app.command()
def show(
    context: typer.Context,
    agent: Annotated[str | None, typer.Option(help="A name, or a SPIFFE ID; default all.")] = None,
    policy: PolicyOption = None,
    as_json: AsJson = False,
) -> None:
    """Show what every budget has taken in its present period; --json counts in nano-units."""
    store = SqliteStore(Home.locate(context.obj).database)
    rules = chosen_policy(store, policy)
    standings = Budgets(store).standings(rules, agent=agent)
    if as_json:
        print_json(map(_facts, standings))
        return
    shown = _fullest(standings)
    columns = ("agent", "used", "spent", "held", "limit", "period")
    title = f"{len(shown)} budgets, in {rules.tariff.currency}; --json names their windows"
    print_table(title, columns, map(_row, shown))
    if len(shown) < len(standings):
        say(f"and {len(standings) - len(shown)} more sessions; --json has them all")


@app.command()
def reset(
    context: typer.Context,
    key: Annotated[
        str, typer.Argument(help="The window, as `budget show --json` names it (`key`).")
    ],
    reason: Reason,
    author: Author = None,
    as_json: AsJson = False,
) -> None:
    """Forget what a window has spent; what is held for calls in progress stays."""
    with Budgets.open(context.obj) as budgets:
        was = budgets.reset(key, reason=reason, author=author)
    if as_json:
        print_json([{"key": was.key, "was_spent": was.spent, "held": was.held}])
        return
    say(f"{key} begins again at nothing")


def _fullest(standings: list[Standing]) -> list[Standing]:
    """Everything but those of a budget's sessions that have used less than the first few."""
    shown: list[Standing] = []
    for one in standings:
        alike = [s for s in shown if (s.agent, s.budget) == (one.agent, one.budget)]
        if len(alike) < _SESSIONS:
            shown.append(one)
    return shown


def _row(one: Standing) -> tuple[object, ...]:
    limit = one.budget.limit
    period = f"{one.budget.per}, none yet" if one.key is None else one.key.rpartition("|")[2]
    return (
        f"{one.agent.name} ({one.agent.environment})",
        bar(one.spent + one.held, limit),
        *(_amount(amount, one.currency) for amount in (one.spent, one.held, limit)),
        period if one.budget.of == "agent" else f"{period} of the team",
    )


def _amount(amount: int, currency: str) -> str:
    """An amount without its currency, which the title of the table names."""
    return format_amount(amount, currency).removeprefix(f"{currency} ")


def _facts(one: Standing) -> dict[str, Any]:
    return {
        "agent": str(one.agent.spiffe_id),
        "rule": one.budget.rule,
        "per": one.budget.per,
        "of": one.budget.of,
        "key": one.key,
        "currency": one.currency,
        "limit": one.budget.limit,
        "spent": one.spent,
        "held": one.held,
    }

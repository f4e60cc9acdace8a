"""Prints what the demo found, in tables."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console
from rich.table import Table

from tabard import Guard

console = Console(highlight=False)

SIX_LINES = """\
from tabard import Authority, Guard
from tabard_langchain import TabardCallbackHandler
authority = Authority.open(".tabard", trust_domain="acme.example")
authority.register("claims-agent", team="claims", environment="dev")
with Guard.open(".tabard", policy="policy.yaml").login(authority.source("claims-agent")):
    your_agent.invoke(question, config={"callbacks": [TabardCallbackHandler()]})"""


def heading(text: str) -> None:
    """Begin a part of the demo."""
    console.print(f"\n[bold]{text}[/bold]")


def say(text: str) -> None:
    """One line."""
    console.print(f"  {text}", markup=False)


def provider_calls(calls: Iterable[tuple[str, str]]) -> None:
    """The calls as the provider sees them."""
    table = Table("call", "API key", "model", "which agent?")
    for number, (key, model) in enumerate(calls, start=1):
        table.add_row(str(number), key, model, "[dim]nobody knows[/dim]")
    console.print(table)


def decisions(guard: Guard, *, after: int = 0) -> int:
    """The decisions since a record, as tabard recorded them; returns how many records there are."""
    table = Table()
    for column in ("agent, session", "action", "decision", "rule, reason"):
        table.add_column(column, overflow="fold")
    records = list(guard.records())
    for record in records[after:]:
        if record["type"].endswith(".decision"):
            decision = record["decision"]
            allowed = decision["effect"] == "allow"
            verdict = "[green]allow[/green]" if allowed else f"[red]deny[/red]\n{decision['code']}"
            who = f"{record['agent']['name']}\n[dim]{record['session'][:6]}[/dim]"
            action = f"{record['action']['kind']}\n{record['action']['name']}"
            table.add_row(who, action, verdict, f"{decision['rule'] or '-'}\n{decision['reason']}")
    console.print(table)
    return len(records)


def six_lines() -> None:
    """What to paste into one's own code."""
    heading("Six lines for your own code")
    console.print(SIX_LINES, style="cyan", markup=False, soft_wrap=True)

"""`tabard policy replay` and `suggest`: what the log has to say about a policy."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Annotated

import typer

from tabard.cli.output import AsJson, print_json, print_table, say
from tabard.clock import read_clock, system_clock
from tabard.errors import ConfigurationError
from tabard.home import Home
from tabard.identity.agent import find_agent
from tabard.policy.document import Document
from tabard.policy.loader import load_document
from tabard.policy.observed import ObservedCall, observed_calls
from tabard.policy.replay import Difference, replay
from tabard.policy.suggestion import suggest_grants
from tabard.store import SqliteStore

app = typer.Typer()

_SPAN = re.compile(r"([1-9][0-9]{0,5})([mhd])", re.ASCII)
_SECONDS = {"m": 60, "h": 3600, "d": 86_400}
_NOT_TOLD = (
    "identity, rates, budgets and what delegated calls owe to other policies are not replayed"
)

Since = Annotated[str, typer.Option(help="How far back: 90m, 12h, 30d.")]


@app.command("replay")
def replay_log(
    context: typer.Context,
    policy: Annotated[Path, typer.Option(help="The proposed policy.")],
    since: Since = "30d",
    as_json: AsJson = False,
) -> None:
    """Say which calls of the log a policy would answer in another way, or perhaps."""
    proposed, _ = load_document(policy)
    store = SqliteStore(Home.locate(context.obj).database)

    @cache
    def earlier(digest: str) -> Document | None:
        text = store.policy_text(digest)
        return None if text is None else load_document(text if "\n" in text else text + "\n")[0]

    total, differences = replay(_calls(store, since), proposed, earlier=earlier)
    if as_json:
        print_json(map(_facts, differences))
        return
    columns = ("calls", "agent", "what", "then", "now", "why")
    rows = [
        (d.calls, d.agent, f"{d.kind} {d.name}", d.before, _word(d.after), d.why)
        for d in differences
    ]
    print_table(f"{total} calls replayed; {_NOT_TOLD}", columns, rows)
    if not differences:
        say("every one would be decided as it was")


@app.command()
def suggest(
    context: typer.Context,
    agent: Annotated[str, typer.Option(help="A name, or a SPIFFE ID.")],
    since: Since = "7d",
) -> None:
    """Write the grants that cover what an agent did, and nothing else; as YAML."""
    store = SqliteStore(Home.locate(context.obj).database)
    found = find_agent(store.agents(), agent)
    calls = (c for c in _calls(store, since) if c.spiffe_id == str(found.spiffe_id))
    typer.echo(suggest_grants(calls, found.name), nl=False)


def _calls(store: SqliteStore, since: str) -> list[ObservedCall]:
    match = _SPAN.fullmatch(since)
    if match is None:
        raise ConfigurationError("--since: expected a time such as 90m, 12h or 30d")
    start = read_clock(system_clock) - int(match[1]) * _SECONDS[match[2]]
    records = (record.parse() for record in store.stored_records())
    return list(observed_calls(records, since=start))


def _word(answer: str) -> str:
    return "cannot be told" if answer == "unknown" else answer


def _facts(difference: Difference) -> dict[str, object]:
    return {name: getattr(difference, name) for name in Difference.__slots__}

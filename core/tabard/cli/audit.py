"""`tabard audit`: what happened, and whether the log still says so."""

from __future__ import annotations

from collections import deque
from typing import Annotated, Any

import typer

from tabard.audit import verify_log
from tabard.cli.output import AsJson, print_json, print_table, say
from tabard.errors import AuditError
from tabard.home import Home
from tabard.store import SqliteStore

app = typer.Typer(help="The audit log.", no_args_is_help=True)


@app.command()
def tail(
    context: typer.Context,
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, help="How many records.")] = 20,
    as_json: AsJson = False,
) -> None:
    """Show the latest records; what only links them (`writer.*`) is shown by --json."""
    store = SqliteStore(Home.locate(context.obj).database)
    _, last = store.extent()
    records = deque(store.stored_records(after=max(0, last - lines)), maxlen=lines)
    if as_json:
        print_json({"index": record.index, **record.parse()} for record in records)
        return
    columns = ("entry", "time (UTC)", "agent", "what", "verdict", "why")
    parsed = [(record.index, record.parse()) for record in records]
    rows = [(i, *_row(r)) for i, r in parsed if not str(r.get("type")).startswith("writer.")]
    print_table(f"among the latest {len(records)} of {last} records", columns, rows)


@app.command()
def verify(context: typer.Context, as_json: AsJson = False) -> None:
    """Check every record: nothing changed, nothing missing, nothing out of order."""
    store = SqliteStore(Home.locate(context.obj).database)
    try:
        result = verify_log(store)
    except AuditError as error:
        if as_json:
            print_json([{"verified": False, "entry": error.entry, "reason": str(error)}])
            raise typer.Exit(1) from None
        raise
    if as_json:
        facts = {
            "verified": True,
            "records": result.records,
            "writers": result.writers,
            "open_writers": list(result.open_writers),
            "not_proven": list(result.not_proven),
        }
        print_json([facts])
        return
    say(f"verified: {result.records} records by {result.writers} writers, none changed or missing")
    for writer in result.open_writers:
        say(f"open: writer {writer} is still running, or ended without a closing record")
    for limit in result.not_proven:
        say(f"not proven: {limit}")


def _row(record: dict[str, Any]) -> tuple[object, ...]:
    """The cells of a record in the table of `tail`: who, what, the answer, and its ground."""
    agent = record.get("agent") or record.get("subject") or {}
    decision, outcome = record.get("decision") or {}, record.get("outcome") or {}
    action = (record.get("action") or {}).get("name")
    kind = str(record.get("type", ""))
    effect = decision.get("effect") or outcome.get("status") or ""
    code = decision.get("code") or outcome.get("error_type") or "ok"
    shadow = "shadow " if decision.get("mode") == "shadow" else ""
    allowed = effect == "allow"
    ground = decision.get("rule") if allowed else decision.get("reason") or record.get("reason")
    return (
        str(record.get("ts", ""))[5:19].replace("T", " "),
        agent.get("name") or "-",
        f"{kind.partition('.')[0]} {action}" if action else kind,
        f"{shadow}{effect}" + ("" if code == "ok" else f" {code}"),
        ground or "",
    )

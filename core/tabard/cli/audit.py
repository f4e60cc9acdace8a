"""`tabard audit`: what happened, who did it, and whether the log still says so."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from tabard.audit.entries import (
    Call,
    Entry,
    Filter,
    calls_among,
    find_calls,
    find_entries,
    read_moment,
)
from tabard.budget import format_amount
from tabard.cli import proof, retention, seal, ship, ui
from tabard.cli.output import AsJson, is_roomy, print_json, print_table, say
from tabard.errors import ConfigurationError
from tabard.home import Home
from tabard.store import SqliteStore

app = typer.Typer(help="The audit log.", no_args_is_help=True)
app.add_typer(seal.app)
app.add_typer(proof.app)
app.add_typer(retention.app)
app.add_typer(ship.app)
app.add_typer(ui.app)

_POLL = 0.5
"""Seconds between two looks of `tail --follow`."""

Agent = Annotated[str | None, typer.Option(help="The agent's name or SPIFFE ID.")]
OneSession = Annotated[str | None, typer.Option(help="The session's id.")]
Action = Annotated[
    str | None, typer.Option(help="The tool, model or retriever, e.g. payments.*; quote the star.")
]
Verdict = Annotated[str | None, typer.Option("--decision", help="allow, deny, ask, or a code.")]
Since = Annotated[str | None, typer.Option(help="The earliest time, e.g. 2026-11-25T09:30 (UTC).")]
Until = Annotated[str | None, typer.Option(help="The time before which it was.")]


@app.command()
def tail(
    context: typer.Context,
    lines: Annotated[
        int, typer.Option("--lines", "-n", min=1, max=10**9, help="How many records.")
    ] = 20,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as they come.")] = False,
    agent: Agent = None,
    session: OneSession = None,
    action: Action = None,
    decision: Verdict = None,
    since: Since = None,
    until: Until = None,
    as_json: AsJson = False,
) -> None:
    """Show the latest records; what only links them (`writer.*`) is shown by --json."""
    store = SqliteStore(Home.locate(context.obj).database)
    wanted = Filter(
        agent=agent,
        session=session,
        action=action,
        decision=decision,
        since=read_moment(since),
        until=read_moment(until),
    )
    _, last = store.extent()
    everything = wanted == Filter()
    after = max(0, last - lines) if everything else 0
    found = deque(find_entries(store, wanted, after=after), maxlen=lines)
    if as_json:
        print_json(_as_json(entry) for entry in found)
    else:
        columns = ("entry", "time (UTC)", "agent", "what", "verdict", "why")
        rows = [(e.index, *_row(e.fields)) for e in found if not e.kind.startswith("writer.")]
        which = f"the latest {len(found)} of {last} records" if everything else "what was asked for"
        title = f"{len(rows)} among {which}; those that only link others are left out"
        if is_roomy():
            print_table(title, columns, rows)
        else:  # a table would cut words in two
            for row in (title, *(_line(row) for row in rows)):
                say(row)
    if follow:
        _follow(store, wanted, max(last, found[-1].index if found else 0), as_json)


def _follow(store: SqliteStore, wanted: Filter, after: int, as_json: bool) -> None:
    """Print records as they are written, until somebody interrupts."""
    try:
        while True:
            for entry in find_entries(store, wanted, after=after):
                after = entry.index
                if as_json:
                    print_json([_as_json(entry)])
                elif not entry.kind.startswith("writer."):
                    say(_line((entry.index, *_row(entry.fields))))
            time.sleep(_POLL)
    except KeyboardInterrupt:
        return


@app.command()
def show(
    context: typer.Context,
    entry: Annotated[int, typer.Argument(min=1, max=2**63 - 1, help="The record's number.")],
    as_json: AsJson = False,
) -> None:
    """Show one record with everything in it."""
    store = SqliteStore(Home.locate(context.obj).database)
    record = next(store.stored_records(after=entry - 1), None)
    if record is None or record.index != entry:
        raise ConfigurationError(f"no entry {entry} in the log")
    found = Entry.of(record)
    if as_json:
        print_json([_as_json(found)])
        return
    rows = [*_flat(found.fields), ("leaf", found.leaf)]
    if found.kind.endswith(".decision"):
        rows += [("what became of it", call.ending) for call in find_calls(store, str(entry))]
    for name, value in rows:
        say(f"{name:<24} {value}")


@app.command()
def who(
    context: typer.Context,
    call: Annotated[
        str | None,
        typer.Argument(help="The id of a call: tabard's, the framework's or the provider's."),
    ] = None,
    tool: Action = None,
    since: Since = None,
    until: Until = None,
    as_json: AsJson = False,
) -> None:
    """Say which agent made a call, for whom, by which rule, at what cost, with which proof."""
    store = SqliteStore(Home.locate(context.obj).database)
    if (call is None) == (tool is None):
        raise ConfigurationError("audit who: give the id of a call, or --tool with --since/--until")
    if call is not None:
        calls = find_calls(store, call)
    else:
        wanted = Filter(action=tool, since=read_moment(since), until=read_moment(until))
        calls = calls_among(store, wanted)
    if not calls:
        raise ConfigurationError("no such call in the log")
    if as_json:
        print_json(dict(_facts(one)) for one in calls)
        return
    for one in calls:
        say(f"call {one.decision.call}")
        for name, value in _facts(one):
            if value not in (None, "", []):
                say(f"  {name:<16} {value}")


def _facts(call: Call) -> Iterator[tuple[str, object]]:
    """The answers to who made a call, one by one."""
    decision, outcome = call.decision, call.outcome
    yield "agent", decision.get("agent.id")
    yield "instance", decision.get("agent.instance")
    yield "session", decision.get("session")
    yield "acts for", list(_actors(decision.get("act")))
    yield "user (pseudonym)", decision.get("on_behalf_of")
    yield "credential", f"{decision.get('cred.kind')} {decision.get('cred.jti')}"
    yield "time", decision.get("ts")
    yield "action", f"{decision.get('action.kind')} {decision.get('action.name')}"
    yield "framework's id", decision.get("action.call_id")
    yield "provider's id", outcome and outcome.get("provider_id")
    code = decision.get("decision.code")
    yield "decision", f"{decision.get('decision.effect')} ({code})"
    yield "rule", decision.get("decision.rule")
    yield "reason", decision.get("decision.reason")
    yield "policy", decision.get("decision.policy")
    yield "approved by", decision.get("approval.by")
    yield "purpose", decision.get("data.purpose")
    yield "data class", decision.get("data.data_class")
    yield "outcome", call.ending
    cost = outcome and outcome.get("cost")
    yield "cost", cost and format_amount(cost["amount"], cost["currency"])
    entries = [decision.index] if outcome is None else [decision.index, outcome.index]
    yield "entries", entries
    yield "leaf", decision.leaf
    yield (
        "proof",
        "not sealed yet: run `tabard audit checkpoint`"
        if call.sealed is None
        else f"sealed by the checkpoint of {call.sealed} entries; export it to prove it elsewhere",
    )


def _actors(act: object) -> Iterator[str]:
    while isinstance(act, dict):
        yield str(act.get("sub"))
        act = act.get("act")


def _as_json(entry: Entry) -> dict[str, Any]:
    return {"index": entry.index, "leaf": entry.leaf, **entry.fields}


def _flat(members: dict[str, Any], before: str = "") -> Iterator[tuple[str, object]]:
    """The members of a record as dotted paths."""
    for name, value in members.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", value


def _line(row: tuple[object, ...]) -> str:
    return "  ".join(str(cell) for cell in row if cell)


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

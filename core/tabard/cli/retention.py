"""`tabard audit erase|prune|payload`: what is kept about people, and for how long."""

from __future__ import annotations

from typing import Annotated

import typer

from tabard.audit.entries import read_moment
from tabard.audit.fields import encode
from tabard.cli.output import AsJson, Author, Reason, complain, print_json, say
from tabard.clock import read_clock, system_clock
from tabard.errors import AuditError, ConfigurationError
from tabard.home import Home
from tabard.payload import read_payload
from tabard.retention import Retention
from tabard.revocation import explain
from tabard.store import SqliteStore
from tabard.subject import Subjects

app = typer.Typer()

Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


@app.command()
def erase(
    context: typer.Context,
    reason: Reason,
    subject: Annotated[str | None, typer.Option(help="The user's id, as given to login.")] = None,
    pseudonym: Annotated[str | None, typer.Option(help="Or the pseudonym in the log.")] = None,
    author: Author = None,
    as_json: AsJson = False,
) -> None:
    """Forget a user: who their pseudonym was, and what was kept of their calls."""
    subjects = Subjects.open(context.obj)
    done = subjects.erase(user=subject, pseudonym=pseudonym, reason=reason, author=author)
    if as_json:
        print_json([{"pseudonym": done.pseudonym, "payloads": done.payloads}])
        return
    say(f"erased: {done.payloads} payloads; {done.pseudonym} stands for nobody any more")


@app.command()
def prune(
    context: typer.Context,
    before: Annotated[str, typer.Option(help="Records from this time on stay, e.g. 2026-05-01.")],
    reason: Reason,
    author: Author = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Drop records whose time is over; what stays, and exports of it, can still be verified."""
    retention = Retention.open(context.obj)
    moment = read_moment(before)
    assert moment is not None  # noqa: S101  the option is required
    plan = retention.plan(moment)
    if plan.below_floor:
        complain(
            "some of these records are younger than six months, the least the AI Act asks for "
            "(Art. 19(1), 26(6))"
        )
    if as_json and not yes:
        raise ConfigurationError("audit prune: --json needs --yes, as there is nobody to ask")
    if not yes and not typer.confirm(f"Drop {plan.records} records for good?", err=True):
        say("nothing was dropped")
        raise typer.Exit(1)
    retention.prune(plan, reason=reason, author=author)
    if as_json:
        print_json([{"pruned": plan.size, "records": plan.records}])
        return
    say(f"dropped {plan.records} records; the log now begins after entry {plan.size}")


@app.command()
def payload(
    context: typer.Context,
    call: Annotated[str, typer.Argument(help="The id of the call.")],
    reason: Reason,
    author: Author = None,
    as_json: AsJson = False,
) -> None:
    """Show what was kept of a call's arguments and result; that somebody looked is on record."""
    store = SqliteStore(Home.locate(context.obj).database)
    why = explain(reason, author)
    with store.transaction(read_clock(system_clock)) as transaction:
        try:
            parts = ("arguments", "result")
            kept = {part: read_payload(store, transaction, call, part) for part in parts}
        except ValueError as error:
            raise AuditError(f"call {call}: {error}") from None
        found = {part: value for part, value in kept.items() if value is not None}
        if not found:
            raise ConfigurationError("nothing is kept of such a call, or it was erased")
        facts = {"call": call, "parts": sorted(found)}
        transaction.append("payload.read", f'"read":{encode(facts)},{why}')
    if as_json:
        print_json([{"call": call, **found}])
        return
    for part, value in found.items():
        say(f"{part}: {encode(value)}")

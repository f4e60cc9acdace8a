"""`tabard audit erase|prune|payload`: what is kept about people, and for how long."""

from __future__ import annotations

from contextlib import closing
from typing import Annotated

import typer

from tabard.audit.entries import read_moment
from tabard.audit.fields import encode
from tabard.cli.output import AsJson, Author, Reason, complain, print_json, say
from tabard.clock import read_clock, system_clock
from tabard.errors import AuditError, ConfigurationError
from tabard.home import Home
from tabard.payload import read_payload
from tabard.retention import Pruning, Retention
from tabard.revocation import explain
from tabard.store import SqliteStore, Store
from tabard.subject import Subjects

app = typer.Typer()

Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


@app.command()
def erase(
    context: typer.Context,
    reason: Reason,
    subject: Annotated[str | None, typer.Option(help="The user's id, as given to login.")] = None,
    pseudonym: Annotated[str | None, typer.Option(help="Or the pseudonym in the log.")] = None,
    call: Annotated[str | None, typer.Option(help="Or only what was kept of one call.")] = None,
    author: Author = None,
    as_json: AsJson = False,
) -> None:
    """Forget a user: who their pseudonym was, and what was kept of their calls; or one call."""
    if call is not None and (subject is not None or pseudonym is not None):
        raise ConfigurationError("audit erase: give a user or a call")
    with Subjects.open(context.obj) as subjects:
        if call is None:
            done = subjects.erase(user=subject, pseudonym=pseudonym, reason=reason, author=author)
            name, whose, payloads = "pseudonym", done.pseudonym, done.payloads
            said = f"; {whose} stands for nobody any more"
        else:
            payloads = subjects.erase_call(call, reason=reason, author=author)
            name, whose, said = "call", call, ""
    if as_json:
        print_json([{name: whose, "payloads": payloads}])
        return
    say(f"erased: {payloads} payloads{said}")


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
    moment = read_moment(before)
    assert moment is not None  # noqa: S101  the option is required
    with Retention.open(context.obj) as retention:
        plan = retention.plan(moment)
        _confirm(plan, yes, as_json)
        retention.prune(plan, reason=reason, author=author)
    if as_json:
        print_json([{"pruned": plan.size, "records": plan.records}])
        return
    say(f"dropped {plan.records} records; the log now begins after entry {plan.size}")


def _confirm(plan: Pruning, yes: bool, as_json: bool) -> None:
    """Warn, and go on only if that is wanted.

    Raises:
        ConfigurationError: There is nobody to ask.
        Exit: It is not.
    """
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


@app.command()
def payload(
    context: typer.Context,
    call: Annotated[str, typer.Argument(help="The id of the call.")],
    reason: Reason,
    author: Author = None,
    as_json: AsJson = False,
) -> None:
    """Show what was kept of a call's arguments and result; that somebody looked is on record."""
    with closing(SqliteStore(Home.locate(context.obj).database)) as store:
        found = _read_on_record(store, call, explain(reason, author))
    if as_json:
        print_json([{"call": call, **found}])
        return
    for part, value in found.items():
        say(f"{part}: {encode(value)}")


def _read_on_record(store: Store, call: str, why: str) -> dict[str, object]:
    """What was kept of a call, by its part.

    Raises:
        AuditError: It was changed.
        ConfigurationError: Nothing is kept.
    """
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
    return found

"""`tabard agent`: who is registered, and who no longer may call."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from tabard.authority import Authority
from tabard.cli.output import AsJson, print_json, print_table, say
from tabard.home import Home
from tabard.identity import Agent
from tabard.store import SqliteStore

app = typer.Typer(help="Registered agents.", no_args_is_help=True)


@app.command("list")
def list_agents(context: typer.Context, as_json: AsJson = False) -> None:
    """List every registered agent."""
    store = SqliteStore(Home.locate(context.obj).database)  # needs no signing key
    agents = store.agents()
    if as_json:
        print_json(_facts(agent) for agent in agents)
        return
    columns = ("agent", "team", "environment", "status", "SPIFFE ID")
    rows = [(a.name, a.team, a.environment, a.status, a.spiffe_id) for a in agents]
    print_table(f"{len(agents)} agents", columns, rows)


@app.command()
def revoke(
    context: typer.Context,
    agent: Annotated[str, typer.Argument(help="A name, or a SPIFFE ID.")],
    reason: Annotated[str, typer.Option(help="Why; goes into the audit log.")],
    as_json: AsJson = False,
) -> None:
    """Revoke an agent for good: no process admits another call of it."""
    with Authority.open(context.obj) as authority:
        revoked = authority.revoke(agent, reason=reason)
    if as_json:
        print_json([_facts(revoked)])
        return
    say(f"{revoked.spiffe_id} is revoked; its next call is refused everywhere")


def _facts(agent: Agent) -> dict[str, Any]:
    return {
        "spiffe_id": str(agent.spiffe_id),
        "name": agent.name,
        "team": agent.team,
        "environment": agent.environment,
        "purpose": agent.purpose,
        "owner": agent.owner,
        "attributes": dict(agent.attributes),
        "status": agent.status,
    }

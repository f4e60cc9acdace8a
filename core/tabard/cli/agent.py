"""`tabard agent`: who is registered, and who no longer may call."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from tabard.approvals import ROLES
from tabard.authority import Authority
from tabard.cli.output import AsJson, Author, Reason, print_json, print_table, say
from tabard.errors import ConfigurationError
from tabard.home import Home
from tabard.identity import Agent
from tabard.identity.agent import find_agent
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
def show(
    context: typer.Context,
    agent: Annotated[str, typer.Argument(help="A name, or a SPIFFE ID.")],
    as_json: AsJson = False,
) -> None:
    """Show one agent."""
    found = find_agent(SqliteStore(Home.locate(context.obj).database).agents(), agent)
    if as_json:
        print_json([_facts(found)])
        return
    print_table(str(found.spiffe_id), ("fact", "value"), list(_facts(found).items()))


@app.command()
def add(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="The agent's name.")],
    team: Annotated[str, typer.Option(help="The owning team.")],
    environment: Annotated[str, typer.Option(help="Where it runs, for example prod.")],
    purpose: Annotated[str | None, typer.Option(help="What it is for.")] = None,
    owner: Annotated[str | None, typer.Option(help="Who answers for it.")] = None,
    spiffe_id: Annotated[
        str | None, typer.Option(help="Only for a workload of another, trusted trust domain.")
    ] = None,
    role: Annotated[
        list[str] | None, typer.Option(help="What it may approve; can be given several times.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Register an agent, or a person; doing it again with the same facts changes nothing."""
    attributes = _as_attributes(role or [])
    with Authority.open(context.obj) as authority:
        agent = authority.register(
            name,
            team=team,
            environment=environment,
            purpose=purpose,
            owner=owner,
            spiffe_id=spiffe_id,
            attributes=attributes,
        )
    _report(agent, as_json, f"{agent.spiffe_id} is registered")


def _as_attributes(roles: list[str]) -> dict[str, str]:
    """Roles as the attribute that approvals read.

    Raises:
        ConfigurationError: One is empty, or would become two.
    """
    for role in roles:
        if "," in role or not role.strip():
            raise ConfigurationError(
                f"agent add: --role: expected one role without a comma, found {role!r}"
            )
    return {ROLES: ",".join(roles)} if roles else {}


@app.command()
def revoke(
    context: typer.Context,
    reason: Reason,
    agent: Annotated[str | None, typer.Argument(help="A name, or a SPIFFE ID.")] = None,
    team: Annotated[str | None, typer.Option(help="Every agent of a team.")] = None,
    environment: Annotated[str | None, typer.Option(help="Every agent of an environment.")] = None,
    author: Author = None,
    as_json: AsJson = False,
) -> None:
    """Ban an agent, a team or an environment: no process admits another call of them."""
    selected = team is not None or environment is not None
    if (agent is not None) == selected:
        raise ConfigurationError("agent revoke: name an agent, or --team or --environment")
    with Authority.open(context.obj) as authority:
        if agent is not None:
            revoked = [authority.revoke(agent, reason=reason, author=author)]
        else:
            revoked = authority.revoke_all(
                team=team, environment=environment, reason=reason, author=author
            )
    for one in revoked:
        _report(one, as_json, f"{one.spiffe_id} is revoked; its next call is refused everywhere")


@app.command()
def evict(
    context: typer.Context,
    agent: Annotated[str, typer.Argument(help="A name, or a SPIFFE ID.")],
    reason: Reason,
    author: Author = None,
    as_json: AsJson = False,
) -> None:
    """Refuse every credential an agent has had until now; it may get new ones."""
    with Authority.open(context.obj) as authority:
        found = authority.evict(agent, reason=reason, author=author)
    _report(found, as_json, f"{found.spiffe_id} needs a new credential")


@app.command()
def unban(
    context: typer.Context,
    agent: Annotated[str, typer.Argument(help="A name, or a SPIFFE ID.")],
    reason: Reason,
    author: Author = None,
    as_json: AsJson = False,
) -> None:
    """Take a ban back; what the agent held before stays refused."""
    with Authority.open(context.obj) as authority:
        found = authority.unban(agent, reason=reason, author=author)
    _report(found, as_json, f"{found.spiffe_id} may get new credentials")


def _report(agent: Agent, as_json: bool, text: str) -> None:
    if as_json:
        print_json([_facts(agent)])
    else:
        say(text)


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

"""The part of `tabard agent` that hands out credentials, and lists what an agent holds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tabard.authority import DEFAULT_GRACE, DEFAULT_LIFETIME, DEFAULT_SVID_LIFETIME, Authority
from tabard.cli.output import AsJson, moment, print_json, print_table, say
from tabard.identity.token import TOKEN_TYPE
from tabard.keyring import DEFAULT_KEY_DAYS, JOIN_LIFETIME

app = typer.Typer()

Name = Annotated[str, typer.Argument(help="A name, or a SPIFFE ID.")]
Days = Annotated[float, typer.Option(help="Days until it expires.")]


@app.command()
def issue(
    context: typer.Context,
    agent: Name,
    lifetime: Annotated[float, typer.Option(help="Seconds until it expires.")] = DEFAULT_LIFETIME,
    profile: Annotated[str, typer.Option(help="agent+jwt, or jwt-svid.")] = TOKEN_TYPE,
    audience: Annotated[str | None, typer.Option(help="Whom it is meant for.")] = None,
    bound_to: Annotated[
        str | None, typer.Option(help="Thumbprint of the key every call has to prove.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Issue a token and print it, for `TABARD_CREDENTIAL=$(tabard agent issue NAME)`."""
    with Authority.open(context.obj) as authority:
        token = authority.issue(
            agent, lifetime=lifetime, profile=profile, audience=audience, bound_to=bound_to
        )
    _hand_out(token, profile, as_json)


def _hand_out(credential: str, kind: str, as_json: bool) -> None:
    """Print a credential, alone or as an object: it is what was asked for, this once."""
    if as_json:
        print_json([{"kind": kind, "credential": credential}])
    else:
        typer.echo(credential)


@app.command()
def svid(
    context: typer.Context,
    agent: Name,
    out: Annotated[Path, typer.Option(help="The file: certificate and private key, mode 0600.")],
    lifetime: Annotated[
        float, typer.Option(help="Seconds until it expires.")
    ] = DEFAULT_SVID_LIFETIME,
    as_json: AsJson = False,
) -> None:
    """Issue an X.509-SVID into a file, for `TABARD_CREDENTIAL=./FILE`."""
    with Authority.open(context.obj) as authority:
        held = authority.issue_svid(agent, lifetime=lifetime)
    held.save(out)
    if as_json:
        print_json([{"file": str(out), "spiffe_id": str(held.spiffe_id), "id": held.id}])
    else:
        say(f"{out}: {held.spiffe_id}")


@app.command()
def join(
    context: typer.Context,
    agent: Name,
    lifetime: Annotated[
        float, typer.Option(help="Seconds in which it has to be used.")
    ] = JOIN_LIFETIME,
    as_json: AsJson = False,
) -> None:
    """Make a token that is good for one login and print it, this once."""
    with Authority.open(context.obj) as authority:
        _hand_out(authority.create_join_token(agent, lifetime=lifetime), "join-token", as_json)


@app.command()
def key(
    context: typer.Context, agent: Name, days: Days = DEFAULT_KEY_DAYS, as_json: AsJson = False
) -> None:
    """Make an API key and print it, this once."""
    with Authority.open(context.obj) as authority:
        _hand_out(authority.create_key(agent, days=days), "api-key", as_json)


@app.command()
def rotate(
    context: typer.Context,
    agent: Name,
    days: Days = DEFAULT_KEY_DAYS,
    grace: Annotated[
        float, typer.Option(help="Seconds in which the old key still counts.")
    ] = DEFAULT_GRACE,
    as_json: AsJson = False,
) -> None:
    """Make the next API key and print it, this once; the old one expires after a time of grace."""
    with Authority.open(context.obj) as authority:
        _hand_out(authority.rotate_key(agent, days=days, grace=grace), "api-key", as_json)


@app.command()
def keys(context: typer.Context, agent: Name, as_json: AsJson = False) -> None:
    """List an agent's API keys by their ids; `tabard token revoke ID` takes one back."""
    with Authority.open(context.obj) as authority:
        found = authority.keys(agent)
    if as_json:
        print_json(
            {
                "id": k.id,
                "kind": k.kind,
                "created": k.created_at,
                "expires": k.expires_at,
                "revoked": k.revoked,
            }
            for k in found
        )
        return
    columns = ("id", "kind", "created (UTC)", "expires (UTC)", "revoked")
    rows = [(k.id, k.kind, moment(k.created_at), moment(k.expires_at), k.revoked) for k in found]
    print_table(f"{len(rows)} keys", columns, rows)

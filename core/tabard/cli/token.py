"""`tabard token`: single credentials."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from tabard.authority import Authority
from tabard.cli.output import AsJson, Author, Reason, moment, print_json, print_table, say
from tabard.clock import system_clock
from tabard.credentials import PEM_PREFIX, CredentialVerifier
from tabard.errors import AccessDenied, ConfigurationError
from tabard.federation import Federation
from tabard.home import Home
from tabard.identity.api_key import JOIN_PREFIX, PREFIX
from tabard.identity.audience import default_audience
from tabard.identity.credential_file import CredentialFile
from tabard.inspection import inspect as inspect_credential
from tabard.store import SqliteStore
from tabard.trust import Trust

app = typer.Typer(help="Single credentials.", no_args_is_help=True)

_TAKES_PEM = {"ignore_unknown_options": True}
"""A PEM text begins like an option, and what is no option would be shown in full."""
_TIMES = ("issued", "expires", "iat", "nbf", "exp")


@app.command(context_settings=_TAKES_PEM)
def inspect(
    context: typer.Context,
    credential: Annotated[
        str | None,
        typer.Argument(
            help="A file, `-` for standard input, or itself; default $TABARD_CREDENTIAL. On the "
            "command line it can be seen by others on this machine."
        ),
    ] = None,
    audience: Annotated[
        str | None, typer.Option(help="Whom a token must be meant for; default the guards.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say what a credential is and whether it counts here; it is never printed or used up."""
    store = SqliteStore(Home.locate(context.obj).database)
    verifier = CredentialVerifier(
        Trust(store, Federation(store, system_clock), system_clock),
        store,
        audience=audience or default_audience(store.trust_domain),
        clock=system_clock,
    )
    found = inspect_credential(
        _read(credential), verifier=verifier, store=store, clock=system_clock
    )
    valid = found.code == "ok"
    if as_json:
        print_json([{**found.facts, "valid": valid, "code": found.code, "reason": found.reason}])
    else:
        rows = [(name, _shown(name, value)) for name, value in found.facts.items()]
        print_table("what it says", ("fact", "value"), rows)
        say(f"{found.code}: {found.reason}")
    if not valid:
        raise typer.Exit(1)


def _read(credential: str | None) -> str:
    given = credential if credential is not None else os.environ.get("TABARD_CREDENTIAL", "")
    if not given:
        raise ConfigurationError("token inspect: name a file, `-`, or set $TABARD_CREDENTIAL")
    if given == "-":
        return sys.stdin.read(1_000_000).strip()
    # `os.path` answers for a text that can be no file's name, too; a `Path` would raise it.
    if given.startswith(PEM_PREFIX) or not ("/" in given or os.path.exists(given)):
        return given
    try:
        return CredentialFile(given).credential()
    except AccessDenied as error:
        raise ConfigurationError(error.reason) from None


def _shown(name: str, value: object) -> object:
    return f"{moment(value)} UTC" if name in _TIMES and isinstance(value, int) else value


@app.command(context_settings=_TAKES_PEM)
def revoke(
    context: typer.Context,
    jti: Annotated[str, typer.Argument(help="Its id as the log shows it (cred.jti), not itself.")],
    reason: Reason,
    author: Author = None,
    as_json: AsJson = False,
) -> None:
    """Refuse one token, API key or join token; every other one of its agent goes on."""
    with Authority.open(context.obj) as authority:
        is_key = jti.startswith((PREFIX, JOIN_PREFIX))
        revoke_one = authority.revoke_key if is_key else authority.revoke_token
        revoke_one(jti, reason=reason, author=author)
    if as_json:
        print_json([{"jti": jti, "refused": True}])
    else:
        say(f"{jti} is refused everywhere")

"""`tabard token`: single credentials."""

from __future__ import annotations

from typing import Annotated

import typer

from tabard.authority import Authority
from tabard.cli.output import Author, Reason, say
from tabard.identity.api_key import PREFIX

app = typer.Typer(help="Single credentials.", no_args_is_help=True)


@app.command()
def revoke(
    context: typer.Context,
    jti: Annotated[str, typer.Argument(help="Its id as the log shows it (cred.jti), not itself.")],
    reason: Reason,
    author: Author = None,
) -> None:
    """Refuse one token or one API key; every other one of its agent goes on."""
    with Authority.open(context.obj) as authority:
        revoke_one = authority.revoke_key if jti.startswith(PREFIX) else authority.revoke_token
        revoke_one(jti, reason=reason, author=author)
    say(f"{jti} is refused everywhere")


@app.callback()
def tokens() -> None:
    """Keep `revoke` a command of its own although it is the only one."""

"""`tabard token`: single credentials."""

from __future__ import annotations

from typing import Annotated

import typer

from tabard.authority import Authority
from tabard.cli.output import Author, Reason, say

app = typer.Typer(help="Single credentials.", no_args_is_help=True)


@app.command()
def revoke(
    context: typer.Context,
    jti: Annotated[str, typer.Argument(help="The token's id, as the log shows it (cred.jti).")],
    reason: Reason,
    author: Author = None,
) -> None:
    """Refuse one token; every other one of its agent goes on."""
    with Authority.open(context.obj) as authority:
        authority.revoke_token(jti, reason=reason, author=author)
    say(f"the token {jti} is refused everywhere")


@app.callback()
def tokens() -> None:
    """Keep `revoke` a command of its own although it is the only one."""

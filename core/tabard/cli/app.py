"""Puts the commands together and turns errors into one sentence and an exit code."""

from __future__ import annotations

import errno
import sys
from pathlib import Path
from typing import Annotated

import typer

from tabard.cli import (
    agent,
    approval,
    audit,
    budget,
    bundle,
    credential,
    policy,
    report,
    token,
    witness,
)
from tabard.cli.init import init
from tabard.cli.output import complain
from tabard.errors import AccessDenied, AuditError, TabardError

app = typer.Typer(
    help="Which agent made this call, was it allowed to, and can you prove it?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
agent.app.add_typer(credential.app)
app.add_typer(agent.app, name="agent")
app.add_typer(approval.app, name="approval")
app.add_typer(audit.app, name="audit")
app.add_typer(budget.app, name="budget")
app.add_typer(bundle.app, name="bundle")
app.add_typer(policy.app, name="policy")
app.add_typer(report.app, name="report")
app.add_typer(token.app, name="token")
app.add_typer(witness.app, name="witness")
app.command()(init)


@app.callback()
def set_home(
    context: typer.Context,
    home: Annotated[
        Path | None,
        typer.Option(help="The home folder.", envvar="TABARD_HOME", show_default=".tabard"),
    ] = None,
) -> None:
    """Remember where the home is for the command that follows."""
    context.obj = home


def main() -> None:
    """Run the command line: exit 0 ok, 1 refused or tampered with, 2 unusable input."""
    try:
        # Not `app()` alone: usage errors would be printed with whatever was typed.
        code = app(standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)
    except typer.Abort:
        sys.exit(1)
    except (AccessDenied, AuditError) as error:
        complain(str(error))
        sys.exit(1)
    except TabardError as error:
        complain(str(error))
        sys.exit(2)
    except OSError as error:
        if error.errno != errno.EPIPE:
            complain(f"the output cannot be written: {error.strerror}")
            sys.exit(2)
        # The reader (`head`, a pager) has gone; that is its right and no failure of ours.
        sys.stderr.close()
        sys.exit(0)
    except Exception as error:
        if callable(tell := getattr(error, "format_message", None)):  # a usage error
            complain(tell())
            sys.exit(2)
        # Without its text, which may hold what somebody typed: a token, for example.
        complain(f"an error inside tabard: {type(error).__name__}; please report it")
        sys.exit(2)

"""Puts the commands together and turns errors into one sentence and an exit code."""

from __future__ import annotations

import errno
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated, NoReturn, TextIO

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
        str | None,
        # As text: an empty path would be the folder one is in, and not the default.
        typer.Option(
            help="The home folder.", envvar="TABARD_HOME", metavar="PATH", show_default=".tabard"
        ),
    ] = None,
) -> None:
    """Remember where the home is for the command that follows."""
    context.obj = Path(home) if home else home


def main() -> None:
    """Run the command line: exit 0 ok, 1 refused or tampered with, 2 unusable input."""
    try:
        sys.exit(_run())
    except typer.Abort:
        sys.exit(1)
    except (AccessDenied, AuditError) as error:
        _fail(str(error), 1)
    except TabardError as error:
        _fail(str(error), 2)
    except OSError as error:
        if error.errno == errno.EPIPE:
            _leave()
        _discard(sys.stdout)
        _fail(f"the output cannot be written: {error.strerror}", 2)
    except UnicodeEncodeError as error:
        if error.encoding == "utf-8":
            _fail("what was typed is not UTF-8 text", 2)
        _fail(f"the output cannot be written in {error.encoding}", 2)
    except Exception as error:
        if callable(tell := getattr(error, "format_message", None)):  # a usage error
            _fail(tell(), 2)
        # Without its text, which may hold what somebody typed: a token, for example.
        _fail(f"an error inside tabard: {type(error).__name__}; please report it", 2)


def _run() -> int:
    """Run the command to its last word, which is only then known to be written."""
    try:
        # Not `app()` alone: usage errors would be printed with whatever was typed.
        code = app(standalone_mode=False)
    except SystemExit:
        # No command of ours exits by itself: it is what the libraries make of a closed pipe.
        _leave()
    sys.stdout.flush()
    return code if isinstance(code, int) else 0


def _leave() -> NoReturn:
    """The reader (`head`, a pager) has gone; that is its right and no failure of ours."""
    _discard(sys.stdout)
    sys.exit(0)


def _fail(text: str, code: int) -> NoReturn:
    """Complain, and exit as one has to, also where nobody reads the complaint."""
    try:
        complain(text)
    except (OSError, SystemExit):
        _discard(sys.stderr)
    sys.exit(code)


def _discard(stream: TextIO) -> None:
    """Let what is still unwritten go nowhere: Python flushes it at exit, and would fail."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)

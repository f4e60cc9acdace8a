"""`tabard policy`: the central policy of a home, what it was before, and changing it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated

import typer

from tabard.central import Policies
from tabard.cli import policy_explain, policy_file, policy_log
from tabard.cli.output import (
    AsJson,
    Author,
    OptionalReason,
    moment,
    print_json,
    print_table,
    say,
)
from tabard.cli.policy_file import PolicyFile
from tabard.errors import ConfigurationError
from tabard.policy import load

app = typer.Typer(help="The policy.", no_args_is_help=True)
app.add_typer(policy_file.app)
app.add_typer(policy_log.app)
app.add_typer(policy_explain.app)

_SHORT = 12
"""Characters of a digest a person gets to see."""


@app.command()
def apply(
    context: typer.Context,
    file: PolicyFile,
    author: Author = None,
    reason: OptionalReason = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Let a policy come into force, in every process at its next call."""
    # Read once: what is shown is what is applied, whatever becomes of the file meanwhile.
    policy = load(file)
    text = policy.text if "\n" in policy.text else f"{policy.text}\n"  # not taken for a path
    with Policies.open(context.obj) as policies:
        history = policies.history()
        if history and history[-1].digest == policy.digest:
            _report(policy.digest, f"{file} is in force already", as_json)
            return
        _confirm(policies, text, yes, as_json)
        after = history[-1].number if history else 0
        policies.apply(text, author=author, reason=reason, after=after)
    _report(policy.digest, f"{file} is in force, in every process at its next call", as_json)


def _confirm(policies: Policies, text: str, yes: bool, as_json: bool) -> None:
    """Show what a policy would change, and go on only if that is wanted.

    Raises:
        ConfigurationError: There is nobody to ask.
        Exit: It is not.
    """
    if as_json and not yes:
        raise ConfigurationError("policy apply: --json needs --yes, as there is nobody to ask")
    if not as_json:
        _print_differences(policies.diff(text))
    if not yes and not _agrees():
        say("nothing was changed")
        raise typer.Exit(1)


def _report(digest: str, text: str, as_json: bool) -> None:
    if as_json:
        print_json([{"digest": digest, "in_force": True}])
    else:
        say(f"{text} ({digest[:_SHORT]})")


def _agrees() -> bool:
    """Whether somebody is there and says yes."""
    try:
        return typer.confirm("apply this?")
    except typer.Abort:
        return False


@app.command()
def diff(context: typer.Context, file: PolicyFile, as_json: AsJson = False) -> None:
    """Show what applying a policy would change."""
    load(file)  # so that a problem is told with the name of the file
    differences = Policies.open(context.obj).diff(file)
    if as_json:
        print_json({"difference": line} for line in differences)
        return
    _print_differences(differences)


def _print_differences(differences: Sequence[str]) -> None:
    for line in differences or ["no differences"]:
        say(line)


@app.command()
def history(context: typer.Context, as_json: AsJson = False) -> None:
    """List which policy was in force since when, and who applied it; the last one is."""
    changes = Policies.open(context.obj).history()
    if as_json:
        print_json(
            {
                "number": change.number,
                "digest": change.digest,
                "applied_at": change.applied_at,
                "applied_by": change.applied_by,
                "in_force": change is changes[-1],
            }
            for change in changes
        )
        return
    columns = ("number", "applied (UTC)", "digest", "by", "")
    rows = [
        (c.number, moment(c.applied_at), c.digest[:_SHORT], c.applied_by or "-",
         "in force" if c is changes[-1] else "")
        for c in changes
    ]  # fmt: skip
    print_table(f"{len(changes)} changes", columns, rows)


@app.command()
def rollback(
    context: typer.Context,
    digest: Annotated[
        str | None, typer.Argument(help="The beginning of its digest; default the one before.")
    ] = None,
    author: Author = None,
    reason: OptionalReason = None,
    as_json: AsJson = False,
) -> None:
    """Let an earlier policy come into force again."""
    with Policies.open(context.obj) as policies:
        change = policies.rollback(digest, author=author, reason=reason)
    _report(change.digest, "in force again, in every process at its next call", as_json)


@app.command()
def show(context: typer.Context) -> None:
    """Print the policy in force as it was written."""
    text = Policies.open(context.obj).text()
    if text is None:
        raise ConfigurationError(
            "no policy was ever applied here; `tabard policy apply policy.yaml` does it"
        )
    typer.echo(text.rstrip("\n"))


@app.command()
def schema() -> None:
    """Print the JSON Schema of the policy file, for editors."""
    from tabard.policy.schema import schema as make_schema

    typer.echo(json.dumps(make_schema(), indent=2))

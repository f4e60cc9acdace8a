"""The part of `tabard policy` that looks at a file: is it sound, does it decide as it should."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tabard.cli.output import AsJson, print_json, say
from tabard.errors import ConfigurationError
from tabard.policy import load

if TYPE_CHECKING:
    from tabard.policy.rehearsal import Rehearsal, Trial

app = typer.Typer()

PolicyFile = Annotated[Path, typer.Argument(metavar="FILE", help="A policy file.")]
_CASES = "policy.test.yaml"


@app.command()
def check(file: PolicyFile) -> None:
    """Check a policy file."""
    policy = load(file)
    say(f"{file}: {len(policy.agents)} agents, no problems")


@app.command("test")
def run_cases(
    policy: Annotated[
        Path, typer.Argument(metavar="POLICY", envvar="TABARD_POLICY", help="A policy file.")
    ] = Path("policy.yaml"),
    cases: Annotated[
        Path | None, typer.Option(help=f"The cases; default {_CASES} beside the policy.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Try a policy on cases, and say which rules no case reaches; exit 1 when one does not hold."""
    from tabard.budget import ListPricer
    from tabard.policy.cases import load_cases
    from tabard.policy.rehearsal import rehearse

    file = cases or policy.with_name(_CASES)
    rules, given = load(policy), load_cases(file)
    try:
        found = rehearse(rules, given, ListPricer())
    except ConfigurationError as error:
        raise ConfigurationError(f"{file}: {error}") from None
    if as_json:
        print_json([*map(_facts, found.trials), _coverage(found)])
    else:
        _print(found)
    if not found.holds:
        raise typer.Exit(1)


def _print(found: Rehearsal) -> None:
    for trial in found.trials:
        say(f"{'FAILED' if trial.failures else 'ok':6}  {trial.case.name}")
        for failure in trial.failures:
            say(f"        {failure}")
        if trial.failures:
            say(f"        because: {trial.decision.reason}")
    failed = sum(bool(trial.failures) for trial in found.trials)
    say(f"{len(found.trials) - failed} of {len(found.trials)} cases hold")
    reached = len(found.rules) - len(found.unreached)
    missed = f"; no case reaches {', '.join(found.unreached)}" if found.unreached else ""
    say(f"coverage: {reached} of {len(found.rules)} rules{missed}")


def _facts(trial: Trial) -> dict[str, Any]:
    return {
        "case": trial.case.name,
        "holds": not trial.failures,
        "failures": trial.failures,
        "decision": trial.decision.effect,
        "code": trial.decision.code,
        "rule": trial.decision.rule,
        "reason": trial.decision.reason,
    }


def _coverage(found: Rehearsal) -> dict[str, Any]:
    return {"rules": len(found.rules), "unreached": list(found.unreached)}

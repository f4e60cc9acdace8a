"""The part of `tabard policy` that looks at a file: is it sound, does it decide as it should."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tabard.cli.output import AsJson, print_json, say
from tabard.errors import ConfigurationError
from tabard.home import Home
from tabard.policy import load
from tabard.policy.loader import load_document
from tabard.store import SqliteStore

if TYPE_CHECKING:
    from tabard.policy.rehearsal import Rehearsal, Trial

app = typer.Typer()

PolicyFile = Annotated[Path, typer.Argument(metavar="FILE", help="A policy file.")]
_CASES = "policy.test.yaml"
_TOOL_RECORDS = ("tool.decision", "retrieval.decision")


@app.command()
def check(context: typer.Context, file: PolicyFile, as_json: AsJson = False) -> None:
    """Check a policy file: what cannot be read, and what is odd; exit 1 when something is odd.

    Where there is a home, registered agents and the tools of its log count as known.
    """
    from tabard.policy.checks import find_suspicious

    document, _ = load_document(file)
    agents, tools = _known(context)
    found = find_suspicious(document, agents=agents, tools=tools)
    if as_json:
        print_json({"problem": line} for line in found)
    else:
        for line in found:
            say(f"{file}: {line}")
        say(f"{file}: {len(document.agents)} agents, {len(found) or 'no'} oddities")
    if found:
        raise typer.Exit(1)


def _known(context: typer.Context) -> tuple[set[str], set[str]]:
    """The agents and tools a home knows of; none where there is no home."""
    place = Home.locate(context.obj)
    if not place.exists:
        return set(), set()
    store = SqliteStore(place.database)
    seen = (record.parse() for record in store.stored_records())
    tools = {r["action"]["name"] for r in seen if r.get("type") in _TOOL_RECORDS}
    return {agent.name for agent in store.agents()}, tools


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

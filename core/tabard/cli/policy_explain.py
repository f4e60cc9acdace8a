"""`tabard policy explain`: what a policy says to one call, and everything it hangs on."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from tabard.actions import Action
from tabard.cli.output import AsJson, print_json, print_table, say
from tabard.cli.sources import PolicyOption, chosen_policy
from tabard.clock import read_clock, system_clock
from tabard.errors import ConfigurationError
from tabard.home import Home
from tabard.store import SqliteStore

app = typer.Typer()

Values = Annotated[str | None, typer.Option(help="A JSON object.")]


@app.command()
def explain(
    context: typer.Context,
    agent: Annotated[str, typer.Option(help="The agent's name in the policy.")],
    tool: Annotated[str | None, typer.Option(help="The tool that is called.")] = None,
    model: Annotated[str | None, typer.Option(help="The model: provider/model.")] = None,
    retrieval: Annotated[str | None, typer.Option(help="The retriever that is asked.")] = None,
    delegate: Annotated[str | None, typer.Option(help="The agent that takes over.")] = None,
    args: Values = None,
    scope: Values = None,
    max_output_tokens: Annotated[int | None, typer.Option(help="The limit it sets.")] = None,
    at: Annotated[str | None, typer.Option(help="When, with its zone; default now.")] = None,
    team: Annotated[str | None, typer.Option(help="Default: the one `match` names.")] = None,
    environment: Annotated[str | None, typer.Option(help="The same.")] = None,
    policy: PolicyOption = None,
    as_json: AsJson = False,
) -> None:
    """Name the rule, the facts, and the nearest change that would turn the decision round.

    Nothing is called and nothing is recorded; values are looked at and kept nowhere.
    """
    from tabard.policy.explanation import explain as explain_call
    from tabard.policy.standin import stand_in

    case: dict[str, Any] = {
        "tool": tool, "model": model, "retrieval": retrieval, "delegate": delegate,
        "args": _object("args", args), "max_output_tokens": max_output_tokens,
    }  # fmt: skip
    action, moment = _call(agent, case, at)
    place = Home.locate(context.obj)
    rules = chosen_policy(SqliteStore(place.database) if place.exists else None, policy)
    caller = stand_in(rules, agent, team=team, environment=environment)
    found = explain_call(caller, action, rules, moment, scope=_object("scope", scope))
    if as_json:
        print_json([_facts(found)])
        return
    decision = found.decision
    say(f"{decision.effect}: {decision.code}, {decision.rule or 'no rule'}: {decision.reason}")
    rows = [("holds" if f.holds else "fails", f.name, f.detail) for f in found.facts]
    print_table("for every call", ("", "fact", "detail"), rows)
    rows = [
        ("fits" if not c.failures else "fails", f"{c.rule} ({c.effect})", "; ".join(c.failures))
        for c in found.candidates
    ]
    print_table("rules that could fit", ("", "rule", "what is missing"), rows)
    for line in found.nearest:
        say(f"nearest change: {line}")


def _call(agent: str, case: dict[str, Any], at: str | None) -> tuple[Action, float]:
    """The call that is asked about, checked like a case of a policy's tests."""
    from pydantic import ValidationError

    from tabard.policy.cases import Case
    from tabard.policy.problems import describe_problems

    given = {name: value for name, value in case.items() if value not in (None, {})}
    if at is not None:
        given["at"] = at
    try:
        checked = Case.model_validate(
            {"name": "asked", "agent": agent, "expect": {"decision": "allow"}, **given}
        )
    except ValidationError as error:
        problems = "; ".join(describe_problems(error, Case)).replace("the file: ", "")
        raise ConfigurationError(f"policy explain: {problems}") from None
    moment = checked.at if checked.at is not None else read_clock(system_clock)
    return checked.action(), moment


def _object(name: str, text: str | None) -> dict[str, Any]:
    try:
        value = json.loads(text) if text is not None else {}
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise ConfigurationError(f"--{name}: expected a JSON object")
    return value


def _facts(found: Any) -> dict[str, Any]:
    decision = found.decision
    return {
        "decision": decision.effect,
        "code": decision.code,
        "rule": decision.rule,
        "reason": decision.reason,
        "facts": [{"name": f.name, "holds": f.holds, "detail": f.detail} for f in found.facts],
        "candidates": [
            {"rule": c.rule, "effect": c.effect, "failures": list(c.failures)}
            for c in found.candidates
        ],
        "nearest": list(found.nearest),
    }

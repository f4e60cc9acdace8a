"""`tabard approval`: the questions that wait for a person, and that person's answer."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Any

import typer

from tabard.approval import ApprovalRequest
from tabard.authority import Authority
from tabard.cli.output import AsJson, OptionalReason, moment, print_json, print_table, say
from tabard.cli.sources import PolicyOption
from tabard.clock import system_clock
from tabard.errors import ConfigurationError
from tabard.guard import Guard
from tabard.home import Home
from tabard.store import SqliteStore

app = typer.Typer(help="Approvals.", no_args_is_help=True)

RequestId = Annotated[str, typer.Argument(metavar="ID", help="The request, `apr_...`.")]
As = Annotated[
    str | None,
    typer.Option(
        "--as",
        metavar="NAME",
        help="Who you are, as registered here; default the identity of $TABARD_CREDENTIAL.",
    ),
]


@app.command("list")
def list_requests(
    context: typer.Context,
    every: Annotated[bool, typer.Option("--all", help="Those that are over, too.")] = False,
    as_json: AsJson = False,
) -> None:
    """List the requests that wait for an answer."""
    found = [
        request
        for request in SqliteStore(Home.locate(context.obj).database).approvals()
        if every or _standing(request) == "pending"
    ]
    if as_json:
        print_json(map(_facts, found))
        return
    columns = ("request", "until (UTC)", "role", "standing", "tool", "agent")
    rows = [(r.id, moment(r.expires_at), r.role, _standing(r), r.tool, r.spiffe_id) for r in found]
    print_table(f"{len(found)} requests", columns, rows)


@app.command()
def show(context: typer.Context, request_id: RequestId, as_json: AsJson = False) -> None:
    """Show one request, with the arguments that the policy lets an approver see."""
    request = SqliteStore(Home.locate(context.obj).database).find_approval(request_id)
    if request is None:
        raise ConfigurationError(
            f"no request {request_id!r}; `tabard approval list` names those that wait"
        )
    facts = _facts(request)
    if as_json:
        print_json([facts])
        return
    shown = facts.pop("shown")
    # As JSON: a text that looks like a number is not shown as one.
    rows = [
        *facts.items(),
        *((f"{n} =", json.dumps(v, ensure_ascii=False)) for n, v in shown.items()),
    ]
    print_table(request.id, ("fact", "value"), rows)


@app.command()
def grant(
    context: typer.Context,
    request_id: RequestId,
    reason: OptionalReason = None,
    name: As = None,
    policy: PolicyOption = None,
    as_json: AsJson = False,
) -> None:
    """Agree to one call, once."""
    answered = _answer(context, request_id, "grant", reason, name, policy)
    _report(answered, as_json, f"{answered.id} is granted: {answered.tool} may run once")


@app.command()
def deny(
    context: typer.Context,
    request_id: RequestId,
    reason: OptionalReason = None,
    name: As = None,
    policy: PolicyOption = None,
    as_json: AsJson = False,
) -> None:
    """Refuse one call."""
    answered = _answer(context, request_id, "deny", reason, name, policy)
    _report(answered, as_json, f"{answered.id} is denied: {answered.tool} does not run")


def _answer(
    context: typer.Context,
    request_id: str,
    what: str,
    reason: str | None,
    name: str | None,
    policy: Path | None,
) -> ApprovalRequest:
    """Log in as the person who answers, and answer.

    Raises:
        ConfigurationError: Nobody is named.
        AccessDenied: They are not who they say, or may not answer.
    """
    token = None if name is None else _issue(context, name)
    if token is None and not os.environ.get("TABARD_CREDENTIAL"):
        raise ConfigurationError(
            f"approval {what}: say who answers, by --as NAME or $TABARD_CREDENTIAL"
        )
    with Guard.open(context.obj, policy=policy) as guard:
        session = guard.login(token)
        answer = guard.approvals.grant if what == "grant" else guard.approvals.deny
        try:
            return answer(request_id, session=session, reason=reason)
        finally:
            session.close()


def _issue(context: typer.Context, name: str) -> str:
    with Authority.open(context.obj) as authority:
        return authority.issue(name)


def _report(request: ApprovalRequest, as_json: bool, text: str) -> None:
    if as_json:
        print_json([_facts(request)])
    else:
        say(text)


def _standing(request: ApprovalRequest) -> str:
    return request.standing(system_clock())


def _facts(request: ApprovalRequest) -> dict[str, Any]:
    return {
        "id": request.id,
        "standing": _standing(request),
        "agent": request.spiffe_id,
        "acts_for": list(request.chain[1:]),
        "session": request.session,
        "tool": request.tool,
        "rule": request.rule,
        "role": request.role,
        "requested_at": request.requested_at,
        "expires_at": request.expires_at,
        "decided_by": request.decided_by,
        "reason": request.reason,
        "shown": dict(request.shown),
    }

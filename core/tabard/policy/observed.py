"""What a log says of a call: all that is known of it later, since values are not in the log."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

_ABOUT_POLICY = frozenset(
    {
        "ok", "ask", "approval_denied", "unknown_agent", "denied_by_rule", "match", "scope",
        "window", "model", "model.max_output_tokens", "no_grant", "data_class", "purpose",
        "delegation", "cedar",
    }
)  # fmt: skip
"""Codes of decisions that a policy made by itself; others are about identity, money or faults."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservedCall:
    """One decision in the log.

    Attributes:
        id: The record's id.
        at: POSIX seconds.
        agent: The agent's name.
        spiffe_id: Its identity.
        team: Its team.
        environment: Its environment.
        scope: The names of the data scope that was bound.
        kind: `tool`, `retrieval`, `model` or `delegation`.
        name: The tool, retriever, model or agent.
        arguments: The names of the arguments that are known.
        types: Their JSON types, where the log has them (shadow mode).
        injected: Those the host supplied.
        complete: Whether every argument's name is known.
        max_output_tokens: The limit a model call set, or None.
        effect: `allow`, `deny` or `ask`, as it was decided.
        code: Of the decision.
        policy: The digest of the policy that decided.
        delegated: Whether it was made for another agent, whose policy counted as well.
        ran: Whether it went ahead: allowed, or stopped in shadow mode only.
        asked: Whether a person was asked, or would have been.
    """

    id: str
    at: float
    agent: str
    spiffe_id: str
    team: str
    environment: str
    scope: frozenset[str]
    kind: str
    name: str
    arguments: frozenset[str]
    types: Mapping[str, str]
    injected: frozenset[str]
    complete: bool
    max_output_tokens: int | None
    effect: str
    code: str
    policy: str
    delegated: bool
    ran: bool
    asked: bool


def observed_calls(
    records: Iterable[Mapping[str, Any]], *, since: float = 0.0
) -> Iterator[ObservedCall]:
    """The calls in a log that a policy has decided about, from a moment (POSIX seconds) on."""
    for record in records:
        kind, _, what = str(record.get("type")).rpartition(".")
        decision = record.get("decision")
        if what != "decision" or not record.get("agent") or not isinstance(decision, dict):
            continue
        code = str(decision.get("code"))
        at = datetime.fromisoformat(str(record["ts"])).timestamp()
        if at >= since and (code in _ABOUT_POLICY or code.startswith("arg.")):
            yield _call(record, kind, at)


def _call(record: Mapping[str, Any], kind: str, at: float) -> ObservedCall:
    agent, action, decision = record["agent"], record["action"], record["decision"]
    args = action.get("args") or {"names": [], "n": 0}
    asked = "approval" in record
    return ObservedCall(
        id=record["id"],
        at=at,
        agent=agent["name"],
        spiffe_id=agent["id"],
        team=agent["team"],
        environment=agent["environment"],
        scope=frozenset(record.get("scope") or ()),
        kind=kind,
        name=action["name"],
        arguments=frozenset(args["names"]),
        types=args.get("types") or {},
        injected=frozenset(args.get("injected") or ()),
        complete=len(args["names"]) == args["n"],
        max_output_tokens=action.get("max_output_tokens"),
        effect="ask" if asked else decision["effect"],
        code="ask" if asked else decision["code"],
        policy=decision["policy"],
        delegated="act" in record,
        ran=decision["effect"] == "allow" or decision["mode"] == "shadow",
        asked=asked or decision["effect"] == "ask",
    )

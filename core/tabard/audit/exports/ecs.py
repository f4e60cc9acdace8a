"""An entry in the Elastic Common Schema.

The schema's own `agent.*` is who ships an event, so the agent is `user.*` and `gen_ai.agent.*`.
"""

from __future__ import annotations

from typing import Any

from tabard.audit.entries import Entry
from tabard.audit.exports.members import Members, known

VERSION = "8.17.0"
"""The version of the schema."""

_UNKNOWN_TIME = "1970-01-01T00:00:00.000000Z"
_CATEGORIES = {
    "session": ("authentication", "session"),
    "auth": ("authentication",),
    "agent": ("iam",),
    "token": ("iam",),
    "approval": ("iam",),
    "bundle": ("configuration",),
    "issuer": ("configuration",),
    "policy": ("configuration",),
}
_TYPES = {
    "session.open": "start",
    "session.close": "end",
    "agent.registered": "creation",
    "agent.revoked": "change",
    "policy.apply": "change",
    "policy.rollback": "change",
}


def to_ecs(entry: Entry, origin: str) -> dict[str, Any]:
    """The event of an entry.

    Args:
        entry: The entry.
        origin: The name of the log.
    """
    members = Members(entry, origin)
    spiffe_id, name = members.agent
    user = members.text("on_behalf_of")
    event = {
        "@timestamp": members.time or _UNKNOWN_TIME,
        "ecs": {"version": VERSION},
        "event": _event(members),
        "message": _message(members),
        "user": known({"id": spiffe_id, "name": name}),
        "related": known({"user": [one for one in (spiffe_id, user) if one]}),
        "host": known({"name": members.host}),
        "process": known({"pid": members.pid}),
        "service": {"name": "tabard"},
        "transaction": known({"id": members.call}),
        "rule": known(
            {
                "id": members.text("decision.rule"),
                "name": members.text("decision.rule"),
                "version": members.text("decision.policy"),
            }
        ),
        "error": known({"type": members.text("outcome.error_type")}),
        "gen_ai": _gen_ai(members),
        "tabard": members.own(),
    }
    return known(event)


def _event(members: Members) -> dict[str, Any]:
    duration = members.milliseconds("outcome.duration_ms")
    succeeded = members.succeeded
    return known(
        {
            "kind": "event",
            "category": list(_CATEGORIES.get(members.kind.partition(".")[0], ("api",))),
            "type": _types(members),
            "action": members.text("action.name") or members.kind,
            "code": members.text("decision.code"),
            "dataset": "tabard.audit",
            "module": "tabard",
            "duration": None if duration is None else min(round(duration * 10**6), 2**63 - 1),
            "id": members.text("id"),
            "outcome": {None: "unknown", True: "success", False: "failure"}[succeeded],
            "reason": members.text("decision.reason") or members.text("reason"),
            "sequence": members.entry.index,
            "hash": members.entry.leaf,
        }
    )


def _types(members: Members) -> list[str]:
    if members.passes is not None and members.kind.endswith(".decision"):
        return ["access", "allowed" if members.passes else "denied"]
    if members.kind.endswith(".outcome"):
        return ["end"] if members.error is None else ["end", "error"]
    return [_TYPES.get(members.kind, "info")]


def _message(members: Members) -> str:
    parts = (
        members.agent[1],
        members.kind,
        members.text("action.name"),
        members.text("decision.effect") or members.text("outcome.status"),
        members.error,
    )
    return " ".join(part for part in parts if part)


def _gen_ai(members: Members) -> dict[str, Any]:
    provider, model = members.model
    tool = members.text("action.name") if members.text("action.kind") == "tool" else None
    return known(
        {
            "agent": known({"id": members.agent[0], "name": members.agent[1]}),
            "conversation": known({"id": members.text("session")}),
            "provider": known({"name": provider}),
            "request": known({"model": model}),
            "response": known({"id": members.text("provider_id")}),
            "tool": known({"name": tool, "call": known({"id": members.text("action.call_id")})}),
            "usage": known(
                {
                    "input_tokens": members.count("usage.input_tokens"),
                    "output_tokens": members.count("usage.output_tokens"),
                }
            ),
        }
    )

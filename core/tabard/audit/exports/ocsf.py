"""An entry as OCSF 1.8.0 API Activity (class 6003), for security lakes and SIEMs.

Profiles: `security_control` where something was decided, `ai_operation` where a model was called.
The agent is the actor's application; the user it works for is the actor's user.
"""

from __future__ import annotations

from typing import Any

from tabard.audit.entries import Entry
from tabard.audit.exports.members import LOG_FAILURE, Members, known

VERSION = "1.8.0"
"""The version of the schema."""

_CLASS, _CATEGORY = 6003, 6
_CREATE, _READ, _UPDATE, _DELETE, _OTHER = 1, 2, 3, 4, 99
_ACTIVITIES = {
    "agent.registered": _CREATE,
    "agent.issued": _CREATE,
    "retrieval.decision": _READ,
    "retrieval.outcome": _READ,
    "payload.read": _READ,
    "agent.revoked": _UPDATE,
    "policy.apply": _UPDATE,
    "policy.rollback": _UPDATE,
    "log.pruned": _DELETE,
    "subject.erased": _DELETE,
    "payload.erased": _DELETE,
}
_NAMES = {_CREATE: "Create", _READ: "Read", _UPDATE: "Update", _DELETE: "Delete"}
_INFORMATIONAL, _LOW, _MEDIUM, _HIGH = 1, 2, 3, 4


def to_ocsf(entry: Entry, origin: str) -> dict[str, Any]:
    """The event of an entry.

    Args:
        entry: The entry.
        origin: The name of the log.
    """
    members = Members(entry, origin)
    activity = _ACTIVITIES.get(members.kind, _OTHER)
    return {
        "activity_id": activity,
        "activity_name": _NAMES.get(activity, members.kind),
        "category_uid": _CATEGORY,
        "category_name": "Application Activity",
        "class_uid": _CLASS,
        "class_name": "API Activity",
        "type_uid": _CLASS * 100 + activity,
        "severity_id": _severity(members),
        "time": members.nanoseconds // 10**6,
        "actor": _actor(members),
        "api": _api(members),
        "src_endpoint": _source(members),
        **_result(members),
        **_decision(members),
        **_model(members),
        **_resources(members),
        "metadata": _metadata(members),
        "unmapped": {"tabard": members.own()},
    }


def _severity(members: Members) -> int:
    if members.kind == LOG_FAILURE:
        return _HIGH
    if members.text("outcome.status") == "error":
        return _LOW
    return _INFORMATIONAL if members.error is None else _MEDIUM


def _actor(members: Members) -> dict[str, Any]:
    spiffe_id, name = members.agent
    session, user = members.text("session"), members.text("on_behalf_of")
    actor = {
        "app_uid": spiffe_id,
        "app_name": name,
        "session": known({"uid": session, "uid_alt": members.text("txn")}) if session else None,
        "user": {"uid": user} if user else None,
    }
    # The standard wants an actor; a failed login, for example, has none that is known.
    return known(actor) or {"app_name": "unknown"}


def _api(members: Members) -> dict[str, Any]:
    request = {"uid": members.call} if members.call else None
    service = members.text("action.kind")
    return known(
        {
            "operation": members.text("action.name") or members.kind,
            "request": request,
            "service": {"name": service} if service else None,
        }
    )


def _source(members: Members) -> dict[str, Any]:
    instance = members.text("agent.instance") or members.text("writer.instance")
    return known({"hostname": members.host, "instance_uid": instance}) or {"name": "unknown"}


def _result(members: Members) -> dict[str, Any]:
    succeeded = members.succeeded
    status = {None: (0, "Unknown"), True: (1, "Success"), False: (2, "Failure")}[succeeded]
    duration = members.milliseconds("outcome.duration_ms")
    return known(
        {
            "status_id": status[0],
            "status": status[1],
            "status_code": members.text("decision.code") or members.text("outcome.error_type"),
            "status_detail": members.text("decision.reason") or members.text("reason"),
            "duration": None if duration is None else round(duration),
        }
    )


def _decision(members: Members) -> dict[str, Any]:
    effect = members.text("decision.effect")
    if effect is None:
        return {}
    policy = {"uid": members.text("decision.policy"), "name": members.text("decision.rule")}
    passes = members.passes
    return {
        "action_id": 1 if passes else 2,
        "action": "Allowed" if passes else "Denied",
        "disposition_id": 1 if passes else 2,
        "disposition": "Allowed" if passes else "Blocked",
        "authorizations": [known({"decision": effect, "policy": known(policy)})],
    }


def _model(members: Members) -> dict[str, Any]:
    provider, name = members.model
    if name is None:
        return {}
    read, written = members.count("usage.input_tokens"), members.count("usage.output_tokens")
    context = {
        "uid": members.text("session"),
        "application": {"name": members.agent[1] or "unknown"},
        "ai_role_id": 4,
        "prompt_tokens": read,
        "completion_tokens": written,
        "total_tokens": None if read is None or written is None else read + written,
    }
    return {
        "ai_model": {"ai_provider": provider or "unknown", "name": name},
        "message_context": known(context),
    }


def _resources(members: Members) -> dict[str, Any]:
    asset = members.text("data.asset")
    return {"resources": [{"name": asset, "type": "asset"}]} if asset else {}


def _metadata(members: Members) -> dict[str, Any]:
    decided = members.text("decision.effect") is not None
    profiles = ["security_control"] * decided + ["ai_operation"] * (members.model[1] is not None)
    return known(
        {
            "version": VERSION,
            "product": {"name": "tabard", "vendor_name": "tabard"},
            "uid": members.text("id") or members.entry.leaf,
            "event_code": members.kind,
            "log_name": members.origin,
            "sequence": members.entry.index,
            "original_time": members.time,
            "profiles": profiles,
        }
    )

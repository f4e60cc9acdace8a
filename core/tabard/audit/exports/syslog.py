"""An entry as a line of RFC 5424 syslog, at most 8 KB, with its facts as structured data."""

from __future__ import annotations

import re

from tabard.audit.entries import Entry
from tabard.audit.exports.members import LOG_FAILURE, Members

MAX_LINE = 8192
"""Bytes of a line, its end included; what receivers commonly take."""

_LOG_AUDIT = 13
_ERROR, _WARNING, _NOTICE, _INFORMATIONAL = 3, 4, 5, 6
_ELEMENT = "tabard@32473"
"""32473 is the enterprise number set aside for examples (RFC 5612); tabard has none of its own."""
_MAX_VALUE = 240
_NOT_PLAIN = re.compile(r"[^!-~]")


def to_syslog(entry: Entry, origin: str) -> str:
    """The line of an entry, without its end.

    Args:
        entry: The entry.
        origin: The name of the log.
    """
    members = Members(entry, origin)
    head = " ".join(
        (
            f"<{_LOG_AUDIT * 8 + _severity(members)}>1",
            members.time or "-",
            _plain(members.host, 255),
            "tabard",
            "-" if members.pid is None else str(members.pid),
            _plain(members.kind, 32),
        )
    )
    return f"{head} [{_ELEMENT}{''.join(_parameters(members))}] {_message(members)}"


def _severity(members: Members) -> int:
    if members.kind == LOG_FAILURE:
        return _ERROR
    effect = members.text("decision.effect")
    if effect == "ask" or members.text("outcome.status") == "error":
        return _NOTICE
    return _INFORMATIONAL if members.error is None else _WARNING


def _plain(text: str | None, limit: int) -> str:
    """A field of the header: visible ASCII without spaces, or `-`."""
    return _NOT_PLAIN.sub("?", text or "")[:limit] or "-"


def _parameters(members: Members) -> list[str]:
    facts = members.own()
    spiffe_id, name = members.agent
    facts |= {
        "agent": name,
        "agent_id": spiffe_id,
        "session": members.text("session"),
        "kind": members.text("action.kind"),
        "action": members.text("action.name"),
        "outcome": members.text("outcome.status"),
        "error": members.text("outcome.error_type"),
        "duration_ms": members.milliseconds("outcome.duration_ms"),
        "input_tokens": members.count("usage.input_tokens"),
        "output_tokens": members.count("usage.output_tokens"),
    }
    return [f' {name}="{_value(fact)}"' for name, fact in facts.items() if fact is not None]


def _value(fact: object) -> str:
    """A value, with quotes, backslashes and `]` escaped, cut between two characters."""
    text = ",".join(fact) if isinstance(fact, list) else str(fact)
    shown, room = "", _MAX_VALUE
    for character in text:
        safe = f"\\{character}" if character in '"\\]' else character
        room -= len(safe.encode())
        if room < 0:
            return shown + "..."
        shown += safe
    return shown


def _message(members: Members) -> str:
    """A few words of ASCII; anything else would need a byte order mark."""
    parts = (
        members.kind,
        members.text("action.name"),
        members.text("decision.effect") or members.text("outcome.status"),
        members.error,
    )
    return " ".join(_plain(part, 64) for part in parts if part)

"""An entry as CloudEvents 1.0, for event buses."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from tabard.audit.entries import Entry
from tabard.audit.exports.members import Members, known, printable, whole

_CHAIN = {"v", "mono_ns", "w", "n", "p", "r", "sn"}
"""Members that only link records."""


def to_cloudevent(entry: Entry, origin: str) -> dict[str, Any]:
    """The event of an entry, in the JSON format, with the record's members as its data.

    Args:
        entry: The entry.
        origin: The name of the log.
    """
    members = Members(entry, origin)
    fields = {n: v for n, v in entry.fields.items() if n not in _CHAIN}
    return known(
        {
            "specversion": "1.0",
            # The same entry sent twice has one id; another entry under its number has another.
            "id": f"{entry.index}-{printable(entry.leaf)[:16]}",
            "source": quote(members.origin, safe="/") or "tabard",
            "type": f"tabard.{members.kind}",
            "time": members.time,
            "subject": members.text("action.name") or members.agent[1],
            "datacontenttype": "application/json",
            # As text: an integer of the standard ends at 2^31.
            "tabardentry": str(entry.index),
            "tabardleaf": entry.leaf,
            "tabardorigin": members.origin,
            "data": whole(fields),
        }
    )

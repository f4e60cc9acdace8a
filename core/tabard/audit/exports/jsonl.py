"""An entry as it is, on one line of ASCII JSON beside its number and hash.

The record's bytes are those that are evidence: with a zero byte before them, their SHA-256 is the
leaf. It is still a line without a proof; `tabard audit export` writes the file that proves itself.
"""

from __future__ import annotations

import json

from tabard.audit.entries import Entry
from tabard.audit.exports.members import whole
from tabard.audit.fields import encode

_encode_strictly = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


def to_jsonl(entry: Entry, origin: str) -> str:
    """The line of an entry, without its end.

    Args:
        entry: The entry.
        origin: The name of the log.
    """
    head = {"origin": origin, "entry": entry.index, "leaf": entry.leaf}
    try:
        record = _encode_strictly(entry.fields)
    except ValueError:  # `NaN`: no JSON, and no record that tabard ever wrote
        record = encode(whole(entry.fields))
    return f'{encode(head)[:-1]},"record":{record}}}'

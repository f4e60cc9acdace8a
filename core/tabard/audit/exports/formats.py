"""The formats by name, and how their events are put on a wire."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tabard.audit.entries import Entry
from tabard.audit.exports.cloudevents import to_cloudevent
from tabard.audit.exports.ecs import to_ecs
from tabard.audit.exports.jsonl import to_jsonl
from tabard.audit.exports.ocsf import to_ocsf
from tabard.audit.exports.syslog import to_syslog

_encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


@dataclass(frozen=True, slots=True)
class LineFormat:
    """A format with one line for each entry.

    Attributes:
        name: What it is called.
        write: Writes the line of an entry of a log, without its end.
        media_type: What a body of such lines is.
        array: Whether a body is one JSON array instead.
    """

    name: str
    write: Callable[[Entry, str], str]
    media_type: str
    array: bool = False

    def body(self, lines: Sequence[str]) -> bytes:
        """Lines as one body."""
        if self.array:
            return f"[{','.join(lines)}]".encode()
        return "".join(f"{line}\n" for line in lines).encode()


def _as_line(build: Callable[[Entry, str], dict[str, Any]]) -> Callable[[Entry, str], str]:
    return lambda entry, origin: _encode(build(entry, origin))


_LINES = "application/x-ndjson"

LINE_FORMATS = {
    one.name: one
    for one in (
        LineFormat("jsonl", to_jsonl, _LINES),
        LineFormat("ocsf", _as_line(to_ocsf), _LINES),
        LineFormat("ecs", _as_line(to_ecs), _LINES),
        LineFormat(
            "cloudevents",
            _as_line(to_cloudevent),
            "application/cloudevents-batch+json",
            array=True,
        ),
        LineFormat("syslog", to_syslog, "text/plain; charset=utf-8"),
    )
}
"""Every format whose events are text."""

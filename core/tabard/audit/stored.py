"""A record as it lies in the store: the exact bytes that are evidence."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from tabard.audit.chain import FORMAT
from tabard.errors import AuditError

MAX_DEPTH = 100
"""Levels of nesting in a record; part of the format."""

_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRecord:
    """One row of the log as it lies in the store.

    Attributes:
        index: Its position, 1 for the first.
        body: The exact stored bytes.
        leaf: The stored hash of `body`.
    """

    index: int
    body: bytes
    leaf: bytes

    def parse(self) -> dict[str, Any]:
        """The record's members.

        Raises:
            AuditError: The bytes are not a record.
        """
        return parse_record(self.body, self.index)


def parse_record(body: bytes, index: int) -> dict[str, Any]:
    """The members of a record from its exact bytes.

    Raises:
        AuditError: They are not a record.
    """
    try:
        text = body.decode("ascii")
        if _is_deep(text):
            raise ValueError("nested too deeply")
        fields, end = _DECODER.raw_decode(text)
    except (ValueError, RecursionError):
        raise AuditError(f"entry {index} is not a record", entry=index) from None
    if end != len(text) or not text.startswith(_BEGINNING):
        raise AuditError(f"entry {index} is not a record", entry=index)
    members: dict[str, Any] = fields
    return members


def _is_deep(text: str) -> bool:
    """Whether anything lies more than `MAX_DEPTH` levels deep; how deep a parser goes differs."""
    if text.count("{") + text.count("[") <= MAX_DEPTH:
        return False
    depth = deepest = 0
    for mark in _STRING.sub("", text):
        depth += (mark in "{[") - (mark in "}]")
        deepest = max(deepest, depth)
    return deepest > MAX_DEPTH


_BEGINNING = f'{{"v":{FORMAT},'


def _without_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("duplicate member")
    return members


# Made once: `json.loads` with a hook makes one for every record.
_DECODER = json.JSONDecoder(object_pairs_hook=_without_duplicates)

"""A record as it lies in the store: the exact bytes that are evidence."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from tabard.audit.chain import FORMAT
from tabard.errors import AuditError


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
        fields = json.loads(text)
        # What comes out as it went in has no member twice; that is quicker than to look.
        if isinstance(fields, dict) and _encode(fields) != text:
            fields = json.loads(text, object_pairs_hook=_without_duplicates)
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict) or fields.get("v") != FORMAT:
        raise AuditError(f"entry {index} is not a record", entry=index)
    return fields


_encode = json.JSONEncoder(separators=(",", ":")).encode


def _without_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("duplicate member")
    return members

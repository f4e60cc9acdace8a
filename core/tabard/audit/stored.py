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
        try:
            fields = json.loads(self.body, object_pairs_hook=_without_duplicates)
        except (ValueError, RecursionError):
            fields = None
        if not isinstance(fields, dict) or fields.get("v") != FORMAT:
            raise AuditError(f"entry {self.index} is not a record", entry=self.index)
        return fields


def _without_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("duplicate member")
    return members

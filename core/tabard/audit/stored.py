"""A record as it lies in the store: the exact bytes that are evidence."""

from __future__ import annotations

import json
import re
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
        fields = json.loads(text) if text.startswith(_BEGINNING) else None
        if isinstance(fields, dict) and not _has_each_member_once(text, fields):
            fields = json.loads(text, object_pairs_hook=_without_duplicates)
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict):
        raise AuditError(f"entry {index} is not a record", entry=index)
    return fields


_BEGINNING = f'{{"v":{FORMAT},'
_ODD = re.compile(r'\\\\|"[ \t\r\n]')
"""What would make the count below another one: an escaped backslash, or space after a quote."""


def _has_each_member_once(text: str, fields: dict[str, Any]) -> bool:
    """Whether as many members were read as are written; half the price of looking at each.

    In text without anything odd a quote and a colon end the name of a member, unless they are
    escaped within a text. Where it cannot be told, the answer is no, and somebody looks.
    """
    written = text.count('":') - text.count('\\":')
    return _ODD.search(text) is None and _members(fields) == written


def _members(value: dict[str, Any]) -> int:
    count = len(value)
    for member in value.values():
        if type(member) is dict:
            count += _members(member)
        elif type(member) is list:
            count += sum(_members(item) for item in member if type(item) is dict)
    return count


def _without_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("duplicate member")
    return members

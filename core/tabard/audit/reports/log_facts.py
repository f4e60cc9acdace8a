"""Reads from a store what a report tells of the log beside its entries."""

from __future__ import annotations

import base64
from datetime import datetime
from typing import TYPE_CHECKING

from tabard.audit.checkpoint import Checkpoint
from tabard.audit.entries import Entry
from tabard.audit.note import Note, NoteError
from tabard.audit.reports.reading import time_of
from tabard.audit.reports.report import LogFacts
from tabard.errors import AuditError

if TYPE_CHECKING:
    from tabard.store import Store


def read_log_facts(store: Store, *, made_at: datetime) -> LogFacts:
    """The log's name, size, latest checkpoint and oldest entry, unverified.

    Args:
        store: Where the log is.
        made_at: When the report is made, with a time zone.

    Raises:
        AuditError: The latest checkpoint is none, or the oldest entry no record.
        StoreError: The log cannot be read.
    """
    try:
        sealed, pruned = store.latest_checkpoint(), store.pruned()
        signed = None if sealed is None else Checkpoint.parse(Note.parse(sealed.note).text)
    except (NoteError, ValueError) as error:
        raise AuditError(f"the latest checkpoint: {error}") from None
    record = next(store.stored_records(), None)
    oldest = None if record is None else Entry.of(record)
    return LogFacts(
        origin=store.origin,
        size=store.extent()[0],
        made_at=made_at,
        sealed=0 if signed is None else signed.size,
        root="" if signed is None else base64.b64encode(signed.root).decode(),
        pruned=0 if pruned is None else pruned.size,
        oldest=None if oldest is None else (oldest.index, time_of(oldest)),
    )

"""Writes what people look at of a log into a database of its own, with nothing else in it.

Nothing is copied that is not named here: the store's keys, payloads, users and credentials never
come near the file. It is derived, and not the evidence.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from tabard.audit.entries import Entry
from tabard.audit.exports.members import Members
from tabard.errors import StoreError

if TYPE_CHECKING:
    from tabard.store import Store

_TABLES = """
CREATE TABLE entry (
    entry INTEGER PRIMARY KEY,
    time TEXT,
    type TEXT NOT NULL,
    agent TEXT,
    agent_id TEXT,
    instance TEXT,
    session TEXT,
    call TEXT,
    kind TEXT,
    action TEXT,
    decision TEXT,
    code TEXT,
    rule TEXT,
    reason TEXT,
    mode TEXT,
    approved_by TEXT,
    outcome TEXT,
    error TEXT,
    duration_ms REAL,
    input_tokens INTEGER,
    output_tokens INTEGER,
    cost_nano INTEGER,
    currency TEXT,
    purpose TEXT,
    data_class TEXT,
    on_behalf_of TEXT,
    leaf TEXT NOT NULL
);
CREATE INDEX entry_by_agent ON entry (agent);
CREATE INDEX entry_by_session ON entry (session);
CREATE INDEX entry_by_action ON entry (action);
CREATE INDEX entry_by_code ON entry (code);

CREATE VIEW timeline_per_hour AS SELECT
    substr(time, 1, 13) || ':00:00Z' AS hour, decision, count(*) AS calls
FROM entry WHERE decision IS NOT NULL AND action IS NOT NULL GROUP BY hour, decision;

CREATE VIEW denials_by_code AS SELECT
    code, agent, action, count(*) AS denials, max(time) AS latest, max(entry) AS latest_entry
FROM entry WHERE decision IS NOT NULL AND decision <> 'allow'
GROUP BY code, agent, action ORDER BY denials DESC;

CREATE VIEW calls_by_agent_and_tool AS SELECT
    agent, kind, action,
    sum(decision = 'allow') AS allowed, sum(decision <> 'allow') AS refused, max(time) AS latest
FROM entry WHERE decision IS NOT NULL AND action IS NOT NULL
GROUP BY agent, kind, action ORDER BY allowed + refused DESC;

CREATE VIEW spend_by_agent AS SELECT
    agent, currency, sum(cost_nano) / 1e9 AS spent, sum(input_tokens) AS input_tokens,
    sum(output_tokens) AS output_tokens, count(*) AS calls
FROM entry WHERE cost_nano IS NOT NULL GROUP BY agent, currency ORDER BY spent DESC;
"""


def write_snapshot(store: Store, path: Path) -> int:
    """Write the log as it is now into a new file; returns how many entries there are.

    Args:
        store: Where the log is.
        path: The file, in a folder nobody else can get at; readable only, when it is done.

    Raises:
        AuditError: An entry is not a record.
        StoreError: The log cannot be read, or the file cannot be written.
    """
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        with closing(sqlite3.connect(path)) as database, database:
            database.executescript(_TABLES)
            places = ",".join("?" * 27)
            added = database.executemany(
                f"INSERT INTO entry VALUES ({places})",  # noqa: S608  only question marks
                _rows(store),
            )
            count = added.rowcount
        path.chmod(0o400)
    except (sqlite3.Error, OSError) as error:
        raise StoreError(f"{path}: the snapshot cannot be written: {error}") from None
    return max(0, count)


def _rows(store: Store) -> Iterator[tuple[object, ...]]:
    for record in store.stored_records():
        yield _row(Members(Entry.of(record), store.origin))


def _row(members: Members) -> tuple[object, ...]:
    spiffe_id, name = members.agent
    own = members.own()
    texts = ("rule", "reason", "mode", "approved_by")
    return (
        members.entry.index,
        members.time,
        members.kind,
        name,
        spiffe_id,
        own.get("instance"),
        members.text("session"),
        members.call,
        members.text("action.kind"),
        members.text("action.name"),
        own.get("effect"),
        own.get("code"),
        *(own.get(text) for text in texts),
        members.text("outcome.status"),
        members.text("outcome.error_type"),
        members.milliseconds("outcome.duration_ms"),
        members.count("usage.input_tokens"),
        members.count("usage.output_tokens"),
        own.get("cost_nano"),
        own.get("currency"),
        own.get("purpose"),
        own.get("data_class"),
        own.get("on_behalf_of"),
        members.entry.leaf,
    )

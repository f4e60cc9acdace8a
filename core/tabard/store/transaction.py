"""One transaction of the embedded store: all or nothing, and the chain advances with it."""

from __future__ import annotations

import json
import sqlite3
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Self

from tabard.clock import CLOCK_SKEW
from tabard.errors import StoreError
from tabard.identity.agent import Agent, Liveness, Status
from tabard.identity.api_key import ApiKey
from tabard.store.connection import translate
from tabard.store.rows import API_KEY, LIVENESS, to_api_key, to_liveness
from tabard.store.writer import opening_fields

if TYPE_CHECKING:
    from tabard.store.sqlite import SqliteStore

LOCK_TIMEOUT = 5.0
"""Seconds a call waits for another writer before it is refused."""

_BEGIN = "BEGIN IMMEDIATE"  # a deferred transaction that turns into a writer fails at once
_INSERT = "INSERT INTO record (leaf, body) VALUES (?, ?)"


class SqliteTransaction:
    """One `BEGIN IMMEDIATE` ... `COMMIT`, holding the process's chain."""

    __slots__ = ("_db", "_now", "_store")

    def __init__(self, store: SqliteStore, now: float) -> None:
        self._store = store
        self._now = now

    def __enter__(self) -> Self:
        """Take the lock and begin."""
        store = self._store
        if not store._lock.acquire(timeout=LOCK_TIMEOUT):
            raise StoreError(f"{store.path}: another call held the store for {LOCK_TIMEOUT} s")
        try:
            self._db = store._connection()
            if store._in_doubt:
                self._recover()
            # Until the chain has advanced, an interrupt leaves it open whether COMMIT happened.
            store._in_doubt = True
            self._db.execute(_BEGIN)
        except BaseException as error:
            if isinstance(error, sqlite3.Error):
                store._in_doubt = self._db.in_transaction
            store._lock.release()
            if isinstance(error, sqlite3.Error):
                raise translate(error, store.path) from None
            raise
        return self

    def _recover(self) -> None:
        """Begin a new chain after an interrupt that left the old head uncertain."""
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")
        self._store._begin_chain()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Commit, or roll back after an exception."""
        store = self._store
        try:
            if error is not None:
                self._roll_back()
                if isinstance(error, sqlite3.Error):
                    raise translate(error, store.path) from None
                return
            try:
                self._db.execute("COMMIT")
            except sqlite3.Error as failure:
                self._roll_back()
                raise translate(failure, store.path) from None
            store._chain.commit()
            store._in_doubt = False
        finally:
            store._lock.release()

    def _roll_back(self) -> None:
        store = self._store
        with suppress(sqlite3.Error):  # a full disk has rolled back already
            self._db.execute("ROLLBACK")
        if not self._db.in_transaction:
            store._chain.rollback()
            store._in_doubt = False

    def status(self, spiffe_id: str) -> str | None:
        """Whether an identity is `active` or `revoked`; None when it is not registered."""
        row = self._db.execute(
            "SELECT status FROM agent WHERE spiffe_id = ?", (spiffe_id,)
        ).fetchone()
        return None if row is None else row[0]

    def liveness(self, spiffe_id: str, *, jti: str, issued_at: int) -> Liveness:
        """Whether a token of an identity still counts, by everything that was revoked."""
        row = self._db.execute(LIVENESS, (jti, spiffe_id)).fetchone()
        return to_liveness(row, issued_at)

    def append(self, kind: str, fields: str) -> str:
        """Add a record to the log; returns its id."""
        store = self._store
        if store._chain.empty:
            _, body, leaf = store._chain.link(
                "writer.open", opening_fields(store._parent), self._now
            )
            self._db.execute(_INSERT, (leaf, body))
        record_id, body, leaf = store._chain.link(kind, fields, self._now)
        self._db.execute(_INSERT, (leaf, body))
        return record_id

    def add_agent(self, agent: Agent) -> None:
        """Register an identity."""
        self._db.execute(
            "INSERT INTO agent (spiffe_id, name, team, environment, purpose, owner, attributes, "
            "status, created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                str(agent.spiffe_id),
                agent.name,
                agent.team,
                agent.environment,
                agent.purpose,
                agent.owner,
                json.dumps(dict(agent.attributes), sort_keys=True),
                agent.status,
                int(self._now),
            ),
        )

    def set_status(self, spiffe_id: str, status: Status, reason: str) -> None:
        """Ban an identity, or take the ban back."""
        self._db.execute(
            "UPDATE agent SET status = ?, revoked_at = ?, reason = ? WHERE spiffe_id = ?",
            (status, int(self._now) if status == "revoked" else None, reason, spiffe_id),
        )

    def refuse_issued_before(self, spiffe_id: str, moment: int) -> None:
        """Refuse every token of an identity issued before a POSIX second; never goes back."""
        self._db.execute(
            "UPDATE agent SET min_iat = max(min_iat, ?) WHERE spiffe_id = ?", (moment, spiffe_id)
        )

    def deny_token(self, jti: str, *, expires: int) -> None:
        """Refuse one token until it would have expired anyway."""
        self._db.execute("DELETE FROM denied_token WHERE expires < ?", (int(self._now),))
        self._db.execute("INSERT OR IGNORE INTO denied_token VALUES (?, ?)", (jti, expires))

    def add_api_key(self, key: ApiKey) -> None:
        """Keep a new key."""
        self._db.execute(
            "INSERT INTO api_key (id, spiffe_id, digest, created_at, expires_at) "
            "VALUES (?, ?, ?, ?, ?)",
            (key.id, key.spiffe_id, key.digest, key.created_at, key.expires_at),
        )

    def api_keys(self, spiffe_id: str) -> list[ApiKey]:
        """An agent's keys, oldest first."""
        query = f"{API_KEY} WHERE spiffe_id = ? ORDER BY created_at, id"
        return [to_api_key(row) for row in self._db.execute(query, (spiffe_id,))]

    def find_api_key(self, key_id: str) -> ApiKey | None:
        """One key by its public id."""
        row = self._db.execute(f"{API_KEY} WHERE id = ?", (key_id,)).fetchone()
        return None if row is None else to_api_key(row)

    def revoke_api_key(self, key_id: str) -> None:
        """Mark a key as taken back."""
        self._db.execute("UPDATE api_key SET revoked = 1 WHERE id = ?", (key_id,))

    def claim_issue_time(self, spiffe_id: str, now: int) -> int | None:
        """The `iat` for a new token: not before what is refused; None if the clock is behind."""
        query = "SELECT CAST(value AS INTEGER) FROM meta WHERE name = 'last_issued_at'"
        row = self._db.execute(query).fetchone()
        latest = 0 if row is None else int(row[0])
        if now < latest - CLOCK_SKEW:
            return None
        query = "SELECT min_iat FROM agent WHERE spiffe_id = ?"
        [cut_off] = self._db.execute(query, (spiffe_id,)).fetchone()
        self._db.execute(
            "INSERT OR REPLACE INTO meta VALUES ('last_issued_at', ?)", (str(max(now, latest)),)
        )
        return max(now, int(cut_off))

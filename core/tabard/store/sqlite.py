"""The embedded store: one SQLite file, write-ahead log, many processes.

One connection per process behind one lock, which is also the lock of the process's hash chain: a
record's place in the chain is decided by the order of commits. Reopened after `fork`.
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from tabard.audit.chain import Chain
from tabard.audit.verify import StoredRecord
from tabard.clock import system_clock
from tabard.errors import ConfigurationError, StoreError
from tabard.identity.agent import Agent
from tabard.identity.spiffe_id import SpiffeId
from tabard.store import connection as connections
from tabard.store.writer import opening_fields

LOCK_TIMEOUT = 5.0
"""Seconds a call waits for another writer before it is refused."""

_Result = TypeVar("_Result")
_PAGE = 1000
_BEGIN = "BEGIN IMMEDIATE"  # a deferred transaction that turns into a writer fails at once
_INSERT = "INSERT INTO record (leaf, body) VALUES (?, ?)"
_AGENT = "SELECT spiffe_id, name, team, environment, purpose, owner, attributes, status FROM agent"


class SqliteStore:
    """Identities and the log in one SQLite file.

    Attributes:
        path: The database file.
        trust_domain: The trust domain this home belongs to.
        secret: The key of argument commitments and user pseudonyms; never leaves the home.
    """

    def __init__(self, path: Path, *, synchronous: connections.Synchronous = "NORMAL") -> None:
        """Open an existing database.

        Args:
            path: The database file.
            synchronous: `NORMAL` keeps every commit through the death of the process, `FULL`
                through a power cut as well.

        Raises:
            ConfigurationError: There is none, or it is not tabard's.
        """
        self.path = path
        self._synchronous: connections.Synchronous = synchronous
        self._lock = threading.Lock()
        self._closed = self._in_doubt = False
        self._chain = Chain()
        self._parent: str | None = None
        self._db: sqlite3.Connection | None = connections.connect(path, synchronous=synchronous)
        meta = dict(self._read(lambda db: db.execute("SELECT name, value FROM meta").fetchall()))
        self.trust_domain: str = meta["trust_domain"]
        self.secret: bytes = bytes.fromhex(meta["secret"])
        _stores.add(self)

    def _connection(self) -> sqlite3.Connection:
        """The connection of this process; call it with the lock held."""
        if self._closed:
            raise StoreError(f"{self.path}: the store is closed")
        if self._db is None:
            try:
                self._db = connections.connect(self.path, synchronous=self._synchronous)
            except ConfigurationError as error:
                raise StoreError(str(error)) from None
        return self._db

    def _begin_chain(self) -> None:
        """Start a new chain that names the old one as its parent."""
        self._parent = self._parent if self._chain.empty else self._chain.writer
        self._chain, self._in_doubt = Chain(), False

    def transaction(self, now: float) -> SqliteTransaction:
        """Begin a transaction at `now` (POSIX seconds)."""
        return SqliteTransaction(self, now)

    def agents(self) -> list[Agent]:
        """Every registered identity, by name."""
        rows = self._read(lambda db: db.execute(f"{_AGENT} ORDER BY name, spiffe_id").fetchall())
        return [_to_agent(row) for row in rows]

    def find_agent(self, spiffe_id: str) -> Agent | None:
        """One identity as it is now."""
        row = self._read(
            lambda db: db.execute(f"{_AGENT} WHERE spiffe_id = ?", (spiffe_id,)).fetchone()
        )
        return None if row is None else _to_agent(row)

    def stored_records(self, *, after: int = 0) -> Iterator[StoredRecord]:
        """The log from entry `after + 1` on, read in pages so that writers go on between them."""
        # As bytes: a changed byte may not be UTF-8 any more, and must still be shown.
        query = (
            "SELECT id, CAST(body AS BLOB), CAST(leaf AS BLOB) FROM record "
            "WHERE id > ? ORDER BY id LIMIT ?"
        )
        while True:
            position = after
            page = self._read(lambda db: db.execute(query, (position, _PAGE)).fetchall())  # noqa: B023
            for index, body, leaf in page:
                yield StoredRecord(index=index, body=body, leaf=leaf)
            if len(page) < _PAGE:
                return
            after = page[-1][0]

    def extent(self) -> tuple[int, int]:
        """How many entries the log ever took, and the index of the last one that is there."""
        query = (
            "SELECT (SELECT seq FROM sqlite_sequence WHERE name = 'record'), "
            "(SELECT max(id) FROM record)"
        )
        count, last = self._read(lambda db: db.execute(query).fetchone())
        return count or 0, last or 0

    def close(self) -> None:
        """Write the closing entry of this writer and let go of the database."""
        if self._closed:
            return
        if not self._chain.empty:
            with suppress(StoreError), self.transaction(system_clock()) as transaction:
                transaction.append("writer.close", '"closed":true')
        with self._lock:
            self._closed = True
            if self._db is not None:
                self._db.close()

    def _read(self, query: Callable[[sqlite3.Connection], _Result]) -> _Result:
        with self._lock:
            try:
                return query(self._connection())
            except sqlite3.Error as error:
                raise connections.translate(error, self.path) from None

    def _after_fork(self) -> None:
        """Give the child a lock and a chain of its own; it connects when it first needs to.

        The inherited connection is kept, unused: closing it here could cut the parent's log short.
        """
        self._lock = threading.Lock()
        if self._db is not None:
            _inherited.append(self._db)
            self._db = None
        self._begin_chain()


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
                raise connections.translate(error, store.path) from None
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
                    raise connections.translate(error, store.path) from None
                return
            try:
                self._db.execute("COMMIT")
            except sqlite3.Error as failure:
                self._roll_back()
                raise connections.translate(failure, store.path) from None
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

    def revoke(self, spiffe_id: str, reason: str) -> None:
        """Mark an identity as revoked."""
        self._db.execute(
            "UPDATE agent SET status = 'revoked', revoked_at = ?, reason = ? WHERE spiffe_id = ?",
            (int(self._now), reason, spiffe_id),
        )


def _to_agent(row: tuple[str, ...]) -> Agent:
    spiffe_id, name, team, environment, purpose, owner, attributes, status = row
    return Agent(
        spiffe_id=SpiffeId.parse(spiffe_id),
        name=name,
        team=team,
        environment=environment,
        purpose=purpose,
        owner=owner,
        attributes=json.loads(attributes),
        status="active" if status == "active" else "revoked",
    )


_stores: weakref.WeakSet[SqliteStore] = weakref.WeakSet()
_inherited: list[sqlite3.Connection] = []


def _reopen_all() -> None:
    for store in list(_stores):
        store._after_fork()


os.register_at_fork(after_in_child=_reopen_all)

"""One transaction of the embedded store: all or nothing, and the chain advances with it."""

from __future__ import annotations

import sqlite3
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Self

from tabard.audit.chain import SessionCount
from tabard.errors import ConfigurationError, StoreError
from tabard.store.approval_rows import ApprovalRows
from tabard.store.connection import translate
from tabard.store.ledger_rows import LedgerRows
from tabard.store.policy_rows import PolicyRows
from tabard.store.proof_rows import ProofRows
from tabard.store.registry_rows import RegistryRows
from tabard.store.subject_rows import SubjectRows
from tabard.store.trust_rows import TrustRows
from tabard.store.writer import opening_fields

if TYPE_CHECKING:
    from tabard.store.sqlite import SqliteStore

LOCK_TIMEOUT = 2.0
"""Seconds a call waits for another writer before it is refused."""

_BEGIN = "BEGIN IMMEDIATE"  # a deferred transaction that turns into a writer fails at once
_INSERT = "INSERT INTO record (leaf, body) VALUES (?, ?)"


class SqliteTransaction(
    RegistryRows, TrustRows, LedgerRows, ApprovalRows, PolicyRows, ProofRows, SubjectRows
):
    """One `BEGIN IMMEDIATE` ... `COMMIT`, holding the process's chain."""

    __slots__ = ("_db", "_now", "_store")

    def __init__(self, store: SqliteStore, now: float) -> None:
        self._store = store
        self._now = now

    @property
    def trust_domain(self) -> str:
        """The trust domain of the home."""
        return self._store.trust_domain

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
                if isinstance(error, UnicodeEncodeError):
                    raise ConfigurationError("a text holds half a character (a lone surrogate)")
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
        if store.on_commit is not None:
            store.on_commit()

    def _roll_back(self) -> None:
        store = self._store
        with suppress(sqlite3.Error):  # a full disk has rolled back already
            self._db.execute("ROLLBACK")
        if not self._db.in_transaction:
            store._chain.rollback()
            store._in_doubt = False

    def append(self, kind: str, fields: str, count: SessionCount | None = None) -> str:
        """Add a record to the log; returns its id."""
        store = self._store
        if store._chain.empty:
            _, body, leaf = store._chain.link(
                "writer.open", opening_fields(store._parent), self._now
            )
            self._db.execute(_INSERT, (leaf, body))
        back = store._chain.step_back(self._now)
        if back is not None:
            _, body, leaf = store._chain.link("clock.step", f'"back_s":{back:.6f}', self._now)
            self._db.execute(_INSERT, (leaf, body))
        record_id, body, leaf = store._chain.link(kind, fields, self._now, count)
        self._db.execute(_INSERT, (leaf, body))
        return record_id

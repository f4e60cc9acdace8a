"""The embedded store: one SQLite file, write-ahead log, many processes.

One connection per process behind one lock, which is also the lock of the process's hash chain: a
record's place in the chain is decided by the order of commits. Reopened after `fork`.
"""

from __future__ import annotations

import atexit
import os
import sqlite3
import threading
import weakref
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from tabard.approval import ApprovalRequest
from tabard.audit.chain import Chain
from tabard.audit.fields import encode
from tabard.budget.ledger import Balance
from tabard.clock import system_clock
from tabard.errors import ConfigurationError, StoreError
from tabard.identity.agent import Agent, Liveness
from tabard.identity.api_key import ApiKey
from tabard.identity.issuer_key import IssuerKey
from tabard.identity.trusted_domain import TrustedDomain
from tabard.policy.change import PolicyChange
from tabard.store import connection as connections
from tabard.store import transaction as transactions
from tabard.store.approval_rows import APPROVAL, to_approval
from tabard.store.log_reads import LogReads
from tabard.store.policy_rows import policy_changes, policy_number
from tabard.store.rows import (
    AGENT,
    API_KEY,
    ISSUER_KEY,
    LIVENESS,
    TRUSTED_DOMAIN,
    to_agent,
    to_api_key,
    to_issuer_key,
    to_liveness,
    to_trusted_domain,
)
from tabard.store.transaction import SqliteTransaction

_Result = TypeVar("_Result")


class SqliteStore(LogReads):
    """Identities and the log in one SQLite file.

    Attributes:
        path: The database file.
        trust_domain: The trust domain this home belongs to.
        secret: The key of argument commitments; never leaves the home.
        on_commit: Called after each commit, with no lock held; must not raise.
        origin: The name of the log, on every checkpoint of it.
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
        self.on_commit: Callable[[], None] | None = None
        self._chain = Chain()
        self._parent: str | None = None
        self._db: sqlite3.Connection | None = connections.connect(path, synchronous=synchronous)
        meta = dict(self._read(lambda db: db.execute("SELECT name, value FROM meta").fetchall()))
        try:
            self.trust_domain: str = meta["trust_domain"]
            self.secret: bytes = bytes.fromhex(meta["secret"])
            self.origin = f"{self.trust_domain}/tabard/{meta['log_id']}"
        except (KeyError, ValueError):
            raise ConfigurationError(
                f"{path}: the database is damaged: its table `meta` lacks what it was made with"
            ) from None
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
        rows = self._read(lambda db: db.execute(f"{AGENT} ORDER BY name, spiffe_id").fetchall())
        return [to_agent(row) for row in rows]

    def find_agent(self, spiffe_id: str) -> Agent | None:
        """One identity as it is now."""
        row = self._read(
            lambda db: db.execute(f"{AGENT} WHERE spiffe_id = ?", (spiffe_id,)).fetchone()
        )
        return None if row is None else to_agent(row)

    def liveness(self, spiffe_id: str, *, names: tuple[str, str, str], issued_at: int) -> Liveness:
        """Whether a credential of an identity still counts now."""
        row = self._read(lambda db: db.execute(LIVENESS, (*names, spiffe_id)).fetchone())
        return to_liveness(row, issued_at)

    def find_api_key(self, key_id: str) -> ApiKey | None:
        """One key by its public id."""
        row = self._read(lambda db: db.execute(f"{API_KEY} WHERE id = ?", (key_id,)).fetchone())
        return None if row is None else to_api_key(row)

    def issuer_keys(self) -> list[IssuerKey]:
        """Every key the authority ever had, oldest change first."""
        query = f"{ISSUER_KEY} ORDER BY since, kid"
        return [to_issuer_key(row) for row in self._read(lambda db: db.execute(query).fetchall())]

    def trusted_domain(self, name: str) -> TrustedDomain | None:
        """A trust domain that counts here, or None."""
        query = f"{TRUSTED_DOMAIN} WHERE trust_domain = ?"
        row = self._read(lambda db: db.execute(query, (name,)).fetchone())
        return None if row is None else to_trusted_domain(row)

    def trusted_domains(self) -> list[TrustedDomain]:
        """Every trust domain that counts here, by name."""
        query = f"{TRUSTED_DOMAIN} ORDER BY trust_domain"
        rows = self._read(lambda db: db.execute(query).fetchall())
        return [to_trusted_domain(row) for row in rows]

    def policy_number(self) -> int:
        """The number of the policy change that is in force; 0 before the first."""
        return self._read(policy_number)

    def policy_changes(self) -> list[PolicyChange]:
        """Every policy change, oldest first."""
        return self._read(policy_changes)

    def policy_text(self, digest: str) -> str | None:
        """The text of a policy that was kept, or None."""
        query = "SELECT text FROM policy WHERE digest = ?"
        row = self._read(lambda db: db.execute(query, (digest,)).fetchone())
        return None if row is None else row[0]

    def balances(self) -> list[Balance]:
        """What every window has taken, by key."""
        query = "SELECT key, spent, held FROM budget ORDER BY key"
        rows = self._read(lambda db: db.execute(query).fetchall())
        return [Balance(key=key, spent=spent, held=held) for key, spent, held in rows]

    def approvals(self) -> list[ApprovalRequest]:
        """Every request for approval, oldest first."""
        query = f"{APPROVAL} ORDER BY requested_at, rowid"
        return [to_approval(row) for row in self._read(lambda db: db.execute(query).fetchall())]

    def find_approval(self, request_id: str) -> ApprovalRequest | None:
        """One request by its id."""
        query = f"{APPROVAL} WHERE id = ?"
        row = self._read(lambda db: db.execute(query, (request_id,)).fetchone())
        return None if row is None else to_approval(row)

    def forget(self) -> None:
        """Leave nothing of what was deleted in the write-ahead log, once no reader needs it."""
        self._read(lambda db: db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall())

    def close(self) -> None:
        """Write the closing entry of this writer and let go of the database."""
        if self._closed:
            return
        if not self._chain.empty:
            with suppress(StoreError), self.transaction(system_clock()) as transaction:
                sessions = encode(self._chain.open_sessions)
                transaction.append("writer.close", f'"closed":true,"sessions":{sessions}')
        with self._lock:
            self._closed = True
            if self._db is not None:
                self._db.close()

    def _read(self, query: Callable[[sqlite3.Connection], _Result]) -> _Result:
        # Not for ever: a thread that is stuck with the lock must not hold up all the others.
        if not self._lock.acquire(timeout=transactions.LOCK_TIMEOUT):
            raise StoreError(f"{self.path}: another call held the store too long")
        try:
            return query(self._connection())
        except sqlite3.Error as error:
            raise connections.translate(error, self.path) from None
        finally:
            self._lock.release()

    def _after_fork(self) -> None:
        """Give the child a lock and a chain of its own; it connects when it first needs to.

        The inherited connection is kept, unused: closing it here could cut the parent's log short.
        """
        self._lock = threading.Lock()
        if self._db is not None:
            _inherited.append(self._db)
            self._db = None
        self._begin_chain()


_stores: weakref.WeakSet[SqliteStore] = weakref.WeakSet()
_inherited: list[sqlite3.Connection] = []


def _reopen_all() -> None:
    for store in list(_stores):
        store._after_fork()


def _close_all() -> None:
    for store in list(_stores):
        with suppress(StoreError, sqlite3.Error):
            store.close()


os.register_at_fork(after_in_child=_reopen_all)
# A process that ends as it should says so in the log, whether or not it closed its guard.
atexit.register(_close_all)

"""What a transaction does with budgets, holds and rates."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from functools import lru_cache

from tabard.audit.chain import first_id
from tabard.budget.ledger import HOLD_LIFETIME, Balance, Hold, Window

_SWEPT_AT_ONCE = 100
"""Expired holds charged in one transaction; the next one goes on."""

_MICRO = 1_000_000

_write_keys = lru_cache(maxsize=1024)(json.dumps)


@lru_cache(maxsize=1024)
def _read_keys(text: str) -> tuple[str, ...]:
    """The windows of a hold; the calls of a session name the same again and again."""
    return tuple(json.loads(text))


class LedgerRows:
    """The part of a transaction that is about money and counts."""

    __slots__ = ()
    _db: sqlite3.Connection
    _now: float

    def first_overdrawn(self, windows: Sequence[Window], amount: int) -> Window | None:
        """The first window, by its key, that has no room for so many nano-units."""
        taken = {balance.key: balance for balance in self.balances([w.key for w in windows])}
        for window in sorted(windows, key=lambda one: one.key):
            balance = taken.get(window.key)
            used = 0 if balance is None else balance.spent + balance.held
            if used + amount > window.limit:
                return window
        return None

    def balances(self, keys: Sequence[str]) -> list[Balance]:
        """What windows have taken; one without any is left out."""
        marks = ",".join("?" * len(keys))
        query = f"SELECT key, spent, held FROM budget WHERE key IN ({marks})"  # noqa: S608  marks only
        rows = self._db.execute(query, tuple(keys))
        return [Balance(key=key, spent=spent, held=held) for key, spent, held in rows]

    def hold(self, hold: Hold) -> None:
        """Set an amount aside in every window of a call."""
        self._db.executemany(
            "INSERT INTO budget (key, spent, held) VALUES (?, 0, ?) "
            "ON CONFLICT (key) DO UPDATE SET held = held + excluded.held",
            [(key, hold.amount) for key in sorted(hold.keys)],
        )
        self._db.execute(
            "INSERT INTO hold (call, amount, keys, state, expires) VALUES (?, ?, ?, 'open', ?)",
            (hold.call, hold.amount, _write_keys(hold.keys), hold.expires),
        )

    def settle(self, call: str, actual: int) -> bool:
        """Charge what a call has really cost, once; False if that was done, or nothing is held.

        A hold that was charged in full because nothing was heard of the call is put right.
        """
        row = self._db.execute(
            "DELETE FROM hold WHERE call = ? RETURNING amount, keys, state", (call,)
        ).fetchone()
        if row is None:
            return False
        amount, keys, state = row
        held, charged = (amount, 0) if state == "open" else (0, amount)
        self._move(_read_keys(keys), spent=actual - charged, held=-held)
        return True

    def sweep(self) -> list[Hold]:
        """Charge calls in full that nothing was heard of in time; returns them."""
        now = int(self._now)
        rows = self._db.execute(
            "SELECT call, amount, keys, expires FROM hold "
            "WHERE call < ? AND state = 'open' AND expires <= ? LIMIT ?",
            (first_id(now - HOLD_LIFETIME + 1), now, _SWEPT_AT_ONCE),
        ).fetchall()
        swept = []
        for call, amount, keys, expires in rows:
            hold = Hold(call=call, amount=amount, keys=_read_keys(keys), expires=expires)
            self._db.execute("UPDATE hold SET state = 'expired' WHERE call = ?", (call,))
            self._move(hold.keys, spent=amount, held=-amount)
            swept.append(hold)
        return swept

    def _move(self, keys: Sequence[str], *, spent: int, held: int) -> None:
        # A window that was reset meanwhile has nothing left to take back.
        self._db.executemany(
            "UPDATE budget SET spent = max(0, spent + ?), held = held + ? WHERE key = ?",
            [(spent, held, key) for key in sorted(keys)],
        )

    def reset_budget(self, key: str) -> Balance | None:
        """Forget what a window has spent; what is held stays. Returns what it was."""
        found = self.balances([key])
        self._db.execute("UPDATE budget SET spent = 0 WHERE key = ?", (key,))
        # What was charged before is forgotten, too: a late word about it must not be taken off
        # what others spend from now on.
        charged = self._db.execute("SELECT call, keys FROM hold WHERE state = 'expired'").fetchall()
        self._db.executemany(
            "UPDATE hold SET keys = ? WHERE call = ?",
            [
                (json.dumps([one for one in json.loads(keys) if one != key]), call)
                for call, keys in charged
                if key in json.loads(keys)
            ],
        )
        return found[0] if found else None

    def is_over_rate(self, key: str, *, limit: int, per: int) -> bool:
        """Whether one more call would be too many in the `per` seconds until now."""
        row = self._db.execute(
            "SELECT at FROM rate_call WHERE key = ? AND "
            "n = (SELECT max(n) FROM rate_call WHERE key = ?) - ? + 1",
            (key, key, limit),
        ).fetchone()
        return row is not None and row[0] > (self._now - per) * _MICRO

    def count_call(self, key: str, *, limit: int) -> None:
        """Count a call against a limit; only the latest `limit` of them are kept."""
        [n] = self._db.execute(
            "INSERT INTO rate_call (key, n, at) "
            "SELECT ?, coalesce(max(n), 0) + 1, ? FROM rate_call WHERE key = ? RETURNING n",
            (key, int(self._now * _MICRO), key),
        ).fetchone()
        self._db.execute("DELETE FROM rate_call WHERE key = ? AND n <= ?", (key, n - limit))

"""What a transaction does with policies: their texts by digest, and which one is in force."""

from __future__ import annotations

import sqlite3

from tabard.policy.change import PolicyChange


class PolicyRows:
    """The part of a transaction that is about the policy."""

    __slots__ = ()
    _db: sqlite3.Connection
    _now: float

    def policy_number(self) -> int:
        """The number of the change that is in force; 0 when no policy was ever applied."""
        return policy_number(self._db)

    def policy_in_force(self) -> str | None:
        """The digest of the policy that is in force; None before the first."""
        query = "SELECT digest FROM policy_change ORDER BY number DESC LIMIT 1"
        row = self._db.execute(query).fetchone()
        return None if row is None else row[0]

    def keep_policy(self, digest: str, text: str) -> None:
        """Keep a policy's text, so that what it decided can be explained later."""
        self._db.execute(
            "INSERT OR IGNORE INTO policy (digest, text, stored_at) VALUES (?, ?, ?)",
            (digest, text, int(self._now)),
        )

    def apply_policy(self, digest: str, *, by: str | None) -> int:
        """Let a kept policy come into force; returns the number of the change."""
        cursor = self._db.execute(
            "INSERT INTO policy_change (digest, applied_at, applied_by) VALUES (?, ?, ?)",
            (digest, int(self._now), by),
        )
        return int(cursor.lastrowid or 0)


def policy_number(db: sqlite3.Connection) -> int:
    """The number of the change that is in force; 0 when no policy was ever applied."""
    [number] = db.execute("SELECT coalesce(max(number), 0) FROM policy_change").fetchone()
    return int(number)


def policy_changes(db: sqlite3.Connection) -> list[PolicyChange]:
    """Every change, oldest first."""
    query = "SELECT number, digest, applied_at, applied_by FROM policy_change ORDER BY number"
    return [PolicyChange(*row) for row in db.execute(query)]

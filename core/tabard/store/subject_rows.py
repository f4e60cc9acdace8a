"""What a transaction does with the users agents work for, and with what is kept about them."""

from __future__ import annotations

import sqlite3


class SubjectRows:
    """The part of a transaction that is about people."""

    __slots__ = ()
    _db: sqlite3.Connection
    _now: float

    def find_pseudonym(self, lookup: str) -> str | None:
        """The pseudonym of a user, by the keyed digest of who they are."""
        query = "SELECT pseudonym FROM subject WHERE lookup = ?"
        row = self._db.execute(query, (lookup,)).fetchone()
        return None if row is None else row[0]

    def add_subject(self, lookup: str, *, pseudonym: str, key: bytes) -> None:
        """Keep a user's pseudonym, and the key for what is kept about them."""
        self._db.execute("INSERT INTO subject VALUES (?, ?, ?)", (lookup, pseudonym, key))

    def subject_key(self, pseudonym: str) -> bytes | None:
        """The key for what is kept about a user; None once that was erased."""
        query = "SELECT key FROM subject WHERE pseudonym = ?"
        row = self._db.execute(query, (pseudonym,)).fetchone()
        return None if row is None else row[0]

    def erase_subject(self, pseudonym: str) -> int:
        """Forget who a pseudonym stands for, and what was kept; returns how many payloads."""
        self._db.execute("DELETE FROM subject WHERE pseudonym = ?", (pseudonym,))
        # Nobody agrees to values they cannot see: an open question about them is over.
        self._db.execute(
            "UPDATE approval SET shown = '{}', expires_at = iif(state IN ('pending', 'granted'), "
            "min(expires_at, ?), expires_at) WHERE pseudonym = ?",
            (int(self._now), pseudonym),
        )
        cursor = self._db.execute("DELETE FROM payload WHERE pseudonym = ?", (pseudonym,))
        return cursor.rowcount

    def erase_payloads(self, call: str) -> int:
        """Forget what was kept of one call; returns how many payloads that was."""
        return self._db.execute("DELETE FROM payload WHERE call = ?", (call,)).rowcount

    def add_payload(self, call: str, part: str, *, pseudonym: str | None, data: bytes) -> None:
        """Keep what a call was given, or gave back; encrypted by the caller."""
        self._db.execute("INSERT INTO payload VALUES (?, ?, ?, ?)", (call, part, pseudonym, data))

    def find_payload(self, call: str, part: str) -> tuple[str | None, bytes] | None:
        """The pseudonym and the bytes of a payload."""
        query = "SELECT pseudonym, data FROM payload WHERE call = ? AND part = ?"
        row = self._db.execute(query, (call, part)).fetchone()
        return None if row is None else (row[0], row[1])

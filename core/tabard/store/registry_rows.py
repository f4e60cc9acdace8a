"""What a transaction does with agents, their API keys, and what is refused."""

from __future__ import annotations

import json
import sqlite3

from tabard.identity.agent import Agent, Liveness, Status
from tabard.identity.api_key import ApiKey
from tabard.store.rows import AGENT, API_KEY, LIVENESS, to_agent, to_api_key, to_liveness

_KEPT = 30 * 86_400
"""Seconds a refusal is kept after what it refuses has expired."""
_PROOF_KEPT = 86_400
"""The same of a proof that was used."""
_WAITED = 5
"""Seconds a call may have waited for its turn since it read the clock."""


class RegistryRows:
    """The part of a transaction that is about who exists and what they hold."""

    __slots__ = ()
    _db: sqlite3.Connection
    _now: float

    def status(self, spiffe_id: str) -> str | None:
        """Whether an identity is `active` or `revoked`; None when it is not registered."""
        row = self._db.execute(
            "SELECT status FROM agent WHERE spiffe_id = ?", (spiffe_id,)
        ).fetchone()
        return None if row is None else row[0]

    def liveness(self, spiffe_id: str, *, names: tuple[str, str, str], issued_at: int) -> Liveness:
        """Whether a credential of an identity still counts, by everything that was revoked."""
        row = self._db.execute(LIVENESS, (*names, spiffe_id)).fetchone()
        return to_liveness(row, issued_at)

    def agents(self) -> list[Agent]:
        """Every registered identity, by name."""
        query = f"{AGENT} ORDER BY name, spiffe_id"
        return [to_agent(row) for row in self._db.execute(query)]

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

    def refuse_issued_until(self, spiffe_id: str, moment: int) -> None:
        """Refuse every credential an identity was given until a POSIX second, and until this call.

        A clock that is behind, or a second cut in the same second, refuses no less: what counts is
        also the latest credential that was issued here, and the cut before.
        """
        self._db.execute(
            "UPDATE agent SET min_iat = 1 + max(min_iat, ?, coalesce("
            "(SELECT CAST(value AS INTEGER) FROM meta WHERE name = 'last_issued_at'), 0)) "
            "WHERE spiffe_id = ?",
            (moment, spiffe_id),
        )

    def refuse(self, name: str, *, expires: int) -> bool:
        """Refuse what bears a name until a POSIX second; False if it was refused already."""
        # Long after, and no sooner: the clock of this process may be ahead of all others.
        now = int(self._now)
        self._db.execute("DELETE FROM refused WHERE expires < ?", (now - _KEPT,))
        self._db.execute(
            "DELETE FROM refused WHERE expires < ? AND +name LIKE 'proof:%'", (now - _PROOF_KEPT,)
        )
        added = self._db.execute("INSERT OR IGNORE INTO refused VALUES (?, ?)", (name, expires))
        if added.rowcount == 1:
            return True
        query = "UPDATE refused SET expires = max(expires, ?) WHERE name = ?"
        self._db.execute(query, (expires, name))
        return False

    def is_refused(self, name: str) -> bool:
        """Whether what bears a name is refused."""
        query = "SELECT EXISTS (SELECT 1 FROM refused WHERE name = ?)"
        return bool(self._db.execute(query, (name,)).fetchone()[0])

    def refuse_no_more(self, name: str) -> None:
        """Let what bears a name count again."""
        self._db.execute("DELETE FROM refused WHERE name = ?", (name,))

    def add_api_key(self, key: ApiKey) -> None:
        """Keep a new key."""
        self._db.execute(
            "INSERT INTO api_key (id, spiffe_id, digest, kind, created_at, expires_at, parent) "
            "VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                key.id,
                key.spiffe_id,
                key.digest,
                key.kind,
                key.created_at,
                key.expires_at,
                key.parent,
            ),
        )

    def api_keys(self, spiffe_id: str) -> list[ApiKey]:
        """An agent's keys of every kind, oldest first."""
        query = f"{API_KEY} WHERE spiffe_id = ? ORDER BY created_at, id"
        return [to_api_key(row) for row in self._db.execute(query, (spiffe_id,))]

    def find_api_key(self, key_id: str) -> ApiKey | None:
        """One key by its public id."""
        row = self._db.execute(f"{API_KEY} WHERE id = ?", (key_id,)).fetchone()
        return None if row is None else to_api_key(row)

    def revoke_api_key(self, key_id: str) -> bool:
        """Mark a key as taken back, or a join token as used; False if it was already."""
        query = "UPDATE api_key SET revoked = 1 WHERE id = ? AND revoked = 0"
        return self._db.execute(query, (key_id,)).rowcount == 1

    def revoke_api_keys_of(self, spiffe_id: str) -> None:
        """Mark every key and join token of an identity as taken back."""
        self._db.execute("UPDATE api_key SET revoked = 1 WHERE spiffe_id = ?", (spiffe_id,))

    def shorten_api_key(self, key_id: str, expires_at: int) -> None:
        """Let a key expire at a POSIX second, unless it does so earlier."""
        query = "UPDATE api_key SET expires_at = min(expires_at, ?) WHERE id = ?"
        self._db.execute(query, (expires_at, key_id))

    def claim_issue_time(self, spiffe_id: str, now: int) -> int | None:
        """The `iat` for a new token: not before what is refused; None if the clock is behind."""
        query = "SELECT CAST(value AS INTEGER) FROM meta WHERE name = 'last_issued_at'"
        row = self._db.execute(query).fetchone()
        latest = 0 if row is None else int(row[0])
        if now < latest - _WAITED:
            return None
        query = "SELECT min_iat FROM agent WHERE spiffe_id = ?"
        [cut_off] = self._db.execute(query, (spiffe_id,)).fetchone()
        self._db.execute(
            "INSERT OR REPLACE INTO meta VALUES ('last_issued_at', ?)", (str(max(now, latest)),)
        )
        return max(now, latest, int(cut_off))

"""What a transaction does with requests for a person's approval."""

from __future__ import annotations

import json
import sqlite3
from typing import Any

from tabard.approval import ApprovalRequest, State

APPROVAL = (
    "SELECT id, binding, spiffe_id, chain, session, tool, rule, role, ttl, shown, requested_at, "
    "expires_at, state, decided_by, reason, pseudonym FROM approval"
)
_OVER = "UPDATE approval SET shown = '{}' WHERE shown != '{}' AND expires_at <= ?"


class ApprovalRows:
    """The part of a transaction that is about questions to people."""

    __slots__ = ()
    _db: sqlite3.Connection
    _now: float

    def find_approval(self, request_id: str) -> ApprovalRequest | None:
        """One request by its id."""
        row = self._db.execute(f"{APPROVAL} WHERE id = ?", (request_id,)).fetchone()
        return None if row is None else to_approval(row)

    def latest_approval(self, binding: str) -> ApprovalRequest | None:
        """The latest request about exactly one call."""
        query = f"{APPROVAL} WHERE binding = ? ORDER BY requested_at DESC, rowid DESC LIMIT 1"
        row = self._db.execute(query, (binding,)).fetchone()
        return None if row is None else to_approval(row)

    def add_approval(self, request: ApprovalRequest) -> None:
        """Keep a new request."""
        self.forget_shown()
        self._db.execute(
            "INSERT INTO approval (id, binding, spiffe_id, chain, session, tool, rule, role, ttl, "
            "shown, requested_at, expires_at, state, pseudonym) "
            "VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
            (
                request.id,
                request.binding,
                request.spiffe_id,
                json.dumps(request.chain),
                request.session,
                request.tool,
                request.rule,
                request.role,
                request.ttl,
                json.dumps(dict(request.shown)),
                request.requested_at,
                request.expires_at,
                request.state,
                request.pseudonym,
            ),
        )

    def answer_approval(
        self, request_id: str, state: State, *, by: str, reason: str | None, expires_at: int
    ) -> None:
        """Keep a person's answer; after a no, what it showed is of no more use, and goes."""
        self.forget_shown()
        self._db.execute(
            "UPDATE approval SET state = ?, decided_by = ?, reason = ?, expires_at = ?, "
            "shown = iif(? = 'granted', shown, '{}') WHERE id = ?",
            (state, by, reason, expires_at, state, request_id),
        )

    def use_approval(self, request_id: str) -> None:
        """Use a yes up; the values the approver saw are of no more use, and go."""
        self.forget_shown()
        self._db.execute(
            "UPDATE approval SET state = 'used', shown = '{}' WHERE id = ?", (request_id,)
        )

    def forget_shown(self) -> None:
        """Let go what questions showed that are over, whether or not anybody answered."""
        self._db.execute(_OVER, (self._now,))


def to_approval(row: tuple[Any, ...]) -> ApprovalRequest:
    """The request of a row of `APPROVAL`."""
    (request_id, binding, spiffe_id, chain, session, tool, rule, role, ttl, shown, requested_at,
     expires_at, state, decided_by, reason, pseudonym) = row  # fmt: skip
    return ApprovalRequest(
        id=request_id,
        binding=binding,
        spiffe_id=spiffe_id,
        chain=tuple(json.loads(chain)),
        session=session,
        tool=tool,
        rule=rule,
        role=role,
        ttl=int(ttl),
        shown=json.loads(shown),
        requested_at=int(requested_at),
        expires_at=int(expires_at),
        state=state,
        decided_by=decided_by,
        reason=reason,
        pseudonym=pseudonym,
    )

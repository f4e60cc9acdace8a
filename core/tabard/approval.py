"""A person's answer to one call: the request, who may answer, and what became of it.

A request is bound to agent, session, tool and exact arguments by a keyed digest, and a yes to it is
good for one call.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

State = Literal["pending", "granted", "denied", "used"]
Standing = Literal["pending", "granted", "denied", "used", "expired"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalRequest:
    """One question to a person.

    Attributes:
        id: What the question is called; no secret.
        binding: Keyed digest (hex) of the agent, session, tool and arguments it is about.
        spiffe_id: The agent that wants to call.
        chain: The SPIFFE IDs of everyone who would profit: the agent, and those it acts for.
        session: The session of the call.
        tool: The tool's name.
        rule: The rule that asks.
        role: Who may answer.
        ttl: Seconds there are for an answer, and from a yes on for the call.
        shown: The arguments the policy lets an approver see; empty once it is over.
        requested_at: POSIX seconds.
        expires_at: POSIX seconds after which it is over.
        state: What became of it.
        decided_by: The SPIFFE ID of who answered, or None.
        reason: What they said, or None.
        pseudonym: The user the agent works for, or None; what is shown goes when they are erased.
    """

    id: str
    binding: str
    spiffe_id: str
    chain: tuple[str, ...]
    session: str
    tool: str
    rule: str
    role: str
    ttl: int
    shown: Mapping[str, object] = field(default_factory=dict, repr=False)
    requested_at: int
    expires_at: int
    state: State = "pending"
    decided_by: str | None = None
    reason: str | None = None
    pseudonym: str | None = None

    def standing(self, now: float) -> Standing:
        """What it is good for at `now` (POSIX seconds)."""
        if self.state != "used" and now >= self.expires_at:
            return "expired"
        return self.state


def new_request_id() -> str:
    """A name for a question, easy to read out and to select."""
    return f"apr_{os.urandom(8).hex()}"

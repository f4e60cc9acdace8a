"""One time a central policy came into force."""

from __future__ import annotations

from typing import NamedTuple


class PolicyChange(NamedTuple):
    """A policy came into force, and stays so until the next change.

    Attributes:
        number: 1 for the first change of a home.
        digest: Of the policy.
        applied_at: POSIX seconds.
        applied_by: Who did it, as they said, or None.
    """

    number: int
    digest: str
    applied_at: int
    applied_by: str | None

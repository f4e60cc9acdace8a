"""The life of an issuer's key: next, active, retiring, gone.

A key is published before it signs and verified after it has stopped signing, so no credential is
ever refused for a rotation. `advance` says what is due; it is pure, and whoever calls it keeps the
result.

>>> key = IssuerKey(kid="one", use="jwt-svid", state="active", since=0, element="{}")
>>> [one.state for one in advance([key], now=43_200, make=lambda: key._replace(kid="two"))]
['next']
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

from tabard.clock import CLOCK_SKEW
from tabard.identity.bundle import REFRESH_HINT
from tabard.identity.token import MAX_LIFETIME

Use = Literal["jwt-svid", "x509-svid"]
State = Literal["next", "active", "retiring", "gone", "killed"]

ACTIVE = 86_400
"""Seconds a key signs."""
PREPARED = ACTIVE // 2
"""Seconds after which its successor is published."""
RETIRING = MAX_LIFETIME + int(CLOCK_SKEW)
"""Seconds a key still verifies after it has signed for the last time."""
PUBLISHED: frozenset[State] = frozenset({"next", "active", "retiring"})
"""The states in which a key is in the trust bundle."""


class IssuerKey(NamedTuple):
    """What is kept of an issuer's key; the private half lies in a file of its own.

    Attributes:
        kid: Its id; the file is named after it.
        use: What it vouches for.
        state: Where it is in its life.
        since: POSIX seconds of its last change of state.
        element: Its element of the trust bundle, as JSON text.
        expires: POSIX seconds at which its certificate ends; None for a key without one.
    """

    kid: str
    use: Use
    state: State
    since: int
    element: str
    expires: int | None = None

    def is_over(self, now: float) -> bool:
        """Whether everything it can have signed has ended; it counts no more, on record or not."""
        return self.state == "retiring" and now - self.since > RETIRING


def advance(
    keys: Sequence[IssuerKey], *, now: int, make: Callable[[], IssuerKey], force: bool = False
) -> list[IssuerKey]:
    """What has to change among the keys of one use, in the order to write it down.

    Args:
        keys: Every key of that use.
        now: POSIX seconds.
        make: Makes a new key; called at most once.
        force: Put the next key to use now, however young the active one is.

    Returns:
        The keys that are different, in their new state. Afterwards one key is active.
    """
    changes = [key._replace(state="gone", since=now) for key in keys if key.is_over(now)]
    active = next((key for key in keys if key.state == "active"), None)
    following = next((key for key in keys if key.state == "next"), None)
    if active is None:
        return [*changes, (following or make())._replace(state="active", since=now)]
    worn = active.expires is not None and active.expires - now < MAX_LIFETIME
    if following is None and (force or worn or now - active.since >= PREPARED):
        following = make()._replace(state="next", since=now)
        if not (force or worn):
            return [*changes, following]
    due = following is not None and (
        force or worn or (now - active.since >= ACTIVE and now - following.since >= REFRESH_HINT)
    )
    if following is None or not due:
        return changes
    return [
        *changes,
        active._replace(state="retiring", since=now),
        following._replace(state="active", since=now),
    ]

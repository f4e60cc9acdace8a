"""One writer's hash chain: each record carries the hash of the one before it.

The exact stored bytes of a record are hashed (RFC 6962 leaf: SHA-256 over 0x00 and the bytes), so
nothing is ever serialised a second time to check it.
"""

from __future__ import annotations

import hashlib
import os
import time
import weakref
from datetime import UTC, datetime
from functools import lru_cache

GENESIS = "0" * 64
"""What the first record of a writer names as its predecessor."""

STEP = 1.0
"""Seconds back that are a step of the clock, and go on record."""

MOST_SESSIONS = 10_000
"""Sessions a closing record counts at most; it has to stay shorter than the longest line."""

FORMAT = 1
"""The version of the record format, the field `v`."""


def leaf_hash(body: bytes) -> bytes:
    """The RFC 6962 leaf hash of a record's stored bytes."""
    return hashlib.sha256(b"\x00" + body).digest()


class SessionCount:
    """Numbers the records of one session, so that a selection of them can be shown to be whole.

    Attributes:
        session: The session's id.
        writer: The writer whose records are counted; a fork counts anew.
        next: The number of the session's next record.
        ended: Whether its latest record is the one that closes it.
        closed: Whether there ever was such a record.
    """

    __slots__ = ("__weakref__", "_committed", "closed", "ended", "next", "session", "writer")

    def __init__(self, session: str) -> None:
        self.session = session
        self.writer, self.closed = "", False
        self._begin("")

    def _begin(self, writer: str) -> None:
        self.writer, self.next, self.ended = writer, 0, False
        self._committed = (0, False)

    def take(self, writer: str, kind: str) -> int:
        """The number for a record of a writer."""
        if writer != self.writer:
            self._begin(writer)
        self.next, self.ended = self.next + 1, kind == "session.close"
        return self.next - 1

    def commit(self) -> None:
        """Keep the numbers taken since the last commit."""
        self._committed = (self.next, self.ended)
        self.closed = self.closed or self.ended

    def rollback(self) -> None:
        """Give the numbers taken since the last commit out again."""
        self.next, self.ended = self._committed


class Chain:
    """The head of one writer's chain; advances only when its transaction was committed.

    Attributes:
        writer: Random id of this writer: one opened store in one process.
    """

    __slots__ = (
        "_committed",
        "_counted",
        "_late",
        "_latest",
        "_next",
        "_open",
        "_previous",
        "_uncounted",
        "writer",
    )

    def __init__(self) -> None:
        self.writer = os.urandom(8).hex()
        self._next, self._previous = 0, GENESIS
        self._committed = (0, GENESIS)
        self._latest = 0.0
        self._counted: list[SessionCount] = []
        self._open: weakref.WeakSet[SessionCount] = weakref.WeakSet()
        self._late: dict[str, int] = {}
        self._uncounted = False

    @property
    def empty(self) -> bool:
        """Whether nothing was written yet."""
        return self._next == 0

    def step_back(self, now: float) -> float | None:
        """Seconds by which the clock has gone back since the latest record; None if it has not.

        Asked once for each step. Threads read the clock before they wait for their turn, so a
        little is nothing.
        """
        back, self._latest = self._latest - now, now
        if back >= STEP:
            return back
        self._latest = max(now, now + back)
        return None

    @property
    def open_sessions(self) -> dict[str, int] | None:
        """How many records there are of each session whose last one does not close it.

        A session that was dropped without being closed is left out: its last record says that
        more may have come. One that went on after it was closed (a call in flight ended, one was
        refused) is always in it, or those records could be hidden behind the closing one. None
        where there are too many to count in one record.
        """
        found = {one.session: one.next for one in self._open if not one.closed} | self._late
        return None if self._uncounted or len(found) > MOST_SESSIONS else found

    def link(
        self, kind: str, fields: str, now: float, count: SessionCount | None = None
    ) -> tuple[str, str, bytes]:
        """Make the next record.

        Args:
            kind: The record's `type`, for example `tool.decision`.
            fields: The members of the record, as JSON without the braces.
            now: Wall time in POSIX seconds.
            count: The session it belongs to, or None.

        Returns:
            The record's id (UUIDv7), its body as one line of ASCII JSON, and its leaf hash.
        """
        noise = os.urandom(26).hex()
        number = ""
        if count is not None:
            number = f'"sn":{count.take(self.writer, kind)},'
            self._counted.append(count)
        record_id = _uuid7(now, noise[32:])
        body = (
            f'{{"v":{FORMAT},"type":"{kind}","id":"{record_id}","ts":"{timestamp(now)}",'
            f'"mono_ns":{time.monotonic_ns()},"w":"{self.writer}","n":{self._next},'
            f'"p":"{self._previous}","r":"{noise[:32]}",{number}{fields}}}'
        )
        leaf = leaf_hash(body.encode("ascii"))
        self._next, self._previous = self._next + 1, leaf.hex()
        return record_id, body, leaf

    def commit(self) -> None:
        """Keep what was linked since the last commit."""
        self._committed = (self._next, self._previous)
        for count in self._counted:
            self._open.add(count)
            count.commit()
            self._keep_late(count)
        self._counted.clear()

    def _keep_late(self, count: SessionCount) -> None:
        """Remember a session that goes on after it was closed, whoever forgets it."""
        if count.ended:
            self._late.pop(count.session, None)
        elif count.closed and not self._uncounted:
            self._late[count.session] = count.next
            if len(self._late) > MOST_SESSIONS:
                self._uncounted = True
                self._late.clear()

    def rollback(self) -> None:
        """Forget what was linked since the last commit: those records do not exist."""
        self._next, self._previous = self._committed
        for count in self._counted:
            count.rollback()
        self._counted.clear()


def timestamp(now: float) -> str:
    """A moment (POSIX seconds) as RFC 3339 writes it, in UTC, to the microsecond."""
    second = int(now // 1)
    return f"{_second(second)}.{int((now - second) * 1_000_000):06d}Z"


@lru_cache(maxsize=2)
def _second(second: int) -> str:
    """The part that many records share."""
    return datetime.fromtimestamp(second, UTC).isoformat()[:19]


def first_id(second: int) -> str:
    """What no id of a record from an earlier second comes after."""
    millis = f"{second * 1000:012x}"
    return f"{millis[:8]}-{millis[8:]}"


def _uuid7(now: float, noise: str) -> str:
    """A UUIDv7 (RFC 9562) from a time and 20 random hex digits."""
    millis = f"{int(now * 1000):012x}"
    variant = "89ab"[int(noise[0], 16) & 3]
    return f"{millis[:8]}-{millis[8:]}-7{noise[1:4]}-{variant}{noise[4:7]}-{noise[7:19]}"

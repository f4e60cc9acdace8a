"""One writer's hash chain: each record carries the hash of the one before it.

The exact stored bytes of a record are hashed (RFC 6962 leaf: SHA-256 over 0x00 and the bytes), so
nothing is ever serialised a second time to check it.
"""

from __future__ import annotations

import hashlib
import os
import time
from datetime import UTC, datetime
from functools import lru_cache

GENESIS = "0" * 64
"""What the first record of a writer names as its predecessor."""

FORMAT = 1
"""The version of the record format, the field `v`."""


def leaf_hash(body: bytes) -> bytes:
    """The RFC 6962 leaf hash of a record's stored bytes."""
    return hashlib.sha256(b"\x00" + body).digest()


class Chain:
    """The head of one writer's chain; advances only when its transaction was committed.

    Attributes:
        writer: Random id of this writer: one opened store in one process.
    """

    __slots__ = ("_committed", "_next", "_previous", "writer")

    def __init__(self) -> None:
        self.writer = os.urandom(8).hex()
        self._next, self._previous = 0, GENESIS
        self._committed = (0, GENESIS)

    @property
    def empty(self) -> bool:
        """Whether nothing was written yet."""
        return self._next == 0

    def link(self, kind: str, fields: str, now: float) -> tuple[str, str, bytes]:
        """Make the next record.

        Args:
            kind: The record's `type`, for example `tool.decision`.
            fields: The members of the record, as JSON without the braces.
            now: Wall time in POSIX seconds.

        Returns:
            The record's id (UUIDv7), its body as one line of ASCII JSON, and its leaf hash.
        """
        noise = os.urandom(26).hex()
        record_id = _uuid7(now, noise[32:])
        body = (
            f'{{"v":{FORMAT},"type":"{kind}","id":"{record_id}","ts":"{timestamp(now)}",'
            f'"mono_ns":{time.monotonic_ns()},"w":"{self.writer}","n":{self._next},'
            f'"p":"{self._previous}","r":"{noise[:32]}",{fields}}}'
        )
        leaf = leaf_hash(body.encode("ascii"))
        self._next, self._previous = self._next + 1, leaf.hex()
        return record_id, body, leaf

    def commit(self) -> None:
        """Keep what was linked since the last commit."""
        self._committed = (self._next, self._previous)

    def rollback(self) -> None:
        """Forget what was linked since the last commit: those records do not exist."""
        self._next, self._previous = self._committed


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

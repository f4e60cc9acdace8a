"""Follows the chains of every writer through a log, and the numbers of one session."""

from __future__ import annotations

from typing import Any

from tabard.audit.chain import GENESIS
from tabard.errors import AuditError


class Chains:
    """The heads of the chains so far.

    Attributes:
        heads: Each writer's next number, and the hash its next record has to name.
        closed: Writers that have ended as they should.
    """

    def __init__(self, *, from_start: bool = True, partial: bool = False) -> None:
        """Begin with nothing.

        Args:
            from_start: Whether the log is read from its first entry, so that every chain begins
                with its opening record.
            partial: Whether some entries are shown by their hash only.
        """
        self._from_start = from_start
        self._partial = partial
        self._hidden: set[str] = set()
        self.heads: dict[str, tuple[int, str]] = {}
        self.closed: set[str] = set()

    @property
    def open_writers(self) -> tuple[str, ...]:
        """Writers without a closing record."""
        return tuple(writer for writer in self.heads if writer not in self.closed)

    def hide(self, leaf: str) -> None:
        """Pass an entry that is shown by its hash (hex) only."""
        self._hidden.add(leaf)

    def follow(self, index: int, leaf: str, fields: dict[str, Any]) -> None:
        """Make sure that a record follows its writer's last one, and nothing a closing one.

        Raises:
            AuditError: It does not.
        """
        writer, number, kind = fields.get("w"), fields.get("n"), fields.get("type")
        if not isinstance(writer, str) or type(number) is not int or number < 0:
            raise AuditError(f"entry {index} names no writer", entry=index)
        expected, previous = self.heads.get(writer, (0, GENESIS))
        holds = number == expected and fields.get("p") == previous
        if not holds and not self._may_have_gone_on(writer, number, fields.get("p")):
            raise AuditError(
                f"entry {index} does not follow the last entry of writer {writer}: "
                + _difference(expected, number),
                entry=index,
            )
        if writer in self.closed or (kind == "writer.open") != (number == 0):
            raise AuditError(
                f"entry {index} is outside of its writer's chain: {kind!r} with number {number}",
                entry=index,
            )
        self.heads[writer] = (number + 1, leaf)
        if kind == "writer.close":
            self.closed.add(writer)

    def _may_have_gone_on(self, writer: str, number: int, previous: object) -> bool:
        """Whether the records in between can be among those that are not shown."""
        known = self.heads.get(writer)
        if known is None and not self._from_start and number > 0:
            return True
        later = number > (known[0] if known else 0)
        return self._partial and later and isinstance(previous, str) and previous in self._hidden


class SessionTrail:
    """The records of one session, writer by writer, and whether any can be missing.

    The last record of a session by a writer is known from the writer's closing record alone: it
    counts the sessions whose last record is not their `session.close`. A `session.close` by itself
    is no end, as a call in flight may end after it.

    Attributes:
        before: How many records of it, by writer, come before the first that is shown.
    """

    def __init__(self, session: str, *, from_start: bool = True) -> None:
        """Begin with nothing.

        Args:
            session: The session's id.
            from_start: Whether the log is read from its first entry.
        """
        self.session = session
        self.before: dict[str, int] = {}
        self._from_start = from_start
        self._opened: set[str] = set()
        self._next: dict[str, int] = {}
        self._closing: set[str] = set()
        self._ended: set[str] = set()

    @property
    def writers(self) -> tuple[str, ...]:
        """The writers that have records of it."""
        return tuple(self._next)

    @property
    def unended(self) -> tuple[str, ...]:
        """Writers whose last record of it may not be its last one."""
        return tuple(writer for writer in self._next if writer not in self._ended)

    def follow(self, index: int, fields: dict[str, Any]) -> None:
        """Count a record of it, or the first or last record of a writer.

        Raises:
            AuditError: A record before this one is missing.
        """
        writer, kind = str(fields.get("w")), fields.get("type")
        if kind == "writer.open":
            self._opened.add(writer)
        elif kind == "writer.close":
            self._end(index, writer, fields.get("sessions"))
        elif fields.get("session") == self.session:
            self._count(index, writer, fields.get("sn"))
            (self._closing.add if kind == "session.close" else self._closing.discard)(writer)

    def _count(self, index: int, writer: str, number: object) -> None:
        if writer not in self._next and not self._from_start and writer not in self._opened:
            if type(number) is not int or number < 0:
                raise AuditError(f"entry {index} has no number in its session", entry=index)
            self._next[writer] = number
            if number:
                self.before[writer] = number
        self._check(index, writer, number)
        self._next[writer] = self._next.get(writer, 0) + 1

    def _end(self, index: int, writer: str, told: object) -> None:
        if writer not in self._next or not isinstance(told, dict):
            return
        if self.session in told:
            self._check(index, writer, told[self.session])
            self._ended.add(writer)
        elif writer in self._closing:
            self._ended.add(writer)

    def _check(self, index: int, writer: str, number: object) -> None:
        expected = self._next.get(writer, 0)
        if type(number) is not int or number != expected:
            raise AuditError(
                f"entry {index}: a record of session {self.session} before it is missing "
                f"(expected number {expected}, found {number!r})",
                entry=index,
            )


def _difference(expected: int, number: int) -> str:
    if number != expected:
        return f"expected number {expected}, found {number}"
    return "it names another predecessor"

"""Follows the chains of every writer through a log, and the numbers of one session."""

from __future__ import annotations

from typing import Any

from tabard.audit.chain import GENESIS
from tabard.errors import AuditError

_HIDDEN = "hidden"


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
        return self._partial and later and previous in self._hidden


class SessionTrail:
    """The records of one session, writer by writer, and whether any can be missing."""

    def __init__(self, session: str) -> None:
        self.session = session
        self._next: dict[str, int] = {}
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
        """Count a record of it, or the closing record of a writer.

        Raises:
            AuditError: A record before this one is missing.
        """
        writer = str(fields.get("w"))
        if fields.get("type") == "writer.close":
            told = fields.get("sessions")
            count = told.get(self.session) if isinstance(told, dict) else None
            if writer in self._next and count is not None:
                self._check(index, writer, count)
                self._ended.add(writer)
            return
        if fields.get("session") != self.session:
            return
        self._check(index, writer, fields.get("sn"))
        self._next[writer] = self._next.get(writer, 0) + 1
        if fields.get("type") == "session.close":
            self._ended.add(writer)

    def _check(self, index: int, writer: str, number: object) -> None:
        expected = self._next.get(writer, 0)
        if number != expected:
            raise AuditError(
                f"entry {index}: a record of session {self.session} before it is missing "
                f"(expected number {expected}, found {number!r})",
                entry=index,
            )


def _difference(expected: int, number: int) -> str:
    if number != expected:
        return f"expected number {expected}, found {number}"
    return "it names another predecessor"

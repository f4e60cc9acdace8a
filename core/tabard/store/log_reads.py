"""What a store reads of its log: records, leaves, checkpoints."""

from __future__ import annotations

import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from tabard.store.proof_rows import SEALED, to_sealed

if TYPE_CHECKING:
    from tabard.audit.sealed import Sealed
    from tabard.audit.stored import StoredRecord

_Result = TypeVar("_Result")
_PAGE = 1000


class LogReads(ABC):
    """The part of a store that is about the log."""

    @abstractmethod
    def _read(self, query: Callable[[sqlite3.Connection], _Result]) -> _Result:
        """What a query finds, under the store's lock."""

    def stored_records(self, *, after: int = 0, holding: str = "") -> Iterator[StoredRecord]:
        """The log from entry `after + 1` on, read in pages so that writers go on between them.

        Args:
            after: The entry before the first.
            holding: Leave out records without this text in them.
        """
        from tabard.audit.stored import StoredRecord  # not needed to import tabard

        # As bytes: a changed byte may not be UTF-8 any more, and must still be shown.
        query = (
            "SELECT id, CAST(body AS BLOB), CAST(leaf AS BLOB) FROM record "
            "WHERE id > ? AND (? = '' OR instr(body, ?)) ORDER BY id LIMIT ?"
        )
        for index, body, leaf in self._pages(query, after, holding, holding, _PAGE):
            yield StoredRecord(index=index, body=body, leaf=leaf)

    def _pages(self, query: str, after: int, *rest: object) -> Iterator[Any]:
        """The rows of a query, a page at a time; its last value is the size of a page."""
        while True:
            values = (after, *rest)
            page = self._read(lambda db, values=values: db.execute(query, values).fetchall())  # type: ignore[misc]
            yield from page
            if len(page) < rest[-1]:  # type: ignore[operator]
                return
            after = page[-1][0]

    def extent(self) -> tuple[int, int]:
        """How many entries the log ever took, and the index of the last one that is there."""
        query = (
            "SELECT (SELECT CAST(seq AS INTEGER) FROM sqlite_sequence WHERE name = 'record'), "
            "(SELECT max(id) FROM record)"
        )
        count, last = self._read(lambda db: db.execute(query).fetchone())
        return count or 0, last or 0

    def first_index(self) -> int | None:
        """The lowest index there is: 1, or the first after those that were pruned."""
        query = "SELECT min(id) FROM record"
        found: int | None = self._read(lambda db: db.execute(query).fetchone())[0]
        return found

    def leaves(self, *, after: int = 0, until: int) -> Iterator[bytes]:
        """The stored leaf hashes of entries `after + 1` to `until`."""
        query = "SELECT id, leaf FROM record WHERE id > ? AND id <= ? ORDER BY id LIMIT ?"
        yield from (leaf for _, leaf in self._pages(query, after, until, _PAGE))

    def checkpoints(self) -> list[Sealed]:
        """Every checkpoint, the one that covers least first.

        Raises:
            ValueError: A row was changed.
        """
        query = f"{SEALED} ORDER BY size"
        return [to_sealed(row) for row in self._read(lambda db: db.execute(query).fetchall())]

    def latest_checkpoint(self, *, until: int | None = None) -> Sealed | None:
        """The checkpoint that covers most, of those that cover no more than `until` entries.

        Raises:
            ValueError: Its row was changed.
        """
        query = f"{SEALED} WHERE size <= coalesce(?, size) ORDER BY size DESC LIMIT 1"
        row = self._read(lambda db: db.execute(query, (until,)).fetchone())
        return None if row is None else to_sealed(row)

    def pruned(self) -> Sealed | None:
        """The checkpoint up to which records were dropped; None when all are there.

        Raises:
            ValueError: Its row was changed.
        """
        query = f"{SEALED} WHERE size = (SELECT max(size) FROM pruned)"  # noqa: S608  a constant
        row = self._read(lambda db: db.execute(query).fetchone())
        if row is not None:
            return to_sealed(row)
        if self._read(lambda db: db.execute("SELECT 1 FROM pruned LIMIT 1").fetchone()):
            raise ValueError("there is no checkpoint of what was pruned")
        return None

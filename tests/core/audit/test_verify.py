"""The log proves itself: every change, removal, insertion and move is found and named."""

from __future__ import annotations

import json
import random
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tabard import AuditError, Authority, Guard, GuardUnavailable, Session, ToolCall
from tabard.audit import Chain, StoredRecord, leaf_hash, verify_log, verify_records
from tabard.store import SqliteStore

ALLOWED = ToolCall("claims_db.query", {"table": "claims", "claimant_id": "C-1"})


@pytest.fixture
def records(guard: Guard, session: Session) -> list[StoredRecord]:
    """A log of two writers with some thirty entries."""
    for _ in range(12):
        guard.admit(ALLOWED, session=session).settle()
    return list(guard._store.stored_records())


def replaced(record: StoredRecord, body: bytes, *, rehash: bool) -> StoredRecord:
    leaf = leaf_hash(body) if rehash else record.leaf
    return StoredRecord(index=record.index, body=body, leaf=leaf)


def renumbered(records: list[StoredRecord]) -> list[StoredRecord]:
    return [StoredRecord(index=i, body=r.body, leaf=r.leaf) for i, r in enumerate(records, start=1)]


class TestTampering:
    def test_untouched(self, records: list[StoredRecord]) -> None:
        """An untouched log verifies, and says what that does not show."""
        result = verify_records(records, count=len(records))
        assert (result.records, result.writers) == (len(records), 2)

    def test_every_flipped_bit_is_found(self, records: list[StoredRecord]) -> None:
        """A flipped bit is found wherever it is (every third byte is tried), the entry named."""
        random.seed(1)
        for record in records:
            for position in range(record.index % 3, len(record.body), 3):
                body = bytearray(record.body)
                body[position] ^= 1 << random.randrange(8)
                broken = records.copy()
                broken[record.index - 1] = replaced(record, bytes(body), rehash=False)
                with pytest.raises(AuditError) as caught:
                    verify_records(broken[: record.index], count=len(records))
                assert caught.value.entry == record.index

    def test_rewritten_record(self, records: list[StoredRecord]) -> None:
        """A record rewritten with a fresh hash breaks the one after it."""
        followed = {
            r.index for r in records[:-1] if any(
                s.index > r.index and s.parse()["w"] == r.parse()["w"] for s in records
            )
        }  # fmt: skip
        for index in followed:
            record = records[index - 1]
            body = record.body.replace(b'"ts":"2027', b'"ts":"2026')
            broken = records.copy()
            broken[index - 1] = replaced(record, body, rehash=True)
            with pytest.raises(AuditError, match="does not follow"):
                verify_records(broken, count=len(records))

    def test_every_removal_is_found(self, records: list[StoredRecord]) -> None:
        """A missing entry is found, in the middle, at the end, and renumbered over."""
        for gone in range(len(records)):
            rest = records[:gone] + records[gone + 1 :]
            with pytest.raises(AuditError) as caught:
                verify_records(rest, count=len(records))
            assert caught.value.entry == gone + 1
            with pytest.raises(AuditError):
                verify_records(renumbered(rest), count=len(records))

    def test_truncation_is_found(self, records: list[StoredRecord]) -> None:
        """A tail cut off is found, however long."""
        for kept in range(len(records)):
            with pytest.raises(AuditError) as caught:
                verify_records(records[:kept], count=len(records))
            assert caught.value.entry == kept + 1

    def test_swaps_and_copies_are_found(self, records: list[StoredRecord]) -> None:
        """Two entries swapped, or one entered twice, are found."""
        for i in range(len(records) - 1):
            a, b = records[i].parse(), records[i + 1].parse()
            if a["w"] == b["w"]:
                swapped = records.copy()
                swapped[i], swapped[i + 1] = swapped[i + 1], swapped[i]
                with pytest.raises(AuditError):
                    verify_records(renumbered(swapped), count=len(records))
            twice = renumbered([*records[: i + 1], records[i], *records[i + 1 :]])
            with pytest.raises(AuditError):
                verify_records(twice, count=len(twice))

    def test_inserted_record(self, records: list[StoredRecord]) -> None:
        """An entry made up from nothing follows nobody, even as a writer of its own."""
        chain = Chain()
        _, body, leaf = chain.link("tool.decision", '"agent":null', 1_800_000_000.0)
        forged = StoredRecord(index=0, body=body.encode(), leaf=leaf)
        for position in range(len(records)):
            longer = renumbered([*records[:position], forged, *records[position:]])
            with pytest.raises(AuditError):
                verify_records(longer, count=len(longer))

    @pytest.mark.parametrize(
        "body",
        [b"", b"null", b"[]", b"{}", b'{"v":1}', b'{"v":1,"v":1}', b"\xff", b"[" * 100_000,
         b'{"v":2,"w":"a","n":0}', b'{"v":1,"w":["a"],"n":0,"p":"","type":"writer.open"}'],
    )  # fmt: skip
    def test_what_is_no_record(self, body: bytes) -> None:
        """Bytes that are no record are named, never a traceback."""
        record = StoredRecord(index=1, body=body, leaf=leaf_hash(body))
        with pytest.raises(AuditError) as caught:
            verify_records([record], count=1)
        assert caught.value.entry == 1

    def test_entry_after_the_closing_one(self, guard: Guard, session: Session) -> None:
        """Nothing may follow a writer's closing entry."""
        guard.admit(ALLOWED, session=session)
        chain = Chain()
        lines = [
            chain.link(kind, '"x":1', 1.0) for kind in ("writer.open", "writer.close", "tool.x")
        ]
        stored = [
            StoredRecord(index=i, body=body.encode(), leaf=leaf)
            for i, (_, body, leaf) in enumerate(lines, start=1)
        ]
        assert verify_records(stored[:2], count=2).open_writers == ()
        with pytest.raises(AuditError, match="entry 3"):
            verify_records(stored, count=3)


class TestDatabase:
    """The same, with a real database that someone has been at."""

    def tamper(self, home: Path, change: Callable[[sqlite3.Connection], object]) -> SqliteStore:
        copy = home.parent / "copy.db"
        source = sqlite3.connect(home / "state.db")
        target = sqlite3.connect(copy)
        source.backup(target)
        for trigger in ("record_is_final", "record_stays"):
            target.execute(f"DROP TRIGGER {trigger}")
        change(target)
        target.commit()
        target.close()
        source.close()
        return SqliteStore(copy)

    @pytest.mark.parametrize(
        ("statements", "entry"),
        [
            (["UPDATE record SET body = replace(body, 'allow', 'deny!') WHERE id = 9"], 9),
            (["DELETE FROM record WHERE id = 5"], 5),
            (["DELETE FROM record WHERE id = (SELECT max(id) FROM record)"], 32),
            (["DELETE FROM record"], 1),
            (["DELETE FROM sqlite_sequence"], 1),
            (["UPDATE sqlite_sequence SET seq = 5 WHERE name = 'record'"], 6),
            (["INSERT INTO record SELECT 33, leaf, body FROM record WHERE id = 32"], 33),
            (["UPDATE record SET leaf = zeroblob(32) WHERE id = 3"], 3),
            (["UPDATE record SET body = CAST(x'ff' AS TEXT) WHERE id = 3"], 3),
        ],
    )
    def test_changes(
        self, home: Path, records: list[StoredRecord], statements: list[str], entry: int
    ) -> None:
        """Whatever was done to the rows, the first entry that does not hold is named."""
        assert len(records) == 32

        def change(database: sqlite3.Connection) -> None:
            for statement in statements:
                database.execute(statement)

        with pytest.raises(AuditError) as caught:
            verify_log(self.tamper(home, change))
        assert caught.value.entry == entry

    def test_one_byte_in_the_file(self, home: Path, guard: Guard, session: Session) -> None:
        """One byte flipped in the file itself is found."""
        guard.admit(ALLOWED, session=session)
        source = sqlite3.connect(home / "state.db")
        source.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        source.close()
        copy = home.parent / "copy.db"
        shutil.copy(home / "state.db", copy)
        data = bytearray(copy.read_bytes())
        data[data.rindex(b'"code":"ok"') + 9] ^= 1
        copy.write_bytes(data)
        store = SqliteStore(copy)
        with pytest.raises(AuditError, match="was changed") as caught:
            verify_log(store)
        assert caught.value.entry == store.extent()[1]

    def test_writing_goes_on_while_verifying(
        self, guard: Guard, session: Session, authority: Authority
    ) -> None:
        """Entries that are added meanwhile do not disturb a verification."""
        store = guard._store
        original = store.stored_records

        def growing(**asked: Any) -> Iterator[StoredRecord]:
            guard.admit(ALLOWED, session=session)
            return original(**asked)

        store.stored_records = growing  # type: ignore[method-assign]
        assert guard.verify().records == guard._store.extent()[1] - 1


def test_records_are_one_line_of_ascii(records: list[StoredRecord]) -> None:
    """A record is one line of ASCII JSON: no control character can forge a second one."""
    for record in records:
        text = record.body.decode("ascii")
        assert text.isprintable()
        assert json.loads(text)["v"] == 1


def test_clock_that_goes_back(guard: Guard, session: Session, clock: Any) -> None:
    """A step back is on record with its size, once; the order of the log is not the clock's."""
    guard.admit(ALLOWED, session=session)
    clock.now -= 90
    for _ in range(2):
        with pytest.raises(GuardUnavailable, match="gone back"):
            guard.admit(ALLOWED, session=session)
    clock.now += 89.5
    guard.admit(ALLOWED, session=session)
    steps = [r["back_s"] for r in guard.records() if r["type"] == "clock.step"]
    assert steps == [90.0]
    guard.verify()

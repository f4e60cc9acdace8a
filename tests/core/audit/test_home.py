"""`audit verify` of a home: what is found, what only outside evidence can show, what is said."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tabard import AuditError, Authority, ConfigurationError, Guard, Session, StoreError, ToolCall
from tabard.audit import verify_log
from tabard.audit.chain import leaf_hash
from tabard.audit.note import COSIGNATURE, NoteSigner
from tabard.home import Home
from tabard.retention import Retention
from tabard.sealing import Seal, found_log, read_verifier_key, verify_home
from tabard.store import SqliteStore

ALLOWED = ToolCall("claims_db.query", {"table": "claims", "claimant_id": "C-1"})


@pytest.fixture(autouse=True)
def by_hand(guard: Guard) -> None:
    """Sealed only where a test says so."""
    guard._background = None
    guard._store.on_commit = None  # type: ignore[attr-defined]


@pytest.fixture
def grown(home: Path, guard: Guard, session: Session) -> Iterator[Callable[[], str]]:
    """Adds some calls to the log, seals it, and hands out the checkpoint."""
    seal = Seal.open(home)

    def grow() -> str:
        for _ in range(4):
            guard.admit(ALLOWED, session=session)
        sealed = seal.seal()
        assert sealed is not None
        return sealed.note

    yield grow
    seal.close()


@pytest.fixture
def verify(home: Path) -> Callable[..., Any]:
    def ask(where: Path = home, **asked: Any) -> Any:
        store = SqliteStore(where / "state.db")
        try:
            return verify_home(Home.locate(where), store, **asked)
        finally:
            store.close()

    return ask


@pytest.fixture
def tamper(home: Path) -> Callable[..., None]:
    """Changes the database as its owner can: without the guard rails."""

    def change(*statements: str, **functions: Any) -> None:
        with sqlite3.connect(home / "state.db") as db:
            for name, function in functions.items():
                db.create_function(name, 1, function)
            for (trigger,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'"):
                db.execute(f"DROP TRIGGER {trigger}")
            for statement in statements:
                db.execute(statement)

    return change


def says(found: Any, words: str) -> bool:
    return any(words in limit for limit in found.not_proven)


class TestOwner:
    """Who can write to the home can make another one that holds: it is said, or shown up."""

    def test_untouched(self, verify: Any, grown: Any, home: Path) -> None:
        note = grown()
        key = str(read_verifier_key(Home.locate(home)))
        found = verify()
        assert says(found, "did not rewrite it or roll it back")
        assert says(found, "it was read from the home")
        better = verify(keys=[key], known=[note])
        assert better.known == (found.sealed,)
        assert not says(better, "roll it back")
        assert not says(better, "it was read from the home")
        grown()
        assert says(verify(known=[note]), f"nothing after entry {found.sealed} was rewritten")

    def test_rollback(self, verify: Any, grown: Any, home: Path) -> None:
        """A copy of the home from before holds; a checkpoint from after it shows that."""
        grown()
        before = home.with_name("before")
        shutil.copytree(home, before)
        note = grown()
        assert says(verify(before), "did not rewrite it or roll it back")
        with pytest.raises(AuditError, match="rolled back"):
            verify(before, known=[note])

    def test_rewritten_under_another_key(
        self, verify: Any, grown: Any, tamper: Any, home: Path, guard: Guard
    ) -> None:
        """Everything is made anew, the key as well: only the right key or a checkpoint tells."""
        note, place = grown(), Home.locate(home)
        key = str(read_verifier_key(place))
        heads: dict[str, str] = {}

        def rebuild(body: str) -> str:
            record = json.loads(body)
            record["p"] = heads.get(record["w"], "0" * 64)
            if record["type"] == "tool.decision":
                record["agent"]["name"] = "innocent-agent"
            changed = json.dumps(record, separators=(",", ":"))
            heads[record["w"]] = leaf_hash(changed.encode()).hex()
            return changed

        tamper(
            "UPDATE record SET body = rebuild(body)",
            "UPDATE record SET leaf = leaf(body)",
            "DELETE FROM checkpoint",
            rebuild=rebuild,
            leaf=lambda body: leaf_hash(body.encode()),
        )
        for path in (place.sealing_key, place.verifier_key, place.checkpoints):
            path.unlink()
        found_log(place, guard._store.origin)
        Seal.open(home).seal()
        assert says(verify(), "did not rewrite it")
        with pytest.raises(AuditError, match="no key that was given"):
            verify(keys=[key])
        with pytest.raises((AuditError, ConfigurationError)):
            verify(known=[note])

    def test_wiped(self, verify: Any, tamper: Any, home: Path) -> None:
        """A log that was never sealed can be emptied; nothing of that is claimed."""
        tamper("DELETE FROM record", "DELETE FROM sqlite_sequence")
        found = verify()
        assert found.records == 0
        assert says(found, "did not rewrite it or roll it back")

    def test_guard(self, guard: Guard, grown: Any) -> None:
        """The short way says as much."""
        grown()
        found = guard.verify()
        assert says(found, "did not rewrite it or roll it back")
        assert says(found, "no key was given")
        assert says(found, "What came after")

    @pytest.mark.parametrize(
        "asked",
        [{"keys": ["x"]}, {"known": ["x"]}, {"witnesses": ["x"]}, {"quorum": 1}, {"quorum": -1}],
    )
    def test_what_cannot_be_used(self, verify: Any, grown: Any, asked: dict[str, Any]) -> None:
        grown()
        with pytest.raises(ConfigurationError):
            verify(**asked)


class TestWitness:
    def test_asked_for(self, verify: Any, grown: Any, tamper: Any, home: Path) -> None:
        """The latest checkpoint has to be cosigned, in the database or the file."""
        signer = NoteSigner("w.example", Ed25519PrivateKey.generate(), COSIGNATURE)
        with pytest.raises(AuditError, match="there is no checkpoint"):
            verify(witnesses=[str(signer.key)])
        note = grown()
        with pytest.raises(AuditError, match="0 witnesses have cosigned"):
            verify(witnesses=[str(signer.key)])
        text = note.partition("\n\n")[0] + "\n"
        (home / "checkpoints.log").unlink()
        tamper(
            "UPDATE checkpoint SET note = cosigned(note)",
            cosigned=lambda kept: kept + signer.cosign(text, 1_800_000_000),
        )
        found = verify(witnesses=[str(signer.key)])
        assert found.witnesses == ("w.example",)
        assert not says(found, "did not rewrite")
        assert says(verify(), "The signatures of w.example")

    def test_older_one(self, verify: Any, grown: Any, home: Path, tamper: Any) -> None:
        """Where an earlier checkpoint was witnessed, the refusal says how far."""
        signer = NoteSigner("w.example", Ed25519PrivateKey.generate(), COSIGNATURE)
        text = (first := grown()).partition("\n\n")[0] + "\n"
        tamper(
            "UPDATE checkpoint SET note = cosigned(note)",
            cosigned=lambda kept: kept + signer.cosign(text, 1_800_000_000),
        )
        assert verify(witnesses=[str(signer.key)]).witnesses == ("w.example",)
        grown()
        size = first.split("\n")[1]
        with pytest.raises(AuditError, match=f"not 1; witnessed up to {size} by w.example"):
            verify(witnesses=[str(signer.key)])


class TestKeyNobodyUsed:
    def test_nothing_signed(self, verify: Any, guard: Guard, grown: Any) -> None:
        """A key that was given and checks nothing is no reason to call a log verified."""
        key = str(NoteSigner("x.example", Ed25519PrivateKey.generate()).key)
        verify()
        with pytest.raises(AuditError, match="no checkpoint by the key that was given"):
            verify(keys=[key])
        grown()
        with pytest.raises(AuditError, match="no key that was given"):
            verify(keys=[key])


class TestPruning:
    def test_without_a_record_of_it(self, verify: Any, grown: Any, tamper: Any) -> None:
        """Records that are gone, and only the table says that they were pruned."""
        size = int(grown().split("\n")[1])
        grown()
        tamper(f"INSERT INTO pruned VALUES ({size}, 1)", f"DELETE FROM record WHERE id <= {size}")
        with pytest.raises(AuditError, match="no record says that they were pruned"):
            verify()

    def test_on_record(self, verify: Any, grown: Any, guard: Guard, clock: Any) -> None:
        """With one it holds, and says what is gone; unsealed, anybody may have written it."""
        size = int(grown().split("\n")[1])
        clock.now += 400 * 86_400
        retention = Retention(store=guard._store, clock=clock)
        plan = retention.plan(datetime.fromtimestamp(clock.now - 200 * 86_400, UTC))
        retention.prune(plan, reason="over")
        found = verify()
        assert found.pruned == size
        assert says(found, f"What is in the first {size} entries: they were pruned")
        assert says(found, "is not sealed yet")

    def test_without_a_checkpoint(self, verify: Any, grown: Any, tamper: Any) -> None:
        grown()
        tamper("PRAGMA foreign_keys = OFF", "INSERT INTO pruned VALUES (99999, 1)")
        with pytest.raises(AuditError, match="a checkpoint was changed"):
            verify()

    def test_of_another_size(
        self, verify: Any, grown: Any, guard: Guard, tamper: Any, clock: Any
    ) -> None:
        """A record of a lawful pruning covers no more than that."""
        first = int(grown().split("\n")[1])
        second = int(grown().split("\n")[1])
        with guard._store.transaction(clock.now) as transaction:
            transaction.append("log.pruned", f'"pruned":{{"size":{first}}}')
        grown()
        tamper(
            f"INSERT INTO pruned VALUES ({second}, 1)", f"DELETE FROM record WHERE id <= {second}"
        )
        with pytest.raises(AuditError, match="no record says that they were pruned"):
            verify()


class TestRows:
    """Rows nobody of tabard's has written."""

    @pytest.mark.parametrize("index", [0, -5, -(2**63)])
    def test_before_the_first(self, verify: Any, grown: Any, tamper: Any, index: int) -> None:
        grown()
        tamper(f"INSERT INTO record SELECT {index}, leaf, body FROM record WHERE id = 5")
        with pytest.raises(AuditError, match="was never written by tabard"):
            verify()

    @pytest.mark.parametrize(
        "change",
        ["peaks = (SELECT peaks FROM checkpoint LIMIT 1)", "peaks = 'zz'", "note = 'x'",
         "note = (SELECT note FROM checkpoint LIMIT 1)", "peaks = ''"],
    )  # fmt: skip
    def test_last_checkpoint(self, verify: Any, grown: Any, tamper: Any, change: str) -> None:
        """What sealing goes on from has to fit what was signed."""
        grown()
        grown()
        tamper(f"UPDATE checkpoint SET {change} WHERE size = (SELECT max(size) FROM checkpoint)")
        with pytest.raises(AuditError, match="a checkpoint"):
            verify()

    def test_number_that_is_none(self, grown: Any, tamper: Any, home: Path) -> None:
        grown()
        tamper("UPDATE sqlite_sequence SET seq = 'abc' WHERE name = 'record'")
        with pytest.raises(AuditError):
            verify_log(SqliteStore(home / "state.db"))


class TestGrowing:
    """A log that grows, is sealed or pruned while it is verified is not called tampered with."""

    @pytest.mark.parametrize("read", ["extent", "first_index", "pruned", "checkpoints"])
    @pytest.mark.parametrize("after", [False, True])
    def test_sealed_meanwhile(
        self, verify: Any, grown: Any, monkeypatch: Any, read: str, after: bool
    ) -> None:
        grown()
        real = getattr(SqliteStore, read)
        done: list[bool] = []

        def slow(store: SqliteStore, *asked: Any) -> Any:
            found = real(store, *asked) if after else None
            if not done:
                done.append(True)
                grown()
            return found if after else real(store, *asked)

        monkeypatch.setattr(SqliteStore, read, slow)
        assert verify().sealed
        assert done

    @pytest.mark.parametrize("where", ["database", "file"])
    def test_truncated(self, verify: Any, grown: Any, tamper: Any, home: Path, where: str) -> None:
        """A checkpoint beyond the end is tampering, wherever it is left."""
        size = int(grown().split("\n")[1])
        grown()
        tamper(
            f"DELETE FROM record WHERE id > {size}",
            f"UPDATE sqlite_sequence SET seq = {size} WHERE name = 'record'",
            *([f"DELETE FROM checkpoint WHERE size > {size}"] if where == "file" else []),
        )
        if where == "database":
            (home / "checkpoints.log").unlink()
        with pytest.raises(AuditError, match=f"entry {size + 1} is missing: a checkpoint covers"):
            verify()

    def test_pruned_meanwhile(
        self, verify: Any, grown: Any, guard: Guard, clock: Any, monkeypatch: Any
    ) -> None:
        grown()
        clock.now += 400 * 86_400
        retention = Retention(store=guard._store, clock=clock)
        real = SqliteStore.stored_records

        def slow(store: SqliteStore, **asked: Any) -> Any:
            monkeypatch.setattr(SqliteStore, "stored_records", real)
            plan = retention.plan(datetime.fromtimestamp(clock.now - 200 * 86_400, UTC))
            retention.prune(plan, reason="over")
            return real(store, **asked)

        monkeypatch.setattr(SqliteStore, "stored_records", slow)
        with pytest.raises(StoreError, match="pruned while it was verified"):
            verify()
        assert verify().pruned


def test_never_nothing(verify: Any, authority: Authority) -> None:
    """There is always something that cannot be proven, and it is said."""
    assert verify().not_proven

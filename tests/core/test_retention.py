"""Pruning: what is over goes, what stays can still be proven, and both are on record."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tabard import AuditError, ConfigurationError, Guard, Session, ToolCall
from tabard.audit import verify_export
from tabard.audit.export import export_log, open_export
from tabard.home import Home
from tabard.retention import Retention
from tabard.sealing import Seal, read_verifier_key, verify_home
from tabard.store import SqliteStore

ALLOWED = ToolCall("claims_db.query", {"table": "claims", "claimant_id": "C-1"})
DAY = 86_400


def at(moment: float) -> datetime:
    return datetime.fromtimestamp(moment, UTC)


@pytest.fixture
def old(home: Path, guard: Guard, session: Session, clock: Any) -> float:
    """Records of a year ago, sealed, and some of today; returns a moment in between."""
    session.token_facts  # noqa: B018  logged in a year ago
    for _ in range(5):
        guard.admit(ALLOWED, session=session)
    seal = Seal.open(home)
    seal.seal()
    before = clock.now + DAY
    clock.now += 365 * DAY
    for _ in range(3):
        with pytest.raises(Exception, match="token_expired"):
            guard.admit(ALLOWED, session=session)
    seal.seal()
    seal.close()
    return float(before)


def verify(home: Path) -> Any:
    return verify_home(Home.locate(home), SqliteStore(home / "state.db"))


class TestPrune:
    def test_the_rest_still_holds(
        self, home: Path, guard: Guard, old: float, clock: Any, tmp_path: Path
    ) -> None:
        """The log begins later, and everything that is left verifies, here and elsewhere."""
        retention = Retention(store=guard._store, clock=clock)
        before = guard._store.extent()[1]
        plan = retention.plan(at(old))
        assert (plan.records, plan.below_floor) == (plan.size, False)
        kept = retention.prune(plan, reason="over", author="dpo")
        assert kept is not None
        record = list(guard.records())[-1]
        assert record["type"] == "log.pruned"
        assert record["pruned"]["size"] == plan.size == kept.size
        Seal.open(home).seal()
        found = verify(home)
        assert (found.pruned, found.records) == (plan.size, before + 1 - plan.size)
        path = tmp_path / "rest.jsonl"
        with open_export(path) as file:
            assert export_log(guard._store, file).start == plan.size
        vkey = str(read_verifier_key(Home.locate(home)))
        assert verify_export(path, keys=[vkey], known=[kept.note]).start == plan.size

    def test_what_was_pruned_cannot_be_exported(
        self, home: Path, guard: Guard, old: float, clock: Any, tmp_path: Path
    ) -> None:
        retention = Retention(store=guard._store, clock=clock)
        retention.prune(retention.plan(at(old)), reason="over")
        with open_export(tmp_path / "x") as file, pytest.raises(ConfigurationError, match="pruned"):
            export_log(guard._store, file, first=2)

    def test_only_what_is_old(self, guard: Guard, old: float, clock: Any) -> None:
        retention = Retention(store=guard._store, clock=clock)
        with pytest.raises(ConfigurationError, match="nothing to prune"):
            retention.plan(at(1.0))
        retention.prune(retention.plan(at(old)), reason="over")
        with pytest.raises(ConfigurationError, match="nothing to prune"):
            retention.plan(at(old))

    def test_only_what_is_sealed(self, guard: Guard, session: Session, clock: Any) -> None:
        """Records that no checkpoint covers stay, however old."""
        guard._background = None
        guard._store.on_commit = None  # type: ignore[attr-defined]
        guard.admit(ALLOWED, session=session)
        with pytest.raises(ConfigurationError, match="nothing to prune"):
            Retention(store=guard._store, clock=clock).plan(at(clock.now + DAY))

    def test_six_months(self, guard: Guard, old: float, clock: Any) -> None:
        """Younger records than the AI Act wants kept are pointed out."""
        clock.now = old + 100 * DAY
        assert Retention(store=guard._store, clock=clock).plan(at(old)).below_floor

    def test_nothing_else_can_be_deleted(self, home: Path, guard: Guard, old: float) -> None:
        """The guard rails stand for every record that was not pruned."""
        with pytest.raises(Exception, match="never deleted"):
            guard._store._read(  # type: ignore[attr-defined]
                lambda db: db.execute("DELETE FROM record WHERE id = 7")
            )

    def test_more_than_was_pruned_is_missing(
        self, home: Path, guard: Guard, old: float, clock: Any
    ) -> None:
        """A record that is dropped besides is found."""
        retention = Retention(store=guard._store, clock=clock)
        plan = retention.plan(at(old))
        retention.prune(plan, reason="over")

        def drop(db: Any) -> None:
            db.execute("DROP TRIGGER record_stays")
            db.execute("DELETE FROM record WHERE id = ?", (plan.size + 1,))

        guard._store._read(drop)  # type: ignore[attr-defined]
        with pytest.raises(AuditError, match="missing"):
            verify(home)

"""What the log costs: append, seal, export and verify a hundred thousand records."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tabard import Authority, Guard, ToolCall
from tabard.audit import independent_verifier, verify_export, verify_log
from tabard.audit.export import export_log, open_export
from tabard.home import Home
from tabard.sealing import Seal, read_verifier_key
from tabard.store import SqliteStore
from timing import Row

RECORDS = 100_000
BATCH = 100
POLICY = "version: 1\nagents: {clerk: {grants: [{tools: [search], args: {q: {}}}]}}\n"


def measure_audit() -> list[Row]:
    """A log of real decisions and outcomes, from the first byte to the last verification."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        fields = _example(home)
        store = SqliteStore(home / "state.db")
        rows = [_per_record("append", _took(lambda: _fill(store, fields)))]
        seal = Seal.open(home)
        rows.append(_per_record("seal", _took(seal.seal)))
        path = Path(folder) / "log.jsonl"
        rows.append(_per_record("export", _took(lambda: _export(store, path))))
        size = path.stat().st_size / 1e6
        vkey = str(read_verifier_key(Home.locate(home)))
        for name, work, bar in (
            ("verify the export", lambda: verify_export(path, keys=[vkey]), "80,000"),
            (
                "verify it with the second verifier",
                lambda: independent_verifier.verify(str(path), [vkey], [], []),
                "",
            ),
            ("verify the log in its database", lambda: verify_log(store), ""),
        ):
            best = min(_took(work) for _ in range(2))
            rows.append((f"{name}, records a second", f"{RECORDS / best:,.0f}", bar))
        rows.append((f"an export of {RECORDS:,} records", f"{size:.0f} MB", ""))
        return rows


def _example(home: Path) -> list[tuple[str, str]]:
    """The types and members of the records a call leaves."""
    with Authority.open(home, trust_domain="acme.example") as authority:
        authority.register("clerk", team="desk", environment="prod")
        with Guard.open(home, policy=POLICY) as guard:
            session = guard.login(authority.issue("clerk"))
            with guard.admit(ToolCall("search", {"q": "x"}), session=session):
                pass
            found = [record.body.decode() for record in guard._store.stored_records()]
    last = [body for body in found if '"tool.' in body]
    return [(body.split('"')[5], body[body.index('"agent"') : -1]) for body in last]


def _fill(store: SqliteStore, fields: list[tuple[str, str]]) -> None:
    before = store.extent()[1]
    for _ in range((RECORDS - before) // BATCH):
        with store.transaction(time.time()) as transaction:
            for number in range(BATCH):
                transaction.append(*fields[number % len(fields)])


def _export(store: SqliteStore, path: Path) -> None:
    with open_export(path) as file:
        export_log(store, file)


def _took(work: Callable[[], object]) -> float:
    start = time.thread_time()
    work()
    return time.thread_time() - start


def _per_record(name: str, seconds: float) -> Row:
    return (f"{name}, per record", f"{seconds / RECORDS * 1e6:.1f} us", "")

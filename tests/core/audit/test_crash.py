"""kill -9, two hundred times in mid-run: no acknowledged record is lost, and the log verifies."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from pathlib import Path

from tabard import Authority, Guard, Session, ToolCall
from tabard.audit import verify_export
from tabard.audit.export import export_log, open_export
from tabard.home import Home
from tabard.sealing import Seal, read_verifier_key, verify_home
from tabard.store import SqliteStore

CALL = ToolCall("claims_db.query", {"table": "claims", "claimant_id": "C-1"})
ROUNDS = 200


def work(home: Path, policy: str, token: str, pipe: int) -> None:
    """Admit calls for ever; each is told once it is on record."""
    guard = Guard.open(home, policy=policy)
    session = guard.login(token, scope={"claimant_id": "C-1"})
    while True:
        permit = guard.admit(CALL, session=session)
        os.write(pipe, f"{permit.call}\n".encode())
        permit.settle({"rows": 3})


def killed(home: Path, policy: str, token: str, after: int) -> set[str]:
    """What a process has acknowledged until it was killed."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reader)
            work(home, policy, token, writer)
        finally:
            os._exit(1)
    os.close(writer)
    with os.fdopen(reader) as lines:
        told = [lines.readline() for _ in range(after)]
        os.kill(child, signal.SIGKILL)
        told += lines.readlines()
    os.waitpid(child, 0)
    return {line.strip() for line in told if line.endswith("\n")}


def test_two_hundred_kills(home: Path, policy_text: str, tmp_path: Path) -> None:
    acknowledged: set[str] = set()
    rng = random.Random(5)
    with Authority.open(home, trust_domain="acme.example") as authority:
        authority.register("claims-agent", team="claims", environment="prod")
        for _ in range(ROUNDS):
            token = authority.issue("claims-agent")
            acknowledged |= killed(home, policy_text, token, rng.randrange(1, 12))
            time.sleep(rng.random() / 100)
    place = Home.locate(home)
    store = SqliteStore(place.database)
    kept = {record.parse()["id"] for record in store.stored_records()}
    assert len(acknowledged) > ROUNDS
    assert acknowledged - kept == set()
    seal = Seal.open(home)
    seal.seal()
    found = verify_home(place, store)
    assert (found.sealed, found.records) == (store.extent()[1], store.extent()[1])
    assert len(found.open_writers) >= ROUNDS
    path = tmp_path / "log.jsonl"
    with open_export(path) as file:
        export_log(store, file)
    assert verify_export(path, keys=[str(read_verifier_key(place))]).records == found.records


def test_sixty_four_threads(home: Path, guard: Guard, session: Session, tmp_path: Path) -> None:
    """Many threads at once, sealed meanwhile: each call is on record, in one chain and one tree."""
    calls: list[str] = []

    def work_on() -> None:
        for _ in range(8):
            with guard.admit(CALL, session=session) as permit:
                calls.append(permit.call)

    threads = [threading.Thread(target=work_on) for _ in range(64)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    guard.close()
    found = verify_home(Home.locate(home), SqliteStore(home / "state.db"))
    store = SqliteStore(home / "state.db")
    kept = [record.parse()["id"] for record in store.stored_records()]
    assert (len(calls), set(calls) - set(kept)) == (512, set())
    assert found.sealed == store.extent()[1]

"""The embedded store under faults: foreign files, full disks, locks, interrupts, forks, kill -9."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from tabard import Authority, ConfigurationError, Guard, GuardUnavailable, Session, ToolCall
from tabard.audit import verify_log
from tabard.store import SqliteStore

ALLOWED = ToolCall("claims_db.query", {"table": "claims", "claimant_id": "C-1"})


class TestForeignFiles:
    @pytest.mark.parametrize("content", [b"x" * 5000, b"SQLite format 3\x00" + b"\xff" * 5000])
    def test_damaged_database(self, home: Path, policy_text: str, content: bytes) -> None:
        """A file that is no database is named, and left as it is."""
        home.mkdir()
        (home / "state.db").write_bytes(content)
        with pytest.raises(ConfigurationError, match=r"state\.db"):
            Guard.open(home, policy=policy_text)
        with pytest.raises(ConfigurationError, match=r"state\.db"):
            Authority.open(home, trust_domain="acme.example")
        assert (home / "state.db").read_bytes() == content

    def test_someone_elses_database(self, home: Path, policy_text: str) -> None:
        """Another program's SQLite file is refused before anything is written to it."""
        home.mkdir()
        other = sqlite3.connect(home / "state.db")
        other.execute("CREATE TABLE agent (x)")
        other.commit()
        other.close()
        before = (home / "state.db").read_bytes()
        for work in (
            lambda: Guard.open(home, policy=policy_text),
            lambda: Authority.open(home, trust_domain="acme.example"),
        ):
            with pytest.raises(ConfigurationError, match="not one of tabard's"):
                work()
        assert (home / "state.db").read_bytes() == before

    @pytest.mark.parametrize(("version", "part"), [(99, "newer tabard"), (0, "older tabard")])
    def test_other_schema(
        self, home: Path, authority: Authority, policy_text: str, version: int, part: str
    ) -> None:
        """A database of another version is refused with what to do."""
        authority.close()
        database = sqlite3.connect(home / "state.db")
        database.execute(f"PRAGMA user_version = {version}")
        database.close()
        with pytest.raises(ConfigurationError, match=part):
            Guard.open(home, policy=policy_text)

    def test_folder_in_place_of_the_database(self, home: Path, policy_text: str) -> None:
        """A folder where the database should be is refused."""
        (home / "state.db").mkdir(parents=True)
        with pytest.raises(ConfigurationError, match=r"state\.db"):
            Authority.open(home, trust_domain="acme.example")
        with pytest.raises(ConfigurationError, match="no tabard database here"):
            Guard.open(home, policy=policy_text)


def _as_nobody(home: Path, mode: int, policy_text: str, pipe: Any) -> None:
    """Use a home that belongs to us, with these rights, as a user who has no others."""
    for place in (home, *home.rglob("*")):
        os.chown(place, 65534, 65534) if os.geteuid() == 0 else None
    home.chmod(mode)
    if os.geteuid() == 0:
        os.setgid(65534)
        os.setuid(65534)
    for work in (
        lambda: Guard.open(home, policy=policy_text),
        lambda: Authority.open(home),
        lambda: Authority.open(home, trust_domain="acme.example"),
    ):
        try:
            pipe.send(f"opened: {work()}")
        except ConfigurationError as error:
            pipe.send(str(error))
        except BaseException as error:
            pipe.send(f"foreign: {error!r}")


@pytest.mark.parametrize("mode", [0o500, 0o000], ids=["read-only", "unreadable"])
def test_home_without_rights(authority: Authority, home: Path, policy_text: str, mode: int) -> None:
    """A home that cannot be written, or not even read, is one sentence that names the file."""
    import tempfile

    authority.close()
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        moved = home.rename(Path(folder) / "home")
        context = multiprocessing.get_context("fork")
        mine, theirs = context.Pipe()
        worker = context.Process(target=_as_nobody, args=(moved, mode, policy_text, theirs))
        worker.start()
        said = [mine.recv() for _ in range(3)]
        worker.join()
        moved.chmod(0o700)
    for text in said:
        assert text.startswith(str(moved))
        assert ("cannot" in text) or ("readonly" in text)


class TestFaults:
    def test_disk_full(self, guard: Guard, session: Session) -> None:
        """A full disk refuses the call, loses nothing, and is over when there is room again."""
        store: Any = guard._store
        pages = store._db.execute("PRAGMA page_count").fetchone()[0]
        store._db.execute(f"PRAGMA max_page_count = {pages}")

        def fill() -> None:
            for _ in range(50):
                guard.admit(ALLOWED, session=session)

        with pytest.raises(GuardUnavailable) as caught:
            fill()
        assert caught.value.code == "audit"
        count = guard.verify().records
        store._db.execute("PRAGMA max_page_count = 1073741823")
        guard.admit(ALLOWED, session=session)
        assert guard.verify().records == count + 2  # the call, and that some were refused

    def test_locked_by_another_process(self, guard: Guard, session: Session, home: Path) -> None:
        """A store that stays locked refuses the call; afterwards all goes on."""
        store: Any = guard._store
        store._db.execute("PRAGMA busy_timeout = 20")
        other = sqlite3.connect(home / "state.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(GuardUnavailable) as caught:
            guard.admit(ALLOWED, session=session)
        assert caught.value.code == "store"
        other.execute("ROLLBACK")
        other.close()
        assert guard.admit(ALLOWED, session=session)

    def test_locked_by_another_thread(
        self, guard: Guard, session: Session, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A thread that holds the store too long gets the others refused, not stuck."""
        monkeypatch.setattr("tabard.store.transaction.LOCK_TIMEOUT", 0.01)
        store: Any = guard._store
        with store._lock, pytest.raises(GuardUnavailable, match="store"):
            guard.admit(ALLOWED, session=session)

    @pytest.mark.parametrize("at", ["BEGIN", "INSERT", "COMMIT"])
    def test_interrupt_in_a_transaction(self, guard: Guard, session: Session, at: str) -> None:
        """Ctrl-C anywhere in a transaction leaves a log that verifies and a guard that works."""
        store: Any = guard._store
        real = store._db

        class Interrupting:
            def execute(self, statement: str, *args: Any) -> Any:
                result = real.execute(statement, *args)
                if statement.startswith(at):
                    raise KeyboardInterrupt
                return result

            @property
            def in_transaction(self) -> bool:
                return bool(real.in_transaction)

        store._db = Interrupting()
        with pytest.raises(KeyboardInterrupt):
            guard.admit(ALLOWED, session=session)
        store._db = real
        guard.admit(ALLOWED, session=session).settle()
        guard.verify()

    def test_records_cannot_be_changed_by_mistake(self, guard: Guard, session: Session) -> None:
        """The database itself refuses to change or delete a record or an identity."""
        store: Any = guard._store
        for statement in (
            "UPDATE record SET body = 'x'",
            "DELETE FROM record",
            "DELETE FROM agent",
        ):
            with pytest.raises(sqlite3.IntegrityError, match="never"):
                store._db.execute(statement)

    def test_closing_twice(self, guard: Guard) -> None:
        """Closing is idempotent and leaves a closing record."""
        guard.close()
        guard.close()
        with pytest.raises(GuardUnavailable):
            guard.admit(ALLOWED)


def _admit_in_child(guard: Guard, session: Session, pipe: Any) -> None:
    guard.admit(ALLOWED, session=session).settle()
    pipe.send((session.instance, os.getpid()))
    guard.close()


def test_fork(guard: Guard, session: Session) -> None:
    """Forked children have connection, chain and instance of their own; the parent goes on."""
    guard.admit(ALLOWED, session=session).settle()
    context = multiprocessing.get_context("fork")
    ends = []
    for _ in range(4):
        mine, theirs = context.Pipe()
        worker = context.Process(target=_admit_in_child, args=(guard, session, theirs))
        worker.start()
        ends.append((worker, mine))
    instances = {pipe.recv()[0] for _, pipe in ends}
    for worker, _ in ends:
        worker.join()
        assert worker.exitcode == 0
    guard.admit(ALLOWED, session=session).settle()
    assert len(instances | {session.instance}) == 5
    writers = {r["w"] for r in guard.records() if r["type"] == "tool.decision"}
    parents = {r["writer"]["parent"] for r in guard.records() if r["type"] == "writer.open"}
    assert len(writers) == 5
    assert parents <= writers | {None}
    guard.verify()


def run_script(script: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stdin=subprocess.PIPE,
        text=True,
    )


CALLER = """
    import sys
    from tabard import AccessDenied, Guard, ToolCall
    home, policy, token = sys.argv[1:]
    guard = Guard.open(home, policy=policy)
    session = guard.login(token, scope={"claimant_id": "C-1"})
    call = ToolCall("claims_db.query", {"table": "claims", "claimant_id": "C-1"})
    for line in sys.stdin:
        try:
            guard.admit(call, session=session).settle()
            print("ran", flush=True)
        except AccessDenied as refusal:
            print(refusal.code, flush=True)
"""


def test_revocation_in_another_process(home: Path, policy_text: str) -> None:
    """Once `revoke` has returned here, the very next call over there is refused."""
    with Authority.open(home, trust_domain="acme.example") as authority:
        for name, team in (("claims-agent", "claims"), ("analytics-agent", "claims")):
            authority.register(name, team=team, environment="prod")
        text = policy_text.replace("match: {team: analytics}", "match: {team: claims}")
        tokens = [authority.issue(name) for name in ("claims-agent", "analytics-agent")]
        one, two = (run_script(CALLER, home, text, token) for token in tokens)

        def ask(process: subprocess.Popen[str]) -> str:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write("go\n")
            process.stdin.flush()
            return process.stdout.readline().strip()

        before = [ask(one), ask(two)]
        authority.revoke("claims-agent", reason="compromised")
        after = [ask(one), ask(two)]
        for process in (one, two):
            process.communicate()
    assert before == ["ran", "no_grant"]
    assert after == ["token_revoked", "no_grant"]


def test_ending_without_closing(home: Path, policy_text: str) -> None:
    """A script that ends without closing its guard still leaves a closing record."""
    with Authority.open(home, trust_domain="acme.example") as authority:
        authority.register("claims-agent", team="claims", environment="prod")
        token = authority.issue("claims-agent")
    process = run_script(CALLER, home, policy_text, token)
    process.communicate("go\n")
    store = SqliteStore(home / "state.db")
    assert verify_log(store).open_writers == ()
    assert [r.parse()["type"] for r in store.stored_records()][-1] == "writer.close"
    store.close()


BUSY = """
    import sys, threading
    from tabard import Guard, ToolCall
    home, policy, token = sys.argv[1:]
    guard = Guard.open(home, policy=policy)
    session = guard.login(token, scope={"claimant_id": "C-1"})
    call = ToolCall("claims_db.query", {"table": "claims", "claimant_id": "C-1"})
    lock = threading.Lock()
    def work():
        while True:
            permit = guard.admit(call, session=session)
            with lock:
                print(permit.call, flush=True)
            permit.settle()
    for _ in range(3):
        threading.Thread(target=work).start()
"""


def test_killed_in_the_middle(home: Path, policy_text: str) -> None:
    """kill -9 of several threads: every acknowledged record is there, and the chain verifies."""
    with Authority.open(home, trust_domain="acme.example") as authority:
        authority.register("claims-agent", team="claims", environment="prod")
        acknowledged: set[str] = set()
        for round_number in range(3):
            process = run_script(BUSY, home, policy_text, authority.issue("claims-agent"))
            assert process.stdout is not None
            for _ in range(140 + 17 * round_number):
                acknowledged.add(process.stdout.readline().strip())
            process.send_signal(signal.SIGKILL)
            acknowledged |= {line.strip() for line in process.stdout if line.endswith("\n")}
            process.wait()
            process.stdout.close()
    store = SqliteStore(home / "state.db")
    kept = {r.parse()["id"] for r in store.stored_records()}
    assert len(acknowledged) > 400
    assert acknowledged - kept == set()
    result = verify_log(store)
    assert len(result.open_writers) == 3
    store.close()

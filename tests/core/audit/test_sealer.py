"""Sealing: checkpoints outside the database, nothing that goes back, witnesses that agree."""

from __future__ import annotations

import json
import os
import shutil
import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tabard import AuditError, Authority, ConfigurationError, Guard, Session, StoreError, ToolCall
from tabard.audit import verify_export
from tabard.audit.checkpoint import Checkpoint, open_checkpoint
from tabard.audit.checkpoint_file import CheckpointFile, Kept
from tabard.audit.export import export_log, new_export
from tabard.audit.merkle import Frontier, grown_from, leaf_hash, over, prove_consistency
from tabard.audit.note import COSIGNATURE, Note, NoteSigner
from tabard.audit.witness import Request, Witness
from tabard.audit.witness_client import WitnessAddress
from tabard.audit.witness_server import serve_witness
from tabard.home import Home
from tabard.sealing import Seal, read_verifier_key, verify_home
from tabard.store import SqliteStore

ALLOWED = ToolCall("claims_db.query", {"table": "claims", "claimant_id": "C-1"})


@pytest.fixture
def by_hand(guard: Guard) -> Guard:
    """A guard that does not seal by itself."""
    guard._background = None
    guard._store.on_commit = None  # type: ignore[attr-defined]
    return guard


@pytest.fixture
def seal(home: Path, by_hand: Guard, session: Session) -> Iterator[Seal]:
    opened = Seal.open(home)
    yield opened
    opened.close()


def verify(home: Path) -> Any:
    return verify_home(Home.locate(home), SqliteStore(Home.locate(home).database))


class TestSealing:
    def test_everything_there_is(self, home: Path, seal: Seal, guard: Guard) -> None:
        """A checkpoint covers every record so far; sealing again without new ones does nothing."""
        sealed = seal.seal()
        assert sealed is not None
        found = open_checkpoint(sealed.note, [seal.key]).checkpoint
        assert found.size == sealed.size == guard._store.extent()[1]
        frontier = Frontier()
        for record in guard._store.stored_records():
            frontier.append(leaf_hash(record.body))
        assert found.root == frontier.root()
        assert seal.seal() == sealed
        assert len(CheckpointFile(home / "checkpoints.log").read()) == 1

    def test_goes_on_where_it_stopped(
        self, home: Path, seal: Seal, guard: Guard, session: Session
    ) -> None:
        sizes = []
        for _ in range(5):
            guard.admit(ALLOWED, session=session)
            sealed = seal.seal()
            assert sealed is not None
            sizes.append(sealed.size)
        assert sizes == sorted(set(sizes))
        assert [one.size for one in CheckpointFile(home / "checkpoints.log").read()] == sizes
        assert verify(home).sealed == sizes[-1]

    def test_empty_log(self, home: Path) -> None:
        Authority.open(home, trust_domain="acme.example").close()
        opened = Seal.open(home)
        database = sqlite3.connect(home / "state.db")
        assert database.execute("SELECT count(*) FROM record").fetchone()[0] > 0
        assert opened.seal() is not None

    def test_rollback_of_the_database(
        self, home: Path, seal: Seal, guard: Guard, session: Session
    ) -> None:
        """An older database beside the newer file of checkpoints is found, by both."""
        seal.seal()
        database = home / "state.db"
        with sqlite3.connect(database) as db:
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        shutil.copy(database, home / "before")
        guard.admit(ALLOWED, session=session)
        seal.seal()
        guard.close()
        seal.close()
        for path in home.glob("state.db*"):
            path.unlink()
        shutil.copy(home / "before", database)
        with pytest.raises(AuditError, match="is missing"):
            verify(home)
        with pytest.raises(AuditError, match="rolled back"):
            Seal.open(home).seal()

    def test_rewritten_database(
        self, home: Path, seal: Seal, guard: Guard, session: Session
    ) -> None:
        """Whoever rewrites the records and the checkpoints in the database is found."""
        sealed = seal.seal()
        assert sealed is not None
        with sqlite3.connect(home / "state.db") as db:
            db.execute("DROP TRIGGER record_is_final")
            db.execute("DROP TRIGGER checkpoint_stays")
            body = db.execute("SELECT body FROM record WHERE id = 3").fetchone()[0]
            changed = body.replace('"v":1', '"v":1,"x":1')
            leaf = leaf_hash(changed.encode())
            db.execute("UPDATE record SET body = ?, leaf = ? WHERE id = 3", (changed, leaf))
            db.execute("DELETE FROM checkpoint")
        with pytest.raises(AuditError):
            verify(home)
        with pytest.raises(AuditError, match="rewritten"):
            seal.seal()

    @pytest.mark.parametrize("column", ["note", "peaks"])
    def test_changed_checkpoint(self, home: Path, seal: Seal, guard: Guard, column: str) -> None:
        seal.seal()
        with sqlite3.connect(home / "state.db") as db:
            db.execute("DROP TRIGGER checkpoint_is_final")
            db.execute(f"UPDATE checkpoint SET {column} = replace({column}, 'a', 'b')")
        with pytest.raises(AuditError):
            seal.seal()

    def test_crash_between_file_and_database(
        self, home: Path, seal: Seal, guard: Guard, session: Session
    ) -> None:
        """A checkpoint that reached the file only is taken up again."""
        seal.seal()
        guard.admit(ALLOWED, session=session)
        seal.seal()
        with sqlite3.connect(home / "state.db") as db:
            db.execute("DROP TRIGGER checkpoint_stays")
            db.execute("DELETE FROM checkpoint WHERE size = (SELECT max(size) FROM checkpoint)")
        guard.admit(ALLOWED, session=session)
        sealed = seal.seal()
        assert sealed is not None
        assert verify(home).sealed == sealed.size

    def test_two_sealers(self, home: Path, seal: Seal, guard: Guard, session: Session) -> None:
        """Sealers in several threads write one chain of checkpoints."""
        others = [Seal.open(home) for _ in range(3)]
        errors: list[Exception] = []

        def work(one: Seal) -> None:
            try:
                for _ in range(10):
                    one.seal()
            except Exception as error:
                errors.append(error)

        threads = [threading.Thread(target=work, args=(one,)) for one in (seal, *others)]
        for thread in threads:
            thread.start()
        for _ in range(50):
            guard.admit(ALLOWED, session=session)
        for thread in threads:
            thread.join()
        assert not errors
        CheckpointFile(home / "checkpoints.log").read()
        verify(home)

    def test_other_key(self, home: Path, seal: Seal) -> None:
        """A key that is not the log's does not seal it."""
        (home / "log" / "key.pem").unlink()
        from tabard.audit.sealing_key import make_sealing_key

        make_sealing_key(home / "log" / "key.pem")
        with pytest.raises(ConfigurationError, match="not the key of this log"):
            Seal.open(home)

    @pytest.mark.parametrize("content", [b"", b"x", b"-----BEGIN PRIVATE KEY-----\nAAAA\n"])
    def test_what_is_no_key(self, home: Path, seal: Seal, content: bytes) -> None:
        (home / "log" / "key.pem").write_bytes(content)
        with pytest.raises(ConfigurationError, match="Ed25519"):
            Seal.open(home)

    def test_key_others_can_read(self, home: Path, seal: Seal) -> None:
        (home / "log" / "key.pem").chmod(0o644)
        with pytest.raises(ConfigurationError, match="others can get at it"):
            Seal.open(home)

    def test_key_elsewhere(self, home: Path, seal: Seal, tmp_path: Path) -> None:
        """In production the key lies elsewhere, and verification no longer says it is in reach."""
        assert any("lies in it" in limit for limit in verify(home).not_proven) is False
        seal.seal()
        assert any("lies in it" in limit for limit in verify(home).not_proven)
        elsewhere = tmp_path / "sealer"
        elsewhere.mkdir(mode=0o700)
        (home / "log" / "key.pem").rename(elsewhere / "key.pem")
        opened = Seal.open(home, key=elsewhere / "key.pem")
        assert (seal.in_home, opened.in_home) == (True, False)
        opened.seal()
        assert not any("lies in it" in limit for limit in verify(home).not_proven)
        with Authority.open(home):
            assert not (home / "log" / "key.pem").exists()


class TestElsewhere:
    """A sealer with a file of its own, where those who are audited cannot reach."""

    @pytest.fixture
    def elsewhere(self, home: Path, seal: Seal, tmp_path: Path) -> Path:
        """The folder the key was moved to."""
        folder = tmp_path / "sealer"
        folder.mkdir(mode=0o700)
        (home / "log" / "key.pem").rename(folder / "key.pem")
        return folder

    @pytest.mark.parametrize("own", [None, "mine.log"])
    def test_rollback_of_the_whole_home(
        self, home: Path, elsewhere: Path, guard: Guard, session: Session, own: str | None
    ) -> None:
        """The home and its own file go back together: the sealer's file does not."""

        def open_seal() -> Seal:
            where = None if own is None else elsewhere / own
            return Seal.open(home, key=elsewhere / "key.pem", checkpoints=where)

        open_seal().seal()
        before = home.with_name("before")
        shutil.copytree(home, before)
        guard.admit(ALLOWED, session=session)
        sealed = open_seal().seal()
        assert sealed is not None
        kept = CheckpointFile(elsewhere / (own or "key.checkpoints.log")).read()
        assert kept == CheckpointFile(home / "checkpoints.log").read()
        guard.close()
        shutil.rmtree(home)
        before.rename(home)
        with pytest.raises(AuditError, match=f"rolled back: {sealed.size} entries were sealed"):
            open_seal().seal()
        with SqliteStore(home / "state.db").transaction(1.0) as transaction:
            for _ in range(5):  # longer again, with other records
                transaction.append("test", '"x":1')
        with pytest.raises(AuditError, match="rewritten"):
            open_seal().seal()

    def test_two_keys_in_a_folder(self, home: Path, elsewhere: Path) -> None:
        """Each log has a file of its own there; one of another log is refused as unusable."""
        other = home.with_name("other")
        Authority.open(other, trust_domain="other.example").close()
        (other / "log" / "key.pem").rename(elsewhere / "other.pem")
        for where, name in ((home, "key"), (other, "other")):
            sealed = Seal.open(where, key=elsewhere / f"{name}.pem").seal()
            assert sealed is not None
            assert CheckpointFile(elsewhere / f"{name}.checkpoints.log").read()
        taken = elsewhere / "key.checkpoints.log"
        with pytest.raises(ConfigurationError, match="--checkpoints"):
            Seal.open(other, key=elsewhere / "other.pem", checkpoints=taken)

    def test_file_of_an_earlier_version(
        self, home: Path, elsewhere: Path, guard: Guard, session: Session
    ) -> None:
        """It is gone on with where it is of this log, and never passed over when it is damaged."""
        old, key = elsewhere / "checkpoints.log", elsewhere / "key.pem"
        Seal.open(home, key=key, checkpoints=old).seal()
        guard.admit(ALLOWED, session=session)
        Seal.open(home, key=key).seal()
        assert len(CheckpointFile(old).read()) == 2
        assert not (elsewhere / "key.checkpoints.log").exists()
        old.write_bytes(b"x" + old.read_bytes())
        with pytest.raises(AuditError, match="first line"):
            Seal.open(home, key=key)

    def test_new_file(self, home: Path, seal: Seal, elsewhere: Path) -> None:
        """A file that is begun later knows what the home's says until then."""
        sealed = seal.seal()
        assert sealed is not None
        with sqlite3.connect(home / "state.db") as db:
            db.execute("DROP TRIGGER checkpoint_stays")
            db.execute("DROP TRIGGER record_stays")
            db.execute("DELETE FROM checkpoint")
            db.execute("DELETE FROM record WHERE id = ?", (sealed.size,))
            db.execute("UPDATE sqlite_sequence SET seq = seq - 1 WHERE name = 'record'")
        with pytest.raises(AuditError, match="rolled back"):
            Seal.open(home, key=elsewhere / "key.pem").seal()

    def test_cannot_be_written(self, home: Path, elsewhere: Path) -> None:
        where = elsewhere / "no" / "folder"
        with pytest.raises(StoreError, match="cannot be written"):
            Seal.open(home, key=elsewhere / "key.pem", checkpoints=where).seal()


class TestCheckpointFile:
    def kept(self, size: int) -> Kept:
        return Kept(size=size, note=f"note {size}\n", sealed_at=1)

    def test_cut_at_every_byte(self, tmp_path: Path) -> None:
        """A last line that was cut short is dropped, and what was whole is kept."""
        file = CheckpointFile(tmp_path / "checkpoints.log")
        with file.locked():
            for size in (1, 2, 3):
                file.append(self.kept(size))
        data = file.path.read_bytes()
        ends = [place for place, byte in enumerate(data, start=1) if byte == 10]
        for cut in range(len(data)):
            file.path.write_bytes(data[:cut])
            whole = sum(end <= cut for end in ends)
            assert [one.size for one in file.read()] == [1, 2, 3][:whole]
            last = file.last()
            assert (last.size if last else 0) == whole
            file.append(self.kept(9))
            assert [one.size for one in file.read()] == [*[1, 2, 3][:whole], 9]

    def test_changed_lines(self, tmp_path: Path) -> None:
        """A changed, removed, repeated or inserted line is found."""
        file = CheckpointFile(tmp_path / "checkpoints.log")
        with file.locked():
            for size in (1, 2, 3, 4):
                file.append(self.kept(size))
        lines = file.path.read_bytes().splitlines(keepends=True)
        changed = [
            [lines[0], *lines[2:]],
            [lines[1], lines[0], *lines[2:]],
            [lines[0], lines[0], *lines[1:]],
            lines[1:],
            [lines[0].replace(b'"sealed_at":1', b'"sealed_at":2'), *lines[1:]],
            [lines[0].replace(b":", b": "), *lines[1:]],
            [b"nonsense\n", *lines],
            [b"\n", *lines],
        ]
        for one in changed:
            file.path.write_bytes(b"".join(one))
            with pytest.raises(AuditError, match="line"):
                file.read()

    def test_cannot_be_read_or_written(self, tmp_path: Path) -> None:
        file = CheckpointFile(tmp_path)
        for work in (file.read, file.last, lambda: file.append(self.kept(1))):
            with pytest.raises(StoreError):
                work()


class TestBackground:
    def test_after_64_records(self, home: Path, guard: Guard, session: Session) -> None:
        """A busy guard is sealed as it goes; when it closes, up to its closing record."""
        began = time.monotonic()
        while guard._store.latest_checkpoint() is None:
            guard.admit(ALLOWED, session=session)
            assert time.monotonic() - began < 20
        guard.close()
        store = SqliteStore(home / "state.db")
        latest = store.latest_checkpoint()
        assert latest is not None
        assert latest.size == store.extent()[1]

    def test_after_a_second(self, guard: Guard, session: Session) -> None:
        """A single record is sealed though no other follows."""
        guard.admit(ALLOWED, session=session)
        began = time.monotonic()
        while True:
            latest = guard._store.latest_checkpoint()
            if latest is not None and latest.size == guard._store.extent()[1]:
                return
            assert time.monotonic() - began < 20
            time.sleep(0.05)

    def test_without_the_key(
        self, home: Path, authority: Authority, policy_text: str, clock: Any
    ) -> None:
        """Where the key is elsewhere nothing is sealed from within."""
        (home / "log" / "key.pem").unlink()
        with Guard.open(home, policy=policy_text, clock=clock) as opened:
            session = opened.login(authority.issue("claims-agent"), scope={"claimant_id": "C-1"})
            for _ in range(70):
                opened.admit(ALLOWED, session=session)
        assert SqliteStore(home / "state.db").latest_checkpoint() is None

    def test_failure_stops_no_call(self, home: Path, guard: Guard, session: Session) -> None:
        """A sealer that cannot work is a complaint, not a refusal."""
        (home / "checkpoints.log").mkdir()
        for _ in range(70):
            guard.admit(ALLOWED, session=session)
        time.sleep(0.2)
        guard.admit(ALLOWED, session=session)

    def test_dropped_guard(self, home: Path, guard: Guard, session: Session) -> None:
        """The thread ends with a guard that nobody closes."""
        from tabard.background_seal import BackgroundSeal

        store = SqliteStore(home / "state.db")
        background = BackgroundSeal(home, store, time.time)
        background.count()
        thread = background._thread
        assert thread is not None
        del background
        thread.join(5)
        assert not thread.is_alive()

    def test_fork(self, home: Path, guard: Guard, session: Session) -> None:
        """A child seals with a thread of its own."""
        guard.admit(ALLOWED, session=session)
        child = os.fork()
        if child == 0:
            try:
                for _ in range(70):
                    guard.admit(ALLOWED, session=session)
                guard.close()
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        guard.close()
        assert verify(home).sealed == SqliteStore(home / "state.db").extent()[1]


@pytest.fixture
def witnessed(
    home: Path, by_hand: Guard, session: Session, tmp_path: Path
) -> Iterator[tuple[Witness, Callable[..., Seal]]]:
    """A real witness behind real HTTP, and how to seal with it."""
    log = Seal.open(home).key
    signer = NoteSigner("witness.example/w1", Ed25519PrivateKey.generate(), COSIGNATURE)
    witness = Witness(signer, [log], tmp_path / "witness.db", clock=time.time)
    server = serve_witness(witness, "127.0.0.1", 0)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_address[1]}={witness.key}"

    def open_seal(where: Path = home) -> Seal:
        return Seal.open(where, witnesses=[WitnessAddress.parse(address)])

    yield witness, open_seal
    server.shutdown()
    server.server_close()


class TestWitness:
    def test_cosigns_what_goes_on(
        self, witnessed: tuple[Witness, Callable[..., Seal]], guard: Guard, session: Session
    ) -> None:
        """Each checkpoint carries the cosignature, also of sealers that know nothing yet."""
        witness, open_seal = witnessed
        seal = open_seal()
        for round_ in range(4):
            guard.admit(ALLOWED, session=session)
            sealed = (seal if round_ % 2 else open_seal()).seal()
            assert sealed is not None
            found = open_checkpoint(sealed.note, [seal.key], [witness.key])
            assert [name for name, _ in found.witnesses] == ["witness.example/w1"]

    def test_refuses_what_goes_back(
        self,
        witnessed: tuple[Witness, Callable[..., Seal]],
        home: Path,
        guard: Guard,
        session: Session,
    ) -> None:
        """Everything of the log is rolled back, its file as well: the witness remembers."""
        _, open_seal = witnessed
        open_seal().seal()
        before = home.with_name("before")
        shutil.copytree(home, before)
        for _ in range(3):
            guard.admit(ALLOWED, session=session)
        open_seal().seal()
        with SqliteStore(before / "state.db").transaction(1.0) as transaction:
            transaction.append("test", '"x":1')
        with pytest.raises(StoreError, match="has cosigned a later checkpoint: it claims"):
            open_seal(before).seal()

    def test_refuses_another_history(
        self,
        witnessed: tuple[Witness, Callable[..., Seal]],
        home: Path,
        guard: Guard,
        session: Session,
    ) -> None:
        """The same size or more, with other records, is not cosigned."""
        _, open_seal = witnessed
        before = home.with_name("before")
        shutil.copytree(home, before)
        guard.admit(ALLOWED, session=session)
        open_seal().seal()
        with SqliteStore(before / "state.db").transaction(1.0) as transaction:
            for _ in range(9):
                transaction.append("test", '"x":1')
        with pytest.raises(StoreError, match=r"may have been rewritten.*\(422\)"):
            open_seal(before).seal()
        assert SqliteStore(before / "state.db").latest_checkpoint() is None

    def test_away(self, home: Path, by_hand: Guard, session: Session) -> None:
        """Without the witness that has to agree nothing is sealed."""
        key = NoteSigner("w.example", Ed25519PrivateKey.generate(), COSIGNATURE).key
        for url in ("http://127.0.0.1:1", "http://256.0.0.1"):
            with pytest.raises(StoreError, match="cannot be reached"):
                Seal.open(home, witnesses=[WitnessAddress(url, key)]).seal()
        assert by_hand._store.latest_checkpoint() is None

    def test_nothing_new(
        self, witnessed: tuple[Witness, Callable[..., Seal]], home: Path, tmp_path: Path
    ) -> None:
        """A checkpoint from before the witness is cosigned when one is asked for, or refused."""
        witness, open_seal = witnessed
        first = Seal.open(home).seal()
        assert first is not None
        away = WitnessAddress("http://127.0.0.1:1", witness.key)
        with pytest.raises(StoreError, match="cannot be reached"):
            Seal.open(home, witnesses=[away]).seal()
        for _ in range(2):
            sealed = open_seal().seal()
            assert sealed is not None
            assert sealed.size == first.size
            signed = open_checkpoint(sealed.note, [open_seal().key], [witness.key])
            assert [name for name, _ in signed.witnesses] == ["witness.example/w1"]
        assert len(CheckpointFile(home / "checkpoints.log").read()) == 2
        place = Home.locate(home)
        store = SqliteStore(place.database)
        found = verify_home(place, store, witnesses=[str(witness.key)])
        assert found.witnesses == ("witness.example/w1",)
        path, key = tmp_path / "log.jsonl", read_verifier_key(place)
        kept = CheckpointFile(home / "checkpoints.log").last()
        assert kept is not None
        with new_export(path) as file:
            export_log(store, file, key=key, kept=kept.note)
        assert verify_export(path, keys=[str(key)], witnesses=[str(witness.key)]).records

    def test_one_after_the_other(
        self,
        witnessed: tuple[Witness, Callable[..., Seal]],
        home: Path,
        tmp_path: Path,
    ) -> None:
        """Whoever has cosigned a checkpoint stays under it: note, home and export say so."""
        witness, open_seal = witnessed
        open_seal().seal()
        signer = NoteSigner("w2.example", Ed25519PrivateKey.generate(), COSIGNATURE)
        other = Witness(signer, [open_seal().key], tmp_path / "w2.db", clock=time.time)
        server = serve_witness(other, "127.0.0.1", 0)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}"
        sealed = Seal.open(home, witnesses=[WitnessAddress(url, other.key)]).seal()
        server.shutdown()
        server.server_close()
        assert sealed is not None
        both = [witness.key, other.key]
        assert len(open_checkpoint(sealed.note, [open_seal().key], both).witnesses) == 2
        place = Home.locate(home)
        store, key = SqliteStore(place.database), read_verifier_key(place)
        asked = [str(one) for one in both]
        assert len(verify_home(place, store, witnesses=asked).witnesses) == 2
        kept = CheckpointFile(home / "checkpoints.log").last()
        assert kept is not None
        with new_export(tmp_path / "log.jsonl") as file:
            export_log(store, file, key=key, kept=kept.note)
        verify_export(tmp_path / "log.jsonl", keys=[str(key)], witnesses=asked)

    def test_on_two_lines(self, home: Path, seal: Seal, tmp_path: Path) -> None:
        """Files in which each line has one of the cosignatures are read as one that has both."""
        sealed = seal.seal()
        assert sealed is not None
        file, text = CheckpointFile(home / "checkpoints.log"), Note.parse(sealed.note).text
        signers = [
            NoteSigner(name, Ed25519PrivateKey.generate(), COSIGNATURE)
            for name in ("w1.example", "w2.example")
        ]
        for one in signers:
            note = sealed.note + one.cosign(text, 1)
            file.append(Kept(size=sealed.size, note=note, sealed_at=1))
        keys = [one.key for one in signers]
        kept = file.last()
        assert kept is not None
        assert len(open_checkpoint(kept.note, [seal.key], keys).witnesses) == 2
        place = Home.locate(home)
        asked = [str(key) for key in keys]
        found = verify_home(place, SqliteStore(place.database), witnesses=asked)
        assert len(found.witnesses) == 2

    @pytest.mark.parametrize(
        "answer",
        [b"garbage, not HTTP\r\n\r\n", b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc",
         b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n\xff\xfe\x00",
         b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
         b"HTTP/1.1 200 OK\r\nA: " + b"x" * 70_000 + b"\r\n\r\n",
         b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
         b"HTTP/1.1 409 X\r\nContent-Length: 9\r\n\r\n1",
         b"HTTP/1.1 409 X\r\nContent-Length: 7\r\n\r\n9999999",
         *(b"HTTP/1.1 409 X\r\nContent-Type: text/x.tlog.size\r\nContent-Length: %d\r\n\r\n%s"
           % (len(n), n) for n in (b"9" * 60, b"9" * 5000, b"\xc2\xb2", b"07", b"-1", b"")),
         b"HTTP/1.1 500 X\r\nContent-Length: 0\r\n\r\n",
         b"HTTP/1.1 422 X\r\nContent-Length: 0\r\n\r\n"],
    )  # fmt: skip
    def test_nonsense(self, home: Path, by_hand: Guard, session: Session, answer: bytes) -> None:
        """Whatever it answers, it is a witness that did not cosign, and no more than that."""
        key = NoteSigner("w.example", Ed25519PrivateKey.generate(), COSIGNATURE).key
        with socket.create_server(("127.0.0.1", 0)) as server:

            def serve() -> None:
                client, _ = server.accept()
                with client:
                    client.recv(65_536)
                    client.sendall(answer)

            threading.Thread(target=serve, daemon=True).start()
            address = WitnessAddress(f"http://127.0.0.1:{server.getsockname()[1]}", key)
            with pytest.raises(StoreError, match=r"w\.example"):
                Seal.open(home, witnesses=[address]).seal()
        assert by_hand._store.latest_checkpoint() is None

    @pytest.mark.parametrize(
        "url", ["http://[::1", "http://a b", "http://", "http://a:x", "http://\0"]
    )
    def test_nonsense_address(self, home: Path, by_hand: Guard, session: Session, url: str) -> None:
        key = NoteSigner("w.example", Ed25519PrivateKey.generate(), COSIGNATURE).key
        with pytest.raises(StoreError, match="cannot be reached"):
            Seal.open(home, witnesses=[WitnessAddress(url, key)]).seal()

    def test_key_of_a_log(self, home: Path, seal: Seal) -> None:
        with pytest.raises(ConfigurationError, match="not of a witness"):
            WitnessAddress.parse(f"http://a={seal.key}")

    @pytest.mark.parametrize(
        "url",
        ["http://[::1", "http://a b", "http://", "http://a:x", "http://\0", "http://a:99999",
         "http://a:0", "http:///x", "http://a?b", "http://a#b", "http://a..b", "http://u@a",
         "https://:1", "http://a\n"],
    )  # fmt: skip
    def test_unusable_address(self, url: str) -> None:
        key = NoteSigner("w.example", Ed25519PrivateKey.generate(), COSIGNATURE).key
        with pytest.raises(ConfigurationError, match="expected a witness as"):
            WitnessAddress.parse(f"{url}={key}")
        for good in ("http://a", "https://a.example:8443/w/", "http://[::1]:80", "HTTP://A"):
            assert WitnessAddress.parse(f"{good}={key}")

    @pytest.mark.parametrize("headers", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n"])
    def test_drips(
        self, home: Path, by_hand: Guard, session: Session, monkeypatch: Any, headers: bytes
    ) -> None:
        """One deadline for the whole answer, however steadily its bytes come in."""
        monkeypatch.setattr("tabard.audit.witness_client.TIMEOUT", 0.5)
        key = NoteSigner("w.example", Ed25519PrivateKey.generate(), COSIGNATURE).key
        over = threading.Event()
        with socket.create_server(("127.0.0.1", 0)) as server:

            def serve() -> None:
                client, _ = server.accept()
                with client:
                    client.sendall(headers)
                    while not over.wait(0.1):
                        client.sendall(b"H")

            dripping = threading.Thread(target=serve, daemon=True)
            dripping.start()
            address = WitnessAddress(f"http://127.0.0.1:{server.getsockname()[1]}", key)
            began = time.monotonic()
            for _ in range(2):  # the second time it is still at its first answer
                with pytest.raises(StoreError, match="cannot be reached: TimeoutError"):
                    Seal.open(home, witnesses=[address]).seal()
            assert time.monotonic() - began < 3
            over.set()
            dripping.join()

    @pytest.mark.parametrize("number", [b"7", b"0", b"999999999"])
    def test_number_that_is_made_up(
        self, home: Path, by_hand: Guard, session: Session, number: bytes
    ) -> None:
        """A size nobody signed is what a witness claims, and proves nothing about the log."""
        key = NoteSigner("w.example", Ed25519PrivateKey.generate(), COSIGNATURE).key
        with socket.create_server(("127.0.0.1", 0)) as server:

            def serve() -> None:
                for _ in range(2):
                    client, _ = server.accept()
                    with client:
                        client.recv(65_536)
                        client.sendall(
                            b"HTTP/1.1 409 X\r\nContent-Type: text/x.tlog.size\r\n"
                            b"Content-Length: %d\r\n\r\n%s" % (len(number), number)
                        )

            threading.Thread(target=serve, daemon=True).start()
            address = WitnessAddress(f"http://127.0.0.1:{server.getsockname()[1]}", key)
            with pytest.raises(StoreError, match=r"w\.example (claims|says|refuses)"):
                Seal.open(home, witnesses=[address]).seal()

    @pytest.mark.parametrize("text", ["", "x", "ftp://a=b", "http://a", "http://a=b", "=x"])
    def test_what_is_no_address(self, text: str) -> None:
        with pytest.raises(ConfigurationError, match="a witness"):
            WitnessAddress.parse(text)


LEAVES = [leaf_hash(bytes([n])) for n in range(40)]


class TestProtocol:
    """C2SP tlog-witness, line by line."""

    @pytest.fixture
    def log(self) -> NoteSigner:
        return NoteSigner("log.example", Ed25519PrivateKey.generate())

    @pytest.fixture
    def witness(self, log: NoteSigner, tmp_path: Path) -> Witness:
        signer = NoteSigner("w.example", Ed25519PrivateKey.generate(), COSIGNATURE)
        return Witness(signer, [log.key], tmp_path / "w.db", clock=lambda: 1_800_000_000.0)

    def note(self, log: NoteSigner, size: int, root: bytes | None = None) -> str:
        root = over(LEAVES)(0, size) if root is None else root
        return Checkpoint(origin=log.key.name, size=size, root=root).sign(log)

    def ask(
        self, log: NoteSigner, old: int, size: int, proof: tuple[bytes, ...] | None = None
    ) -> str:
        if proof is None:
            proof = tuple(prove_consistency(old, size, over(LEAVES[:size])))
        return str(Request(old=old, proof=proof, note=self.note(log, size)))

    def test_grows(self, log: NoteSigner, witness: Witness) -> None:
        for old, size in ((0, 1), (1, 1), (1, 7), (7, 8), (8, 8), (8, 40)):
            answer = witness.add_checkpoint(self.ask(log, old, size))
            assert answer.status == 200, answer
            note = self.note(log, size) + answer.body
            found = open_checkpoint(note, [log.key], [witness.key])
            assert found.witnesses == (("w.example", 1_800_000_000),)

    def test_refusals(self, log: NoteSigner, witness: Witness, tmp_path: Path) -> None:
        assert witness.add_checkpoint(self.ask(log, 0, 7)).status == 200
        other = NoteSigner("log.example", Ed25519PrivateKey.generate())
        stranger = NoteSigner("stranger.example", Ed25519PrivateKey.generate())
        cases = [
            (self.ask(log, 0, 9), 409),
            (self.ask(log, 3, 9), 409),
            (str(Request(old=9, proof=(), note=self.note(log, 7))), 400),
            (self.ask(log, 7, 9, ()), 422),
            (self.ask(log, 7, 9, (bytes(32),)), 422),
            (self.ask(log, 7, 7, (bytes(32),)), 422),
            (str(Request(old=7, proof=(), note=self.note(log, 7, bytes(32)))), 409),
            (self.ask(other, 7, 9), 403),
            (self.ask(stranger, 0, 9), 404),
            ("", 400),
            ("old 7\n\nnonsense", 400),
            (self.ask(log, 7, 9).replace("old 7", "old 07"), 400),
            (self.ask(log, 7, 9).replace("old 7", "old -7"), 400),
            (f"old 7\n{'AAAA' * 11}=\n\n{self.note(log, 9)}", 400),
            ("old 7\n" + f"{'A' * 43}=\n" * 64 + f"\n{self.note(log, 9)}", 400),
        ]
        for body, status in cases:
            answer = witness.add_checkpoint(body)
            assert answer.status == status, (body, answer)
            if status == 409:
                assert (answer.body, answer.kind) == ("7\n", "text/x.tlog.size")
        again = Witness(
            NoteSigner("w.example", Ed25519PrivateKey.generate(), COSIGNATURE),
            [log.key],
            tmp_path / "w.db",
            clock=time.time,
        )
        assert again.add_checkpoint(self.ask(log, 0, 9)).status == 409
        assert again.add_checkpoint(self.ask(log, 7, 9)).status == 200

    def test_race(self, log: NoteSigner, witness: Witness) -> None:
        """Of many that go on from the same size, to different ones, one is cosigned."""
        witness.add_checkpoint(self.ask(log, 0, 5))
        statuses: list[int] = []

        def work(size: int) -> None:
            statuses.append(witness.add_checkpoint(self.ask(log, 5, size)).status)

        threads = [threading.Thread(target=work, args=(size,)) for size in range(6, 16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(statuses) == [200, *[409] * 9]

    def test_first_proof_is_empty(self, log: NoteSigner, witness: Witness) -> None:
        assert witness.add_checkpoint(self.ask(log, 0, 5, (bytes(32),))).status == 422

    def test_unusable_state(self, log: NoteSigner, tmp_path: Path) -> None:
        signer = NoteSigner("w.example", Ed25519PrivateKey.generate(), COSIGNATURE)
        with pytest.raises(ConfigurationError, match="state"):
            Witness(signer, [log.key], tmp_path, clock=time.time)

    def test_over_http(self, log: NoteSigner, witness: Witness) -> None:
        import urllib.error
        import urllib.request

        server = serve_witness(witness, "127.0.0.1", 0)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}"

        def post(path: str, body: bytes) -> int:
            try:
                with urllib.request.urlopen(f"{url}{path}", body) as answer:
                    return int(answer.status)
            except urllib.error.HTTPError as error:
                return int(error.code)

        assert post("/add-checkpoint", self.ask(log, 0, 3).encode()) == 200
        assert post("/other", b"x") == 404
        assert post("/add-checkpoint", b"\xff") == 400
        assert post("/add-checkpoint", b"x" * 70_000) == 413
        server.shutdown()
        server.server_close()


def test_kept_frontier_is_enough() -> None:
    """The proof for a witness needs what is kept of the old tree, not the old leaves."""
    frontier, log_size = Frontier(), 20
    for leaf in LEAVES[:7]:
        frontier.append(leaf)
    kept = prove_consistency(7, log_size, grown_from(frontier, LEAVES[7:log_size]))
    assert kept == prove_consistency(7, log_size, over(LEAVES[:log_size]))


def test_checkpoint_line_is_json(home: Path, seal: Seal) -> None:
    seal.seal()
    [line] = (home / "checkpoints.log").read_text().splitlines()
    assert set(json.loads(line)) == {"size", "sealed_at", "note", "previous"}

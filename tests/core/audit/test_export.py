"""An export proves itself: whatever was done to it is found, by both verifiers."""

from __future__ import annotations

import copy
import json
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from itertools import chain, count
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from tabard import AuditError, Authority, ConfigurationError, Guard, Session, ToolCall
from tabard.audit import independent_verifier as independent
from tabard.audit import verify_export
from tabard.audit.chain import leaf_hash
from tabard.audit.checkpoint import Checkpoint
from tabard.audit.evidence import Earlier, Evidence
from tabard.audit.export import Header, export_log, new_export, open_export
from tabard.audit.export_verifier import _read_header, _Reading
from tabard.audit.merkle import Frontier
from tabard.audit.note import NoteSigner
from tabard.home import Home
from tabard.sealing import Seal, read_verifier_key
from tabard.store import SqliteStore

ALLOWED = ToolCall("claims_db.query", {"table": "claims", "claimant_id": "C-1"})
SIZE = 200


@pytest.fixture
def vkey(home: Path, authority: Authority) -> str:
    return str(read_verifier_key(Home.locate(home)))


@pytest.fixture
def exported(home: Path, guard: Guard, session: Session, tmp_path: Path) -> Path:
    """The first 200 entries of a log."""
    fill(guard, session, SIZE)
    return export(home, tmp_path / "log.jsonl", last=SIZE)


def fill(guard: Guard, session: Session, size: int) -> None:
    """Write records until there are so many."""
    while guard._store.extent()[1] < size:
        guard.admit(ALLOWED, session=session)


def export(home: Path, path: Path, **asked: Any) -> Path:
    seal = Seal.open(home)
    seal.seal()
    seal.close()
    store = SqliteStore(Home.locate(home).database)
    with open_export(path) as file:
        export_log(store, file, **asked)
    store.close()
    return path


def both(path: Path, vkey: str, **asked: Any) -> tuple[int, list[str]]:
    """What both verifiers say: the exit code, and what is not proven; they have to agree."""
    known, witnesses = list(asked.get("known", [])), list(asked.get("witnesses", []))
    keys, quorum = asked.get("keys", [vkey]), asked.get("quorum")
    found = None
    try:
        found = verify_export(path, keys=keys, known=known, witnesses=witnesses, quorum=quorum)
        ours, limits = 0, list(found.not_proven)
    except AuditError:
        ours, limits = 1, []
    except ConfigurationError:
        ours, limits = 2, []
    try:
        said = independent.verify(str(path), keys, known, witnesses, quorum)
        theirs = 0
    except independent.Tampered:
        theirs, said = 1, [""]
    except (independent.Unusable, OSError, ValueError):
        theirs, said = 2, [""]
    assert (ours, limits) == (theirs, [line.removeprefix("not proven: ") for line in said[1:]])
    if found is not None:
        assert said[0].startswith("verified")
        assert all(name in said[0] for name, _ in found.checkpoint.witnesses)
    return ours, limits


def refused(path: Path, vkey: str, code: int | None = None, **asked: Any) -> None:
    """Both verifiers refuse in the same way, and neither says anything but that."""
    answer, _ = both(path, vkey, **asked)
    assert answer == code or (answer and code is None)


def accepted(path: Path, vkey: str, **asked: Any) -> Any:
    """Both verifiers accept, and leave the same things open."""
    assert both(path, vkey, **asked)[0] == 0
    return verify_export(path, keys=[vkey], **asked)


class TestWhole:
    def test_untouched(self, exported: Path, vkey: str) -> None:
        """It holds, and what that does not show is said."""
        found = accepted(exported, vkey)
        assert (found.start, found.records) == (0, found.size)
        assert found.size >= SIZE
        assert any("did not rewrite it or roll it back" in limit for limit in found.not_proven)

    def test_lines_are_the_stored_bytes(self, exported: Path, guard: Guard) -> None:
        lines = exported.read_bytes().splitlines()
        for record, line in zip(guard._store.stored_records(), lines[1:], strict=False):
            assert record.body == line

    def test_every_changed_byte(self, exported: Path, vkey: str) -> None:
        """Each byte of each line is changed, and each change found.

        The state before a line is the same whatever comes later, so it is kept rather than made
        again for each of the hundred thousand changes.
        """
        with exported.open("rb") as file:
            header = _read_header(file, exported)
            lines = file.read().split(b"\n")[:-1]
        given = Evidence.read(keys=[vkey])
        reading = _Reading(header, given.open(header.checkpoint), Earlier())
        rng = random.Random(1)
        changes = 0
        for number, line in enumerate(lines):
            rest = lines[number + 1 :]
            for place in range(len(line)):
                changed = bytearray(line)
                changed[place] ^= rng.randrange(1, 256)
                trial = copy.copy(reading)
                trial._frontier = Frontier(reading._frontier.size, reading._frontier.peaks)
                trial._chains = copy.copy(reading._chains)
                trial._chains.heads = dict(reading._chains.heads)
                trial._chains.closed = set(reading._chains.closed)
                try:
                    trial.verify(chain(bytes(changed).split(b"\n"), rest))
                except AuditError:
                    changes += 1
                else:
                    pytest.fail(f"byte {place} of line {number + 2} can be {changed[place]:#x}")
            reading._read(line)
        assert changes > 100_000

    def test_every_changed_bit_of_the_first_line(
        self, exported: Path, vkey: str, tmp_path: Path
    ) -> None:
        data = exported.read_bytes()
        end = data.index(b"\n") + 1
        path = tmp_path / "changed.jsonl"
        for place in range(end):
            changed = bytearray(data)
            changed[place] ^= 1 << (place % 8)
            path.write_bytes(changed)
            refused(path, vkey)

    def test_changed_bytes_for_both(self, exported: Path, vkey: str, tmp_path: Path) -> None:
        """The same through the whole file, for both verifiers, at a sample of places."""
        data = exported.read_bytes()
        path, rng = tmp_path / "changed.jsonl", random.Random(2)
        for place in [*rng.sample(range(len(data)), 60), len(data) - 1]:
            changed = bytearray(data)
            changed[place] ^= rng.randrange(1, 256)
            path.write_bytes(changed)
            refused(path, vkey)

    def test_lines(self, exported: Path, vkey: str, tmp_path: Path) -> None:
        """Every removed, repeated, swapped and inserted line, and every cut."""
        lines = exported.read_bytes().splitlines(keepends=True)
        path = tmp_path / "changed.jsonl"

        attempts = count()

        def attempt(changed: list[bytes]) -> None:
            path.write_bytes(b"".join(changed))
            with pytest.raises((AuditError, ConfigurationError)):
                verify_export(path, keys=[vkey])
            if next(attempts) % 4:  # the second verifier looks at each kind of change, not at all
                return
            with pytest.raises((independent.Tampered, independent.Unusable)):
                independent.verify(str(path), [vkey], [], [])

        for number in range(len(lines)):
            attempt(lines[:number] + lines[number + 1 :])
            attempt(lines[: number + 1] + lines[number:])
            attempt(lines[:number])
            if number + 1 < len(lines):
                swapped = [lines[number + 1], lines[number]]
                attempt(lines[:number] + swapped + lines[number + 2 :])
        forged = b'{"v":1,"type":"tool.decision","w":"x","n":0,"p":"' + b"0" * 64 + b'"}\n'
        for number in range(0, len(lines), 9):
            attempt([*lines[:number], forged, *lines[number:]])
        attempt([*lines, b"\n"])
        attempt([line.replace(b"\n", b"\r\n") for line in lines])
        attempt([b"\xef\xbb\xbf", *lines])
        attempt([*lines[:-1], lines[-1].removesuffix(b"\n")])

    @pytest.mark.parametrize(
        "content",
        [b"", b"\n", b"{}\n", b"[]\n", b"null\n", b"\xff\n", b'{"format":"tabard-log/1"}\n',
         b'{"format":"tabard-log/2"}\n', b"[" * 100_000 + b"\n", b"x" * 2_000_000],
    )  # fmt: skip
    def test_what_is_no_export(self, vkey: str, tmp_path: Path, content: bytes) -> None:
        path = tmp_path / "x"
        path.write_bytes(content)
        refused(path, vkey)

    @given(data=st.binary(max_size=400))
    def test_any_bytes(self, data: bytes) -> None:
        """Only our own errors come out of a file of any bytes."""
        with NamedTemporaryFile() as file:
            file.write(data)
            file.flush()
            with pytest.raises((AuditError, ConfigurationError)):
                verify_export(file.name, keys=["a+b+c", "PeterNeumann+c74f20a3+ARpc"])

    @pytest.mark.parametrize("name", ["missing", ".", "a\0b"])
    def test_no_such_file(self, vkey: str, tmp_path: Path, name: str) -> None:
        with pytest.raises(ConfigurationError):
            verify_export(tmp_path / name if name != "a\0b" else name, keys=[vkey])

    def test_no_key_and_another_key(self, exported: Path, vkey: str) -> None:
        with pytest.raises(ConfigurationError, match="without it nothing is proven"):
            verify_export(exported, keys=[])
        other = NoteSigner(vkey.partition("+")[0], Ed25519PrivateKey.generate())
        refused(exported, str(other.key))

    def test_as_a_program(self, exported: Path, vkey: str) -> None:
        """The second verifier runs where tabard is not installed: it names none of it."""
        source = Path(independent.__file__).read_text()
        assert "import tabard" not in source
        assert "from tabard" not in source
        run = subprocess.run(
            [sys.executable, "-I", independent.__file__, str(exported), "--key", vkey],
            capture_output=True,
            text=True,
            check=False,
        )
        assert run.returncode == 0
        assert "verified" in run.stdout


class TestRange:
    @pytest.mark.parametrize(("first", "last"), [(2, 5), (64, 64), (65, 130), (100, 200), (1, 1)])
    def test_range(
        self, home: Path, exported: Path, vkey: str, tmp_path: Path, first: int, last: int
    ) -> None:
        """A part of the log, with what it takes to see that it is a part of that log."""
        path = export(home, tmp_path / "part.jsonl", first=first, last=last)
        found = accepted(path, vkey)
        assert (found.start, found.size >= last) == (first - 1, True)
        assert first == 1 or any("first" in limit for limit in found.not_proven)
        lines = path.read_bytes().splitlines(keepends=True)
        for number in range(1, len(lines)):
            path.write_bytes(b"".join(lines[:number] + lines[number + 1 :]))
            refused(path, vkey)

    def test_another_beginning(self, home: Path, exported: Path, vkey: str, tmp_path: Path) -> None:
        """Neither the place nor what comes before it can be claimed to be another."""
        path = export(home, tmp_path / "part.jsonl", first=100)
        header, rest = path.read_bytes().split(b"\n", 1)
        facts = json.loads(header)
        changes: tuple[dict[str, Any], ...] = (
            {"start": 98},
            {"start": 100},
            {"peaks": facts["peaks"][::-1]},
            {"peaks": []},
            {"start": 0, "peaks": []},
            {"session": "x"},
        )
        for change in changes:
            changed = json.dumps({**facts, **change}, separators=(",", ":")).encode()
            path.write_bytes(changed + b"\n" + rest)
            refused(path, vkey)

    @pytest.mark.parametrize("asked", [{"first": 0}, {"first": 10**9}, {"last": 10**9}])
    def test_what_is_not_there(
        self, home: Path, exported: Path, tmp_path: Path, asked: dict[str, int]
    ) -> None:
        with pytest.raises(ConfigurationError):
            export(home, tmp_path / "part.jsonl", **asked)


class TestSession:
    @pytest.fixture
    def two(
        self, home: Path, guard: Guard, session: Session, authority: Authority, tmp_path: Path
    ) -> tuple[Path, Session]:
        """Two sessions side by side; the export shows the first."""
        first, second = session, guard.login(authority.issue("analytics-agent"))
        for _ in range(10):
            guard.admit(ALLOWED, session=first).settle()
            guard.check(ALLOWED, session=second)
            with pytest.raises(Exception, match="no_grant"):
                guard.admit(ToolCall("none"), session=second)
        first.close()
        guard.close()
        return export(home, tmp_path / "session.jsonl", session=first.id), first

    def test_whole_session(self, two: tuple[Path, Session], vkey: str) -> None:
        """Its records are shown and no others, and that none is left out is proven."""
        path, session = two
        found = accepted(path, vkey)
        assert found.session == session.id
        assert not any("has no further record" in limit for limit in found.not_proven)
        shown = [json.loads(line) for line in path.read_bytes().splitlines()[1:]]
        ours = [record for record in shown if record.get("session") == session.id]
        assert len(ours) == 22
        assert {r.get("session") for r in shown if "type" in r} == {session.id, None}

    def test_a_record_that_is_hidden(
        self, two: tuple[Path, Session], vkey: str, tmp_path: Path
    ) -> None:
        """A record in the middle cannot be replaced by its hash; the last can, and it shows."""
        path, session = two
        lines = path.read_bytes().splitlines()
        ours = [n for n, line in enumerate(lines) if f'"session":"{session.id}"'.encode() in line]
        ours = [n for n in ours if n > 0]
        for number in ours:
            hidden = b'{"leaf":"' + leaf_hash(lines[number]).hex().encode() + b'"}'
            changed = [*lines[:number], hidden, *lines[number + 1 :]]
            other = tmp_path / "hidden.jsonl"
            other.write_bytes(b"\n".join(changed) + b"\n")
            if number != ours[-1]:
                refused(other, vkey, 1)
            else:
                found = accepted(other, vkey)
                assert any("has no further record" in limit for limit in found.not_proven)

    def test_everything_hidden(self, two: tuple[Path, Session], vkey: str) -> None:
        """An export that shows nothing of the session is none of it."""
        path, _ = two
        header, *lines = path.read_bytes().splitlines()
        hidden = [
            line
            if line.startswith(b'{"leaf"')
            else b'{"leaf":"' + leaf_hash(line).hex().encode() + b'"}'
            for line in lines
        ]
        path.write_bytes(b"\n".join([header, *hidden]) + b"\n")
        refused(path, vkey)

    def test_open_session(
        self, home: Path, guard: Guard, session: Session, vkey: str, tmp_path: Path
    ) -> None:
        """While it runs, that no more comes is not proven; once its writer has closed, it is."""
        guard.admit(ALLOWED, session=session)
        path = export(home, tmp_path / "a.jsonl", session=session.id)
        assert any("has no further record" in t for t in accepted(path, vkey).not_proven)
        guard.close()
        path = export(home, tmp_path / "b.jsonl", session=session.id)
        assert not any("has no further record" in t for t in accepted(path, vkey).not_proven)

    def test_hash_in_another_spelling(self, two: tuple[Path, Session], vkey: str) -> None:
        path, _ = two
        data = path.read_bytes()
        place = data.index(b'{"leaf":"') + 9
        for changed in (data[place : place + 64].upper(), data[place : place + 63], b"g" * 64):
            path.write_bytes(data[:place] + changed + data[place + 64 :])
            refused(path, vkey)

    def test_beginning_inside(
        self, home: Path, two: tuple[Path, Session], vkey: str, tmp_path: Path
    ) -> None:
        """An export that begins in the middle of a session holds, and says what is not in it."""
        path, session = two
        lines = path.read_bytes().splitlines()
        ours = [n for n, line in enumerate(lines) if f'"session":"{session.id}"'.encode() in line]
        part = export(home, tmp_path / "part.jsonl", session=session.id, first=ours[5])
        found = accepted(part, vkey)
        assert any("records of session" in limit for limit in found.not_proven)
        with pytest.raises(ConfigurationError, match="among the entries"):
            export(home, tmp_path / "none.jsonl", session=session.id, first=ours[-1] + 1)

    def test_outcome_after_the_end(
        self, home: Path, guard: Guard, session: Session, vkey: str, tmp_path: Path
    ) -> None:
        """A call in flight ends after its session: hiding that is found, or said to be open."""
        permit = guard.admit(ALLOWED, session=session)
        session.close()
        permit.settle()
        name = session.id
        guard.close()
        path = export(home, tmp_path / "late.jsonl", session=name)
        assert not any("has no further record" in t for t in accepted(path, vkey).not_proven)
        lines = path.read_bytes().splitlines()
        kinds = [json.loads(line).get("type") for line in lines]
        outcome, end = kinds.index("tool.outcome"), len(lines) - 1
        assert kinds[end] == "writer.close"
        for number in (outcome, end):
            refused(path, vkey, 1) if number == end else None
            lines[number] = b'{"leaf":"' + leaf_hash(lines[number]).hex().encode() + b'"}'
            path.write_bytes(b"\n".join(lines) + b"\n")
        assert any("has no further record" in t for t in accepted(path, vkey).not_proven)

    def test_no_such_session(self, home: Path, exported: Path, tmp_path: Path) -> None:
        with pytest.raises(ConfigurationError, match="no session"):
            export(home, tmp_path / "none.jsonl", session="0" * 24)


class TestOwner:
    """What the one who holds the database, or even the key, can do, and how that is found."""

    @pytest.fixture
    def kept(self, home: Path, guard: Guard, session: Session) -> Iterator[str]:
        """A checkpoint somebody keeps, and a copy of the home from before it."""
        fill(guard, session, 20)
        seal = Seal.open(home)
        first = seal.seal()
        assert first is not None
        home.with_name("first.note").write_text(first.note)
        shutil.copytree(home, home.with_name("before"), dirs_exist_ok=True)
        fill(guard, session, 60)
        sealed = seal.seal()
        assert sealed is not None
        yield sealed.note
        seal.close()

    def test_rollback(self, home: Path, kept: str, vkey: str, tmp_path: Path) -> None:
        """An older state of everything verifies, and says so; one later checkpoint shows it."""
        path = export(home.with_name("before"), tmp_path / "old.jsonl")
        assert any("roll it back" in limit for limit in accepted(path, vkey).not_proven)
        refused(path, vkey, 1, known=[kept])

    def test_rewritten_with_the_key(
        self, home: Path, kept: str, vkey: str, tmp_path: Path, guard: Guard
    ) -> None:
        """The holder of the key rewrites the log: unproven without, found with a checkpoint."""
        path = export(home, tmp_path / "new.jsonl")
        lines = path.read_bytes().splitlines()[1:]
        for number in range(10, len(lines)):
            record = json.loads(lines[number])
            if number == 10:
                record["session"] = "0" * 24
            else:
                before = (
                    next(
                        n
                        for n in reversed(range(number))
                        if json.loads(lines[n])["w"] == record["w"]
                    )
                    if record["n"]
                    else None
                )
                if before is not None:
                    record["p"] = leaf_hash(lines[before]).hex()
            lines[number] = json.dumps(record, separators=(",", ":")).encode()
        frontier = Frontier()
        for line in lines:
            frontier.append(leaf_hash(line))
        signer = Seal.open(home)._sealer._signer
        head = Checkpoint(origin=signer.key.name, size=frontier.size, root=frontier.root())
        header = Header(
            start=0, size=frontier.size, peaks=(), session=None, checkpoint=head.sign(signer)
        )
        path.write_bytes(header.line() + b"\n".join(lines) + b"\n")
        assert any("did not rewrite" in limit for limit in accepted(path, vkey).not_proven)
        refused(path, vkey, known=[kept])

    def test_known(self, home: Path, kept: str, vkey: str, tmp_path: Path) -> None:
        """A checkpoint from earlier on holds against what came later, and narrows what is open."""
        path = export(home, tmp_path / "later.jsonl")
        found = accepted(path, vkey, known=[kept])
        assert found.known
        assert not any("roll it back" in limit for limit in found.not_proven)

    def test_known_that_cannot_be_used(
        self, home: Path, kept: str, vkey: str, tmp_path: Path
    ) -> None:
        path = export(home, tmp_path / "later.jsonl", first=50)
        refused(path, vkey, 2, known=["nonsense"])
        other = NoteSigner("other.example", Ed25519PrivateKey.generate())
        note = Checkpoint(origin="other.example", size=1, root=bytes(32)).sign(other)
        refused(path, vkey, 2, known=[note])


class TestDatabase:
    """What somebody did to the database is found before the file is handed out."""

    @pytest.mark.parametrize(
        "change",
        ["UPDATE checkpoint SET note = 'x'", "UPDATE checkpoint SET peaks = 'zz'",
         "UPDATE checkpoint SET peaks = replace(peaks, 'a', 'b')",
         "UPDATE checkpoint SET note = replace(note, 'acme', 'emca')"],
    )  # fmt: skip
    def test_checkpoint(self, home: Path, exported: Path, tmp_path: Path, change: str) -> None:
        self.attempt(home, change, tmp_path)

    def test_record(self, home: Path, exported: Path, tmp_path: Path) -> None:
        change = "UPDATE record SET body = replace(body, 'allow', 'denyy') WHERE id = 9"
        self.attempt(home, change, tmp_path)

    def attempt(self, home: Path, change: str, tmp_path: Path) -> None:
        store = SqliteStore(Home.locate(home).database)
        for trigger in ("checkpoint_is_final", "record_is_final"):
            store._read(lambda db, t=trigger: db.execute(f"DROP TRIGGER {t}"))  # type: ignore[misc]
        store._read(lambda db: db.execute(change))
        key = read_verifier_key(Home.locate(home))
        path = tmp_path / "x.jsonl"
        with pytest.raises(AuditError), new_export(path) as file:
            export_log(store, file, key=key)
        assert not path.exists()
        store.close()


def test_file_is_never_overwritten(exported: Path) -> None:
    with pytest.raises(ConfigurationError, match="already"):
        open_export(exported)


def test_nothing_sealed(home: Path, authority: Authority, tmp_path: Path) -> None:
    store = SqliteStore(Home.locate(home).database)
    with open_export(tmp_path / "x") as file, pytest.raises(ConfigurationError, match="nothing is"):
        export_log(store, file)

"""The two verifiers agree: in the verdict, in the exit code, and in what they leave open."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tabard import AuditError, ConfigurationError
from tabard.audit import independent_verifier as independent
from tabard.audit import verify_export
from tabard.audit.chain import Chain, SessionCount, leaf_hash
from tabard.audit.checkpoint import Checkpoint
from tabard.audit.checkpoint_file import CheckpointFile, Kept
from tabard.audit.export import Header
from tabard.audit.merkle import Frontier
from tabard.audit.note import COSIGNATURE, NoteKey, NoteSigner
from tabard.cli.proof import _notes

LOG = NoteSigner("log.example", Ed25519PrivateKey.generate())
WITNESS = NoteSigner("w.example/1", Ed25519PrivateKey.generate(), COSIGNATURE)
OTHER = NoteSigner("w.example/2", Ed25519PrivateKey.generate(), COSIGNATURE)
SESSION = "5" * 24
ZERO = "0" * 64


def records(count: int = 6) -> list[bytes]:
    """A writer's records, all but the first and the last of one session."""
    chain, number = Chain(), SessionCount(SESSION)
    kinds = ["writer.open", *["tool.decision"] * (count - 3), "session.close", "writer.close"]
    lines = []
    for kind in kinds:
        mine = not kind.startswith("writer.")
        fields = f'"session":"{SESSION}"' if mine else '"sessions":{}'
        lines.append(chain.link(kind, fields, 1_800_000_000.0, number if mine else None)[1])
    return [line.encode() for line in lines]


def note_over(lines: list[bytes], *witnesses: NoteSigner) -> str:
    """A checkpoint over the first records, with cosignatures."""
    frontier = Frontier()
    for line in lines:
        frontier.append(leaf_hash(line))
    head = Checkpoint(origin=LOG.key.name, size=frontier.size, root=frontier.root())
    return head.sign(LOG) + "".join(one.cosign(head.text, 1_800_000_000) for one in witnesses)


def export(
    lines: list[bytes],
    *witnesses: NoteSigner,
    start: int = 0,
    session: str | None = None,
    hidden: tuple[int, ...] = (),
    is_part: bool = False,
) -> bytes:
    """What an owner of the key may hand in: everything in it is as the owner likes."""
    before = Frontier()
    for line in lines[:start]:
        before.append(leaf_hash(line))
    header = Header(
        start=start,
        size=len(lines),
        is_part=is_part,
        peaks=before.peaks,
        session=session,
        checkpoint=note_over(lines, *witnesses),
    )
    shown = [
        b'{"leaf":"%s"}' % leaf_hash(line).hex().encode() if number in hidden else line
        for number, line in enumerate(lines)
    ]
    return header.line() + b"".join(line + b"\n" for line in shown[start:])


@pytest.fixture
def said(tmp_path: Path) -> Callable[..., tuple[int, list[str]]]:
    """What both say of a file: the exit code, and what is not proven."""

    def ask(data: bytes, **asked: Any) -> tuple[int, list[str]]:
        path = tmp_path / "log.jsonl"
        path.write_bytes(data)
        given = {"keys": [str(LOG.key)], "known": [], "witnesses": [], "quorum": None, **asked}
        try:
            ours, limits = 0, list(verify_export(path, **given).not_proven)
        except AuditError:
            ours, limits = 1, []
        except ConfigurationError:
            ours, limits = 2, []
        try:
            found = independent.verify(str(path), *given.values())
            theirs = (0, [line.removeprefix("not proven: ") for line in found[1:]])
        except independent.Tampered:
            theirs = (1, [])
        except independent.Unusable:
            theirs = (2, [])
        assert (ours, limits) == theirs
        return ours, limits

    return ask


LINES = records()
WHOLE = export(LINES, start=4)
PEAK: bytes = json.loads(WHOLE.split(b"\n")[0])["peaks"][0].encode()


def changed(line: bytes, **members: Any) -> bytes:
    return json.dumps({**json.loads(line), **members}, separators=(",", ":")).encode() + b"\n"


def member(name: str, value: object) -> Callable[[bytes], bytes]:
    return lambda line: changed(line, **{name: value})


VALUES: dict[str, tuple[object, ...]] = {
    "start": (-1, True, 4.0, "4", None, 10**30, 5),
    "size": (0, -1, True, 6.0, "6", None, 10**40, 7),
    "part": (0, 1, None, "true", []),
    "session": (1, [], {}, "\ud800", ""),
    "checkpoint": (5, None, [], {}, "", "\n\n", "\ud800"),
}
FIRST_LINES: dict[str, tuple[Callable[[bytes], bytes], int]] = {
    "as it is": (lambda line: line, 0),
    "peaks in capitals": (lambda line: line.replace(PEAK, PEAK.upper()), 1),
    "a space before a peak": (lambda line: line.replace(PEAK, b" " + PEAK), 1),
    "peaks an object": (lambda line: changed(line, peaks={}), 1),
    "peaks a text": (lambda line: changed(line, peaks="00"), 1),
    "no peaks": (lambda line: changed(line, peaks=[]), 1),
    "byte order mark": (lambda line: b"\xef\xbb\xbf" + line, 2),
    "no line feed": (lambda line: line[:-1], 1),
    "carriage return": (lambda line: line[:-1] + b"\r\n", 1),
    "a member twice": (lambda line: line.replace(b'"start":', b'"start":9,"start":', 1), 1),
    "another format first": (lambda line: b'{"format":"x",' + line[1:], 2),
    "another member": (lambda line: line.replace(b'"checkpoint"', b'"checkpoinu"'), 1),
    "one member more": (lambda line: line[:-2] + b',"x":1}\n', 1),
    "a space": (lambda line: line.replace(b":", b": ", 1), 2),
    "a later space": (lambda line: line.replace(b",", b", ", 1), 1),
    "array": (lambda line: b"[" + line[:-1] + b"]\n", 2),
    "nothing": (lambda line: b"", 2),
    **{
        f"{name} {value!r:.12}": (member(name, value), 1)
        for name, values in VALUES.items()
        for value in values
    },
}  # fmt: skip


@pytest.mark.parametrize(("change", "code"), FIRST_LINES.values(), ids=FIRST_LINES.keys())
def test_first_line(said: Any, change: Callable[[bytes], bytes], code: int) -> None:
    """Whatever the first line is changed to."""
    first, rest = WHOLE.split(b"\n", 1)
    line = change(first + b"\n")
    assert said(line + (rest if line else b""))[0] == code


def test_peaks_of_nothing(said: Any) -> None:
    """An object without members is not a list without members."""
    data = export(LINES)
    assert said(data)[0] == 0
    assert said(data.replace(b'"peaks":[]', b'"peaks":{}'))[0] == 1


def record(number: int, previous: str, more: str = "", kind: str = "t", v: str = "1") -> bytes:
    return f'{{"v":{v},"type":"{kind}","w":"aa","n":{number},"p":"{previous}"{more}}}'.encode()


OPEN = record(0, ZERO, kind="writer.open")
MINE = record(1, leaf_hash(OPEN).hex(), f',"session":"{SESSION}","sn":0')


def next_record(more: str, kind: str = "t") -> bytes:
    return record(2, leaf_hash(MINE).hex(), more, kind)


OF_THE_OWNER: dict[str, tuple[list[bytes], int]] = {
    "as it is": ([OPEN, MINE], 0),
    "v true": ([record(0, ZERO, kind="writer.open", v="true"), MINE], 1),
    "v 1.0": ([record(0, ZERO, kind="writer.open", v="1.0"), MINE], 1),
    "a record that begins like a hash": (
        [OPEN, b'{"leaf":"' + ZERO.encode() + b'","v":1,' + MINE[7:]], 1
    ),
    "a hash and more": ([OPEN, MINE, b'{"leaf":"' + ZERO.encode() + b'"} '], 1),
    "sn true": ([OPEN, MINE, next_record(f',"session":"{SESSION}","sn":true')], 1),
    "sn 1.0": ([OPEN, MINE, next_record(f',"session":"{SESSION}","sn":1.0')], 1),
    "sn missing": ([OPEN, MINE, next_record(f',"session":"{SESSION}"')], 1),
    "count true": (
        [OPEN, MINE, next_record(f',"sessions":{{"{SESSION}":true}}', "writer.close")], 1
    ),
    "count null": (
        [OPEN, MINE, next_record(f',"sessions":{{"{SESSION}":null}}', "writer.close")], 1
    ),
    "count 2": ([OPEN, MINE, next_record(f',"sessions":{{"{SESSION}":2}}', "writer.close")], 1),
    "count 1": ([OPEN, MINE, next_record(f',"sessions":{{"{SESSION}":1}}', "writer.close")], 0),
    "no counts": ([OPEN, MINE, next_record(',"sessions":null', "writer.close")], 0),
}  # fmt: skip


@pytest.mark.parametrize(("lines", "code"), OF_THE_OWNER.values(), ids=OF_THE_OWNER.keys())
def test_records_of_the_owner(said: Any, lines: list[bytes], code: int) -> None:
    """Whatever the holder of the key signs."""
    assert said(export(lines, session=SESSION))[0] == code


def is_open(limits: list[str]) -> bool:
    return any("has no further record" in limit for limit in limits)


class TestEndOfASession:
    """What comes after its `session.close` cannot be hidden without notice."""

    def late(self) -> list[bytes]:
        """A session that goes on after it was closed: a call in flight has ended."""
        chain, number = Chain(), SessionCount(SESSION)
        lines = [chain.link("writer.open", '"x":1', 1.0)[1]]
        for kind in ("tool.decision", "session.close", "tool.outcome"):
            lines.append(chain.link(kind, f'"session":"{SESSION}"', 1.0, number)[1])
            chain.commit()
        del number  # nobody holds the session any more
        counts = json.dumps(chain.open_sessions)
        lines.append(chain.link("writer.close", f'"sessions":{counts}', 1.0)[1])
        return [line.encode() for line in lines]

    def test_shown(self, said: Any) -> None:
        code, limits = said(export(self.late(), session=SESSION))
        assert (code, is_open(limits)) == (0, False)

    def test_hidden(self, said: Any) -> None:
        """The outcome alone: found. With the record that counts it: said to be open."""
        assert said(export(self.late(), session=SESSION, hidden=(3,)))[0] == 1
        code, limits = said(export(self.late(), session=SESSION, hidden=(3, 4)))
        assert (code, is_open(limits)) == (0, True)

    def test_closed_and_nothing_after(self, said: Any) -> None:
        """A writer that has ended, and does not name the session: its closing record was last."""
        code, limits = said(export(records(), session=SESSION))
        assert (code, is_open(limits)) == (0, False)
        code, limits = said(export(records(), session=SESSION, hidden=(5,)))
        assert (code, is_open(limits)) == (0, True)

    def test_too_many_to_count(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where they do not fit into one record, none is counted, and the chain forgets them."""
        monkeypatch.setattr("tabard.audit.chain.MOST_SESSIONS", 3)
        chain = Chain()
        for name in "abcd":
            number = SessionCount(name)
            for kind in ("session.close", "tool.outcome"):
                chain.link(kind, '"x":1', 1.0, number)
                chain.commit()
        assert chain.open_sessions is None
        assert not chain._late

    def test_what_was_rolled_back_does_not_count(self) -> None:
        chain, number = Chain(), SessionCount(SESSION)
        chain.link("tool.decision", '"x":1', 1.0, number)
        chain.commit()
        chain.link("session.close", '"x":1', 1.0, number)
        chain.rollback()
        assert (number.ended, number.closed, chain.open_sessions) == (False, False, {SESSION: 1})
        chain.link("session.close", '"x":1', 1.0, number)
        chain.commit()
        assert chain.open_sessions == {}


class TestBeginningOfASession:
    def test_begins_inside(self, said: Any) -> None:
        """What came before is said to be open; a gap within is still found."""
        code, limits = said(export(LINES, session=SESSION, start=3))
        assert code == 0
        assert any(f"What the first 2 records of session {SESSION}" in limit for limit in limits)
        assert said(export(LINES, session=SESSION, start=2, hidden=(3,)))[0] == 1

    def test_opening_record_is_there(self, said: Any) -> None:
        """Where the writer is shown from its first record on, so is the session."""
        other = record(0, ZERO, kind="writer.open").replace(b'"aa"', b'"bb"')
        assert said(export([other, *LINES], session=SESSION, start=1))[0] == 0
        assert said(export([other, *LINES], session=SESSION, start=1, hidden=(2,)))[0] == 1


class TestEarlier:
    def test_narrow(self, said: Any) -> None:
        """A checkpoint of one entry vouches for one entry."""
        _, limits = said(export(LINES), known=[note_over(LINES[:1])])
        assert any("nothing after entry 1 was rewritten" in limit for limit in limits)

    def test_of_nothing(self, said: Any) -> None:
        _, limits = said(export(LINES), known=[note_over([])])
        assert any("did not rewrite it or roll it back" in limit for limit in limits)

    def test_longer(self, said: Any) -> None:
        """A log that goes back is refused; a part that was made to end there cannot be compared."""
        longer = [note_over(LINES)]
        assert said(export(LINES[:4]), known=longer)[0] == 1
        code, limits = said(export(LINES[:4], is_part=True), known=longer)
        assert code == 0
        assert any("made to end at entry 4" in limit for limit in limits)
        assert any("did not rewrite it or roll it back" in limit for limit in limits)

    def test_from_before_the_beginning(self, said: Any) -> None:
        known = [note_over(LINES[:size]) for size in (1, 2, 5)]
        code, limits = said(export(LINES, start=4), known=known)
        assert code == 0
        assert any("checkpoints of up to 2 entries" in limit for limit in limits)
        assert any("nothing after entry 5 was rewritten" in limit for limit in limits)

    def test_another_history(self, said: Any) -> None:
        other = note_over(records())
        assert said(export(LINES), known=[other])[0] == 1
        assert said(export(LINES), known=[note_over(LINES), other])[0] == 1
        assert said(export(LINES), known=["x"])[0] == 2


class TestWitnesses:
    def test_named(self, said: Any, tmp_path: Path) -> None:
        _, limits = said(export(LINES, WITNESS, OTHER), witnesses=[str(WITNESS.key)])
        assert any("The signatures of w.example/2" in limit for limit in limits)
        assert not any("did not rewrite" in limit for limit in limits)

    def test_the_logs_own_key(self, said: Any) -> None:
        """The owner of a log is no witness to it, under whatever name."""
        data = export(LINES)
        disguised = NoteKey("w.example/9", COSIGNATURE, LOG.key.public)
        for witness in (LOG.key, disguised):
            assert said(data, witnesses=[str(witness)])[0] == 2
        assert said(data, keys=[str(WITNESS.key)])[0] == 2

    def test_twice(self, said: Any) -> None:
        """One witness counts once, under whatever names."""
        alias = NoteSigner("w.example/alias", WITNESS._private, COSIGNATURE)
        for signers in ((WITNESS, WITNESS), (WITNESS, alias)):
            data, keys = export(LINES, *signers), [str(one.key) for one in signers]
            assert said(data, witnesses=keys, quorum=2)[0] == 2
        assert said(export(LINES, WITNESS), witnesses=[str(WITNESS.key)] * 2)[0] == 0

    @pytest.mark.parametrize(
        ("quorum", "code"), [(None, 1), (2, 1), (1, 0), (0, 0), (3, 2), (-1, 2)]
    )
    def test_quorum(self, said: Any, quorum: int | None, code: int) -> None:
        keys = [str(WITNESS.key), str(OTHER.key)]
        assert said(export(LINES, WITNESS), witnesses=keys, quorum=quorum)[0] == code


class TestKnownFiles:
    """A file of earlier checkpoints, as both commands read it."""

    @pytest.fixture
    def kept(self, tmp_path: Path) -> Path:
        file = CheckpointFile(tmp_path / "checkpoints.log")
        with file.locked():
            for size in (1, 2, 4):
                note = note_over(LINES[:size])
                file.append(Kept(size=size, note=note, sealed_at=1_800_000_000))
        return file.path

    def read(self, path: Path) -> list[str] | None:
        """The notes both read; None where both say that it cannot be used."""
        try:
            ours = _notes(path)
        except ConfigurationError:
            ours = None
        try:
            theirs = independent.notes_in(str(path))
        except (independent.Unusable, OSError, ValueError):
            theirs = None
        assert ours == theirs
        return ours

    def test_whole_and_torn(self, kept: Path) -> None:
        notes = [note_over(LINES[:size]) for size in (1, 2, 4)]
        assert self.read(kept) == notes
        data = kept.read_bytes()
        kept.write_bytes(data[:-9])
        assert self.read(kept) == notes[:2]
        kept.write_text(notes[2])
        assert self.read(kept) == notes[2:]

    def test_changed(self, kept: Path) -> None:
        lines = kept.read_bytes().splitlines(keepends=True)
        for data in (
            [lines[0], lines[2]],
            lines[1:],
            lines[::-1],
            [*lines, b"[1]\n"],
            [*lines, b'"x"\n'],
            [b"{}\n"],
            [b"{"],
            [b'{"size":1,"sealed_at":1,"note":5,"previous":"%s"}\n' % ZERO.encode()],
            [b"{" * 100_000 + b"\n"],
            [b"\xff"],
            [export(LINES)],
        ):
            kept.write_bytes(b"".join(data))
            assert self.read(kept) is None, data

    def test_no_file(self, tmp_path: Path) -> None:
        """A pipe nobody writes to holds up neither."""
        os.mkfifo(tmp_path / "pipe")
        for path in (tmp_path / "pipe", tmp_path, tmp_path / "none"):
            assert self.read(path) is None
            with pytest.raises(ConfigurationError):
                verify_export(path, keys=[str(LOG.key)])
            with pytest.raises(independent.Unusable):
                independent.verify(str(path), [str(LOG.key)], [], [])


class TestShapesOfRecords:
    """What stands where a text belongs, how deep a record goes, and files of before `part`."""

    @pytest.mark.parametrize("previous", ["[]", "{}", "[[]]", "null", "1"])
    @pytest.mark.parametrize("number", ["9999", "2", "-1", "1.0", "true", '"x"'])
    def test_previous_that_is_no_text(
        self, previous: str, number: str, said: Callable[..., tuple[int, list[str]]]
    ) -> None:
        """An edit that needs no key is tampering to both, and ends neither in an error."""
        data = export(records(), session=SESSION, hidden=(0, 1))
        lines = data.split(b"\n")
        fields = json.loads(lines[3])
        text = json.dumps(fields, separators=(",", ":"))
        text = text.replace(f'"p":"{fields["p"]}"', f'"p":{previous}')
        text = text.replace(f'"n":{fields["n"]}', f'"n":{number}')
        lines[3] = text.encode()
        assert said(b"\n".join(lines))[0] == 1

    @pytest.mark.parametrize(("levels", "code"), [(90, 0), (99, 0), (100, 1), (980, 1), (5000, 1)])
    def test_nesting(
        self, levels: int, code: int, said: Callable[..., tuple[int, list[str]]]
    ) -> None:
        """How deep a record may go is part of the format, not of who reads it."""
        chain = Chain()
        deep = '"x":' + "[" * levels + '"{[{["' + "]" * levels
        lines = [
            chain.link(kind, fields, 1_800_000_000.0, None)[1].encode()
            for kind, fields in (("writer.open", '"y":{"z":"' + "[" * 300 + '"}'), ("note", deep))
        ]
        assert said(export(lines))[0] == code

    def test_export_of_before(self, said: Callable[..., tuple[int, list[str]]]) -> None:
        """A file whose first line has no `part` yet is read as one that has `false` there."""
        now = export(records())
        before = now.replace(b'"part":false,', b"", 1)
        assert said(before) == said(now)
        assert said(before)[0] == 0
        later = note_over(records(7))
        assert said(before, known=[later])[0] == 1

#!/usr/bin/env python3
"""Verifies an export of a tabard log, and imports nothing of tabard's.

    python independent_verifier.py log.jsonl --key VKEY [--known FILE ...] [--witness VKEY ... -k N]

Written from docs/audit-format.md alone, so that nobody has to trust tabard's own verifier. Needs
Python 3.11 and `cryptography`. Exit 0: it holds. 1: it was tampered with. 2: it cannot be read.
A key may be given as the file that holds it.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import os
import re
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple, NoReturn

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

LINE_LIMIT = 1 << 20
LOG, WITNESS = 1, 4
FORMAT = "tabard-log/1"
DEPTH = 100
MEMBERS = ("format", "start", "size", "part", "peaks", "session", "checkpoint")


class Tampered(Exception):
    """Something is not as it was when it was signed."""


class Unusable(Exception):
    """There is nothing to verify, or nothing to verify it with."""


class Key(NamedTuple):
    """A verifier key."""

    name: str
    kind: int
    ident: bytes
    raw: bytes
    public: Ed25519PublicKey


class Head(NamedTuple):
    """What a checkpoint states."""

    origin: str
    size: int
    root: bytes


def sha(*parts: bytes) -> bytes:
    """SHA-256 over some bytes."""
    return hashlib.sha256(b"".join(parts)).digest()


def canonical_base64(text: str) -> bytes:
    """The bytes of base64 text in its one spelling."""
    raw = base64.b64decode(text.encode("ascii"), validate=True)
    if base64.b64encode(raw).decode() != text:
        raise ValueError("another spelling")
    return raw


def read_key(text: str, kind: int) -> Key:
    """A verifier key of a kind, from `name+id+base64`."""
    try:
        name, ident, encoded = text.strip().split("+", 2)
        raw = canonical_base64(encoded)
        expected = sha(name.encode(), b"\n", raw)[:4]
        if expected.hex() != ident or raw[0] != kind or not is_name(name):
            raise ValueError("not such a key")
        public = Ed25519PublicKey.from_public_bytes(raw[1:])
        return Key(name, raw[0], expected, raw[1:], public)
    except (ValueError, IndexError) as error:
        what = "witness's" if kind == WITNESS else "log's"
        raise Unusable(f"{text!r} is no {what} verifier key") from error


def read_keys(keys: list[str], witnesses: list[str]) -> tuple[list[Key], list[Key]]:
    """The log's keys, and each witness once: a second name makes no second witness."""
    own = [read_key(one, LOG) for one in keys]
    seen = {key.raw: key for key in (read_key(one, WITNESS) for one in witnesses)}
    if not own:
        raise Unusable("a verifier key is needed")
    if any(key.raw in seen for key in own):
        raise Unusable("the log's own key is no witness's")
    return own, list(seen.values())


def is_name(name: str) -> bool:
    """Whether a name may stand in a note."""
    return bool(name) and "+" not in name and not any(one.isspace() for one in name)


class Tree:
    """The full subtrees so far, each with its height."""

    def __init__(self, size: int, peaks: list[bytes]) -> None:
        heights = [h for h in reversed(range(size.bit_length())) if size & (1 << h)]
        if len(heights) != len(peaks) or any(len(peak) != 32 for peak in peaks):
            raise ValueError("the peaks do not fit")
        self.size = size
        self.stack = list(zip(heights, peaks, strict=True))

    def add(self, leaf: bytes) -> None:
        """Add a leaf, and join what has the same height."""
        self.size += 1
        self.stack.append((0, leaf))
        while len(self.stack) > 1 and self.stack[-1][0] == self.stack[-2][0]:
            height, right = self.stack.pop()
            _, left = self.stack.pop()
            self.stack.append((height + 1, sha(b"\x01", left, right)))

    def root(self) -> bytes:
        """The root: the smallest subtree is the last right half."""
        if not self.stack:
            return sha()
        nodes = [node for _, node in self.stack]
        while len(nodes) > 1:
            right = nodes.pop()
            nodes[-1] = sha(b"\x01", nodes[-1], right)
        return nodes[0]


def read_note(note: str) -> tuple[str, Head, list[tuple[str, bytes, bytes]]]:
    """The text of a checkpoint, what it states, and its signatures."""
    if len(note) > 1_000_000 or any(one < " " and one != "\n" for one in note):
        raise ValueError("control characters")
    note.encode()  # half a character is none
    cut = note.rindex("\n\n")
    text, tail = note[: cut + 1], note[cut + 2 :]
    origin, size, root, end = text.split("\n")
    raw = canonical_base64(root)
    if end or not origin or str(int(size)) != size or len(size) > 19 or len(raw) != 32:
        raise ValueError("not a checkpoint")
    if not size.isascii() or not size.isdecimal():
        raise ValueError("not a size")
    signatures = []
    if not tail.endswith("\n"):
        raise ValueError("the last line is not whole")
    for line in tail[:-1].split("\n"):
        dash, name, encoded = line.split(" ")
        signed = canonical_base64(encoded)
        if dash != "\u2014" or not is_name(name) or len(signed) < 5:
            raise ValueError("not a signature")
        signatures.append((name, signed[:4], signed[4:]))
    if len(signatures) > 100:
        raise ValueError("too many signatures")
    return text, Head(origin, int(size), raw), signatures


def signed_by(key: Key, text: str, signatures: list[tuple[str, bytes, bytes]]) -> bool:
    """Whether a key has signed; a signature in its name that does not hold is an error."""
    for name, ident, signature in signatures:
        if (name, ident) != (key.name, key.ident):
            continue
        message = text.encode()
        if key.kind == WITNESS:
            if len(signature) != 72:
                raise ValueError("not a cosignature")
            stated = int.from_bytes(signature[:8], "big")
            message, signature = f"cosignature/v1\ntime {stated}\n{text}".encode(), signature[8:]
        key.public.verify(signature, message)
        return True
    return False


class Opened(NamedTuple):
    """A checkpoint whose signatures were checked."""

    head: Head
    seen_by: list[str]
    unchecked: list[str]


def open_checkpoint(note: str, keys: list[Key], witnesses: list[Key]) -> Opened:
    """What a checkpoint states, once a key of its log has signed it; and who witnessed it."""
    text, head, signatures = read_note(note)
    own = [key for key in keys if key.name == head.origin]
    if not any([signed_by(key, text, signatures) for key in own]):
        raise ValueError("no key that was given has signed it")
    seen_by = [key.name for key in witnesses if signed_by(key, text, signatures)]
    at_hand = {(key.name, key.ident) for key in (*own, *witnesses)}
    unchecked = [name for name, ident, _ in signatures if (name, ident) not in at_hand]
    return Opened(head, seen_by, unchecked)


def is_deep(text: str) -> bool:
    """Whether anything lies more than `DEPTH` levels deep."""
    if text.count("{") + text.count("[") <= DEPTH:
        return False
    depth = deepest = 0
    for mark in re.sub(r'"(?:[^"\\]|\\.)*"', "", text):
        depth += (mark in "{[") - (mark in "}]")
        deepest = max(deepest, depth)
    return deepest > DEPTH


def parse_object(line: bytes) -> dict[str, Any]:
    """A JSON object in ASCII with no member twice."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        members = dict(pairs)
        if len(members) < len(pairs):
            raise ValueError("a member twice")
        return members

    text = line.decode("ascii")
    if is_deep(text):
        raise ValueError("nested too deeply")
    found = json.loads(text, object_pairs_hook=unique)
    if not isinstance(found, dict):
        raise ValueError("not an object")
    return found


class Log:
    """Follows an export line by line."""

    def __init__(self, start: int, peaks: list[bytes], session: str | None) -> None:
        self.tree = Tree(start, peaks)
        self.whole, self.session = start == 0, session
        self.unseen: set[str] = set()
        self.writers: dict[str, tuple[int, str]] = {}
        self.ended: set[str] = set()
        self.opened: set[str] = set()
        self.numbers: dict[str, int] = {}
        self.before: dict[str, int] = {}
        self.closing: set[str] = set()
        self.complete: set[str] = set()
        self.shown = 0

    def line(self, line: bytes) -> None:
        """Take the next line, without its line feed."""
        if self.session is not None and line.startswith(b'{"leaf":"'):
            leaf = self.hidden(line)
            self.unseen.add(leaf.hex())
        else:
            leaf = sha(b"\x00", line)
            try:
                record = parse_object(line)
            except (ValueError, RecursionError):
                self.fail("is no record")
            if not line.startswith(b'{"v":1,') or not line.endswith(b"}"):
                self.fail("is no record")
            self.chain(record, leaf.hex())
            if self.session is not None:
                self.count(record)
            self.shown += 1
        self.tree.add(leaf)

    def hidden(self, line: bytes) -> bytes:
        """The hash of a record that is not shown, in its one spelling."""
        digits = line[9:-2]
        if len(digits) != 64 or not set(digits) <= set(b"0123456789abcdef") or line[-2:] != b'"}':
            self.fail("is no hash of a record")
        return bytes.fromhex(digits.decode())

    def fail(self, what: str) -> NoReturn:
        """Name the entry at hand."""
        raise Tampered(f"entry {self.tree.size + 1} {what}")

    def chain(self, record: dict[str, Any], leaf: str) -> None:
        """The record goes on from its writer's last one."""
        writer, number, kind = record.get("w"), record.get("n"), record.get("type")
        if type(writer) is not str or type(number) is not int or number < 0:
            self.fail("names no writer")
        expected, before = self.writers.get(writer, (0, "0" * 64))
        direct = (number, record.get("p")) == (expected, before)
        started = not self.whole and writer not in self.writers and number > 0
        previous = record.get("p")
        skipped = self.session is not None and number > expected
        skipped = skipped and type(previous) is str and previous in self.unseen
        if not (direct or started or skipped):
            self.fail(f"does not follow the last record of writer {writer}")
        if writer in self.ended or (kind == "writer.open") is not (number == 0):
            self.fail("is outside of its writer's chain")
        self.writers[writer] = (number + 1, leaf)
        if kind == "writer.close":
            self.ended.add(writer)

    def count(self, record: dict[str, Any]) -> None:
        """The records of the one session carry numbers without a gap."""
        writer, kind = record["w"], record.get("type")
        if kind == "writer.open":
            self.opened.add(writer)
        elif kind == "writer.close":
            told = record.get("sessions")
            if writer in self.numbers and type(told) is dict:
                if self.session in told:
                    self.expect(writer, told[self.session])
                    self.complete.add(writer)
                elif writer in self.closing:
                    self.complete.add(writer)
        elif record.get("session") == self.session:
            number = record.get("sn")
            first = writer not in self.numbers and not self.whole and writer not in self.opened
            if first and type(number) is int and number > 0:
                self.numbers[writer] = self.before[writer] = number
            self.expect(writer, number)
            self.numbers[writer] = self.numbers.get(writer, 0) + 1
            self.closing.discard(writer)
            if kind == "session.close":
                self.closing.add(writer)

    def expect(self, writer: str, number: object) -> None:
        """The session's next number by a writer."""
        if type(number) is not int or number != self.numbers.get(writer, 0):
            self.fail("shows that a record of the session before it is missing")


def lines_of(file: Any) -> Iterator[bytes]:
    """The lines, without their line feeds."""
    while line := file.readline(LINE_LIMIT + 1):
        if line[-1:] != b"\n":
            raise Tampered("the last line is not whole, or too long")
        yield line[:-1]


class Header(NamedTuple):
    """The first line."""

    start: int
    size: int
    is_part: bool
    peaks: list[bytes]
    session: str | None
    checkpoint: str


def read_header(file: Any) -> Header:
    """The first line, in its one spelling."""
    line = file.readline(LINE_LIMIT + 1)
    if not line.startswith(b'{"format":"%s",' % FORMAT.encode()):
        raise Unusable("this is no export of a tabard log")
    try:
        given = json.loads(line.decode("ascii"))
        peaks = [bytes.fromhex(one) for one in given["peaks"]]
        start, size, part = given["start"], given["size"], given.get("part", False)
        session, checkpoint = given["session"], given["checkpoint"]
        Tree(start, peaks)
        spelled = {**given, "peaks": [one.hex() for one in peaks]}
        members = [name for name in MEMBERS if name != "part" or name in given]
        again = json.dumps({name: spelled[name] for name in members}, separators=(",", ":"))
        kinds = [type(one) for one in (start, size, part, given["peaks"], checkpoint)]
        right = kinds == [int, int, bool, list, str] and start >= 0
        right = right and (session is None or type(session) is str)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise Tampered("the first line was changed") from error
    if not right or again.encode() + b"\n" != line:
        raise Tampered("the first line was changed")
    return Header(start, size, part, peaks, session, checkpoint)


class Earlier(NamedTuple):
    """The roots checkpoints from earlier on state, and sizes outside of what is here."""

    roots: dict[int, bytes]
    before: list[int]
    after: list[int]


def earlier_roots(notes: list[str], keys: list[Key], header: Header, origin: str) -> Earlier:
    """What there is to compare with."""
    roots: dict[int, bytes] = {}
    for note in notes:
        try:
            head = open_checkpoint(note, keys, []).head
        except Exception as error:
            raise Unusable("an earlier checkpoint does not hold") from error
        if head.origin != origin:
            raise Unusable("an earlier checkpoint is of another log")
        if head.size > header.size and not header.is_part:
            raise Tampered("an earlier checkpoint covers more: this is older, or rolled back")
        if roots.setdefault(head.size, head.root) != head.root:
            raise Tampered("two earlier checkpoints contradict each other")
    return Earlier(
        {at: root for at, root in roots.items() if header.start <= at <= header.size},
        sorted(at for at in roots if at < header.start),
        sorted(at for at in roots if at > header.size),
    )


def verify(
    path: str,
    keys: list[str],
    known: list[str],
    witnesses: list[str],
    quorum: int | None = None,
) -> list[str]:
    """Verify an export; returns what was found, and what was not proven."""
    log_keys, witness_keys = read_keys(keys, witnesses)
    needed = len(witness_keys) if quorum is None else quorum
    if not 0 <= needed <= len(witness_keys):
        raise Unusable("there are not so many witnesses")
    if not os.path.isfile(path):
        raise Unusable(f"{path} is no file")
    with open(path, "rb") as file:
        header = read_header(file)
        try:
            opened = open_checkpoint(header.checkpoint, log_keys, witness_keys)
        except Exception as error:  # a signature that does not hold raises its library's own error
            raise Tampered("the checkpoint does not hold") from error
        if len(opened.seen_by) < needed:
            raise Tampered("too few witnesses have cosigned the checkpoint")
        if opened.head.size != header.size:
            raise Tampered("the checkpoint covers another number of entries")
        earlier = earlier_roots(known, log_keys, header, opened.head.origin)
        log = Log(header.start, header.peaks, header.session)
        follow(log, lines_of(file), opened.head, earlier.roots)
    span = "entries (a part that ends before the log does)" if header.is_part else "entries"
    by = f"; witnessed by {', '.join(opened.seen_by)}" if opened.seen_by else ""
    found = f"verified: {log.shown} records, {header.size} {span} of {opened.head.origin}{by}"
    return [found, *(f"not proven: {one}" for one in unproven(header, log, opened, earlier))]


def follow(log: Log, lines: Iterator[bytes], head: Head, roots: dict[int, bytes]) -> None:
    """Read every line, and compare what comes out with the checkpoint."""
    compare(log, roots)
    for line in lines:
        if log.tree.size == head.size:
            raise Tampered("there are lines after the last entry")
        log.line(line)
        compare(log, roots)
    if log.tree.size != head.size:
        raise Tampered(f"entry {log.tree.size + 1} is missing")
    if log.session is not None and not log.numbers:
        raise Tampered("no record of the session is shown")
    if log.tree.root() != head.root:
        raise Tampered("the entries are not those that were sealed")


def compare(log: Log, roots: dict[int, bytes]) -> None:
    """At the size of an earlier checkpoint the root has to be the one it states."""
    if log.tree.size in roots and roots[log.tree.size] != log.tree.root():
        raise Tampered(f"the first {log.tree.size} entries are not those of before")


def unproven(header: Header, log: Log, opened: Opened, earlier: Earlier) -> Iterator[str]:
    """What was not shown, in the words of docs/audit-format.md."""
    start, size = header.start, header.size
    vouched = size if opened.seen_by else max(earlier.roots, default=0)
    yield f"What came after entry {size}, or whether anything did: it is not in this export."
    if not vouched:
        yield (
            "That whoever holds the log's key did not rewrite it or roll it back: "
            "give an earlier checkpoint (--known) or a witness's key (--witness)."
        )
    elif vouched < size:
        yield (
            f"That nothing after entry {vouched} was rewritten or rolled back by "
            "whoever holds the log's key."
        )
    if earlier.before:
        yield (
            f"That it goes on from the checkpoints of up to {earlier.before[-1]} entries that were "
            f"given: the first {start} entries are not here."
        )
    if earlier.after:
        yield (
            f"That the checkpoints of up to {earlier.after[-1]} entries that were given go on from "
            f"it: it says of itself, and nobody has signed that, that it was made to end at entry "
            f"{size}."
        )
    if opened.unchecked:
        yield f"The signatures of {', '.join(opened.unchecked)}: no key of theirs was given."
    if start:
        yield f"What is in the first {start} entries: they are not in this export."
    yield from writers_unproven(log) if log.session is None else session_unproven(log)
    yield "That the times of the entries are right: they are the clock of the one who wrote."


def writers_unproven(log: Log) -> Iterator[str]:
    """Writers whose end is not here."""
    for writer in log.writers:
        if writer not in log.ended:
            yield (
                f"That writer {writer} has ended as it should: it has no closing entry yet "
                "(it runs on, crashed, or its end is not in this export)."
            )


def session_unproven(log: Log) -> Iterator[str]:
    """What of a session may be somewhere else."""
    yield (
        f"That no forked process went on with session {log.session}: its records "
        "would be in a chain of their own."
    )
    for writer, number in log.before.items():
        yield (
            f"What the first {number} records of session {log.session} by writer {writer} are: "
            "they are not in this export."
        )
    for writer in log.numbers:
        if writer not in log.complete:
            yield (
                f"That session {log.session} has no further record by writer {writer}: "
                "no closing entry of that writer in this export counts them."
            )


def notes_in(path: str) -> list[str]:
    """The notes in a file: one, or the lines of a `checkpoints.log`."""
    if not os.path.isfile(path):
        raise Unusable(f"{path} is no file")
    with open(path, encoding="utf-8", newline="") as file:
        text = file.read()
    if not text.startswith("{"):
        return [text]
    lines = text.split("\n")[:-1]  # what follows the last line feed was cut short
    notes: list[str] = []
    previous, size = "0" * 64, 0
    for number, line in enumerate(lines, start=1):
        try:
            facts = json.loads(line)
            kept = {name: facts[name] for name in ("size", "sealed_at", "note", "previous")}
            types = [type(one) for one in kept.values()]
            fits = types == [int, int, str, str] and kept["previous"] == previous
            fits = fits and json.dumps(kept, separators=(",", ":")) == line
        except (ValueError, KeyError, TypeError, RecursionError):
            fits = False
        if not fits or (notes and kept["size"] < size):
            raise Unusable(f"{path}: line {number} does not follow the one before it")
        previous, size = sha(line.encode()).hex(), kept["size"]
        notes.append(kept["note"])
    if not notes:
        raise Unusable(f"{path}: no checkpoint in it")
    return notes


def key_in(text: str) -> str:
    """A key as given, or from the file that is named."""
    if not os.path.isfile(text):
        return text
    with open(text, encoding="utf-8") as file:
        return file.read().strip()


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description="Verify an export of a tabard log.")
    parser.add_argument("file")
    parser.add_argument("--key", action="append", default=[], help="the log's verifier key")
    parser.add_argument("--known", action="append", default=[], help="an earlier checkpoint's file")
    parser.add_argument("--witness", action="append", default=[], help="a witness's verifier key")
    parser.add_argument("-k", type=int, help="how many witnesses it needs; default all")
    asked = parser.parse_args()
    try:
        known = [note for path in asked.known for note in notes_in(path)]
        keys, witnesses = [[key_in(one) for one in given] for given in (asked.key, asked.witness)]
        for line in verify(asked.file, keys, known, witnesses, asked.k):
            print(line)
    except Tampered as error:
        print(f"tampered with: {error}", file=sys.stderr)
        return 1
    except (Unusable, OSError, ValueError) as error:
        print(f"cannot be verified: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

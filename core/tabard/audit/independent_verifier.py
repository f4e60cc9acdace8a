#!/usr/bin/env python3
"""Verifies an export of a tabard log, and imports nothing of tabard's.

    python independent_verifier.py log.jsonl --key VKEY [--known FILE ...] [--witness VKEY ...]

Written from docs/audit-format.md alone, so that nobody has to trust tabard's own verifier. Needs
Python 3.11 and `cryptography`. Exit 0: it holds. 1: it was tampered with. 2: it cannot be read.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple, NoReturn

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

LINE_LIMIT = 1 << 20
LOG, WITNESS = 1, 4


class Tampered(Exception):
    """Something is not as it was when it was signed."""


class Unusable(Exception):
    """There is nothing to verify, or nothing to verify it with."""


class Key(NamedTuple):
    """A verifier key."""

    name: str
    kind: int
    ident: bytes
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


def read_key(text: str) -> Key:
    """A verifier key from `name+id+base64`."""
    try:
        name, ident, encoded = text.strip().split("+", 2)
        raw = canonical_base64(encoded)
        expected = sha(name.encode(), b"\n", raw)[:4]
        if expected.hex() != ident or raw[0] not in (LOG, WITNESS) or not is_name(name):
            raise ValueError("not a key")
        return Key(name, raw[0], expected, Ed25519PublicKey.from_public_bytes(raw[1:]))
    except (ValueError, IndexError) as error:
        raise Unusable(f"{text!r} is no verifier key") from error


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


def open_checkpoint(note: str, keys: list[Key], witnesses: list[Key]) -> tuple[Head, list[str]]:
    """What a checkpoint states, once a key of its log has signed it; and who witnessed it."""
    text, head, signatures = read_note(note)
    own = [key for key in keys if key.kind == LOG and key.name == head.origin]
    if not any([signed_by(key, text, signatures) for key in own]):
        raise ValueError("no key that was given has signed it")
    return head, [key.name for key in witnesses if signed_by(key, text, signatures)]


def parse_object(line: bytes) -> dict[str, Any]:
    """A JSON object in ASCII with no member twice."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        members = dict(pairs)
        if len(members) < len(pairs):
            raise ValueError("a member twice")
        return members

    found = json.loads(line.decode("ascii"), object_pairs_hook=unique)
    if not isinstance(found, dict):
        raise ValueError("not an object")
    return found


class Log:
    """Follows an export line by line."""

    def __init__(self, header: dict[str, Any]) -> None:
        self.tree = Tree(header["start"], [bytes.fromhex(one) for one in header["peaks"]])
        self.whole = header["start"] == 0
        self.session = header["session"]
        if type(header["start"]) is not int or type(header["size"]) is not int:
            raise ValueError("not numbers")
        if self.session is not None and type(self.session) is not str:
            raise ValueError("not a session")
        self.unseen: set[str] = set()
        self.writers: dict[str, tuple[int, str]] = {}
        self.ended: set[str] = set()
        self.numbers: dict[str, int] = {}
        self.complete: set[str] = set()
        self.shown = 0

    def line(self, line: bytes) -> None:
        """Take the next line, without its line feed."""
        if self.session is not None and line.startswith(b'{"leaf":"'):
            try:
                leaf = bytes.fromhex(line[9:-2].decode("ascii"))
            except ValueError:
                self.fail("is no hash of a record")
            if b'{"leaf":"%s"}' % leaf.hex().encode() != line or len(leaf) != 32:
                self.fail("is no hash of a record")
            self.unseen.add(leaf.hex())
        else:
            leaf = sha(b"\x00", line)
            try:
                record = parse_object(line)
            except (ValueError, RecursionError):
                self.fail("is no record")
            if record.get("v") != 1:
                self.fail("is no record")
            self.chain(record, leaf.hex())
            if self.session is not None:
                self.count(record)
            self.shown += 1
        self.tree.add(leaf)

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
        skipped = self.session is not None and number > expected and record.get("p") in self.unseen
        if not (direct or started or skipped):
            self.fail(f"does not follow the last record of writer {writer}")
        if writer in self.ended or (kind == "writer.open") is not (number == 0):
            self.fail("is outside of its writer's chain")
        self.writers[writer] = (number + 1, leaf)
        if kind == "writer.close":
            self.ended.add(writer)

    def count(self, record: dict[str, Any]) -> None:
        """The records of the one session carry numbers without a gap."""
        writer, expected = record["w"], self.numbers.get(record["w"], 0)
        if record.get("type") == "writer.close":
            told = record.get("sessions")
            total = told.get(self.session) if isinstance(told, dict) else None
            if writer in self.numbers and total is not None:
                if total != expected:
                    self.fail("counts records of the session that are not here")
                self.complete.add(writer)
        elif record.get("session") == self.session:
            if record.get("sn") != expected:
                self.fail("shows that a record of the session before it is missing")
            self.numbers[writer] = expected + 1
            if record.get("type") == "session.close":
                self.complete.add(writer)


def lines_of(file: Any) -> Iterator[bytes]:
    """The lines, without their line feeds."""
    while line := file.readline(LINE_LIMIT + 1):
        if line[-1:] != b"\n":
            raise Tampered("the last line is not whole, or too long")
        yield line[:-1]


def read_header(lines: Iterator[bytes]) -> dict[str, Any]:
    """The first line, in its one spelling."""
    try:
        line = next(lines)
        header = parse_object(line)
        names = ["format", "start", "size", "peaks", "session", "checkpoint"]
        if header["format"] != "tabard-log/1":
            raise ValueError("another format")
        Log(header)
    except (
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        StopIteration,
        RecursionError,
    ) as error:
        raise Unusable("this is no export of a tabard log") from error
    except Tampered as error:
        raise Unusable("this is no export of a tabard log") from error
    spelled = json.dumps({name: header.get(name) for name in names}, separators=(",", ":"))
    if spelled.encode() != line:
        raise Tampered("the first line was changed")
    return header


def earlier_roots(notes: list[str], keys: list[Key], header: dict[str, Any], origin: str) -> Any:
    """The roots earlier checkpoints state, by size."""
    roots: dict[int, bytes] = {}
    for note in notes:
        try:
            head, _ = open_checkpoint(note, keys, [])
        except Exception as error:
            raise Unusable("an earlier checkpoint does not hold") from error
        if head.origin != origin or head.size < header["start"]:
            raise Unusable("an earlier checkpoint cannot be compared with this export")
        if head.size > header["size"]:
            raise Tampered("an earlier checkpoint covers more: this is older, or rolled back")
        if roots.setdefault(head.size, head.root) != head.root:
            raise Tampered("two earlier checkpoints contradict each other")
    return roots


def verify(path: str, keys: list[str], known: list[str], witnesses: list[str]) -> list[str]:
    """Verify an export; returns what was found, and what was not proven."""
    log_keys, witness_keys = [read_key(one) for one in keys], [read_key(one) for one in witnesses]
    if not log_keys:
        raise Unusable("a verifier key is needed")
    with open(path, "rb") as file:
        lines = lines_of(file)
        header = read_header(lines)
        try:
            head, seen_by = open_checkpoint(header["checkpoint"], log_keys, witness_keys)
        except Exception as error:  # a signature that does not hold raises its library's own error
            raise Tampered("the checkpoint does not hold") from error
        if head.size != header["size"]:
            raise Tampered("the checkpoint covers another number of entries")
        if len(seen_by) < len(witness_keys):
            raise Tampered("a witness has not cosigned the checkpoint")
        roots = earlier_roots(known, log_keys, header, head.origin)
        log = Log(header)
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
    return report(log, head, seen_by, roots)


def compare(log: Log, roots: dict[int, bytes]) -> None:
    """At the size of an earlier checkpoint the root has to be the one it states."""
    if log.tree.size in roots and roots[log.tree.size] != log.tree.root():
        raise Tampered(f"the first {log.tree.size} entries are not those of before")


def report(log: Log, head: Head, seen_by: list[str], roots: dict[int, bytes]) -> list[str]:
    """What was found, and what was not."""
    found = [f"verified: {log.shown} records, {head.size} entries of {head.origin}"]
    if not seen_by and not any(roots):
        found.append("not proven: that whoever holds the log's key did not rewrite it")
    if not log.whole:
        found.append("not proven: what comes before this export")
    unended = [w for w in log.writers if w not in log.ended]
    if log.session is not None:
        unended = [w for w in log.numbers if w not in log.complete]
        found.append("not proven: that no forked process went on with the session")
    if unended:
        found.append(f"not proven: that no more was to come of {', '.join(unended)}")
    found.append(f"not proven: what came after entry {head.size}, and that the times are right")
    return found


def notes_in(path: str) -> list[str]:
    """The notes in a file: one, or the lines of a `checkpoints.log`."""
    with open(path, encoding="utf-8") as file:
        text = file.read()
    if not text.startswith("{"):
        return [text]
    return [str(json.loads(line)["note"]) for line in text.splitlines()]


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description="Verify an export of a tabard log.")
    parser.add_argument("file")
    parser.add_argument("--key", action="append", default=[], help="the log's verifier key")
    parser.add_argument("--known", action="append", default=[], help="an earlier checkpoint's file")
    parser.add_argument("--witness", action="append", default=[], help="a witness's verifier key")
    asked = parser.parse_args()
    try:
        known = [note for path in asked.known for note in notes_in(path)]
        for line in verify(asked.file, asked.key, known, asked.witness):
            print(line)
    except Tampered as error:
        print(f"tampered with: {error}", file=sys.stderr)
        return 1
    except (Unusable, OSError, ValueError, KeyError) as error:
        print(f"cannot be verified: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

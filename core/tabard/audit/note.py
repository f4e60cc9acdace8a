"""Signed notes (C2SP signed-note): a text, and who stands for it.

Ed25519, with the algorithm byte 0x01 for a log's own signature and 0x04 for a witness's
cosignature, which states a time (C2SP tlog-cosignature). Only strict forms are read: one note has
one spelling.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

PLAIN = 0x01
COSIGNATURE = 0x04
MAX_NOTE = 1_000_000
MAX_SIGNATURES = 100
_NO_TEXT = re.compile(r"[\x00-\x09\x0b-\x1f\ud800-\udfff]")
_NAME = re.compile(r"[^\s+]+")
_SIGNATURE = "\N{EM DASH} "


class NoteError(ValueError):
    """A text is no signed note, or not signed by whom it should be."""


@dataclass(frozen=True, slots=True)
class NoteKey:
    """A public key that signs notes, written `name+hash+key` (a vkey).

    Attributes:
        name: Whose key it is, as a URL without its scheme.
        algorithm: `PLAIN` or `COSIGNATURE`.
        public: The 32 bytes of the Ed25519 key.
    """

    name: str
    algorithm: int
    public: bytes

    @classmethod
    def parse(cls, text: str) -> NoteKey:
        """Read a vkey.

        Raises:
            NoteError: It is none, or of a kind this version does not know.
        """
        name, _, rest = text.partition("+")
        key_id, _, key = rest.partition("+")
        raw = decode_base64(key)
        if raw is None or not _is_name(name):
            raise NoteError("expected a verifier key: name+hash+base64")
        if len(raw) != 33 or raw[0] not in (PLAIN, COSIGNATURE):
            raise NoteError("expected an Ed25519 verifier key, or one of a witness")
        found = cls(name, raw[0], raw[1:])
        if key_id != found.id.hex():
            raise NoteError("the verifier key does not match its own hash")
        return found

    @property
    def id(self) -> bytes:
        """Four bytes that tell keys apart."""
        raw = bytes([self.algorithm]) + self.public
        return hashlib.sha256(self.name.encode() + b"\n" + raw).digest()[:4]

    def __str__(self) -> str:
        """The vkey."""
        raw = bytes([self.algorithm]) + self.public
        return f"{self.name}+{self.id.hex()}+{base64.b64encode(raw).decode()}"

    def check(self, text: str, signature: bytes) -> int | None:
        """Check what it signed of a note's text.

        Returns:
            The time in POSIX seconds a witness states; 0 for a log's own signature; None when the
            signature does not hold.
        """
        stated, signed = 0, text.encode()
        if self.algorithm == COSIGNATURE:
            if len(signature) != 72:
                return None
            stated, signature = int.from_bytes(signature[:8]), signature[8:]
            signed = _cosigned(text, stated)
        try:
            Ed25519PublicKey.from_public_bytes(self.public).verify(signature, signed)
        except (InvalidSignature, ValueError):
            return None
        return stated


class NoteSigner:
    """A private key that signs notes."""

    def __init__(self, name: str, private: Ed25519PrivateKey, algorithm: int = PLAIN) -> None:
        """Take a key into use.

        Raises:
            NoteError: The name cannot stand in a note.
        """
        if not _is_name(name):
            raise NoteError("a key's name has no spaces and no plus sign")
        public = private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        self.key = NoteKey(name, algorithm, public)
        self._private = private

    def sign(self, text: str) -> str:
        """The signature line for a note's text (which ends with a line break)."""
        return self._line(self._private.sign(text.encode()))

    def cosign(self, text: str, now: int) -> str:
        """The line of a witness that has seen the text at `now` (POSIX seconds)."""
        return self._line(now.to_bytes(8) + self._private.sign(_cosigned(text, now)))

    def _line(self, signature: bytes) -> str:
        data = base64.b64encode(self.key.id + signature).decode()
        return f"{_SIGNATURE}{self.key.name} {data}\n"

    def __repr__(self) -> str:
        """Names the public key only."""
        return f"<NoteSigner {self.key}>"


@dataclass(frozen=True, slots=True)
class Note:
    """A text with signatures.

    Attributes:
        text: What is signed, with its last line break.
        signatures: Name, key id and signature of each line.
    """

    text: str
    signatures: tuple[tuple[str, bytes, bytes], ...]

    @classmethod
    def parse(cls, note: str) -> Note:
        """Read a note.

        Raises:
            NoteError: It is none.
        """
        if len(note) > MAX_NOTE or _NO_TEXT.search(note):
            raise NoteError("a note is text without control characters, of at most 1 MB")
        text, gap, tail = note.rpartition("\n\n")
        if not gap or not text or not tail.endswith("\n"):
            raise NoteError("expected a text, an empty line, and signatures")
        lines = tail.removesuffix("\n").split("\n")
        if len(lines) > MAX_SIGNATURES:
            raise NoteError("too many signatures")
        return cls(text + "\n", tuple(_read_signature(line) for line in lines))

    def signed_by(self, key: NoteKey) -> int | None:
        """Whether a key stands for the text: the time it states (0 for none), or None.

        Raises:
            NoteError: There is a signature in its name that does not hold.
        """
        for name, key_id, signature in self.signatures:
            if (name, key_id) == (key.name, key.id):
                stated = key.check(self.text, signature)
                if stated is None:
                    raise NoteError(f"the signature of {key.name} does not hold")
                return stated
        return None

    def unknown_to(self, keys: Iterable[NoteKey]) -> tuple[str, ...]:
        """The names on signatures by none of some keys."""
        known = {(key.name, key.id) for key in keys}
        return tuple(name for name, key_id, _ in self.signatures if (name, key_id) not in known)

    def __str__(self) -> str:
        """The note as it is written."""
        lines = (
            f"{_SIGNATURE}{name} {base64.b64encode(key_id + signature).decode()}\n"
            for name, key_id, signature in self.signatures
        )
        return f"{self.text}\n{''.join(lines)}"


def merge_notes(notes: Iterable[str]) -> str:
    """One note with the signatures of several of the same text; of each key the first counts.

    Raises:
        NoteError: One is none.
        ValueError: There are none, or their texts differ.
    """
    read = [Note.parse(note) for note in notes]
    (text,) = {note.text for note in read}
    lines: dict[tuple[str, bytes], bytes] = {}
    for note in read:
        for name, key_id, signature in note.signatures:
            lines.setdefault((name, key_id), signature)
    found = tuple((*who, signature) for who, signature in lines.items())
    return str(Note(text, found[:MAX_SIGNATURES]))


def _read_signature(line: str) -> tuple[str, bytes, bytes]:
    name, _, data = line.removeprefix(_SIGNATURE).partition(" ")
    raw = decode_base64(data)
    if not line.startswith(_SIGNATURE) or raw is None or len(raw) < 5 or not _is_name(name):
        raise NoteError("expected signatures: a dash, a name, base64")
    return name, raw[:4], raw[4:]


def _cosigned(text: str, now: int) -> bytes:
    return f"cosignature/v1\ntime {now}\n{text}".encode()


def _is_name(name: str) -> bool:
    return _NAME.fullmatch(name) is not None


def decode_base64(text: str) -> bytes | None:
    """Base64 in its one canonical spelling; None for anything else."""
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return raw if base64.b64encode(raw).decode() == text else None

"""Signed notes: the published vectors, and every other spelling refused."""

from __future__ import annotations

import base64
import random

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from tabard.audit.checkpoint import Checkpoint, open_checkpoint
from tabard.audit.note import COSIGNATURE, Note, NoteError, NoteKey, NoteSigner

# The example key and note of the reference implementation of signed notes.
VKEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
SECRET = "AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"
TEXT = (
    "If you think cryptography is the answer to your problem,\n"
    "then you don't know what your problem is.\n"
)
SIGNATURE = (
    "\u2014 PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqf"
    "qdngotpRZb6KE6RyyBwJnAM=\n"
)
NOTE = f"{TEXT}\n{SIGNATURE}"
# The example of the C2SP specification: a text with an empty line in it.
POEM = (
    "Ognuno sta solo sul cuor della terra\ntrafitto da un raggio di sole:\n\n"
    "ed \u00e8 subito sera.\n\n\u2014 quasimodo.example/salvatore NnugSzTjtVAewIS+Z/iJhUPeFDkO/5QQ"
    "2i5ddnGITLlC+EhfLW9oJKONrMouFSQU0xMcXxj99ihAQwaqP3ZekRwNtIc=\n"
)


def signer(name: str = "log.example", algorithm: int = 1) -> NoteSigner:
    return NoteSigner(name, Ed25519PrivateKey.from_private_bytes(bytes(range(32))), algorithm)


def test_published_vector() -> None:
    """The key, the id and the signature are those of the reference implementation."""
    key = NoteKey.parse(VKEY)
    assert str(key) == VKEY
    note = Note.parse(NOTE)
    assert (note.text, str(note)) == (TEXT, NOTE)
    assert note.signed_by(key) == 0
    private = Ed25519PrivateKey.from_private_bytes(base64.b64decode(SECRET)[1:])
    assert NoteSigner("PeterNeumann", private).sign(TEXT) == SIGNATURE


def test_text_with_an_empty_line() -> None:
    note = Note.parse(POEM)
    assert note.text.endswith("ed \u00e8 subito sera.\n")
    assert [name for name, _, _ in note.signatures] == ["quasimodo.example/salvatore"]
    assert str(note) == POEM


def test_mangled_keys() -> None:
    """No part of a verifier key, and none with another byte, is one."""
    for start in range(len(VKEY) + 1):
        for end in range(start + 1, len(VKEY) + 1):
            if (start, end) != (0, len(VKEY)):
                with pytest.raises(NoteError):
                    NoteKey.parse(VKEY[start:end])
    for place in range(len(VKEY)):
        with pytest.raises(NoteError):
            NoteKey.parse(f"{VKEY[:place]}{chr(ord(VKEY[place]) + 1)}{VKEY[place + 1 :]}")


@pytest.mark.parametrize(
    "note",
    [
        "",
        TEXT,
        f"{TEXT}\n",
        NOTE.removesuffix("\n"),
        NOTE.replace("\n\n", "\n"),
        NOTE.replace("\u2014", "-"),
        NOTE.replace("\u2014 ", "\u2014"),
        NOTE.replace("Peter", "\t"),
        NOTE.replace("\n\n", "\r\n\r\n"),
        NOTE.replace("PeterNeumann", "Peter+Neumann"),
        NOTE.replace("PeterNeumann", "Peter\u00a0Neumann"),
        NOTE.replace("nAM=", "nAN="),
        NOTE.replace("nAM=", "nAM"),
        NOTE.replace("nAM=", "nAM= "),
        f"{TEXT}\n\u2014 PeterNeumann AAAA\n",
        f"\n{SIGNATURE}",
        f"{TEXT}\n{SIGNATURE * 101}",
        f"{'x' * 1_000_001}\n\n{SIGNATURE}",
    ],
)
def test_what_is_no_note(note: str) -> None:
    with pytest.raises(NoteError):
        Note.parse(note)


def test_sixteen_signatures_and_strangers() -> None:
    """At least 16 signatures are taken, and those of strangers are ignored."""
    others = [signer(f"other{n}.example").sign(TEXT) for n in range(16)]
    note = Note.parse(f"{TEXT}\n{''.join(others)}{SIGNATURE}")
    assert note.signed_by(NoteKey.parse(VKEY)) == 0
    assert len(note.unknown_to([NoteKey.parse(VKEY)])) == 16


def test_signature_that_does_not_hold() -> None:
    """A known key's name on another text is an error, not a stranger's signature."""
    note = Note.parse(NOTE.replace("cryptography", "cryptographY"))
    with pytest.raises(NoteError, match="does not hold"):
        note.signed_by(NoteKey.parse(VKEY))


def test_cosignature_states_a_time() -> None:
    """What a witness signs is another text than what a log signs, and has a time in it."""
    witness = signer("witness.example/w1", COSIGNATURE)
    checkpoint = Checkpoint(origin="log.example", size=3, root=bytes(32))
    note = checkpoint.sign(signer()) + witness.cosign(checkpoint.text, 1_800_000_000)
    found = open_checkpoint(note, [signer().key], [witness.key])
    assert found.witnesses == (("witness.example/w1", 1_800_000_000),)
    as_log = NoteKey(witness.key.name, 1, witness.key.public)
    assert Note.parse(note).signed_by(as_log) is None
    with pytest.raises(NoteError, match="no key"):
        open_checkpoint(note, [witness.key])


@pytest.mark.parametrize(
    "text",
    ["", "a\n", "a\n1\n", "\n1\nAAAA\n", "a\n01\n{root}\n", "a\n-1\n{root}\n", "a\n1\n{root}",
     "a\n1\n{root}\nextension\n", "a\n1\nAAAA\n", "a\n1\n{root} \n", "a\n\u0661\n{root}\n",
     "a\n99999999999999999999\n{root}\n"],
)  # fmt: skip
def test_what_is_no_checkpoint(text: str) -> None:
    root = base64.b64encode(bytes(32)).decode()
    with pytest.raises(NoteError):
        Checkpoint.parse(text.format(root=root))


def test_origin_is_the_keys_name() -> None:
    """A key of one log does not sign for another."""
    note = Checkpoint(origin="other.example", size=1, root=bytes(32)).sign(signer())
    with pytest.raises(NoteError, match="no key"):
        open_checkpoint(note, [signer().key])


def test_every_changed_byte_of_a_checkpoint() -> None:
    """No byte of a signed checkpoint can be another one."""
    note = Checkpoint(origin="log.example", size=300, root=bytes(32)).sign(signer()).encode()
    for place in range(len(note)):
        for bit in range(8):
            changed = bytearray(note)
            changed[place] ^= 1 << bit
            with pytest.raises((NoteError, UnicodeDecodeError)):
                open_checkpoint(bytes(changed).decode(), [signer().key])


@given(st.text(max_size=2000))
def test_any_text(text: str) -> None:
    """Only NoteError comes out, whatever goes in."""
    for read in (Note.parse, NoteKey.parse, Checkpoint.parse):
        try:
            read(text)
        except NoteError:
            continue


def test_a_megabyte() -> None:
    noise = random.Random(7).randbytes(500_000).hex()
    for text in (noise, f"{noise}\n\n\u2014 a {noise}\n", "\n" * 1_000_000, "\u2014 " * 400_000):
        for read in (Note.parse, NoteKey.parse, Checkpoint.parse):
            with pytest.raises(NoteError):
                read(text)


def test_secret_is_not_shown() -> None:
    assert bytes(range(32)).hex() not in repr(signer())
    assert "log.example" in repr(signer())

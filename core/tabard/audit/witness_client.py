"""Asks a witness to cosign a checkpoint."""

from __future__ import annotations

import urllib.error
import urllib.request
from dataclasses import dataclass

from tabard.audit.merkle import Frontier, grown_from, prove_consistency
from tabard.audit.note import Note, NoteError, NoteKey
from tabard.audit.witness import Request
from tabard.errors import ConfigurationError, StoreError

TIMEOUT = 10.0
"""Seconds a witness may take."""

_MAX_ANSWER = 65_536


@dataclass(frozen=True, slots=True)
class WitnessAddress:
    """Where a witness is, and by which key it is known.

    Attributes:
        url: The prefix before `/add-checkpoint`.
        key: Its verifier key.
    """

    url: str
    key: NoteKey

    @classmethod
    def parse(cls, text: str) -> WitnessAddress:
        """Read `URL=VKEY`.

        Raises:
            ConfigurationError: It is none.
        """
        url, _, vkey = text.partition("=")
        if not url.startswith(("http://", "https://")):
            raise ConfigurationError("expected a witness as URL=VERIFIER-KEY")
        try:
            return cls(url.rstrip("/"), NoteKey.parse(vkey))
        except NoteError as error:
            raise ConfigurationError(f"a witness: {error}") from None


class Grown:
    """What a log was at an earlier size, and what was added since: the source of proofs."""

    def __init__(self, before: Frontier, leaves: list[bytes]) -> None:
        self.size = before.size
        self.proof = tuple(
            prove_consistency(before.size, before.size + len(leaves), grown_from(before, leaves))
        )


def ask_witness(witness: WitnessAddress, note: str, grown: Grown) -> int | str:
    """Ask for a cosignature.

    Args:
        witness: Whom.
        note: The signed checkpoint.
        grown: The proof from the size the witness has seen last.

    Returns:
        The cosignature's line; or the size the witness has seen, where it is another one.

    Raises:
        StoreError: It cannot be reached, refuses, or its answer does not hold.
    """
    body = str(Request(old=grown.size, proof=grown.proof, note=note))
    request = urllib.request.Request(  # noqa: S310  the scheme was looked at
        f"{witness.url}/add-checkpoint", body.encode(), method="POST"
    )
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:  # noqa: S310
            return _checked(witness, note, answer.read(_MAX_ANSWER).decode())
    except urllib.error.HTTPError as error:
        text = error.read(_MAX_ANSWER).decode("utf-8", "replace").strip()
        if error.code == 409 and text.isdecimal() and int(text) != grown.size:
            return int(text)
        raise StoreError(
            f"the witness {witness.key.name} refuses the checkpoint ({error.code})"
        ) from None
    except (OSError, ValueError) as error:
        raise StoreError(
            f"the witness {witness.key.name} cannot be reached: {type(error).__name__}"
        ) from None


def _checked(witness: WitnessAddress, note: str, lines: str) -> str:
    """The one line of the answer that is by the witness's key, and holds."""
    try:
        text = Note.parse(note).text
        for line in lines.splitlines(keepends=True):
            if Note.parse(f"{text}\n{line}").signed_by(witness.key):
                return line
    except NoteError as error:
        raise StoreError(f"the answer of {witness.key.name} does not hold: {error}") from None
    raise StoreError(f"the answer of {witness.key.name} holds no cosignature of its key")

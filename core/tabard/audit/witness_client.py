"""Asks a witness to cosign a checkpoint."""

from __future__ import annotations

import re
import threading
import urllib.error
import urllib.request
from dataclasses import dataclass
from http.client import HTTPException
from urllib.parse import urlsplit

from tabard.audit.merkle import Frontier, grown_from, prove_consistency
from tabard.audit.note import COSIGNATURE, Note, NoteError, NoteKey
from tabard.audit.witness import Request
from tabard.errors import ConfigurationError, StoreError

TIMEOUT = 10.0
"""Seconds a witness may take, for the whole of its answer."""

_MAX_ANSWER = 65_536
_SIZE = re.compile(r"(0|[1-9][0-9]{0,19})\n?")


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
        if not _is_usable(url):
            raise ConfigurationError("expected a witness as URL=VERIFIER-KEY")
        try:
            key = NoteKey.parse(vkey)
        except NoteError as error:
            raise ConfigurationError(f"a witness: {error}") from None
        if key.algorithm != COSIGNATURE:
            raise ConfigurationError(f"a witness: {key.name} is the key of a log, not of a witness")
        return cls(url.rstrip("/"), key)


def _is_usable(url: str) -> bool:
    """Whether a witness can be asked there at all: a host, a port there is, a path."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
        host.encode("idna")
    except ValueError:
        return False
    is_plain = re.fullmatch(r"[!-~]+", url) is not None
    is_web = parts.scheme in ("http", "https") and not (parts.query or parts.fragment)
    return is_plain and is_web and "@" not in parts.netloc and bool(host) and port != 0


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
        StoreError: It cannot be reached, refuses, or its answer does not hold. What it says to a
            refusal nobody has signed, so that it proves nothing about the log.
    """
    name = witness.key.name
    try:
        request = str(Request(old=grown.size, proof=grown.proof, note=note))
        status, kind, text = _post_in_time(witness, request)
    except (OSError, ValueError, HTTPException) as error:
        raise StoreError(f"the witness {name} cannot be reached: {type(error).__name__}") from None
    if status == 200:
        return _checked(witness, note, text)
    seen = _SIZE.fullmatch(text)
    if status == 409 and kind == "text/x.tlog.size" and seen and int(seen[1]) != grown.size:
        return int(seen[1])
    # It knows us at this very size (409), or what we were then (422), and that is not in the log.
    if grown.size and (status == 422 or (status == 409 and seen)):
        raise StoreError(
            f"the log may have been rewritten: the witness {name} claims a size of {grown.size}, "
            f"and that the checkpoint does not go on from there ({status})"
        )
    raise StoreError(f"the witness {name} refuses the checkpoint ({status})")


_asked: dict[str, threading.Thread] = {}


def _post_in_time(witness: WitnessAddress, body: str) -> tuple[int, str, str]:
    """Its answer, or an end to the waiting: a timeout of the socket counts for each byte anew.

    Raises:
        OSError: It takes too long, or still drips at its last answer.
        ValueError: As of `_post`.
        HTTPException: As of `_post`.
    """
    found: list[tuple[int, str, str] | Exception] = []

    def work() -> None:
        try:
            found.append(_post(witness, body))
        except Exception as error:
            found.append(error)

    last = _asked.get(witness.url)
    if last is not None and last.is_alive():
        raise TimeoutError
    _asked[witness.url] = thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(TIMEOUT)
    if not found:
        raise TimeoutError
    if isinstance(found[0], Exception):
        raise found[0]
    return found[0]


def _post(witness: WitnessAddress, body: str) -> tuple[int, str, str]:
    """Its answer: the status, the content type, and the text."""
    request = urllib.request.Request(  # noqa: S310  the scheme was looked at
        f"{witness.url}/add-checkpoint", body.encode(), method="POST"
    )
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:  # noqa: S310
            return answer.status, "", answer.read(_MAX_ANSWER).decode()
    except urllib.error.HTTPError as error:
        with error:
            text = error.read(_MAX_ANSWER).decode("utf-8", "replace")
            return error.code, error.headers.get_content_type(), text


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

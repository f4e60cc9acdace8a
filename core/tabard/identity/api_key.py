"""A unique API key: long-lived, so it is exchanged at login for a short session, never used as one.

A join token is of the same make, and good for one login within minutes. The two begin differently,
so neither can serve as the other.

`tbk_<id>_<secret><checksum>`: 10 base62 characters of public id, 43 of secret (256 bits), 6 of
CRC32 over all before. The checksum refuses a typo before any store is asked; the prefix lets a
scanner find a key that was committed. Only SHA-256 of the key is kept, which is enough for 256
random bits.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import string
import zlib
from typing import Literal, NamedTuple

from tabard.errors import AuthenticationFailed
from tabard.identity.encoding import plain

PREFIX = "tbk_"
JOIN_PREFIX = "tbj_"
KeyKind = Literal["key", "join", "joined"]
"""An API key; a join token; or what a join token was exchanged for, which no one ever sees."""
_ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase
_ID, _SECRET, _CHECKSUM = 10, 43, 6
_SHAPE = re.compile(
    rf"((?:{PREFIX}|{JOIN_PREFIX})[0-9A-Za-z]{{{_ID}}})_[0-9A-Za-z]{{{_SECRET + _CHECKSUM}}}",
    re.ASCII,
)


class ApiKey(NamedTuple):
    """What is kept of a key; never the key.

    Attributes:
        id: Its public name, the prefix and ten characters.
        spiffe_id: Whose it is.
        digest: SHA-256 of the key.
        created_at: POSIX seconds.
        expires_at: POSIX seconds; it holds strictly before.
        revoked: Whether it was taken back; of a join token, or used.
        kind: What it may be used as.
        parent: The join token it was made for, or None.
    """

    id: str
    spiffe_id: str
    digest: bytes
    created_at: int
    expires_at: int
    revoked: bool = False
    kind: KeyKind = "key"
    parent: str | None = None

    def is_live(self, now: float) -> bool:
        """Whether it neither expired nor was taken back."""
        return not self.revoked and now < self.expires_at


def new_api_key(prefix: str = PREFIX) -> str:
    """A new random key, or join token."""
    head = f"{prefix}{_random(_ID)}_{_random(_SECRET)}"
    return head + _checksum(head)


def id_of(text: object) -> str:
    """The public id of a key that is spelled right.

    Raises:
        AuthenticationFailed: It is no key (`malformed`), or has a typo (`bad_checksum`).
    """
    held = plain(text)
    match = _SHAPE.fullmatch(held) if isinstance(held, str) else None
    if match is None:
        raise AuthenticationFailed(code="malformed", reason="the credential is not an API key")
    head, checksum = match[0][:-_CHECKSUM], match[0][-_CHECKSUM:]
    if _checksum(head) != checksum:
        raise AuthenticationFailed(code="bad_checksum", reason="the API key has a typo in it")
    return match[1]


def digest_of(text: str) -> bytes:
    """SHA-256 of a key."""
    return hashlib.sha256(text.encode("ascii")).digest()


def _random(length: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))


def _checksum(text: str) -> str:
    number, digits = zlib.crc32(text.encode("ascii")), ""
    for _ in range(_CHECKSUM):
        number, rest = divmod(number, len(_ALPHABET))
        digits = _ALPHABET[rest] + digits
    return digits

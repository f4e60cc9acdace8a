"""Takes a PEM text (RFC 7468) apart before any parser sees what is in it."""

from __future__ import annotations

import re

from tabard.identity.compact import refuse
from tabard.identity.encoding import plain

MAX_PEM = 65_536
"""Characters of a chain with its key; a longer text is refused before any of it is read."""
MAX_CHAIN = 8
"""Certificates in a chain."""

_BLOCK = re.compile(
    r"-----BEGIN ([A-Z0-9 ]{1,40})-----\r?\n([A-Za-z0-9+/=\r\n]+)-----END \1-----\s*", re.ASCII
)
_KEYS = frozenset({"PRIVATE KEY", "EC PRIVATE KEY", "RSA PRIVATE KEY"})


def read_blocks(data: str | bytes) -> tuple[list[bytes], list[bytes]]:
    """The certificates, in their order, and the one private key of a PEM text.

    Raises:
        AuthenticationFailed: `too_long`, or `malformed`: something else is in it, a certificate
            or the key is missing, there are two keys, or the key is encrypted.
    """
    held = plain(data)
    if held is None or len(held) > MAX_PEM:
        refuse("too_long" if held else "malformed", "the credential is not a chain with its key")
    text = held.decode("latin-1") if isinstance(held, bytes) else held
    certificates, keys, position = [], [], 0
    while position < len(text):
        block = _BLOCK.match(text, position)
        if block is None:
            refuse("malformed", "the credential is not a certificate chain with its private key")
        if block[1] == "CERTIFICATE":
            certificates.append(block[0].encode("ascii"))
        elif block[1] in _KEYS:
            keys.append(block[0].encode("ascii"))
        else:
            refuse("malformed", "the credential holds something else than certificates and a key")
        position = block.end()
    if len(keys) != 1 or not 1 <= len(certificates) <= MAX_CHAIN:
        refuse("malformed", f"expected 1 to {MAX_CHAIN} certificates and one private key")
    return certificates, keys

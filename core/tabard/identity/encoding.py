"""Base64url without padding (RFC 7515 section 2), in its one canonical spelling.

>>> base64url(b"tabard")
'dGFiYXJk'
>>> unbase64url("dGFiYXJk")
b'tabard'
"""

from __future__ import annotations

import base64
from typing import cast


def base64url(data: bytes) -> str:
    """Spell bytes."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def unbase64url(text: str) -> bytes:
    """Read bytes.

    The library's decoder passes over what it does not know and takes several spellings for the
    same bytes; so what it read is spelled again and compared.

    Raises:
        ValueError: It is not how `base64url` spells any bytes.
    """
    data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    if base64url(data) != text:
        raise ValueError("not base64url in its canonical spelling")
    return data


def plain(value: object) -> str | bytes | None:
    """What a text or bytes really hold; None for anything else.

    A subclass may show one thing to whoever measures it and another to whoever reads it, and an
    object may call itself a text without being one. Neither is asked here.
    """
    if issubclass(type(value), str):
        return str.__str__(cast(str, value))
    if issubclass(type(value), bytes):
        return bytes.__getitem__(cast(bytes, value), slice(None))
    return None

"""Base64url without padding (RFC 7515 section 2), in its one canonical spelling.

>>> base64url(b"tabard")
'dGFiYXJk'
>>> unbase64url("dGFiYXJk")
b'tabard'
"""

from __future__ import annotations

import base64


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

"""Reads a signed JSON text in compact form (RFC 7515 section 3.1), every byte in its one spelling.

Nothing read here is to be believed before the signature has been checked.
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NoReturn

from tabard.errors import AuthenticationFailed
from tabard.identity.encoding import plain, unbase64url
from tabard.identity.strict_json import DuplicateMember, NonFiniteNumber, parse_object

MAX_TOKEN = 8192
"""Characters of a token; a longer one is refused before any of it is read."""

_COMPACT = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)", re.ASCII)


@dataclass(frozen=True, slots=True)
class CompactJws:
    """A token taken apart.

    Attributes:
        header: Its protected header.
        message: The bytes that are signed.
        signature: The signature, as it is.
    """

    header: dict[str, Any]
    message: bytes = field(repr=False)
    signature: bytes = field(repr=False)
    _payload: str = field(repr=False)

    def claims(self) -> dict[str, Any]:
        """The claims.

        Raises:
            AuthenticationFailed: They are no JSON object, or not in strict form.
        """
        return _parse(self._payload)


def read_compact(token: object) -> CompactJws:
    """Take a token apart.

    Raises:
        AuthenticationFailed: `malformed`, `too_long`, `duplicate_member` or `non_finite_number`.
    """
    text = plain(token)
    if isinstance(text, bytes):
        # Latin-1 reads any bytes; what is not ASCII does not get past the pattern.
        text = text[: MAX_TOKEN + 1].decode("latin-1")
    if text is None:
        refuse("malformed", "the credential is not a token")
    if len(text) > MAX_TOKEN:
        refuse("too_long", f"the token is longer than {MAX_TOKEN} characters")
    match = _COMPACT.fullmatch(text)
    if match is None:
        refuse("malformed", "the credential is not a token")
    head, payload, signature = match[1], match[2], match[3]
    return CompactJws(
        _parse(head), f"{head}.{payload}".encode("ascii"), _decode(signature), payload
    )


def refuse(code: str, reason: str) -> NoReturn:
    """Refuse a credential.

    Never call this inside an `except`: the error there would hang on, and it holds the token.

    Raises:
        AuthenticationFailed: Always.
    """
    raise AuthenticationFailed(code=code, reason=reason) from None


def _decode(part: str) -> bytes:
    with suppress(ValueError):
        return unbase64url(part)
    refuse("malformed", "the credential is not a token")


def _parse(part: str) -> dict[str, Any]:
    data = _decode(part)
    try:
        return parse_object(data)
    except DuplicateMember:
        problem = "duplicate_member", "the token names a member twice"
    except NonFiniteNumber:
        problem = "non_finite_number", "the token holds a number that is not finite"
    except ValueError:
        problem = "malformed", "the credential is not a token"
    refuse(*problem)

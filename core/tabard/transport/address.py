"""Where a provider is, and which of its addresses a request may go to."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, parse_qsl, urlsplit

from tabard.errors import ConfigurationError, NotPermitted
from tabard.transport.dialect import Dialect, Kind

_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_PORTS = {"https": 443, "http": 80}
_HOST = re.compile(r"[a-z0-9.-]+|::1")
_PATH = re.compile(r"(/[A-Za-z0-9._~-]+)*")
_QUERY_VALUE = re.compile(r"[A-Za-z0-9._-]{1,64}")


@dataclass(frozen=True, slots=True)
class Target:
    """Where one request goes.

    Attributes:
        url: Put together from what is known here, not taken from the caller.
        kind: The body it takes.
        model: The model its path names, or None.
    """

    url: str
    kind: Kind
    model: str | None


@dataclass(frozen=True, slots=True)
class Address:
    """A provider's origin, and the path its API is under."""

    scheme: str
    host: str
    port: int
    path: str

    @classmethod
    def read(cls, base_url: str | None) -> Address:
        """Read a base URL.

        Raises:
            ConfigurationError: It is no address a key may be sent to.
        """
        parts = _split(base_url or "")
        host = parts.hostname or ""
        is_safe = parts.scheme == "https" or (parts.scheme == "http" and host in _LOOPBACK)
        is_plain = parts.username is None and not parts.query and not parts.fragment
        path = parts.path.rstrip("/")
        if not (is_safe and is_plain and _HOST.fullmatch(host) and _PATH.fullmatch(path)):
            raise ConfigurationError(
                "base_url: expected https://HOST/PATH of the provider, or http:// on this machine"
            )
        return cls(parts.scheme, host, parts.port or _PORTS[parts.scheme], path)

    def find(self, request: Any, dialect: Dialect) -> Target:
        """Where a request goes.

        Raises:
            NotPermitted: To no model of this provider (`endpoint`).
        """
        url = request.url
        origin = (url.scheme, url.host, url.port or _PORTS.get(url.scheme))
        path, _, query = url.raw_path.decode("ascii").partition("?")
        if request.method != "POST" or origin != (self.scheme, self.host, self.port):
            raise _refusal("the key is for calls of this provider's models only")
        found = dialect.find(path.removeprefix(self.path)) if path.startswith(self.path) else None
        if found is None:
            raise _refusal("this address of the provider is no call of a model")
        for name, value in parse_qsl(query, keep_blank_values=True):
            if name not in dialect.query or not _QUERY_VALUE.fullmatch(value):
                raise _refusal("the address has a query that is not known here")
        host = f"[{self.host}]" if ":" in self.host else self.host
        tail = f"?{query}" if query else ""
        return Target(f"{self.scheme}://{host}:{self.port}{path}{tail}", *found)


def _refusal(reason: str) -> NotPermitted:
    return NotPermitted(code="endpoint", reason=reason)


def _split(text: str) -> SplitResult:
    """The parts of a URL; empty ones where it is none."""
    try:
        parts = urlsplit(text)
        _ = parts.port  # raises where it is no number
    except ValueError:
        return urlsplit("")
    return parts

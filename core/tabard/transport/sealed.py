"""The transports, synchronous and asynchronous, for `httpx` and for `httpx2`: one code for both.

Whatever a caller asks a client for passes here, below its hooks, headers, cookies and redirects.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable
from functools import lru_cache
from typing import Any, NoReturn, Self

from tabard.errors import AccessDenied, ConfigurationError
from tabard.transport.answer import MOST_READ, pass_on, pass_on_error, refuse, replace_status
from tabard.transport.body import refusal
from tabard.transport.seal import Seal

MOST_SENT = 33_554_432
"""Bytes of a request's body."""

_CONNECTIONS = 1_000


def library(http: Any) -> Any:
    """The HTTP library, `httpx` if none is named.

    Raises:
        ConfigurationError: It is not installed, or is none.
    """
    if http is None:
        try:
            import httpx
        except ModuleNotFoundError:
            raise ConfigurationError(
                'httpx is not installed: pip install "tabard[httpx]"'
            ) from None
        return httpx
    if getattr(http, "__name__", None) not in ("httpx", "httpx2"):
        raise ConfigurationError("expected one of the modules httpx and httpx2")
    return http


@lru_cache
def _settings(http: Any) -> dict[str, Any]:
    """What both transports of a library are made with; its certificates are read once."""
    return {
        "verify": http.create_ssl_context(trust_env=False),
        "trust_env": False,
        "limits": http.Limits(max_connections=_CONNECTIONS),
    }


class SealedTransport:
    """Sends what was admitted, with the key; answers everything else with a refusal."""

    __slots__ = ("_http", "_inner", "_seal")

    def __init__(self, seal: Seal, http: Any = None) -> None:
        """Set up.

        Args:
            seal: Whose key it is.
            http: `httpx` or `httpx2`; default `httpx`.
        """
        self._seal, self._http = seal, library(http)
        self._inner = self._http.HTTPTransport(**_settings(self._http))

    def handle_request(self, request: Any) -> Any:
        """Send one request, or refuse it."""
        try:
            content = read(self._seal, request)
            sent, wire = self._seal.prepare(self._http, request, content, is_async=False)
            try:
                response = self._inner.handle_request(sent)
            except BaseException:
                wire.give_back()
                raise
        except AccessDenied as denied:
            return refuse(self._http, denied)
        return judge(self._http, self._seal, response)

    def close(self) -> None:
        """Close the connections."""
        self._inner.close()

    def __enter__(self) -> Self:
        """Open."""
        self._inner.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        """Close."""
        self._inner.__exit__(*error)


class SealedAsyncTransport:
    """The same for asynchronous calls."""

    __slots__ = ("_http", "_inner", "_seal")

    def __init__(self, seal: Seal, http: Any = None) -> None:
        """Set up.

        Args:
            seal: Whose key it is.
            http: `httpx` or `httpx2`; default `httpx`.
        """
        self._seal, self._http = seal, library(http)
        self._inner = self._http.AsyncHTTPTransport(**_settings(self._http))

    async def handle_async_request(self, request: Any) -> Any:
        """Send one request, or refuse it."""
        try:
            content = await aread(self._seal, request)
            sent, wire = self._seal.prepare(self._http, request, content, is_async=True)
            try:
                response = await self._inner.handle_async_request(sent)
            except BaseException:
                wire.give_back()
                raise
        except AccessDenied as denied:
            return refuse(self._http, denied)
        return await ajudge(self._http, self._seal, response)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._inner.aclose()

    async def __aenter__(self) -> Self:
        """Open."""
        await self._inner.__aenter__()
        return self

    async def __aexit__(self, *error: Any) -> None:
        """Close."""
        await self._inner.__aexit__(*error)


def read(seal: Seal, request: Any) -> bytes:
    """The body of a request.

    Raises:
        NotPermitted: It cannot be read, or is too long (`request`); on record.
    """
    body = _Counted(MOST_SENT)
    try:
        if isinstance(request.stream, Iterable) and all(body.take(p) for p in request.stream):
            return body.whole()
    except Exception:
        body.is_full = False
    _refuse_unread(seal, body)


async def aread(seal: Seal, request: Any) -> bytes:
    """The body of a request of an asynchronous client.

    Raises:
        NotPermitted: It cannot be read, or is too long (`request`); on record.
    """
    body = _Counted(MOST_SENT)
    try:
        if isinstance(request.stream, AsyncIterable):
            async for part in request.stream:
                if not body.take(part):
                    break
            else:
                return body.whole()
    except Exception:
        body.is_full = False
    _refuse_unread(seal, body)


def judge(http: Any, seal: Seal, response: Any) -> Any:
    """What the caller gets of the provider's answer."""
    replaced = replace_status(http, response.status_code)
    if replaced is None and response.status_code < 400:
        return pass_on(http, response)
    error = _Counted(MOST_READ)
    try:
        if replaced is not None:
            return replaced
        text = error.whole() if all(error.take(p) for p in response.iter_bytes()) else None
        return pass_on_error(http, response, text, seal.key)
    finally:
        response.close()


async def ajudge(http: Any, seal: Seal, response: Any) -> Any:
    """What the caller of an asynchronous client gets of the provider's answer."""
    replaced = replace_status(http, response.status_code)
    if replaced is None and response.status_code < 400:
        return pass_on(http, response)
    error = _Counted(MOST_READ)
    try:
        if replaced is not None:
            return replaced
        async for part in response.aiter_bytes():
            if not error.take(part):
                break
        return pass_on_error(http, response, None if error.is_full else error.whole(), seal.key)
    finally:
        await response.aclose()


class _Counted:
    """Bytes that come in parts, up to so many."""

    def __init__(self, most: int) -> None:
        self.is_full = False
        self._left = most
        self._parts: list[bytes] = []

    def take(self, part: bytes) -> bool:
        """Whether there was room for it."""
        self._left -= len(part)
        self.is_full = self._left < 0
        if not self.is_full:
            self._parts.append(bytes(part))
        return not self.is_full

    def whole(self) -> bytes:
        return b"".join(self._parts)


def _refuse_unread(seal: Seal, body: _Counted) -> NoReturn:
    reason = "the body cannot be read, so it cannot be judged"
    if body.is_full:
        reason = f"the body is longer than {MOST_SENT} bytes"
    seal.refuse(refusal("request", reason))

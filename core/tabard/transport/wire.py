"""One request on its way: the key is on it while its headers are written, and at no other moment.

`httpcore`, under both HTTP libraries, tells a `trace` function of each step of a request. So the
key is put on the innermost request right before the bytes of its headers are made, and taken off
right after: no request, response, client or pool that anybody can hold has it. Should a later
version tell its steps under other names, then the key stays off, and the provider refuses.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tabard.errors import AccessDenied
from tabard.transport.dialect import Dialect
from tabard.transport.key import ProviderKey
from tabard.underway import Underway


class Wire:
    """The trace function of one request, and what uses up its admission."""

    __slots__ = ("_call", "_dialect", "_key", "_record", "_request")

    def __init__(
        self,
        call: Underway,
        dialect: Dialect,
        key: ProviderKey,
        record: Callable[[AccessDenied], AccessDenied],
    ) -> None:
        self._call = call
        self._dialect = dialect
        self._key = key
        self._record = record
        self._request: Any = None

    async def atrace(self, event: str, info: Mapping[str, Any]) -> None:
        """The same as `trace`, for the asynchronous transports."""
        self.trace(event, info)

    def trace(self, event: str, info: Mapping[str, Any]) -> None:
        """Act on one step of the request.

        Raises:
            AccessDenied: The agent was revoked while the connection was made, or there is no key
                to be had (`provider_key`); nothing was sent.
        """
        _, _, step = event.partition(".")
        if step == "send_request_headers.started":
            self._put_on(info["request"])
        elif step.startswith("send_request_headers."):
            self._take_off()
        if step == "receive_response_headers.complete":
            self._note(info["return_value"])
        elif step.endswith(".failed"):
            self.give_back()
            _shear(info.get("exception"))

    def give_back(self) -> None:
        """Nothing was answered; unless it was, and only the rest of the answer is missing."""
        self._take_off()
        self._call.give_back(self)

    def _note(self, answer: tuple[Any, ...]) -> None:
        status = next(part for part in answer if type(part) is int)
        if 200 <= status < 300:
            self._call.keep(object())  # nobody's: it is never given back
        else:
            self._call.give_back(self)

    def _put_on(self, request: Any) -> None:
        session = self._call.permit.session
        try:
            # Once more: connecting may have taken long, and nobody hears of a revocation meanwhile.
            session.guard.check_alive(session)
            value = self._dialect.prefix + self._key.reveal()
        except AccessDenied as refusal:
            self.give_back()
            raise self._record(refusal) from None
        request.headers.append((self._dialect.header.encode(), value.encode()))
        self._request = request

    def _take_off(self) -> None:
        request, self._request = self._request, None
        if request is not None:
            name = self._dialect.header.encode()
            request.headers[:] = [one for one in request.headers if one[0] != name]


def _shear(error: BaseException | None) -> None:
    """Take the frames off an exception and all it stems from: they hold what was being written."""
    waiting, seen = [error], set[int]()
    while waiting:
        one = waiting.pop()
        if one is not None and id(one) not in seen:
            seen.add(id(one))
            one.__traceback__ = None
            waiting += [one.__cause__, one.__context__]

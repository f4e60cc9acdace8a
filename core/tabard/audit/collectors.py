"""Collectors on a network: lines over TCP and UDP, bodies over HTTP, spans over OTLP."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult

from tabard.audit import delivery
from tabard.audit.delivery import Undelivered, attempt
from tabard.audit.exports.formats import LineFormat
from tabard.audit.exports.otel import to_span
from tabard.audit.sockets import send_datagrams, send_stream
from tabard.errors import ConfigurationError

if TYPE_CHECKING:
    from tabard.audit.entries import Entry

_MAX_ANSWER = 4096
_PASSING = (408, 425, 429)
"""Refusals that are over by themselves."""


class Socket:
    """A collector that takes lines over TCP or UDP."""

    def __init__(self, form: LineFormat, url: SplitResult) -> None:
        self.name = _name(url)
        self._form, self._stream = form, url.scheme == "tcp"
        self._address = (str(url.hostname), int(url.port or 0))

    def deliver(self, entries: Sequence[Entry], origin: str) -> None:
        """Send the lines; what UDP loses on the way nobody learns."""
        lines = [f"{self._form.write(entry, origin)}\n".encode() for entry in entries]
        send = send_stream if self._stream else send_datagrams
        attempt(self.name, lambda: send(self._address, lines, delivery.ATTEMPT))


class Http:
    """A collector that takes a body of lines; taken is what it answers with 2xx."""

    def __init__(self, form: LineFormat, url: SplitResult) -> None:
        self.name = _name(url)
        self._form, self._url = form, url.geturl()
        self._opener = urllib.request.build_opener(_NoRedirect())

    def deliver(self, entries: Sequence[Entry], origin: str) -> None:
        """Post the events."""
        lines = [self._form.write(entry, origin) for entry in entries]
        request = urllib.request.Request(  # noqa: S310  the scheme was looked at
            self._url,
            self._form.body(lines),
            {"Content-Type": self._form.media_type, "User-Agent": "tabard"},
            method="POST",
        )
        attempt(self.name, lambda: self._post(request))

    def _post(self, request: urllib.request.Request) -> None:
        try:
            with self._opener.open(request, timeout=delivery.ATTEMPT) as answer:
                answer.read(_MAX_ANSWER)
        except urllib.error.HTTPError as error:
            error.close()
            lasting = error.code < 500 and error.code not in _PASSING
            raise Undelivered(f"{self.name} answers {error.code}", lasting=lasting) from None


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Follows nothing: the address that was given gets the log, or nobody."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        """Never."""


class Otlp:
    """An OpenTelemetry collector; `$OTEL_EXPORTER_OTLP_HEADERS` may hold its credential."""

    def __init__(self, url: SplitResult) -> None:
        """Make the exporter.

        Raises:
            ConfigurationError: The extra is not installed.
        """
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        except ImportError:
            raise ConfigurationError(
                "--format otel: OpenTelemetry is not installed; `pip install tabard[otel]`"
            ) from None
        self.name = _name(url)
        path = url.path if url.path.strip("/") else "/v1/traces"
        endpoint = url._replace(path=path).geturl()
        self._exporter = OTLPSpanExporter(endpoint=endpoint, timeout=delivery.ATTEMPT)

    def deliver(self, entries: Sequence[Entry], origin: str) -> None:
        """Send the spans."""
        from opentelemetry.sdk.trace.export import SpanExportResult

        spans = [to_span(entry, origin) for entry in entries]

        def export() -> None:
            if self._exporter.export(spans) is not SpanExportResult.SUCCESS:
                raise Undelivered(f"{self.name} is away, or does not take it")

        attempt(self.name, export)


def _name(url: SplitResult) -> str:
    """Without path and query: a token may be part of them."""
    return f"{url.scheme}://{url.netloc}"

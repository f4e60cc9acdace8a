"""Where events are shipped to: a file, a stream, a socket, an HTTP or OTLP collector.

Each delivers a batch or says that it did not; what may have arrived is sent again. A credential
has no place in an address, which is seen in the list of processes.
"""

from __future__ import annotations

import os
import stat
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TextIO
from urllib.parse import SplitResult, urlsplit

from tabard.audit.exports.formats import LINE_FORMATS, LineFormat
from tabard.audit.exports.otel import to_span
from tabard.audit.sockets import send_datagrams, send_stream
from tabard.errors import ConfigurationError, TabardError

if TYPE_CHECKING:
    from tabard.audit.entries import Entry

ATTEMPT = 10.0
"""Seconds one attempt may take, from the first byte to the last."""

_MAX_ANSWER = 4096
_PASSING = (408, 425, 429)
"""Refusals that are over by themselves."""


class Undelivered(TabardError):
    """A destination has not taken a batch.

    Attributes:
        lasting: Whether the same batch will be refused again.
    """

    def __init__(self, message: str, *, lasting: bool = False) -> None:
        super().__init__(message)
        self.lasting = lasting


class Destination(Protocol):
    """Takes batches.

    Attributes:
        name: What it is called in a message; without anything that may be a secret.
    """

    name: str

    def deliver(self, entries: Sequence[Entry], origin: str) -> None:
        """Take the events of entries, all of them.

        Raises:
            Undelivered: Not all of them are known to have been taken.
        """


class Stream:
    """A stream of this process, for example standard output."""

    def __init__(self, form: LineFormat, stream: TextIO) -> None:
        self.name = "standard output"
        self._form, self._stream = form, stream

    def deliver(self, entries: Sequence[Entry], origin: str) -> None:
        """Write the lines; whoever reads the stream may go, which is an `OSError`."""
        self._stream.write(self._form_lines(entries, origin))
        self._stream.flush()

    def _form_lines(self, entries: Sequence[Entry], origin: str) -> str:
        return "".join(f"{self._form.write(entry, origin)}\n" for entry in entries)


class LineFile:
    """A file lines are added to; opened for each batch, so that it may be rotated."""

    def __init__(self, form: LineFormat, path: Path) -> None:
        """Look at the file.

        Raises:
            ConfigurationError: It is none, or cannot be written.
        """
        self.name = str(path)
        self._form, self._path = form, path
        try:
            os.close(self._open())
        except OSError as error:
            raise ConfigurationError(f"{path}: cannot be written: {error.strerror}") from None
        except ValueError:
            raise ConfigurationError("--to: not a path") from None

    def deliver(self, entries: Sequence[Entry], origin: str) -> None:
        """Add the lines, and wait until the disk has them."""
        data = "".join(f"{self._form.write(entry, origin)}\n" for entry in entries).encode()
        try:
            descriptor = self._open()
            try:
                self._append(descriptor, data)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise Undelivered(f"{self.name}: cannot be written: {error.strerror}") from None

    def _open(self) -> int:
        # A pipe nobody reads would make us wait for ever without O_NONBLOCK.
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(self._path, flags, 0o600)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise ConfigurationError(f"{self._path}: expected a file; for a pipe use `--to -`")
        return descriptor

    def _append(self, descriptor: int, data: bytes) -> None:
        size = os.fstat(descriptor).st_size
        if size and os.pread(descriptor, 1, size - 1) != b"\n":
            data = b"\n" + data  # after a line that was torn, which comes again whole
        while data:
            data = data[os.write(descriptor, data) :]
        os.fsync(descriptor)
        if size == 0:
            folder = os.open(self._path.absolute().parent, os.O_RDONLY | os.O_DIRECTORY)
            with suppress(OSError):
                os.fsync(folder)
            os.close(folder)


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
        _attempt(self.name, lambda: send(self._address, lines, ATTEMPT))


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
        _attempt(self.name, lambda: self._post(request))

    def _post(self, request: urllib.request.Request) -> None:
        try:
            with self._opener.open(request, timeout=ATTEMPT) as answer:
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
        self._exporter = OTLPSpanExporter(endpoint=endpoint, timeout=ATTEMPT)

    def deliver(self, entries: Sequence[Entry], origin: str) -> None:
        """Send the spans."""
        from opentelemetry.sdk.trace.export import SpanExportResult

        spans = [to_span(entry, origin) for entry in entries]

        def export() -> None:
            if self._exporter.export(spans) is not SpanExportResult.SUCCESS:
                raise Undelivered(f"{self.name} is away, or does not take it")

        _attempt(self.name, export)


def open_destination(form: str, to: str, stdout: TextIO) -> Destination:
    """The destination that is asked for.

    Args:
        form: The name of a format, or `otel`.
        to: A path, `-`, or an address.
        stdout: What `-` stands for.

    Raises:
        ConfigurationError: One of them is unknown, or they do not fit.
    """
    url = _split(to)
    if form == "otel":
        if url is None or url.scheme not in ("http", "https"):
            raise ConfigurationError("--format otel: expected --to http://HOST:4318")
        return Otlp(url)
    if (found := LINE_FORMATS.get(form)) is None:
        raise ConfigurationError(f"--format: expected one of {', '.join(LINE_FORMATS)}, otel")
    if url is None:
        return Stream(found, stdout) if to == "-" else LineFile(found, Path(to))
    if url.scheme in ("http", "https"):
        return Http(found, url)
    if url.scheme == "udp" and found.name != "syslog":
        raise ConfigurationError("--to udp://: takes --format syslog only, whose lines are short")
    return Socket(found, url)


def _split(to: str) -> SplitResult | None:
    """The address; None when it is a path or `-`."""
    if "://" not in to:
        return None
    try:
        url = urlsplit(to)
        port = url.port
    except ValueError:
        raise ConfigurationError("--to: not an address") from None
    if url.scheme not in ("http", "https", "tcp", "udp") or not url.hostname:
        raise ConfigurationError("--to: expected FILE, -, tcp://, udp://, http:// or https://")
    if url.username is not None or url.password is not None:
        raise ConfigurationError("--to: a credential has no place in an address")
    if url.scheme in ("tcp", "udp") and (not port or url.path.strip("/") or url.query):
        raise ConfigurationError(f"--to: expected {url.scheme}://HOST:PORT")
    return url


def _name(url: SplitResult) -> str:
    """Without path and query: a token may be part of them."""
    return f"{url.scheme}://{url.netloc}"


def _attempt(name: str, work: Callable[[], None]) -> None:
    """Do something in a thread of its own: a socket's time-out begins anew with every byte.

    Raises:
        Undelivered: It fails or takes too long; the thread ends when its socket does.
    """
    found: list[Exception | None] = []

    def run() -> None:
        try:
            work()
            found.append(None)
        except Exception as error:
            found.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(ATTEMPT)
    failure = found[0] if found else TimeoutError("it takes too long")
    if isinstance(failure, Undelivered):
        raise failure
    if failure is not None:
        raise Undelivered(f"{name} cannot be reached: {_why(failure)}") from None


def _why(error: Exception) -> str:
    reason = getattr(error, "reason", None) or error
    text = getattr(reason, "strerror", None) or (str(reason) if type(reason) is str else None)
    if isinstance(error, TimeoutError):
        return "it takes too long"
    return text or type(reason).__name__

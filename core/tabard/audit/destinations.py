"""Reads where events are to be shipped to.

A credential has no place in an address, which is seen in the list of processes.
"""

from __future__ import annotations

from pathlib import Path
from typing import TextIO
from urllib.parse import SplitResult, urlsplit

from tabard.audit.collectors import Http, Otlp, Socket
from tabard.audit.delivery import Destination
from tabard.audit.exports.formats import LINE_FORMATS
from tabard.audit.line_file import LineFile, Stream
from tabard.errors import ConfigurationError


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

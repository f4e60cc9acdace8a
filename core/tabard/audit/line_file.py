"""Lines for a file, or for a stream of this process."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from tabard.audit.delivery import Undelivered
from tabard.audit.exports.formats import LineFormat
from tabard.errors import ConfigurationError

if TYPE_CHECKING:
    from tabard.audit.entries import Entry


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

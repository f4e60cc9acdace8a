"""Where shipping remembers how far it got."""

from __future__ import annotations

import json
import os
import re
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from tabard.audit.entries import Entry
from tabard.audit.fields import encode
from tabard.errors import ConfigurationError

_FORMAT = "tabard-shipping/1"
_MAX_FILE = 65_536
_LEAF = re.compile(r"[0-9a-f]{64}|")


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """How far a log was shipped to one destination.

    Attributes:
        origin: The name of the log.
        destination: A digest of where it goes and in which format.
        entry: The last entry that was taken; 0 before the first.
        leaf: Its hash in hex; empty when it is not known.
    """

    origin: str
    destination: str
    entry: int = 0
    leaf: str = ""

    def at(self, entry: Entry) -> Position:
        """The same after one more entry."""
        return replace(self, entry=entry.index, leaf=entry.leaf)


class StateFile:
    """A small file that is replaced whole, so that a crash leaves the old or the new one."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> Position | None:
        """What was kept; None when there is no file yet.

        Raises:
            ConfigurationError: It is something else, or cannot be read.
        """
        try:
            descriptor = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise self._unusable("cannot be read", error) from None
        try:
            return _parse(os.read(descriptor, _MAX_FILE))
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            raise ConfigurationError(
                f"{self._path}: not a state file of `audit ship`; name another one"
            ) from None
        finally:
            os.close(descriptor)

    def write(self, position: Position) -> None:
        """Keep a position.

        Raises:
            ConfigurationError: It cannot be written.
        """
        data = encode({"format": _FORMAT, **asdict(position)}).encode() + b"\n"
        beside = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        try:
            descriptor = os.open(
                beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600
            )
            try:
                os.write(descriptor, data)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            os.replace(beside, self._path)
        except (OSError, ValueError) as error:
            with suppress(OSError, ValueError):
                beside.unlink(missing_ok=True)
            raise self._unusable("cannot be written", error) from None

    def _unusable(self, what: str, error: OSError | ValueError) -> ConfigurationError:
        return ConfigurationError(
            f"{self._path}: {what}: {getattr(error, 'strerror', None) or 'not a path'}"
        )


def _parse(data: bytes) -> Position:
    found = json.loads(data.decode("ascii"))
    if found.pop("format") != _FORMAT:
        raise ValueError("another format")
    position = Position(**found)
    texts = (position.origin, position.destination, position.leaf)
    if not all(type(text) is str for text in texts) or not _LEAF.fullmatch(position.leaf):
        raise ValueError("a text is expected")
    if type(position.entry) is not int or not 0 <= position.entry < 2**63:
        raise ValueError("a number is expected")
    return position

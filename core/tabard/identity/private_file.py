"""Files that hold a secret: read only when they belong to us and nobody else can get at them."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tabard.errors import ConfigurationError

MAX_FILE = 65_536
"""Bytes that are read of such a file; a key has about 240, a token about 600."""


def read_private(path: Path, *, what: str, folder_too: bool = False) -> bytes:
    """What is in a file that belongs to us and nobody else can read.

    Looked at and read through one descriptor, in the folder that was looked at: nothing can be put
    in its place between the two.

    Args:
        path: The file.
        what: What it is, for the message.
        folder_too: Whether its folder has to be as private.

    Raises:
        ConfigurationError: It is missing, something else, or others can get at it.
    """
    try:
        with _opened(path.parent, os.O_DIRECTORY) as folder:
            if folder_too:
                check_private(path.parent, os.fstat(folder), 0o700)
            # A pipe in its place would make us wait for ever without O_NONBLOCK.
            with _opened(path.name, os.O_NONBLOCK, folder) as file:
                found = os.fstat(file)
                if not stat.S_ISREG(found.st_mode):
                    raise ConfigurationError(
                        f"{path}: expected a {what} file, found something else"
                    )
                check_private(path, found, 0o600)
                return os.read(file, MAX_FILE + 1)
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{path}: no readable {what}: {why(error)}") from None


def check_private(place: Path, found: os.stat_result, expected: int) -> None:
    """Refuse what others can get at, or what is not ours.

    Raises:
        ConfigurationError: Others can, or it belongs to another user.
    """
    mode = stat.S_IMODE(found.st_mode)
    if mode & 0o077:
        raise ConfigurationError(
            f"{place}: others can get at it (mode {mode:04o}, expected {expected:04o}); "
            "chmod it, and treat a secret that lay there as exposed unless you know better"
        )
    if found.st_uid not in (os.geteuid(), 0):
        raise ConfigurationError(f"{place}: belongs to another user (uid {found.st_uid})")


def why(error: OSError | ValueError) -> str:
    """Why a file could not be reached, in the system's words."""
    return getattr(error, "strerror", None) or "not a path"


@contextmanager
def _opened(path: str | Path, flags: int, folder: int | None = None) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY | flags, dir_fd=folder)
    try:
        yield descriptor
    finally:
        os.close(descriptor)

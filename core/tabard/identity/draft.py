"""A file that is put in its place whole, or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def draft_of(path: Path, data: bytes, *, mode: int) -> Iterator[Path]:
    """A durable file beside `path`, for the caller to link or move into place; gone afterwards.

    Its name is random: process ids are not unique where containers share a folder, and threads
    share theirs, so a name made of one would let two writers write into, or remove, one draft.

    Raises:
        OSError: It cannot be written.
        ValueError: The path is none.
    """
    draft = path.with_name(f".{path.name}.{os.urandom(8).hex()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        yield draft
        _sync_folder(path.parent)
    finally:
        draft.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Make the new name survive a power cut."""
    # Some network file systems cannot do this. The file is in its place by now, so saying that
    # it could not be written would be wrong.
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

"""What somebody with a hex editor might do to the log."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path


def flip_one_byte(database: Path, copy: Path) -> Path:
    """A copy of the log in which a refusal was touched: one bit of one byte."""
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    shutil.copy(database, copy)
    data = bytearray(copy.read_bytes())
    data[data.index(b'"effect":"deny"') + len('"effect":"')] ^= 1
    copy.write_bytes(data)
    return copy

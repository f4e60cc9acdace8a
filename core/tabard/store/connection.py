"""Opening a SQLite file with the right settings, and refusing one that is not ours."""

from __future__ import annotations

import os
import sqlite3
import stat
from pathlib import Path
from typing import Literal

from tabard.errors import ConfigurationError, StoreError
from tabard.store import schema

Synchronous = Literal["NORMAL", "FULL"]
BUSY_TIMEOUT = 2.0
"""Seconds SQLite waits for another process before a statement fails."""


def create(path: Path, *, trust_domain: str | None) -> None:
    """Create a database, or bring one of an older version up to date.

    Raises:
        ConfigurationError: The file is not a database, or not tabard's, or cannot be written.
    """
    descriptor = _create_private(path)
    os.close(descriptor)
    connection = _connect(path)
    try:
        if path.stat().st_size > 0:
            _check_owner(connection, path, allow_empty=True)
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version < schema.VERSION:
            if version == 0 and trust_domain is None:
                raise ConfigurationError(f"{path}: an empty database, and no `trust_domain=`")
            connection.execute("PRAGMA journal_mode = WAL")
            schema.migrate(connection, trust_domain=trust_domain)
    except sqlite3.Error as error:
        raise ConfigurationError(f"{path}: {_explain(error)}") from None
    finally:
        connection.close()


def _create_private(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise ConfigurationError(
            f"{path}: the database cannot be written: {error.strerror}"
        ) from None


def connect(path: Path, *, synchronous: Synchronous) -> sqlite3.Connection:
    """Open an existing database for use behind a lock of its own.

    Raises:
        ConfigurationError: There is none, it is damaged, or it belongs to something else.
    """
    try:
        found = path.is_file()
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be reached: {error.strerror}") from None
    if not found:
        raise ConfigurationError(
            f"{path}: no tabard database here; `Authority.open(home, trust_domain=...)` makes one"
        )
    _check_modes(path)
    connection = _connect(path)
    try:
        _check_owner(connection, path, allow_empty=False)
        connection.execute(f"PRAGMA synchronous = {synchronous}")
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("PRAGMA secure_delete = ON")  # an erased key is not left on a free page
    except BaseException as error:
        connection.close()
        if isinstance(error, sqlite3.Error):
            raise ConfigurationError(f"{path}: {_explain(error)}") from None
        raise
    return connection


def _check_modes(path: Path) -> None:
    """Refuse a database that others could replace or write, as a key is refused."""
    for place in (path, path.parent):
        mode = place.stat().st_mode
        if mode & 0o022 and not mode & stat.S_ISVTX:
            raise ConfigurationError(
                f"{place}: others can write it (mode {stat.S_IMODE(mode):04o}); "
                f"`chmod go-w {place}` mends that"
            )


def _connect(path: Path) -> sqlite3.Connection:
    try:
        return sqlite3.connect(
            path, timeout=BUSY_TIMEOUT, isolation_level=None, check_same_thread=False
        )
    except sqlite3.Error as error:
        raise ConfigurationError(f"{path}: {_explain(error)}") from None


def _check_owner(connection: sqlite3.Connection, path: Path, *, allow_empty: bool) -> None:
    """Refuse a database of something else before anything is written to it."""
    found = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if allow_empty and found == 0 and tables == 0:
        return
    if found != schema.APPLICATION_ID:
        raise ConfigurationError(f"{path}: a SQLite database, but not one of tabard's")
    if version > schema.VERSION:
        raise ConfigurationError(
            f"{path}: written by a newer tabard (schema {version}, this one knows "
            f"{schema.VERSION}); upgrade tabard"
        )
    if version < schema.VERSION and not allow_empty:
        raise ConfigurationError(
            f"{path}: written by an older tabard; `Authority.open(home)` brings it up to date"
        )


def translate(error: sqlite3.Error, path: Path) -> StoreError:
    """A `StoreError` that says what happened, without the statement or its values."""
    full = getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL
    return StoreError(f"{path}: {_explain(error)}", code="audit" if full else "store")


def _explain(error: sqlite3.Error) -> str:
    code = getattr(error, "sqlite_errorname", None) or type(error).__name__
    return f"{error} [{code}]"

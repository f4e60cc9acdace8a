"""The folder where an installation lives: database, keys, trust bundle.

`.tabard/{state.db, keys/ (0700, files 0600), bundle.json}`; `$TABARD_HOME` and `$TABARD_STORE`
override where it is.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tabard.errors import ConfigurationError

DEFAULT_HOME = ".tabard"


def _is_path(path: Path) -> bool:
    try:
        return b"\0" not in os.fsencode(path)
    except UnicodeEncodeError:
        return False


def is_there(path: Path) -> bool:
    """Whether a path exists; not being allowed to look is not the same as no.

    Raises:
        ConfigurationError: We are not allowed to look.
    """
    try:
        return path.exists()
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be reached: {error.strerror}") from None


class Home(NamedTuple):
    """The paths of one installation."""

    path: Path
    database: Path

    @classmethod
    def locate(cls, home: str | os.PathLike[str] | None = None) -> Home:
        """Find the home: the argument, else `$TABARD_HOME`, else `.tabard` here.

        Raises:
            ConfigurationError: `$TABARD_STORE` names a kind of store this version does not have.
        """
        given = os.environ.get("TABARD_HOME") if home is None else home
        if given is not None and not isinstance(given, str | os.PathLike):
            raise ConfigurationError(f"home: expected a path, found {type(given).__name__}")
        path = Path(given or DEFAULT_HOME)
        if not _is_path(path):
            raise ConfigurationError("home: a path cannot hold a NUL or half a character")
        store = os.environ.get("TABARD_STORE", "")
        if "://" in store:
            scheme = store.partition("://")[0]
            raise ConfigurationError(
                f"$TABARD_STORE: expected the path of a SQLite file, found a {scheme} address"
            )
        return cls(path, Path(store) if store else path / "state.db")

    def key_file(self, kid: str) -> Path:
        """The private half of one of the authority's keys."""
        return self.path / "keys" / f"{kid}.pem"

    @property
    def bundle(self) -> Path:
        """A copy of the trust bundle, for verifiers elsewhere."""
        return self.path / "bundle.json"

    @property
    def sealing_key(self) -> Path:
        """The private key of the log; in production it lies elsewhere, with the sealer."""
        return self.path / "log" / "key.pem"

    @property
    def verifier_key(self) -> Path:
        """The public key of the log, as anyone may have it."""
        return self.path / "log.vkey"

    @property
    def checkpoints(self) -> Path:
        """The checkpoints, outside of the database."""
        return self.path / "checkpoints.log"

    @property
    def exists(self) -> bool:
        """Whether there is a database already.

        Raises:
            ConfigurationError: We are not allowed to look.
        """
        return is_there(self.database)

    def create(self) -> None:
        """Make the folder, readable by its owner only.

        Raises:
            ConfigurationError: It cannot be made, or is not a folder.
        """
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigurationError(
                f"{self.path}: the home cannot be created: {error.strerror}"
            ) from None

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from creating this home at the same time.

        Raises:
            ConfigurationError: The home cannot be written.
        """
        try:
            descriptor = os.open(self.path / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise ConfigurationError(
                f"{self.path}: the home cannot be written: {error.strerror}"
            ) from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

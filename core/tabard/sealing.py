"""The seal of a home's log: its key, its file of checkpoints, and who applies it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Self

from tabard.audit.checkpoint_file import CheckpointFile
from tabard.audit.note import NoteError, NoteKey
from tabard.audit.sealed import Sealed
from tabard.audit.sealer import Sealer
from tabard.audit.sealing_key import load_sealing_key, make_sealing_key
from tabard.audit.verify import Verification, verify_log
from tabard.clock import Clock, system_clock
from tabard.errors import ConfigurationError
from tabard.home import Home
from tabard.identity.draft import draft_of
from tabard.identity.private_file import why
from tabard.store import SqliteStore

if TYPE_CHECKING:
    from tabard.audit.witness_client import WitnessAddress


class Seal:
    """Seals one home's log.

    Attributes:
        key: The public key that verifies its checkpoints.
        in_home: Whether the private key lies in the home, within reach of those who are audited.
    """

    def __init__(
        self,
        place: Home,
        store: SqliteStore,
        path: Path,
        *,
        witnesses: Sequence[WitnessAddress] = (),
        clock: Clock,
    ) -> None:
        """Load the key; `Seal.open` does it from a home."""
        signer = load_sealing_key(path, name=store.origin)
        published = read_verifier_key(place)
        if signer.key != published:
            raise ConfigurationError(
                f"{path}: not the key of this log; {place.verifier_key} names another one"
            )
        self.key = signer.key
        self.in_home = path.resolve().is_relative_to(place.path.resolve())
        self._store = store
        file = CheckpointFile(place.checkpoints)
        self._sealer = Sealer(store, signer, file, witnesses=witnesses, clock=clock)

    @classmethod
    def open(
        cls,
        home: str | os.PathLike[str] | None = None,
        *,
        key: str | os.PathLike[str] | None = None,
        witnesses: Sequence[WitnessAddress] = (),
        clock: Clock = system_clock,
    ) -> Self:
        """Open a home for sealing.

        Args:
            home: The home's folder; default `$TABARD_HOME`, else `.tabard`.
            key: The private key's file; default the one in the home.
            witnesses: Who has to cosign each checkpoint.
            clock: Returns POSIX seconds.

        Raises:
            ConfigurationError: There is no home, or no key that is this log's.
        """
        place = Home.locate(home)
        path = place.sealing_key if key is None else Path(key)
        store = SqliteStore(place.database)
        return cls(place, store, path, witnesses=witnesses, clock=clock)

    def seal(self) -> Sealed | None:
        """Seal every record there is now; None for an empty log.

        Raises:
            AuditError: The log is not the one that was sealed before.
            StoreError: The log or the file cannot be read or written.
        """
        return self._sealer.seal()

    def close(self) -> None:
        """Let go of the database."""
        self._store.close()


def found_log(place: Home, origin: str) -> None:
    """Make the key of a new log, and publish its public half.

    Raises:
        ConfigurationError: The home cannot be written.
    """
    make_sealing_key(place.sealing_key)
    vkey = str(load_sealing_key(place.sealing_key, name=origin).key)
    try:
        with draft_of(place.verifier_key, f"{vkey}\n".encode(), mode=0o644) as draft:
            draft.replace(place.verifier_key)
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{place.verifier_key}: cannot be written: {why(error)}") from None


def read_verifier_key(place: Home) -> NoteKey:
    """The public key of a home's log.

    Raises:
        ConfigurationError: It was never made, or is none.
    """
    try:
        return NoteKey.parse(place.verifier_key.read_text("ascii").strip())
    except FileNotFoundError:
        raise ConfigurationError(
            f"{place.verifier_key}: the log has no key yet; `Authority.open` makes one"
        ) from None
    except (OSError, NoteError, ValueError) as error:
        reason = why(error) if isinstance(error, OSError) else str(error)
        raise ConfigurationError(f"{place.verifier_key}: {reason}") from None


def verify_home(place: Home, store: SqliteStore) -> Verification:
    """Verify a home's log against its checkpoints, those in the database and those outside.

    Raises:
        AuditError: Naming the first entry that does not hold.
        ConfigurationError: The log's key cannot be read.
        StoreError: The log cannot be read.
    """
    kept = CheckpointFile(place.checkpoints).read()
    keys = [read_verifier_key(place)] if kept or store.latest_checkpoint() is not None else []
    found = verify_log(store, keys=keys, outside=[one.note for one in kept])
    if not keys or not place.sealing_key.exists():
        return found
    return replace(found, not_proven=(*found.not_proven, _WITHIN_REACH))


_WITHIN_REACH = (
    "That nobody who can write to the home made these checkpoints: the log's key lies in it. "
    "In production it is elsewhere (docs/audit.md)."
)

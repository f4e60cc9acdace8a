"""The seal of a home's log: its key, its file of checkpoints, and who applies it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Self

from tabard.audit.checkpoint_file import CheckpointFile
from tabard.audit.evidence import Evidence
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
        checkpoints: Path | None = None,
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
        file, copy = CheckpointFile(place.checkpoints), None
        own = checkpoints or (file.path if self.in_home else _beside(path, store.origin))
        if own.resolve() != file.path.resolve():
            file, copy = CheckpointFile(own), file
            if file.origin() not in (None, store.origin):
                raise ConfigurationError(
                    f"{own}: has the checkpoints of another log; name a file with --checkpoints"
                )
        self._sealer = Sealer(store, signer, file, copy=copy, witnesses=witnesses, clock=clock)

    @classmethod
    def open(
        cls,
        home: str | os.PathLike[str] | None = None,
        *,
        key: str | os.PathLike[str] | None = None,
        checkpoints: str | os.PathLike[str] | None = None,
        witnesses: Sequence[WitnessAddress] = (),
        clock: Clock = system_clock,
    ) -> Self:
        """Open a home for sealing.

        Args:
            home: The home's folder; default `$TABARD_HOME`, else `.tabard`.
            key: The private key's file; default the one in the home.
            checkpoints: The file of the sealer's own with what it has signed; default
                `NAME.checkpoints.log` beside a key `NAME.pem` that is elsewhere, else the one in
                the home. The home's is written in any case.
            witnesses: Who has to cosign each checkpoint.
            clock: Returns POSIX seconds.

        Raises:
            AuditError: The sealer's own file does not begin with a checkpoint.
            ConfigurationError: There is no home, no key that is this log's, or the file is of
                another log.
            StoreError: The file cannot be read.
        """
        place = Home.locate(home)
        path = place.sealing_key if key is None else Path(key)
        store = SqliteStore(place.database)
        own = None if checkpoints is None else Path(checkpoints)
        return cls(place, store, path, checkpoints=own, witnesses=witnesses, clock=clock)

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


def _beside(key: Path, origin: str) -> Path:
    """The sealer's own file beside a key: named after it, as a folder may hold several.

    A `checkpoints.log` of this log, as earlier versions named it, is gone on with.
    """
    named, old = key.with_name(f"{key.stem}.checkpoints.log"), key.with_name("checkpoints.log")
    return old if not named.exists() and CheckpointFile(old).origin() == origin else named


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


def verify_home(
    place: Home,
    store: SqliteStore,
    *,
    keys: Sequence[str] = (),
    known: Sequence[str] = (),
    witnesses: Sequence[str] = (),
    quorum: int | None = None,
) -> Verification:
    """Verify a home's log against its checkpoints, those in the database and those outside.

    Args:
        place: The home.
        store: Its database.
        keys: The log's verifier keys; default what the home says it is.
        known: Signed checkpoints of the same log that were kept elsewhere.
        witnesses: The verifier keys of witnesses.
        quorum: How many of them have to have cosigned the latest checkpoint; default all.

    Raises:
        AuditError: Naming the first entry that does not hold.
        ConfigurationError: A key cannot be read, or an earlier checkpoint cannot be used.
        StoreError: The log cannot be read.
    """
    kept = CheckpointFile(place.checkpoints).read()
    needed = kept or known or witnesses or _is_sealed(store)
    trusted = keys or ([str(read_verifier_key(place))] if needed else [])
    given = Evidence.read(keys=trusted, known=known, witnesses=witnesses, quorum=quorum)
    found = verify_log(store, given=given, outside=[one.note for one in kept])
    limits = list(found.not_proven)
    if not keys:
        limits.append(_KEY_OF_THE_HOME)
    if found.sealed and place.sealing_key.exists():
        limits.append(_WITHIN_REACH)
    return replace(found, not_proven=tuple(limits))


def _is_sealed(store: SqliteStore) -> bool:
    try:
        return store.latest_checkpoint() is not None
    except ValueError:  # a row that was changed, which is for the verifier to say
        return True


_KEY_OF_THE_HOME = (
    "That the log's key is the right one: it was read from the home (--key gives it)."
)
_WITHIN_REACH = (
    "That nobody who can write to the home made these checkpoints: the log's key lies in it. "
    "In production it is elsewhere (docs/audit.md)."
)

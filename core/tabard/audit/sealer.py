"""Gives the records so far their place in one tree, and signs what it looks like.

The one who seals never goes back: a database that lost or changed what was sealed before is
refused, and told about.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tabard.audit.checkpoint import Checkpoint, open_checkpoint
from tabard.audit.checkpoint_file import CheckpointFile, Kept
from tabard.audit.merkle import Frontier
from tabard.audit.note import Note, NoteError, NoteKey, NoteSigner, merge_notes
from tabard.audit.sealed import Sealed
from tabard.clock import Clock, read_clock
from tabard.errors import AuditError, StoreError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tabard.audit.witness_client import Grown, WitnessAddress
    from tabard.store import Store


class Sealer:
    """Signs checkpoints of one log."""

    def __init__(
        self,
        store: Store,
        signer: NoteSigner,
        file: CheckpointFile,
        *,
        copy: CheckpointFile | None = None,
        witnesses: Sequence[WitnessAddress] = (),
        clock: Clock,
    ) -> None:
        """Take a log under one's seal.

        Args:
            store: Where the log is.
            signer: The log's key; its name is the log's origin.
            file: Where checkpoints go besides the database; best where its writers cannot reach.
            copy: A second such file, for those who verify beside the database.
            witnesses: Who has to cosign a checkpoint before it counts.
            clock: Returns POSIX seconds.
        """
        self._witnesses = tuple({one.key.public: one for one in witnesses}.values())
        self._store = store
        self._signer = signer
        self._files = (file,) if copy is None else (file, copy)
        self._clock = clock
        self._seen: dict[str, int] = {}

    def seal(self) -> Sealed | None:
        """Seal every record there is now.

        Returns:
            The latest checkpoint, cosigned by every witness: a new one where there was something
            to seal; None for an empty log.

        Raises:
            AuditError: The log is not the one that was sealed before.
            StoreError: The log or the file cannot be read or written, or a witness is away or
                says that it has seen another log.
        """
        with self._files[0].locked():
            before = self._before()
            _, count = self._store.extent()
            if before is not None and count <= before.size:
                return before if self._is_cosigned(before) else self._cosign_again(before)
            frontier = Frontier() if before is None else before.frontier()
            for leaf in self._store.leaves(after=frontier.size, until=count):
                frontier.append(leaf)
            if frontier.size != count:
                raise AuditError(f"entry {frontier.size + 1} is missing", entry=frontier.size + 1)
            return self._add(frontier) if count else None

    def _add(self, frontier: Frontier) -> Sealed:
        """Sign and keep a new checkpoint."""
        sealed = self._sign(frontier)
        # Outside first: what the file does not know, nobody has been told.
        self._keep(sealed)
        with self._store.transaction(sealed.sealed_at) as transaction:
            transaction.add_checkpoint(sealed)
        return sealed

    def _cosign_again(self, before: Sealed) -> Sealed:
        """The same checkpoint once more, for witnesses that were not asked at the time.

        Who has cosigned it before stays under it.

        It is kept in the files only: the database's row is never changed.
        """
        fresh = self._sign(before.frontier())
        sealed = replace(fresh, note=merge_notes([fresh.note, before.note]))
        self._keep(sealed)
        return sealed

    def _sign(self, frontier: Frontier) -> Sealed:
        checkpoint = Checkpoint(
            origin=self._signer.key.name, size=frontier.size, root=frontier.root()
        )
        note = checkpoint.sign(self._signer)
        # Each of them sees the log's own signature only, so that none depends on another.
        lines = [self._cosignature(one, note, frontier.size) for one in self._witnesses]
        return Sealed(
            size=frontier.size,
            note=note + "".join(lines),
            peaks=frontier.peaks,
            sealed_at=int(read_clock(self._clock)),
        )

    def _keep(self, sealed: Sealed) -> None:
        kept = Kept(size=sealed.size, note=sealed.note, sealed_at=sealed.sealed_at)
        first, *copies = self._files
        first.append(kept)
        for file in copies:
            with file.locked():
                file.append(kept)

    def _is_cosigned(self, sealed: Sealed) -> bool:
        note = Note.parse(sealed.note)
        return all(_has_signed(one.key, note) for one in self._witnesses)

    def _cosignature(self, witness: WitnessAddress, note: str, size: int) -> str:
        """A witness's line under a checkpoint, from wherever it has seen the log last."""
        from tabard.audit.witness_client import ask_witness  # HTTP is not needed without any

        seen = self._seen.get(witness.url, 0)
        for _ in range(2):
            answer = ask_witness(witness, note, self._grown(seen, size))
            if isinstance(answer, str):
                self._seen[witness.url] = size
                return answer
            if answer > size:
                # Nobody has signed this number: an alarm, and no proof of a rollback.
                raise StoreError(
                    f"the witness {witness.key.name} says that it has cosigned a later checkpoint: "
                    f"it claims a size of {answer}, and {size} entries are there"
                )
            seen = answer
        raise StoreError(
            f"the witness {witness.key.name} claims a size of {seen}, and another one before"
        )

    def _grown(self, seen: int, size: int) -> Grown:
        """The proof that the log goes on from what a witness has seen."""
        from tabard.audit.witness_client import Grown

        if seen == 0:
            return Grown(Frontier(), [])
        start = self._store.latest_checkpoint(until=seen) or self._store.pruned()
        frontier = Frontier() if start is None else start.frontier()
        for leaf in self._store.leaves(after=frontier.size, until=seen):
            frontier.append(leaf)
        return Grown(frontier, list(self._store.leaves(after=seen, until=size)))

    def _before(self) -> Sealed | None:
        """The last checkpoint, once it is certain that the log still goes on from it."""
        latest = self._latest()
        last = self._last_kept()
        if last is None or (latest is not None and latest.size > last.size):
            return latest
        # The database may know less than we have signed: a crash in between, or a rollback.
        _, count = self._store.extent()
        if count < last.size:
            raise AuditError(
                f"the log was rolled back: {last.size} entries were sealed, and {count} are there",
                entry=count + 1,
            )
        frontier = Frontier() if latest is None else latest.frontier()
        for leaf in self._store.leaves(after=frontier.size, until=last.size):
            frontier.append(leaf)
        if self._root_of(last.note) != frontier.root():
            raise AuditError(f"the log was rewritten: its first {last.size} entries are others")
        found = Sealed(
            size=last.size, note=last.note, peaks=frontier.peaks, sealed_at=last.sealed_at
        )
        if latest is None or latest.size < found.size:
            with self._store.transaction(found.sealed_at) as transaction:
                transaction.add_checkpoint(found)
        return found

    def _last_kept(self) -> Kept | None:
        """What covers most of all that we have signed: the files can tell on each other."""
        found = [last for file in self._files if (last := file.last()) is not None]
        return max(found, key=lambda kept: kept.size, default=None)

    def _latest(self) -> Sealed | None:
        """The database's last checkpoint, which we have signed, and its peaks."""
        try:
            latest = self._store.latest_checkpoint()
            if latest is not None and latest.frontier().root() != self._root_of(latest.note):
                raise ValueError("other peaks")
        except ValueError:
            raise AuditError("the latest checkpoint was changed in the database") from None
        return latest

    def _root_of(self, note: str) -> bytes:
        try:
            return open_checkpoint(note, [self._signer.key]).checkpoint.root
        except NoteError as error:
            raise AuditError(f"a checkpoint is not ours: {error}") from None


def _has_signed(key: NoteKey, note: Note) -> bool:
    try:
        return note.signed_by(key) is not None
    except NoteError:  # a line in its name that does not hold
        return False

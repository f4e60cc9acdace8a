"""What a verifier brings along: the log's keys, witnesses, and checkpoints kept from earlier on.

Without any of it a log can only be shown to be of one piece; whoever can write to it may have made
another one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Self

from tabard.audit.checkpoint import SignedCheckpoint, open_checkpoint
from tabard.audit.note import COSIGNATURE, PLAIN, NoteError, NoteKey
from tabard.errors import AuditError, ConfigurationError


@dataclass(frozen=True, slots=True, kw_only=True)
class Earlier:
    """The checkpoints from earlier on, sorted by whether a stretch of the log can be compared.

    Attributes:
        roots: The roots to compare with, by size.
        before: The sizes that end before the stretch begins.
        after: The sizes that go beyond its end.
    """

    roots: dict[int, bytes] = field(default_factory=dict)
    before: tuple[int, ...] = ()
    after: tuple[int, ...] = ()

    @property
    def vouched(self) -> int:
        """How many entries those that can be compared cover."""
        return max(self.roots, default=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Keys, witnesses and checkpoints that do not come from those who are audited.

    Attributes:
        keys: The log's keys; one of them has to have signed.
        witnesses: The witnesses' keys, each once.
        quorum: How many of them have to have cosigned.
        known: Signed checkpoints of the same log from earlier on.
    """

    keys: tuple[NoteKey, ...] = ()
    witnesses: tuple[NoteKey, ...] = ()
    quorum: int = 0
    known: tuple[str, ...] = ()

    @classmethod
    def read(
        cls,
        *,
        keys: Sequence[str],
        known: Sequence[str] = (),
        witnesses: Sequence[str] = (),
        quorum: int | None = None,
    ) -> Self:
        """Read what was given as text.

        Args:
            keys: The log's verifier keys (`name+hash+base64`).
            known: Signed checkpoints.
            witnesses: The verifier keys of witnesses.
            quorum: How many of them have to have cosigned; default all.

        Raises:
            ConfigurationError: A key is none or of the other kind, a witness has the log's own key,
                or more are asked for than there are.
        """
        own = [_read_key(text, PLAIN) for text in keys]
        # A witness under two names is still one: the key counts.
        seen = {key.public: key for key in (_read_key(text, COSIGNATURE) for text in witnesses)}
        if any(key.public in seen for key in own):
            raise ConfigurationError("the log's own key is no witness's")
        needed = len(seen) if quorum is None else quorum
        if not 0 <= needed <= len(seen):
            raise ConfigurationError(f"{needed} of {len(seen)} witnesses cannot be asked for")
        return cls(
            keys=tuple(own), witnesses=tuple(seen.values()), quorum=needed, known=tuple(known)
        )

    def open(self, note: str) -> SignedCheckpoint:
        """Read the checkpoint a log rests on: signed by its key, and by enough witnesses.

        Raises:
            AuditError: It is not.
        """
        try:
            signed = open_checkpoint(note, self.keys, self.witnesses)
        except NoteError as error:
            raise AuditError(f"the checkpoint does not hold: {error}") from None
        if len(signed.witnesses) < self.quorum:
            raise AuditError(
                f"{len(signed.witnesses)} witnesses have cosigned the checkpoint, not {self.quorum}"
            )
        return signed

    def earlier(self, origin: str, *, start: int, size: int, is_part: bool = False) -> Earlier:
        """Sort the checkpoints from earlier on.

        Args:
            origin: The log they have to be of.
            start: Where the stretch of the log that is at hand begins.
            size: Where it ends.
            is_part: Whether it was made to end before the log does.

        Raises:
            AuditError: Two contradict each other, or one shows that the log was rolled back.
            ConfigurationError: One does not hold, or is of another log.
        """
        roots: dict[int, bytes] = {}
        for note in self.known:
            try:
                one = open_checkpoint(note, self.keys).checkpoint
            except NoteError as error:
                raise ConfigurationError(f"an earlier checkpoint does not hold: {error}") from None
            if one.origin != origin:
                raise ConfigurationError("an earlier checkpoint is of another log")
            if one.size > size and not is_part:
                raise AuditError(
                    f"the log was rolled back, or this is an old state of it: an earlier "
                    f"checkpoint covers {one.size} entries, and {size} are here"
                )
            if roots.setdefault(one.size, one.root) != one.root:
                raise AuditError(f"two checkpoints of {one.size} entries contradict each other")
        return Earlier(
            roots={at: root for at, root in roots.items() if start <= at <= size},
            before=tuple(sorted(at for at in roots if at < start)),
            after=tuple(sorted(at for at in roots if at > size)),
        )


def earlier_limits(earlier: Earlier, *, start: int, size: int) -> Iterator[str]:
    """What a comparison with checkpoints from earlier on could not show, one sentence each."""
    if earlier.before:
        yield (
            f"That it goes on from the checkpoints of up to {earlier.before[-1]} entries that were "
            f"given: the first {start} entries are not here."
        )
    if earlier.after:
        yield (
            f"That the checkpoints of up to {earlier.after[-1]} entries that were given go on from "
            f"it: it says of itself, and nobody has signed that, that it was made to end at entry "
            f"{size}."
        )


def owner_limits(vouched: int, *, size: int, owner: str) -> Iterator[str]:
    """What somebody who has the means may have done to a log of `size` entries.

    Args:
        vouched: How many of them are vouched for by somebody else.
        size: How many there are.
        owner: Who has the means.
    """
    if not vouched:
        yield (
            f"That {owner} did not rewrite it or roll it back: "
            "give an earlier checkpoint (--known) or a witness's key (--witness)."
        )
    elif vouched < size:
        yield f"That nothing after entry {vouched} was rewritten or rolled back by {owner}."


def _read_key(text: str, kind: int) -> NoteKey:
    try:
        key = NoteKey.parse(text.strip())
    except NoteError as error:
        raise ConfigurationError(str(error)) from None
    if key.algorithm != kind:
        which = ("a witness's", "a log's") if kind == COSIGNATURE else ("a log's", "a witness's")
        raise ConfigurationError(f"expected {which[0]} key, and {key.name} is {which[1]}")
    return key

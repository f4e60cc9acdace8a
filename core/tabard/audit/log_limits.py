"""What verifying a log in its database cannot show, one sentence each."""

from __future__ import annotations

from collections.abc import Iterator

from tabard.audit.checkpoint import SignedCheckpoint
from tabard.audit.evidence import Earlier, earlier_limits, owner_limits

_OWNER = "whoever can write to the store, or holds the log's key"


def history_limits(start: int, count: int, vouched: int, earlier: Earlier) -> Iterator[str]:
    """What may have been done to the log as a whole, with everything in it fitting.

    Args:
        start: How many entries were pruned.
        count: How many there ever were, as the log says.
        vouched: How many of them are vouched for by somebody else.
        earlier: What there was to compare with.
    """
    yield (
        f"What came after entry {count}, or whether anything did: a log that was cut ends like one."
    )
    yield from owner_limits(vouched, size=count, owner=_OWNER)
    yield from earlier_limits(earlier, start=start, size=count)


def seal_limits(
    count: int, outer: int, signed: SignedCheckpoint | None, *, unsigned: bool
) -> Iterator[str]:
    """What the checkpoints do not cover, or nobody was there to check of them.

    Args:
        count: How many entries there are.
        outer: How many of them a checkpoint outside of the database covers.
        signed: The latest checkpoint, and whose signatures were looked at.
        unsigned: Whether there are checkpoints, and no key to check them with.
    """
    if outer < count:
        span = f"from entry {outer + 1} to its end" if outer else "from some entry to its end"
        yield (
            f"That nobody with write access to the database rewrote the log {span}: "
            "no checkpoint outside of it covers that."
        )
    if unsigned:
        yield "That the checkpoints are the sealer's: no key was given to check their signatures."
    if signed is not None and signed.unknown:
        yield f"The signatures of {', '.join(signed.unknown)}: no key of theirs was given."


def pruning_limits(pruned: int, entry: int | None, sealed: int) -> Iterator[str]:
    """What is not known of the entries that were pruned.

    Args:
        pruned: How many there are.
        entry: The record of it.
        sealed: How many entries are sealed.
    """
    if pruned:
        yield f"What is in the first {pruned} entries: they were pruned, and are not here."
    if entry is not None and entry > sealed:
        yield (
            f"That the first {pruned} entries were pruned by somebody who may: the record of it "
            f"(entry {entry}) is not sealed yet."
        )

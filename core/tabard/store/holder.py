"""What holds a store for a piece of work, and lets go of it when that is done.

A store that has written says so in the log when it is closed; without that its writer is counted
among those that may have died.
"""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from tabard.store.base import Store


class StoreHolder:
    """The work on a store as a `with` block."""

    _store: Store

    def close(self) -> None:
        """Write the closing record, if anything was written, and let go of the store."""
        self._store.close()

    def __enter__(self) -> Self:
        """Use as `with Policies.open(...) as policies:`."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close."""
        self.close()

"""WHERE it is kept: the store's protocol and the embedded one."""

from tabard.store.base import Store, Transaction
from tabard.store.sqlite import SqliteStore

__all__ = ["SqliteStore", "Store", "Transaction"]

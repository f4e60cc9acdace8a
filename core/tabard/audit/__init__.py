"""WHAT it did: the records, their chain, and its verification."""

from typing import TYPE_CHECKING

from tabard.audit.chain import Chain, leaf_hash
from tabard.lazily import lazily

if TYPE_CHECKING:
    from tabard.audit.stored import StoredRecord
    from tabard.audit.verify import Verification, verify_log, verify_records

__all__ = ["Chain", "StoredRecord", "Verification", "leaf_hash", "verify_log", "verify_records"]

__getattr__ = lazily(
    __name__,
    {
        "StoredRecord": "stored",
        "Verification": "verify",
        "verify_log": "verify",
        "verify_records": "verify",
    },
)

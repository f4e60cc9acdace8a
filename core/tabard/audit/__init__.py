"""WHAT it did: the records, their chain, and its verification."""

from typing import TYPE_CHECKING

from tabard.audit.chain import Chain, leaf_hash
from tabard.lazily import lazily

if TYPE_CHECKING:
    from tabard.audit.export_verifier import ExportVerification, verify_export
    from tabard.audit.stored import StoredRecord
    from tabard.audit.verify import Verification, verify_log, verify_records

__all__ = [
    "Chain",
    "ExportVerification",
    "StoredRecord",
    "Verification",
    "leaf_hash",
    "verify_export",
    "verify_log",
    "verify_records",
]

__getattr__ = lazily(
    __name__,
    {
        "StoredRecord": "stored",
        "Verification": "verify",
        "ExportVerification": "export_verifier",
        "verify_export": "export_verifier",
        "verify_log": "verify",
        "verify_records": "verify",
    },
)

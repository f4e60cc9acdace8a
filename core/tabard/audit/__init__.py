"""WHAT it did: the records, their chain, and its verification."""

from tabard.audit.chain import Chain, leaf_hash
from tabard.audit.verify import StoredRecord, Verification, verify_log, verify_records

__all__ = ["Chain", "StoredRecord", "Verification", "leaf_hash", "verify_log", "verify_records"]

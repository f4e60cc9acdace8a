"""Entries as other systems read them. What comes out is derived, and never the evidence.

Each event names the log, the number of its entry and the hash of the entry's exact bytes, so that
whoever doubts it can look the evidence up in an export that proves itself.
"""

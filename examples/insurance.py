"""A small insurance company: a SQLite database and the plain functions that read it."""

from __future__ import annotations

import random
import sqlite3
from pathlib import Path

_SCHEMA = """
CREATE TABLE policies (policy_no TEXT PRIMARY KEY, holder TEXT, product TEXT, since INTEGER);
CREATE TABLE claims (claim_no TEXT PRIMARY KEY, claimant_id TEXT, policy_no TEXT, year INTEGER,
                     amount_eur INTEGER, status TEXT);
CREATE TABLE payments (payment_no TEXT PRIMARY KEY, claimant_id TEXT, claim_no TEXT,
                       amount_eur INTEGER);
"""
_PRODUCTS = ("home", "car", "travel", "liability")
_STATUSES = ("open", "settled", "rejected")


class Insurance:
    """The company's database."""

    def __init__(self, path: Path) -> None:
        """Create the database with a few hundred made-up rows."""
        self._path = path
        dice = random.Random(7)
        with sqlite3.connect(path) as database:
            database.executescript(_SCHEMA)
            for number in range(60):
                row = (f"POL-{100000 + number}", f"C-{1000 + number}", dice.choice(_PRODUCTS))
                database.execute("INSERT INTO policies VALUES (?, ?, ?, ?)", (*row, 2019))
            for number in range(150):
                holder = dice.randrange(60)
                facts = (f"C-{1000 + holder}", f"POL-{100000 + holder}", dice.randint(2020, 2026))
                money = (dice.randint(1, 90) * 100, dice.choice(_STATUSES))
                claim = (f"CLM-{5000 + number}", *facts, *money)
                database.execute("INSERT INTO claims VALUES (?, ?, ?, ?, ?, ?)", claim)
                if money[1] == "settled":
                    payment = (f"PAY-{9000 + number}", facts[0], claim[0], money[0])
                    database.execute("INSERT INTO payments VALUES (?, ?, ?, ?)", payment)

    def query(self, table: str, claimant_id: str, max_rows: int = 10) -> str:
        """Rows of one claimant."""
        known = {"claims": "claims", "payments": "payments"}[table]
        sql = f"SELECT * FROM {known} WHERE claimant_id = ? LIMIT ?"
        return self._rows(sql, claimant_id, max_rows)

    def look_up(self, policy_no: str) -> str:
        """One policy."""
        return self._rows("SELECT * FROM policies WHERE policy_no = ?", policy_no)

    def totals(self, year: int) -> str:
        """Claims of a year by status: how many, and how much."""
        sql = "SELECT status, count(*), sum(amount_eur) FROM claims WHERE year = ? GROUP BY status"
        return self._rows(sql, year)

    def pay(self, claim_no: str, amount_eur: int) -> str:
        """Transfer money. No agent of the examples is allowed to."""
        with sqlite3.connect(self._path) as database:
            row = (f"PAY-{claim_no}", "?", claim_no, amount_eur)
            database.execute("INSERT INTO payments VALUES (?, ?, ?, ?)", row)
        return f"paid {amount_eur}"

    def payments(self) -> int:
        """How many payments were ever made."""
        with sqlite3.connect(self._path) as database:
            return int(database.execute("SELECT count(*) FROM payments").fetchone()[0])

    def _rows(self, sql: str, *values: object) -> str:
        with sqlite3.connect(self._path) as database:
            return str(database.execute(sql, values).fetchall())

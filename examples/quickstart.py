"""Which agent made this API call? Two real agents, one shared key, before and after tabard.

Run it with `make demo`. No network, no key: the models are scripted, everything else is real.
"""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from pathlib import Path

import show
from insurance import Insurance
from workers import ask_analytics_crew, ask_claims_agent, provider_log

from tabard import AccessDenied, AuditError, Authority, Guard
from tabard.audit import verify_log
from tabard.store import SqliteStore

OWN_CLAIM = ("claims_db.query", {"table": "claims", "claimant_id": "C-1007", "max_rows": 5})
FOREIGN_CLAIM = ("claims_db.query", {"table": "claims", "claimant_id": "C-1042", "max_rows": 5})
POLICY = ("policy_lookup", {"policy_no": "POL-100007"})
TRANSFER = ("payments.transfer", {"claim_no": "CLM-5003", "amount_eur": 9000})
TOTALS = ("stats_claims", {"year": 2026})


def decisions(guard: Guard, after: int) -> int:
    """Show the decisions since a record; returns how many records there are."""
    records = list(guard.records())
    show.decisions(r for r in records[after:] if r["type"].endswith(".decision"))
    return len(records)


def flip_one_byte(home: Path, copy: Path) -> SqliteStore:
    """A copy of the log with a single byte of one record changed."""
    sqlite3.connect(home / "state.db").execute("PRAGMA wal_checkpoint(TRUNCATE)")
    shutil.copy(home / "state.db", copy)
    data = bytearray(copy.read_bytes())
    data[data.index(b'"effect":"deny"') + 10] ^= 1
    copy.write_bytes(data)
    return SqliteStore(copy)


def main(folder: Path) -> None:
    company = Insurance(folder / "insurance.db")

    show.heading("1. BEFORE: what the provider sees")
    ask_claims_agent(company, OWN_CLAIM, POLICY, guarded=False)
    ask_analytics_crew(company, TOTALS, guarded=False)
    show.provider_calls(provider_log)

    home = folder / ".tabard"
    authority = Authority.open(home, trust_domain="acme.example")
    authority.register("claims-agent", team="claims", environment="dev")
    authority.register("analytics-agent", team="analytics", environment="dev")
    guard = Guard.open(home, policy=Path(__file__).with_name("policy.yaml"))
    claims = guard.login(authority.source("claims-agent"), scope={"claimant_id": "C-1007"})
    analytics = guard.login(authority.source("analytics-agent"))

    show.heading("2. AFTER: the same work, each agent under its own identity")
    with claims:
        ask_claims_agent(company, OWN_CLAIM, POLICY)
    with analytics:
        ask_analytics_crew(company, TOTALS)
    seen = decisions(guard, 0)

    show.heading("3. What they may not do: a tool, another claimant's data, a model")
    paid = company.payments()
    with claims:
        for calls, model in (([TRANSFER], "gpt-4o"), ([FOREIGN_CLAIM], "gpt-4o"), ([], "gpt-3.5")):
            try:
                ask_claims_agent(company, *calls, model=model)
            except AccessDenied as refusal:
                show.say(f"refused: {refusal}")
    show.say(f"payments made meanwhile: {company.payments() - paid}")
    seen = decisions(guard, seen)

    show.heading("4. Revoke the claims agent; the other goes on")
    authority.revoke("claims-agent", reason="compromised")
    try:
        with claims:
            ask_claims_agent(company, OWN_CLAIM)
    except AccessDenied as refusal:
        show.say(f"its very next call: {refusal}")
    with analytics:
        show.say(f"analytics-agent: {ask_analytics_crew(company, TOTALS)}")
    decisions(guard, seen)

    show.heading("5. The log proves itself")
    show.say(f"{guard.verify().records} records verified")
    try:
        verify_log(flip_one_byte(home, folder / "copy.db"))
    except AuditError as error:
        show.say(f"one byte flipped in a copy: {error}")
    show.six_lines()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        main(Path(name))

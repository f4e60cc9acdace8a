"""Which agent made this API call? Two real agents, one shared key, before and after tabard.

Run it with `make demo`. No network, no key: the models are scripted, everything else is real.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import show
import workers
from insurance import Insurance
from tabard import AccessDenied, AuditError, Authority, Guard
from tabard.audit import verify_log
from tabard.store import SqliteStore
from tamper import flip_one_byte
from workers import ask_analytics_crew, ask_claims_agent


def main(folder: Path) -> None:
    company = Insurance(folder / "insurance.db")

    show.heading("1. BEFORE: what the provider sees")
    ask_claims_agent(company, workers.OWN_CLAIM, workers.POLICY, guarded=False)
    ask_analytics_crew(company, workers.TOTALS, guarded=False)
    show.provider_calls(workers.provider_log)

    home = folder / ".tabard"
    authority = Authority.open(home, trust_domain="acme.example")
    authority.register("claims-agent", team="claims", environment="dev")
    authority.register("analytics-agent", team="analytics", environment="dev")
    guard = Guard.open(home, policy=Path(__file__).with_name("policy.yaml"))
    claims = guard.login(authority.source("claims-agent"), scope={"claimant_id": "C-1007"})
    analytics = guard.login(authority.source("analytics-agent"))

    show.heading("2. AFTER: the same work, each agent under its own identity")
    with claims:
        ask_claims_agent(company, workers.OWN_CLAIM, workers.POLICY)
    with analytics:
        ask_analytics_crew(company, workers.TOTALS)
    seen = show.decisions(guard)

    show.heading("3. What they may not do: a tool, another claimant's data, a model")
    paid = company.payments()
    not_allowed = (([workers.TRANSFER], "gpt-4o"), ([workers.OTHERS_CLAIM], "gpt-4o"))
    for calls, model in (*not_allowed, ([], "gpt-3.5-turbo")):
        try:
            with claims:
                ask_claims_agent(company, *calls, model=model)
        except AccessDenied as refusal:
            show.say(f"refused: {refusal}")
    show.say(f"payments made meanwhile: {company.payments() - paid}")
    seen = show.decisions(guard, after=seen)

    show.heading("4. The claims agent is revoked; the other goes on")
    authority.revoke("claims-agent", reason="compromised")
    try:
        with claims:
            ask_claims_agent(company, workers.OWN_CLAIM)
    except AccessDenied as refusal:
        show.say(f"its very next call: {refusal}")
    with analytics:
        ask_analytics_crew(company, workers.TOTALS)
    show.decisions(guard, after=seen)

    show.heading("5. The log proves itself")
    show.say(f"{guard.verify().records} records verified, none changed or missing")
    try:
        verify_log(SqliteStore(flip_one_byte(home / "state.db", folder / "copy.db")))
    except AuditError as error:
        show.say(f"one byte flipped in a copy: {error}")
    show.six_lines()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        main(Path(name))

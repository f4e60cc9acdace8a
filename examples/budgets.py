"""EUR 100 for the claims agent, EUR 1,000 for the analytics agent: each stopped at its own limit.

Run it: `python examples/budgets.py`. The models are scripted: no network, no key. Their price is
set high in the policy, so that the limits are reached within a second.
"""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path

from langchain_core.messages import AIMessage
from langchain_core.tools import tool

from insurance import Insurance
from tabard import AccessDenied, Authority, BudgetExceeded, Guard, Session
from tabard.budget import format_amount
from tabard.budgets import Budgets
from tabard.store import SqliteStore
from tabard.testing.langchain import ScriptedChatModel
from tabard_langchain import TabardCallbackHandler, protect

POLICY = Path(__file__).with_name("budgets.yaml")
USED = {"input_tokens": 900, "output_tokens": 4000, "total_tokens": 4900}


def ask(model: ScriptedChatModel, session: Session) -> bool:
    """Call the model once more; False when the agent has no money left for it."""
    try:
        with session:
            model.invoke("go on", {"callbacks": [TabardCallbackHandler()]})
    except BudgetExceeded as refusal:
        print(f"{session.agent.name} after {model.calls} calls: {refusal}")
        return False
    return True


def main(folder: Path) -> None:
    logging.getLogger("langchain_core.callbacks.manager").setLevel(logging.CRITICAL)
    company, home = Insurance(folder / "insurance.db"), folder / ".tabard"
    authority = Authority.open(home, trust_domain="acme.example")
    for name in ("claims-agent", "analytics-agent"):
        authority.register(name, team=name.partition("-")[0], environment="dev")
    guard = Guard.open(home, policy=POLICY)
    claims = guard.login(authority.source("claims-agent"), scope={"claimant_id": "C-1007"})
    analytics = guard.login(authority.source("analytics-agent"))

    answer = [AIMessage("done", usage_metadata=USED)]
    large = ScriptedChatModel(script=answer, model_name="gpt-4o", max_tokens=4000)
    small = ScriptedChatModel(script=answer, model_name="gpt-4o-mini", max_tokens=4000)
    query = protect(tool("claims_db.query", description="Read claims.")(company.query))
    with claims:
        print(query.invoke({"table": "claims", "claimant_id": "C-1007"})[:60])
        try:
            query.invoke({"table": "claims", "claimant_id": "C-1042"})
        except AccessDenied as refusal:
            print(refusal)
    at_work = [(large, claims), (small, analytics)]
    while at_work:  # in turns: neither starves the other
        at_work = [pair for pair in at_work if ask(*pair)]
    for one in Budgets(SqliteStore(home / "state.db")).standings(guard.policy):
        spent, limit = format_amount(one.spent, "EUR"), format_amount(one.budget.limit, "EUR")
        print(f"{one.agent.name}: {spent} of {limit}")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        main(Path(name))

"""A manager and two workers, each under an identity of its own; hand-overs only narrow.

Run it: `python examples/hierarchical_crew.py`. The models are scripted: no network, no key.
"""

from __future__ import annotations

import logging
import os
import tempfile
from pathlib import Path
from typing import Any

for switch in ("CREWAI_DISABLE_TELEMETRY", "CREWAI_DISABLE_VERSION_CHECK", "CREWAI_TESTING"):
    os.environ.setdefault(switch, "true")  # before CrewAI is imported
os.environ.setdefault("CREWAI_TRACING_ENABLED", "false")

from crewai import Agent, Crew, Process, Task
from crewai.tools import tool

from tabard import Authority, Guard
from tabard.testing.crewai import ScriptedLLM
from tabard_crewai import bind, protect

POLICY = """\
version: 1
agents:
  lead:
    models: &models {allow: ["openai/gpt-4o*"]}
    grants:
      - {id: ask, tools: [delegate_work_to_coworker], unknown_args: allow}
      - {id: settle, tools: ["claims.read"], args: {claim: {}}}
      - {id: small, tools: ["payments.transfer"], args: {claim: {}, amount: {max: 500}}}
    delegates_to: [adjuster, payer]
  adjuster:
    models: *models
    grants: [{id: read, tools: ["claims.read"], args: {claim: {}}}]
  payer:
    models: *models
    grants: [{id: pay, tools: ["payments.*"], args: {claim: {}, amount: {max: 900}}}]
"""


@protect
@tool("claims.read")
def read(claim: str) -> str:
    """Read a claim."""
    return f"{claim}: 640 are due"


@protect
@tool("payments.transfer")
def pay(claim: str, amount: int) -> str:
    """Pay for a claim."""
    return f"{amount} paid for {claim}"


def agent(role: str, *script: Any, tools: Any = ()) -> Agent:
    llm = ScriptedLLM(model="gpt-4o", script=list(script))
    return Agent(role=role, goal="settle", backstory="old hand", tools=list(tools), llm=llm)


def ask(coworker: str, task: str) -> tuple[str, dict[str, str]]:
    return "delegate_work_to_coworker", {"coworker": coworker, "task": task, "context": "C-1"}


def pays(amount: int) -> tuple[str, dict[str, Any]]:
    return "payments_transfer", {"claim": "C-1", "amount": amount}


def show(record: Any) -> None:
    actor, boss = record["agent"]["name"], record.get("act")
    name = f"{actor} for {boss['sub'].rpartition('/')[2]}" if boss else actor
    decision = record["decision"]
    print(f"{name:18} {record['action']['name']:26} {decision['effect']:6} {decision['code']}")


def main(home: Path) -> None:
    # A scripted model cannot count its tokens, and CrewAI says so on the console.
    logging.getLogger("crewai.llms.base_llm").setLevel(logging.CRITICAL)

    authority = Authority.open(home, trust_domain="acme.example")
    for name in ("lead", "adjuster", "payer"):
        authority.register(name, team="claims", environment="dev")
    guard = Guard.open(home, policy=POLICY)

    adjuster = agent("Adjuster", ("claims_read", {"claim": "C-1"}), "640 are due.", tools=[read])
    payer = agent("Payer", pays(640), pays(500), "500 paid, the rest has to wait.", tools=[pay])
    plan = [ask("Adjuster", "What is due?"), ask("Payer", "Pay it."), "500 of 640 are paid."]
    crew = Crew(
        agents=[adjuster, payer],
        tasks=[Task(description="Settle C-1.", expected_output="What was paid.")],
        process=Process.hierarchical,
        manager_llm=ScriptedLLM(model="gpt-4o", script=plan),
    )
    agents = {"Crew Manager": "lead", "Adjuster": "adjuster", "Payer": "payer"}
    bind(crew, {role: authority.source(name) for role, name in agents.items()})

    print(crew.kickoff())
    for record in guard.records():
        if record["type"] in ("tool.decision", "delegation.decision"):
            show(record)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        main(Path(folder) / ".tabard")

"""A CrewAI crew under its agent's own identity: `@protect` above `@tool`, `install()`, `bind`.

Run it: `python examples/crewai_tools.py`. The model is scripted: no network, no key.
"""

from __future__ import annotations

import logging
import os
import tempfile
from pathlib import Path

for switch in ("CREWAI_DISABLE_TELEMETRY", "CREWAI_DISABLE_VERSION_CHECK", "CREWAI_TESTING"):
    os.environ.setdefault(switch, "true")  # before CrewAI is imported
os.environ.setdefault("CREWAI_TRACING_ENABLED", "false")

from crewai import Agent, Crew, Task
from crewai.tools import tool

from tabard import Authority, Guard
from tabard.testing.crewai import ScriptedLLM
from tabard_crewai import bind, install, protect

POLICY = """\
version: 1
agents:
  stock-agent:
    models: {allow: ["openai/gpt-4o*"]}
    grants:
      - {id: count, tools: ["stock.count"], args: {shelf: {regex: "[A-F][0-9]"}}}
"""


@protect
@tool("stock.count")
def count(shelf: str) -> str:
    """Count what is on a shelf."""
    return f"12 boxes on {shelf}"


def main(home: Path) -> None:
    # A scripted model cannot count its tokens, and CrewAI says so on the console.
    logging.getLogger("crewai.llms.base_llm").setLevel(logging.CRITICAL)

    authority = Authority.open(home, trust_domain="acme.example")
    authority.register("stock-agent", team="warehouse", environment="dev")
    guard = Guard.open(home, policy=POLICY)

    install()  # before the crew is built: the hooks for every tool and model call
    calls = [("stock_count", {"shelf": "B3"}), ("stock_count", {"shelf": "Z9"})]
    llm = ScriptedLLM(model="gpt-4o", script=[*calls, "Twelve boxes."])
    clerk = Agent(role="Clerk", goal="count", backstory="exact", tools=[count], llm=llm)
    job = Task(description="Count.", expected_output="A number.", agent=clerk)
    bind(clerk, authority.source("stock-agent"))

    print(Crew(agents=[clerk], tasks=[job]).kickoff())
    for record in guard.records():
        if "decision" in record:
            decision = record["decision"]
            print(record["agent"]["name"], record["action"]["name"], decision["effect"])
    print("what the model was told:", llm.seen[-1][-1]["content"])


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        main(Path(folder) / ".tabard")

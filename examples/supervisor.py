"""A LangGraph supervisor with two subagents: each under its own identity, with less than its boss.

Run it: `python examples/supervisor.py`. No network, no key: the models are scripted.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from langchain.agents import create_agent
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool, tool

from tabard import Authority, Guard
from tabard.testing.langchain import ScriptedChatModel, call_tool
from tabard_langchain import TabardMiddleware, hand_over

POLICY = """\
version: 1
agents:
  supervisor:
    models: {allow: ["openai/gpt-4o"]}
    grants:
      - {id: ask, tools: [ask_claims, ask_payout], args: {what: {}}}
      - {id: read, tools: [claims.read], args: {claim: {regex: "CL-[0-9]+"}}}
      - {id: pay, tools: [payments.transfer], args: {claim: {}, amount: {max: 500}}}
    delegates_to: [claims-agent, payout-agent]
  claims-agent:
    models: {allow: ["openai/gpt-4o"]}
    grants: [{id: read, tools: [claims.read], args: {claim: {}}}]
  payout-agent:
    models: {allow: ["openai/gpt-4o"]}
    grants: [{id: pay, tools: [payments.transfer], args: {claim: {}, amount: {max: 10000}}}]
"""


@tool("claims.read")
def read(claim: str) -> str:
    """Read a claim."""
    return f"{claim}: water damage, 640 euro"


@tool("payments.transfer")
def transfer(claim: str, amount: int) -> str:
    """Pay a claim."""
    return f"paid {amount} for {claim}"


def agent(*script: AIMessage, tools: list[BaseTool]) -> Any:
    model = ScriptedChatModel(script=list(script))
    return create_agent(model, tools, middleware=[TabardMiddleware()])


def as_tool(name: str, worker: Runnable[Any, Any]) -> BaseTool:
    @tool(name)
    def ask(what: str) -> str:
        """Ask a colleague."""
        answer = worker.invoke({"messages": [HumanMessage(what)]})["messages"][-1]
        return str(answer.content)

    return ask


def pay(claim: str, amount: int) -> AIMessage:
    return call_tool("payments.transfer", {"claim": claim, "amount": amount})


def main(home: Path) -> None:
    authority = Authority.open(home, trust_domain="acme.example")
    for name in ("supervisor", "claims-agent", "payout-agent"):
        authority.register(name, team="claims", environment="dev")
    guard = Guard.open(home, policy=POLICY)

    reader = agent(call_tool("claims.read", {"claim": "CL-7"}), AIMessage("640"), tools=[read])
    payer = agent(pay("CL-7", 640), pay("CL-7", 500), AIMessage("500 of 640"), tools=[transfer])
    boss = agent(
        call_tool("ask_claims", {"what": "What does CL-7 ask for?"}),
        call_tool("ask_payout", {"what": "Pay CL-7."}, call_id="call-2"),
        AIMessage("500 of 640 euro are paid."),
        tools=[
            as_tool("ask_claims", hand_over(reader, "claims-agent", tools=["claims.*"])),
            as_tool("ask_payout", hand_over(payer, "payout-agent", tools=["payments.*"])),
        ],
    )
    with guard.login(authority.issue("supervisor")):
        print(boss.invoke({"messages": [HumanMessage("Settle CL-7.")]})["messages"][-1].content)
    for record in guard.records():
        if record["type"] == "tool.decision":
            acts_for = " for its boss" if "act" in record else ""
            who, what = record["agent"]["name"], record["action"]["name"]
            print(f"{who}{acts_for}: {what} {record['decision']['code']}")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        main(Path(folder) / ".tabard")

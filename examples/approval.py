"""A payment a person has to agree to: the graph is interrupted, and goes on after the yes.

Run it: `python examples/approval.py`. No network, no key: the model is scripted.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from langchain.agents import create_agent
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command

from tabard import Authority, Guard
from tabard.testing.langchain import ScriptedChatModel, call_tool
from tabard_langchain import TabardMiddleware

POLICY = """\
version: 1
agents:
  claims-agent:
    models: {allow: ["openai/gpt-4o"]}
    approvals:
      - id: payout
        tools: [payments.transfer]
        when: {claim: {}, amount: {max: 1000}}
        by: claims-supervisor
        show: [claim, amount]
"""


@tool("payments.transfer")
def transfer(claim: str, amount: int) -> str:
    """Pay a claim."""
    print(f"paid {amount} for {claim}")
    return "paid"


def ask_for_payment() -> tuple[Any, Any, dict[str, Any]]:
    """An agent that wants to pay, as far as it gets: its graph, its thread, what it waits for."""
    wanted = call_tool("payments.transfer", {"claim": "CL-7", "amount": 640})
    model = ScriptedChatModel(script=[wanted, AIMessage("It is done.")])
    middleware = [TabardMiddleware()]
    agent = create_agent(model, [transfer], middleware=middleware, checkpointer=InMemorySaver())
    thread: Any = {"configurable": {"thread_id": "claim-7"}}
    question: Any = {"messages": [HumanMessage("Pay CL-7.")]}
    [interrupt] = agent.invoke(question, thread)["__interrupt__"]
    return agent, thread, interrupt.value


def main(home: Path) -> None:
    authority = Authority.open(home, trust_domain="acme.example")
    authority.register("claims-agent", team="claims", environment="dev")
    anna = {"roles": "claims-supervisor"}
    authority.register("anna", team="claims", environment="dev", attributes=anna)
    guard = Guard.open(home, policy=POLICY)

    with guard.login(authority.issue("claims-agent")):
        agent, thread, interrupt = ask_for_payment()
        print(f"the graph waits: {interrupt['reason']}")
        # Resuming is no yes: only a person with the role can give one.
        found = agent.invoke(Command(resume=True), thread)
        print(f"resumed without a yes: {found['messages'][-2].content}")

        agent, thread, interrupt = ask_for_payment()
        with guard.login(authority.issue("anna")) as person:
            guard.approvals.grant(interrupt["request"], session=person)
        print(agent.invoke(Command(resume=True), thread)["messages"][-1].content)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        main(Path(folder) / ".tabard")

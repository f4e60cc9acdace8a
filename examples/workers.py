"""The two workers of the demo: a LangChain agent for claims, a CrewAI crew for analytics.

Both are real; only their models are scripted, and note what a provider would see of each call.
"""

from __future__ import annotations

import logging
import os
from typing import Any

for _switch in ("CREWAI_DISABLE_TELEMETRY", "CREWAI_DISABLE_VERSION_CHECK", "CREWAI_TESTING"):
    os.environ.setdefault(_switch, "true")  # before CrewAI is imported
os.environ.setdefault("CREWAI_TRACING_ENABLED", "false")

from crewai import Agent, Crew, Task
from crewai.tools import tool as crew_tool
from langchain.agents import create_agent
from langchain_core.messages import AIMessage
from langchain_core.tools import tool

from insurance import Insurance
from tabard.testing.crewai import ScriptedLLM
from tabard.testing.langchain import ScriptedChatModel, call_tool
from tabard_crewai import install
from tabard_crewai import protect as protect_crew_tool
from tabard_langchain import TabardCallbackHandler, protect

# Both frameworks would repeat each refusal or estimate on the console; the tables show it all.
for _name in ("langchain_core.callbacks.manager", "crewai.llms.base_llm"):
    logging.getLogger(_name).setLevel(logging.CRITICAL)

OWN_CLAIM = ("claims_db.query", {"table": "claims", "claimant_id": "C-1007", "max_rows": 5})
OTHERS_CLAIM = ("claims_db.query", {"table": "claims", "claimant_id": "C-1042", "max_rows": 5})
POLICY = ("policy_lookup", {"policy_no": "POL-100007"})
TRANSFER = ("payments.transfer", {"claim_no": "CLM-5003", "amount_eur": 9000})
TOTALS = ("stats_claims", {"year": 2026})

SHARED_KEY = "sk-live-...7Qd2"
provider_log: list[tuple[str, str]] = []
"""What the provider sees: the key of the call and the model."""

Call = tuple[str, dict[str, Any]]


class ClaimsModel(ScriptedChatModel):
    """A scripted chat model whose calls the provider notes."""

    def _next(self, messages: list[Any]) -> AIMessage:
        provider_log.append((SHARED_KEY, self.model_name))
        return super()._next(messages)


class AnalyticsModel(ScriptedLLM):
    """A scripted CrewAI model whose calls the provider notes."""

    def _say(self, step: Any) -> Any:
        provider_log.append((SHARED_KEY, self.model))
        return super()._say(step)


def ask_claims_agent(
    company: Insurance, *calls: Call, model: str = "gpt-4o", guarded: bool = True
) -> str:
    """Let the LangChain agent make some tool calls and answer."""
    script = [call_tool(name, arguments) for name, arguments in calls]
    llm = ClaimsModel(script=[*script, AIMessage("The claim is covered.")], model_name=model)
    query = tool("claims_db.query", description="Read claims.")(company.query)
    tools = [query, tool("policy_lookup")(company.look_up), tool("payments.transfer")(company.pay)]
    agent: Any = create_agent(llm, [protect(t) for t in tools] if guarded else tools)
    config = {"callbacks": [TabardCallbackHandler()]} if guarded else {}
    return str(agent.invoke({"messages": [("user", "go")]}, config)["messages"][-1].content)


def ask_analytics_crew(company: Insurance, *calls: Call, guarded: bool = True) -> str:
    """Let the CrewAI crew make some tool calls and answer."""
    if guarded:
        install()  # the hooks of this process: model calls, and tools that are not protected
    llm = AnalyticsModel(model="gpt-4o-mini", script=[*calls, "Claims are down."])
    totals = crew_tool("stats.claims")(company.totals)
    query = crew_tool("claims_db.query")(company.query)
    tools = [protect_crew_tool(t) for t in (totals, query)] if guarded else [totals, query]
    analyst = Agent(role="Analyst", goal="report", backstory="thorough", tools=tools, llm=llm)
    job = Task(description="Report.", expected_output="A sentence.", agent=analyst)
    return str(Crew(agents=[analyst], tasks=[job]).kickoff())

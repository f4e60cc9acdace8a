"""What tabard adds to a run of `create_agent` and to a kickoff: two model calls and one tool."""

from __future__ import annotations

import logging
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from langchain.agents import create_agent
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.tools import tool

from tabard import Authority, Guard, Session
from tabard.testing.langchain import ScriptedChatModel, call_tool
from tabard_langchain import TabardCallbackHandler, TabardMiddleware, protect
from timing import Row, measure

POLICY = """\
version: 1
agents:
  claims-agent:
    models: {allow: ["openai/*"]}
    grants: [{id: lookup, tools: [lookup], args: {number: {max: 10}}}]
"""
QUESTION: Any = {"messages": [HumanMessage("go")]}


@tool
def lookup(number: int) -> str:
    """Look a number up."""
    return "found"


def log_in(home: Path) -> Session:
    """A session of an agent that may do all that is measured here."""
    authority = Authority.open(home, trust_domain="acme.example")
    authority.register("claims-agent", team="claims", environment="prod")
    return Guard.open(home, policy=POLICY).login(authority.issue("claims-agent", lifetime=3600))


def measure_agents(folder: Path) -> list[Row]:
    """An agent of LangGraph, with each way to guard it."""
    session = log_in(folder / "agents")

    def step(tools: list[Any], middleware: list[Any], callbacks: list[Any]) -> Callable[[], object]:
        script = [call_tool("lookup", {"number": 1}), AIMessage("done")]
        model = ScriptedChatModel(script=script)
        agent = create_agent(model, tools, middleware=middleware)
        config: Any = {"callbacks": callbacks}

        def run() -> None:
            model.calls = 0
            with session:
                agent.invoke(QUESTION, config)

        return run

    works = {
        "bare": step([lookup], [], []),
        "handler": step([lookup], [], [TabardCallbackHandler()]),
        "middleware": step([lookup], [TabardMiddleware()], []),
        "protect": step([protect(lookup)], [], []),
    }
    return _compared("create_agent", measure(works, calls=10, clock=time.process_time_ns))


def measure_crews(folder: Path) -> list[Row]:
    """A crew of one agent, with each way to guard it."""
    _keep_offline()
    from crewai import Agent, Crew, Task
    from crewai.tools import tool as crew_tool

    from tabard.testing.crewai import ScriptedLLM
    from tabard_crewai import install, uninstall
    from tabard_crewai import protect as protect_tool

    session = log_in(folder / "crews")

    @crew_tool("lookup")
    def look(number: int) -> str:
        """Look a number up."""
        return "found"

    def kickoff(target: Any) -> None:
        llm = ScriptedLLM(model="gpt-4o", script=[("lookup", {"number": 1}), "done"])
        agent = Agent(role="Clerk", goal="do", backstory="old", llm=llm, tools=[target])
        job = Task(description="go", expected_output="words", agent=agent)
        with session:
            Crew(agents=[agent], tasks=[job]).kickoff()

    def hooked() -> None:
        install()
        try:
            kickoff(look)
        finally:
            uninstall()

    works: dict[str, Callable[[], object]] = {
        "bare": lambda: kickoff(look),
        "install": hooked,
        "protect": lambda: kickoff(protect_tool(look)),
    }
    return _compared("crew kickoff", measure(works, calls=3, clock=time.process_time_ns))


def _compared(what: str, found: dict[str, float]) -> list[Row]:
    base = found.pop("bare")
    rows: list[Row] = [(f"{what}, bare", f"{base / 1000:.1f} ms", "")]
    for name, cost in found.items():
        rows.append((f"{what} with {name}", f"{cost / 1000:.1f} ms = {cost / base:.2f} x", ""))
    return rows


def _keep_offline() -> None:
    """Before CrewAI is imported: it reads these once, and writes below HOME.

    It also warns at each kickoff that a scripted model counts no tokens.
    """
    logging.disable(logging.WARNING)
    os.environ.update(
        CREWAI_DISABLE_TELEMETRY="true",
        CREWAI_DISABLE_TRACKING="true",
        CREWAI_DISABLE_VERSION_CHECK="true",
        CREWAI_TESTING="true",
        CREWAI_TRACING_ENABLED="false",
        OTEL_SDK_DISABLED="true",
        HOME=tempfile.mkdtemp(prefix="tabard-crewai-"),
    )

"""Every way CrewAI runs a tool or calls a model.

On `KICKOFFS` its hooks are told; on `DIRECT` ones nobody is, and only the tool itself can refuse.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from crewai import Agent, Crew, Task
from crewai.events import crewai_event_bus
from crewai.events.types.llm_events import LLMCallType
from crewai.flow.flow import Flow, start
from crewai.llms.base_llm import llm_call_context
from crewai.tools import BaseTool, tool
from pydantic import PrivateAttr

from tabard.testing.attempt import Attempt
from tabard.testing.crewai.models import ScriptedLLM

Path = Callable[["Case"], object]


def _as_it_is(made: BaseTool) -> BaseTool:
    return made


@dataclass(kw_only=True)
class Case:
    """What a path is given.

    Attributes:
        attempt: The call to make.
        wrap: Makes a guarded tool of a tool.
        native: Whether the model asks for tools in the provider's form, or in text (ReAct).
    """

    attempt: Attempt
    wrap: Callable[[BaseTool], BaseTool] = _as_it_is
    native: bool = True

    @property
    def tool(self) -> Any:
        """A tool that counts."""

        @tool(self.attempt.tool)
        def lookup(number: int) -> str:
            """Look a number up."""
            return self.attempt.body(number)

        return self.wrap(lookup)

    @property
    def number(self) -> int:
        """The tool's one argument."""
        return self.attempt.arguments["number"]

    @property
    def agent(self) -> Agent:
        """An agent whose model asks for the tool, or, where the model is tried, answers at once."""
        tools = [self.tool] if self.attempt.kind == "tool" else []
        return Agent(role="Clerk", goal="do", backstory="old", llm=self.model, tools=tools)

    @property
    def model(self) -> ScriptedLLM:
        """A model that counts, or asks for the tool."""
        attempt = self.attempt
        if attempt.kind == "model":
            made: ScriptedLLM = _Counted(
                model=attempt.model, script=["done"], max_tokens=attempt.max_output_tokens
            )
        else:
            script = [(attempt.tool, dict(attempt.arguments)), "done"]
            made = _Planner(model="planner", script=script, native=self.native, max_tokens=10)
        made._attempt = attempt
        return made

    def crew(self, **more: Any) -> Crew:
        """A crew of that agent with one task."""
        agent = self.agent
        return Crew(agents=[agent], tasks=[self.task(agent, **more)])

    def task(self, agent: Agent, **more: Any) -> Task:
        """A task of that agent."""
        return Task(description="go", expected_output="words", agent=agent, **more)


class _Planner(ScriptedLLM):
    """The model of an agent under test: while it speaks, the fault strikes."""

    _attempt: Any = PrivateAttr(default=None)

    def call(self, messages: Any, *args: Any, **kwargs: Any) -> Any:
        said = super().call(messages, *args, **kwargs)
        self._attempt.strike_once()
        return said


class _Counted(ScriptedLLM):
    """A model under test; it tells CrewAI of its answer, as the providers' classes do."""

    _attempt: Any = PrivateAttr(default=None)

    def call(self, messages: Any, *args: Any, **kwargs: Any) -> Any:
        with llm_call_context():
            said = super().call(messages, *args, **kwargs)
            self._emit_call_started_event(messages)
            self._emit_call_completed_event(response=said, call_type=LLMCallType.LLM_CALL)
        return said

    def _say(self, step: Any) -> Any:
        self._attempt.body()
        return super()._say(step)


def _with_task_tools(case: Case) -> object:
    agent = case.agent
    tools, agent.tools = agent.tools, []
    return Crew(agents=[agent], tasks=[case.task(agent, tools=tools)]).kickoff()


def _streamed(case: Case) -> object:
    crew = case.crew()
    crew.stream = True
    return list(crew.kickoff())


def _in_a_flow(case: Case) -> object:
    class Step(Flow[Any]):
        @start()
        def first(self) -> Any:
            return case.crew().kickoff()

    return Step().kickoff()


EACH = [{"x": "1"}]
KICKOFFS: dict[str, Path] = {
    "kickoff": lambda c: c.crew().kickoff(),
    "kickoff_async": lambda c: asyncio.run(c.crew().kickoff_async()),
    "akickoff": lambda c: asyncio.run(c.crew().akickoff()),
    "kickoff_for_each": lambda c: c.crew().kickoff_for_each(EACH),
    "kickoff_for_each_async": lambda c: asyncio.run(c.crew().kickoff_for_each_async(EACH)),
    "akickoff_for_each": lambda c: asyncio.run(c.crew().akickoff_for_each(EACH)),
    "Agent.kickoff": lambda c: c.agent.kickoff("go"),
    "Agent.kickoff_async": lambda c: asyncio.run(c.agent.kickoff_async("go")),
    "Agent.akickoff": lambda c: asyncio.run(c.agent.akickoff("go")),
    "async task": lambda c: c.crew(async_execution=True).kickoff(),
    "streamed": _streamed,
    "in a flow": _in_a_flow,
}


class _ToolFlow(Flow[Any]):
    """A flow whose first step calls a tool itself."""

    target: Any = None

    @start()
    def first(self) -> Any:
        return self.target.run(number=self.state["number"])


def _flow(case: Case) -> object:
    flow = _ToolFlow()
    flow.target = case.tool
    return flow.kickoff(inputs={"number": case.number})


class _ToolCallingLLM(ScriptedLLM):
    """A model class that runs tools itself, as CrewAI's providers do with `available_functions`."""

    def call(self, messages: Any, *args: Any, **kwargs: Any) -> Any:
        return self._handle_tool_execution(
            "lookup", {"number": messages}, kwargs["available_functions"]
        )


def _by_the_model(case: Case, entrance: Callable[..., Any]) -> object:
    llm = _ToolCallingLLM(model="planner", script=["done"])
    return llm.call(case.number, available_functions={"lookup": entrance})


DIRECT: dict[str, Path] = {
    "tool.run": lambda c: c.tool.run(number=c.number),
    "tool.run, by position": lambda c: c.tool.run(c.number),
    "tool._run": lambda c: c.tool._run(number=c.number),
    "tool.func": lambda c: c.tool.func(number=c.number),
    "structured tool, invoke": lambda c: c.tool.to_structured_tool().invoke({"number": c.number}),
    "structured tool, _run": lambda c: c.tool.to_structured_tool()._run(number=c.number),
    "structured tool, func": lambda c: c.tool.to_structured_tool().func(number=c.number),
    "LLM.call, tool.run": lambda c: _by_the_model(c, c.tool.run),
    "LLM.call, tool.func": lambda c: _by_the_model(c, c.tool.func),
    "flow that calls a tool": _flow,
}

_HELLO = [{"role": "user", "content": "hi"}]


def _heard(said: object) -> object:
    """Wait for CrewAI's events: it tells of the end of a call in a thread of its own."""
    crewai_event_bus.flush()
    return said


TOOLS: dict[str, tuple[Path, bool]] = {
    **{f"{name}, native": (path, True) for name, path in KICKOFFS.items()},
    **{f"{name}, ReAct": (KICKOFFS[name], False) for name in ("kickoff", "akickoff", "streamed")},
    "tools of the task, native": (_with_task_tools, True),
    "tools of the task, ReAct": (_with_task_tools, False),
}
"""The paths hooks are told of, with the way the model asks for a tool."""

MODELS: dict[str, Path] = {
    **{name: KICKOFFS[name] for name in ("kickoff", "kickoff_async", "akickoff", "streamed")},
    "kickoff_for_each": KICKOFFS["kickoff_for_each"],
    "Agent.kickoff": KICKOFFS["Agent.kickoff"],
    "Agent.akickoff": KICKOFFS["Agent.akickoff"],
    "in a flow": KICKOFFS["in a flow"],
    "llm.call": lambda c: _heard(c.model.call(_HELLO)),
    "llm.acall": lambda c: _heard(asyncio.run(c.model.acall(_HELLO))),
}
"""The paths of a model."""

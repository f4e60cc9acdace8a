"""Calls that convert an answer name no agent: whose they are, and how they end."""

from __future__ import annotations

import asyncio
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from crewai import Agent, Crew, Process, Task
from crewai.hooks import HookAborted
from crewai.tools import tool
from pydantic import BaseModel

from tabard import Guard
from tabard.testing.crewai import ScriptedLLM
from tabard_crewai import bind, bound
from tabard_crewai.model_hooks import model_calls

pytestmark = pytest.mark.crewai

POLICY = """\
version: 1
prices: {"openai/gpt-4o": {input: "1", output: "1"}}
agents:
  claims-agent:
    models: {allow: ["openai/gpt-4o"], max_output_tokens: 100}
    budgets: [{per: session, limit: "100"}]
    grants: [{id: nest, tools: ["nest"], unknown_args: allow},
             {id: ask, tools: ["delegate_work_to_coworker"], unknown_args: allow}]
    delegates_to: ["analytics-agent"]
  analytics-agent:
    models: {allow: ["openai/gpt-4o"], max_output_tokens: 100}
    budgets: [{per: session, limit: "100"}]
    grants: [{id: nest, tools: ["nest"], unknown_args: allow}]
"""
WAYS = pytest.mark.parametrize("way", ["kickoff", "akickoff", "kickoff_async"])
AROUND = pytest.mark.parametrize("around", [True, False], ids=["current", "none"])


class Out(BaseModel):
    """What an answer is converted to."""

    number: int


class Talker(ScriptedLLM):
    """A model that says the number when it is asked to convert, and none before."""

    down: bool = False

    def call(self, messages: Any, *args: Any, **kwargs: Any) -> Any:
        """Answer by who asks."""
        named = kwargs.get("from_agent") is not None
        if self.down and not named:
            self._invoke_before_llm_call_hooks([{"role": "user", "content": "x"}], None)
            raise RuntimeError("the provider is down")
        said = super().call(messages, *args, **kwargs)
        return said if named else '{"number": 1}'


@pytest.fixture
def policy_text() -> str:
    return POLICY


@pytest.fixture(autouse=True)
def _unbound() -> Iterator[None]:
    yield
    bound._bindings.clear()  # agents are in cycles, and may outlive the test


@pytest.fixture
def log_in(guard: Guard, authority: Any) -> Callable[[str], Any]:
    return lambda name: guard.login(authority.issue(name))


@pytest.fixture
def made(guard: Guard, decisions: Any) -> Callable[[], dict[str, int]]:
    """How many model calls each agent made; all have an outcome, and nothing is left held."""

    def read() -> dict[str, int]:
        ended = [r for r in guard.records() if r["type"] == "model.outcome"]
        begun = decisions("model")
        assert len(ended) == len(begun)
        assert not any(balance.held for balance in guard._store.balances())
        return dict(Counter(d["agent"]["name"] for d in begun))

    return read


def talker(*script: Any, **more: Any) -> Talker:
    return Talker(model="gpt-4o", script=list(script) or ["no number"], max_tokens=50, **more)


def agent_of(role: str, llm: Any, *tools: Any, **more: Any) -> Agent:
    return Agent(role=role, goal="g", backstory="b", llm=llm, tools=list(tools), **more)


def task_of(agent: Any, **more: Any) -> Task:
    return Task(
        description="d", expected_output="e", agent=agent, **{"output_pydantic": Out, **more}
    )


def run(crew: Crew, way: str = "kickoff") -> Any:
    if way == "kickoff":
        return crew.kickoff()
    return asyncio.run(getattr(crew, way)())


class TestWhose:
    @WAYS
    @AROUND
    def test_one_task(self, way: str, around: bool, hooked: None, log_in: Any, made: Any) -> None:
        """Of two agents with one model the one at work is charged, whoever is current."""
        llm = talker()
        one, two = agent_of("One", llm), agent_of("Two", llm)
        crew = Crew(agents=[one, two], tasks=[task_of(two)])
        bind(crew, {"One": log_in("claims-agent"), "Two": log_in("analytics-agent")})
        if around:
            with log_in("claims-agent"):
                answer = run(crew, way)
        else:
            answer = run(crew, way)
        assert answer.pydantic == Out(number=1)
        counted = made()
        assert set(counted) == {"analytics-agent"}
        assert counted["analytics-agent"] > 1

    @WAYS
    def test_tasks_at_the_same_time(self, way: str, hooked: None, log_in: Any, made: Any) -> None:
        """Each of several tasks that run at once has the calls of its own agent."""
        llm = talker()
        one, two = agent_of("One", llm), agent_of("Two", llm)
        tasks = [task_of(one, async_execution=True), task_of(two, async_execution=True)]
        crew = Crew(agents=[one, two], tasks=[*tasks, task_of(one)])
        bind(crew, {"One": log_in("claims-agent"), "Two": log_in("analytics-agent")})
        run(crew, way)
        counted = made()
        assert counted["claims-agent"] == 2 * counted["analytics-agent"] > 2

    def test_copies(self, hooked: None, log_in: Any, made: Any) -> None:
        """The copies of `kickoff_for_each` as well."""
        llm = talker()
        one, two = agent_of("One", llm), agent_of("Two", llm)
        crew = Crew(agents=[one, two], tasks=[task_of(two)])
        bind(crew, {"One": log_in("claims-agent"), "Two": log_in("analytics-agent")})
        with log_in("claims-agent"):
            crew.kickoff_for_each([{"x": "1"}, {"x": "2"}])
            asyncio.run(crew.akickoff_for_each([{"x": "3"}, {"x": "4"}]))
        assert set(made()) == {"analytics-agent"}

    def test_model_for_function_calling(self, hooked: None, log_in: Any, made: Any) -> None:
        """A converting model that the whole crew has is the one's at work, too."""
        one, two, converting = agent_of("One", talker()), agent_of("Two", talker()), talker()
        for agent in (one, two):
            with warnings.catch_warnings(action="ignore"):
                agent.function_calling_llm = converting
        crew = Crew(agents=[one, two], tasks=[task_of(two)])
        bind(crew, {"One": log_in("claims-agent"), "Two": log_in("analytics-agent")})
        with log_in("claims-agent"):
            crew.kickoff()
        assert set(made()) == {"analytics-agent"}

    @WAYS
    def test_agent_that_is_not_bound(self, way: str, hooked: None, log_in: Any, made: Any) -> None:
        """It is not charged to a bound agent that has the same model."""
        llm = talker()
        one, two = agent_of("One", llm), agent_of("Two", llm)
        bind(one, log_in("claims-agent"))
        with log_in("analytics-agent"):
            run(Crew(agents=[one, two], tasks=[task_of(two)]), way)
        assert set(made()) == {"analytics-agent"}

    @pytest.mark.parametrize("fails", [False, True])
    def test_crew_inside(self, fails: bool, hooked: None, log_in: Any, made: Any) -> None:
        """The innermost task counts while it runs, and the outer one after it."""
        llm = talker(("nest", {}), "no number")
        inner = agent_of("Inner", talker(down=True) if fails else llm)
        bind(inner, log_in("analytics-agent"))

        @tool("nest")
        def nest() -> str:
            """Ask another crew."""
            try:
                return str(run(Crew(agents=[inner], tasks=[task_of(inner)])).raw)
            except RuntimeError:
                return "failed"

        outer = agent_of("Outer", llm, nest)
        bind(outer, log_in("claims-agent"))
        crew = Crew(agents=[outer], tasks=[task_of(outer)])
        assert run(crew).pydantic == Out(number=1)
        counted = made()
        assert counted["claims-agent"] >= 3
        assert counted["analytics-agent"] >= 2

    def test_crew_inside_a_guardrail(self, hooked: None, log_in: Any, made: Any) -> None:
        """A crew that ran in the same context leaves nothing behind."""
        llm = talker()
        inner, outer = agent_of("Inner", llm), agent_of("Outer", llm)
        bind(inner, log_in("analytics-agent"))
        bind(outer, log_in("claims-agent"))

        def check(output):  # type: ignore[no-untyped-def]  # CrewAI reads annotations
            return True, str(run(Crew(agents=[inner], tasks=[task_of(inner)])).raw)

        crew = Crew(agents=[outer], tasks=[task_of(outer, guardrail=check)])
        crew.kickoff()
        counted = made()
        assert counted["claims-agent"] == counted["analytics-agent"] == 2

    def test_call_in_a_tool(self, hooked: None, log_in: Any, made: Any) -> None:
        """A tool's own call of a shared model is of the agent that has called the tool."""
        llm = talker(("nest", {}), "no number")

        @tool("nest")
        def nest() -> str:
            """Ask the model."""
            return str(llm.call("hello"))

        one, two = agent_of("One", llm, nest), agent_of("Two", llm)
        bind(one, log_in("analytics-agent"))
        bind(two, log_in("claims-agent"))
        with log_in("claims-agent"):
            Crew(agents=[one], tasks=[task_of(one, output_pydantic=None)]).kickoff()
        assert set(made()) == {"analytics-agent"}

    def test_call_in_a_coworkers_tool(
        self, hooked: None, log_in: Any, made: Any, decisions: Any
    ) -> None:
        """It is not the boss's, whose task it is: it acts for the boss, with the rights of both."""
        llm = talker(
            ("delegate_work_to_coworker", {"task": "t", "context": "c", "coworker": "Worker"}),
            ("nest", {}),
            "no number",
        )

        @tool("nest")
        def nest() -> str:
            """Ask the model."""
            return str(llm.call("hello"))

        worker = agent_of("Worker", llm, nest)
        crew = Crew(
            agents=[worker],
            tasks=[task_of(None, output_pydantic=None)],
            process=Process.hierarchical,
            manager_llm=llm,
        )
        bind(crew, {"Worker": log_in("analytics-agent"), "Crew Manager": log_in("claims-agent")})
        crew.kickoff()
        whose = [(d["agent"]["name"], "act" in d) for d in decisions("model")]
        assert whose[:3] == [
            ("claims-agent", False),
            ("analytics-agent", True),
            ("analytics-agent", True),
        ]
        assert llm.calls == len(whose) == sum(made().values()) == 5

    @AROUND
    def test_no_task(self, around: bool, hooked: None, log_in: Any, decisions: Any) -> None:
        """Where it cannot be told it is refused, also right after a crew was at work here."""
        llm = talker()
        one, two = agent_of("One", llm), agent_of("Two", llm)
        crew = Crew(agents=[one, two], tasks=[task_of(two)])
        bind(crew, {"One": log_in("claims-agent"), "Two": log_in("analytics-agent")})
        crew.kickoff()
        before = llm.calls
        if around:
            with log_in("claims-agent"), pytest.raises(HookAborted, match="ambiguous_model"):
                llm.call("hello")
        else:
            with pytest.raises(HookAborted, match="no_identity"):
                llm.call("hello")
        assert llm.calls == before


class TestEnd:
    @WAYS
    @AROUND
    @pytest.mark.parametrize("down", [False, True])
    def test_outcome_of_a_conversion(
        self,
        down: bool,
        around: bool,
        way: str,
        hooked: None,
        log_in: Any,
        made: Any,
    ) -> None:
        """A model that tells nothing of its end leaves no call open once the crew is done."""
        agent = agent_of("One", talker(down=down))
        crew = Crew(agents=[agent], tasks=[task_of(agent)])
        if not around:
            bind(agent, log_in("claims-agent"))
        with log_in("claims-agent"):
            if down:
                with pytest.raises(Exception, match="is down"):
                    run(crew, way)
            else:
                run(crew, way)
        assert made()["claims-agent"] > 1

    def test_other_crew(self, hooked: None, log_in: Any, made: Any) -> None:
        """A crew that is done says nothing of calls another one has in progress."""
        seen: list[int] = []
        before = len(model_calls._calls)

        class Nesting(Talker):
            def call(self, messages: Any, *args: Any, **kwargs: Any) -> Any:
                said = super().call(messages, *args, **kwargs)
                if kwargs.get("from_agent") is None and not seen:
                    seen.append(len(model_calls._calls))
                    other = agent_of("Two", self)
                    Crew(agents=[other], tasks=[task_of(other, output_pydantic=None)]).kickoff()
                    seen.append(len(model_calls._calls))
                return said

        agent = agent_of("One", Nesting(model="gpt-4o", script=["no number"], max_tokens=50))
        with log_in("claims-agent"):
            Crew(agents=[agent], tasks=[task_of(agent)]).kickoff()
        assert seen[0] == seen[1] == before + 1
        made()

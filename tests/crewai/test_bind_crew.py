"""`bind(crew, {role: credential})`: all agents of a crew or none, on whatever CrewAI copies."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import pytest
from crewai import Agent, Crew, Process, Task
from crewai.flow.flow import Flow, start
from crewai.hooks import HookAborted

from tabard import AccessDenied, ConfigurationError
from tabard.testing.crewai import ScriptedLLM
from tabard_crewai import assert_installed, bind, protect, unbind, uninstall
from tabard_crewai.bound import own_session

pytestmark = pytest.mark.crewai

LOOKUP = ("claims_db_lookup", {"number": 1})
BOTH = pytest.mark.parametrize("native", [True, False], ids=["native", "ReAct"])


@pytest.fixture
def log_in(guard: Any, authority: Any) -> Callable[[str], Any]:
    return lambda name: guard.login(authority.issue(name))


@pytest.fixture
def make_crew(counted: Any) -> Callable[..., Crew]:
    """A sequential crew whose agents each try the counted tool once."""

    def make(*roles: str, native: bool = True, **more: Any) -> Crew:
        agents: list[Any] = [
            Agent(
                role=role,
                goal="g",
                backstory=f"number {number}",
                tools=[counted.tool()],
                llm=ScriptedLLM(model="gpt-4o", script=[LOOKUP, "done"], native=native),
            )
            for number, role in enumerate(roles)
        ]
        jobs = [Task(description="d", expected_output="e", agent=agent) for agent in agents]
        return Crew(agents=agents, tasks=jobs, **more)

    return make


def callers(decisions: Any) -> list[tuple[str, str]]:
    return [(d["agent"]["name"], d["decision"]["code"]) for d in decisions("tool")]


class TestRoles:
    def test_each_under_its_own(
        self, make_crew: Any, log_in: Any, authority: Any, guard: Any, decisions: Any, counted: Any
    ) -> None:
        """Sessions, sources and tokens alike; what comes back are the sessions by role."""
        crew = make_crew("Adjuster", "Analyst", "Payer")
        session = log_in("claims-agent")
        bound = bind(
            crew,
            {
                "Analyst": authority.source("analytics-agent"),
                "Adjuster": session,
                "Payer": authority.issue("claims-agent"),
            },
            guard=guard,
        )
        assert_installed()
        assert bound["Adjuster"] is session
        assert {role: one.agent.name for role, one in bound.items()} == {
            "Adjuster": "claims-agent",
            "Analyst": "analytics-agent",
            "Payer": "claims-agent",
        }
        with log_in("analytics-agent"):
            crew.kickoff()
        unbind(crew)
        expected = [("claims-agent", "ok"), ("analytics-agent", "no_grant"), ("claims-agent", "ok")]
        assert callers(decisions) == expected
        assert counted.ran == 2

    def test_role_as_written(self, make_crew: Any, log_in: Any, decisions: Any) -> None:
        """A role with a placeholder is named as written, before and after it was filled in."""
        crew = make_crew("{topic} Payer")
        bind(crew, {"{topic} Payer": log_in("claims-agent")})
        crew.kickoff_for_each([{"topic": "Gold"}, {"topic": "Silver"}])
        crew.kickoff({"topic": "Gold"})
        assert crew.agents[0].role == "Gold Payer"
        bind(crew, {"{topic} Payer": log_in("analytics-agent")})
        crew.agents[0].llm = ScriptedLLM(model="gpt-4o", script=[LOOKUP, "done"])
        crew.kickoff({"topic": "Gold"})
        with pytest.raises(ConfigurationError, match="no agent of the crew has the role `Gold Pay"):
            bind(crew, {"Gold Payer": log_in("claims-agent")})
        unbind(crew)
        assert callers(decisions)[-1] == ("analytics-agent", "no_grant")
        assert {name for name, _ in callers(decisions)[:-1]} == {"claims-agent"}

    @pytest.mark.parametrize(
        ("roles", "given", "message"),
        [
            (
                ("A", "B"),
                ("A", "B", "Z"),
                r"no agent of the crew has the role `Z` \(roles: `A`, `B`",
            ),
            (("A", "B"), ("A",), "no credential for `B`"),
            (("A", "B"), (), "no credential for `A`, `B`"),
            (("A", "A"), ("A",), "several agents of the crew have the role `A`"),
            (("A", "B"), ("a", "B"), "no agent of the crew has the role `a`"),
            (("A", "B"), ("A", "B", 5), "no agent of the crew has the role `5`"),
        ],
    )
    def test_roles_that_do_not_match(
        self, roles: Any, given: Any, message: str, make_crew: Any, log_in: Any
    ) -> None:
        """One clear sentence with the roles there are, and nobody is bound."""
        crew = make_crew(*roles)
        with pytest.raises(ConfigurationError, match=message):
            bind(crew, {role: log_in("claims-agent") for role in given})
        assert not any(own_session(agent) for agent in crew.agents)

    @pytest.mark.parametrize("bad", ["forged", "closed", "None", "number", "mapping"])
    def test_all_or_none(
        self, bad: str, make_crew: Any, log_in: Any, authority: Any, guard: Any
    ) -> None:
        """If one credential does not hold, nobody is bound, and whoever was before still is."""
        crew = make_crew("A", "B", "C")
        before = bind(crew.agents[0], log_in("analytics-agent"))
        closed = log_in("claims-agent")
        closed.close()
        second: Any = {
            "forged": authority.issue("claims-agent")[:-8] + "AAAAAAAA",
            "closed": closed,
            "None": None,
            "number": 5,
            "mapping": {},
        }[bad]
        token, third = authority.issue("claims-agent"), log_in("claims-agent")
        with pytest.raises((AccessDenied, ConfigurationError)):
            bind(crew, {"A": token, "B": second, "C": third}, guard=guard)
        assert [own_session(agent) for agent in crew.agents] == [before, None, None]
        # What was opened for it is closed again; what was brought along is not.
        opened = [r for r in guard.records() if r["type"] == "session.open"]
        ended = [r for r in guard.records() if r["type"] == "session.close"]
        assert len(opened) - len(ended) == 2
        assert not third.closed
        unbind(crew)

    @pytest.mark.parametrize("thing", [None, "crew", object(), Crew, Agent, Flow])
    def test_something_else(self, thing: Any, log_in: Any) -> None:
        """E10: what is not understood is an error, not a silent nothing."""
        for credential in ({"A": log_in("claims-agent")}, log_in("claims-agent")):
            with pytest.raises(ConfigurationError, match="expected a CrewAI agent or crew"):
                bind(thing, credential)
        with pytest.raises(ConfigurationError, match="expected a CrewAI agent or crew"):
            unbind(thing)

    def test_mismatched(self, make_crew: Any, log_in: Any) -> None:
        """A crew takes a mapping, an agent does not; None is not the host's own credential."""
        crew = make_crew("A")
        with pytest.raises(ConfigurationError, match="mapping from role"):
            bind(crew, log_in("claims-agent"))
        with pytest.raises(ConfigurationError, match="found dict"):
            bind(crew.agents[0], {"A": log_in("claims-agent")})
        with pytest.raises(ConfigurationError, match="found NoneType"):
            bind(crew.agents[0], None)  # type: ignore[call-overload]

    def test_unbind(self, make_crew: Any, log_in: Any, counted: Any) -> None:
        """Afterwards the current session counts for each of them; without one, nothing runs."""
        crew = make_crew("A", "B")
        bind(crew, {"A": log_in("claims-agent"), "B": log_in("claims-agent")})
        unbind(crew)
        with pytest.raises(HookAborted, match="no_identity"):
            crew.kickoff()
        assert counted.ran == 0

    def test_copies_of_what_was_unbound(
        self, make_crew: Any, log_in: Any, counted: Any, make_caller: Any
    ) -> None:
        """Copies stay whose they were, and keep no protected tool waiting for hooks."""
        crew = make_crew("A")
        agent, session = crew.agents[0], log_in("analytics-agent")
        bind(agent, session)
        first, second = agent.copy(), agent.copy()
        unbind(first)  # a copy by itself: the others are as bound as before
        uninstall()
        with make_caller("allowed").enter():
            assert protect(counted.tool()).run(number=1).code == "hooks_missing"
            unbind(agent)
            assert protect(counted.tool()).run(number=1) == "found 1"
        assert (own_session(first), own_session(second)) == (None, session)

    @BOTH
    def test_added_since(
        self, native: bool, make_crew: Any, log_in: Any, counted: Any, guard: Any
    ) -> None:
        """An agent added to a bound crew does not borrow the session around it."""
        crew = make_crew("A", native=native)
        bind(crew, {"A": log_in("claims-agent")})
        late = make_crew("Late", native=native)
        crew.agents.append(late.agents[0])
        crew.tasks.append(late.tasks[0])
        for each in (crew, crew.copy()):
            with log_in("claims-agent"), pytest.raises(HookAborted, match="unbound_agent"):
                each.kickoff()
        unbind(crew)
        assert late.agents[0].llm.calls == 0
        ended = [r["outcome"].get("error_type") for r in guard.records() if "outcome" in r]
        assert "unbound_agent" in ended

    def test_agent_of_a_task_alone(self, make_crew: Any, log_in: Any) -> None:
        """An agent that only a task names is one of the crew's, too."""
        crew = make_crew("A")
        other = make_crew("Other").agents[0]
        crew.tasks.append(Task(description="d", expected_output="e", agent=other))
        with pytest.raises(ConfigurationError, match="no credential for `Other`"):
            bind(crew, {"A": log_in("claims-agent")})


class TestManager:
    def managed(self, make_crew: Any) -> Crew:
        crew: Crew = make_crew("Adjuster")
        return Crew(
            agents=crew.agents,
            tasks=[Task(description="d", expected_output="e")],
            process=Process.hierarchical,
            manager_llm=ScriptedLLM(model="gpt-4o", script=["over"]),
        )

    def test_made_by_crewai(self, make_crew: Any, log_in: Any, decisions: Any) -> None:
        """The manager CrewAI makes at kickoff is bound before, and on every copy."""
        crew = self.managed(make_crew)
        with pytest.raises(ConfigurationError, match="no credential for `Crew Manager`"):
            bind(crew, {"Adjuster": log_in("claims-agent")})
        bind(
            crew,
            {"Adjuster": log_in("claims-agent"), "Crew Manager": log_in("analytics-agent")},
        )
        crew.kickoff()
        crew.kickoff_for_each([{"x": "1"}])
        crew.kickoff()
        unbind(crew)
        assert {d["agent"]["name"] for d in decisions("model")} == {"analytics-agent"}
        assert len(decisions("model")) == 3

    def test_unbound(self, make_crew: Any, guard: Any, hooked: None) -> None:
        """Unbound, the manager has nobody's identity either."""
        crew = self.managed(make_crew)
        with pytest.raises(HookAborted, match="no_identity"):
            crew.kickoff()


class _Claims(Flow[Any]):
    """A flow whose step starts a crew."""

    crew: Any = None

    @start()
    def work(self) -> Any:
        return self.crew.kickoff()


def _flow(crew: Any) -> object:
    flow = _Claims()
    flow.crew = crew
    return flow.kickoff()


def _async_task(crew: Any) -> object:
    crew.tasks[0].async_execution = True
    return crew.kickoff()


def _replay(crew: Any) -> object:
    crew.kickoff()
    crew.agents[0].llm = ScriptedLLM(model="gpt-4o", script=[LOOKUP, "done"])
    return crew.replay(str(crew.tasks[0].id))


def _test(crew: Any) -> object:
    with contextlib.suppress(Exception):  # the evaluator's model says nothing it can read
        crew.test(n_iterations=1, eval_llm=ScriptedLLM(model="gpt-4o", script=["10"]))
    return None


RUNS: dict[str, Callable[[Any], object]] = {
    "kickoff_for_each_async": lambda c: asyncio.run(c.kickoff_for_each_async([{"x": "1"}])),
    "akickoff": lambda c: asyncio.run(c.akickoff()),
    "async task": _async_task,
    "flow": _flow,
    "replay": _replay,
    "test": _test,
    "Agent.kickoff": lambda c: c.agents[0].kickoff("go"),
}


@pytest.mark.parametrize("path", RUNS)
def test_identity_holds(
    path: str, make_crew: Any, log_in: Any, decisions: Any, counted: Any
) -> None:
    """Whichever way a crew is run, and whatever is copied for it, its agents are who they are."""
    crew = make_crew("Adjuster")
    bind(crew, {"Adjuster": log_in("claims-agent")})
    with log_in("analytics-agent"):
        RUNS[path](crew)
    unbind(crew)
    assert counted.ran >= 1
    assert set(callers(decisions)) == {("claims-agent", "ok")}


@pytest.mark.parametrize("path", RUNS)
def test_nobody(
    path: str, make_crew: Any, counted: Any, guard: Any, hooked: None, decisions: Any
) -> None:
    """Without binding and session every one of these is refused."""
    crew = make_crew("Adjuster")
    with contextlib.suppress(HookAborted):
        RUNS[path](crew)
    assert (counted.ran, crew.agents[0].llm.calls) == (0, 0)
    assert {d["decision"]["code"] for d in decisions("model")} == {"no_identity"}

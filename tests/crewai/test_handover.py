"""Delegation to coworkers: the boss's action, the worker's identity, and the rights of both."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable
from typing import Any

import pytest
from crewai import Agent, Crew, Process, Task
from crewai.hooks import HookAborted, InterceptionPoint, register_hook
from crewai.tools import tool
from crewai.tools.agent_tools.agent_tools import AgentTools
from crewai.utilities.agent_utils import (
    convert_tools_to_openai_schema,
    execute_single_native_tool_call,
)

from tabard import (
    AuthenticationFailed,
    ConfigurationError,
    Session,
    ToolCall,
    admit,
    current_session,
)
from tabard.testing.crewai import ScriptedLLM
from tabard_crewai import bind, install, protect, unbind

pytestmark = pytest.mark.crewai

DELEGATE, ASK = "delegate_work_to_coworker", "ask_question_to_coworker"
POLICY = """\
version: 1
agents:
  lead: &lead
    models: {allow: ["openai/gpt-4o"]}
    scope: {claimant_id: optional}
    grants:
      - id: ask
        tools: [delegate_work_to_coworker, ask_question_to_coworker]
        args: {coworker: {enum: ["Adjuster", "Payer", "{topic} Payer", "Stranger"]}}
        unknown_args: allow
      - {id: read, tools: ["claims.query"], args: {number: {max: 10}}}
    delegates_to: [adjuster, payer]
  poor-lead:
    models: {allow: ["openai/gpt-4o"]}
    grants: [{id: ask, tools: [delegate_work_to_coworker], unknown_args: allow}]
  adjuster:
    models: {allow: ["openai/gpt-4o"]}
    scope: {claimant_id: optional}
    grants:
      - {id: read, tools: ["claims.**"], args: {number: {max: 5}}}
      - {id: ask, tools: [ask_question_to_coworker], unknown_args: allow}
    delegates_to: [payer]
  payer:
    models: {allow: ["openai/gpt-4o"]}
    grants:
      - {id: pay, tools: ["payments.transfer"], unknown_args: allow}
      - {id: read, tools: ["claims.query"], unknown_args: allow}
  stranger:
    models: {allow: ["openai/gpt-4o"]}
    grants: [{id: all, tools: ["**"], unknown_args: allow}]
"""
NAMES = ("lead", "poor-lead", "adjuster", "payer", "stranger")


@pytest.fixture
def policy_text() -> str:
    return POLICY


@pytest.fixture(autouse=True)
def _agents(authority: Any) -> None:
    for name in NAMES:
        authority.register(name, team="claims", environment="prod")


@pytest.fixture
def log_in(guard: Any, authority: Any) -> Callable[..., Session]:
    return lambda name, **more: guard.login(authority.issue(name), **more)


@pytest.fixture
def told(guard: Any) -> Callable[[], list[tuple[str, str, str]]]:
    """Who did what for whom, and what came of it: decisions about tools and hand-overs."""

    def read() -> list[tuple[str, str, str]]:
        found = [
            r for r in guard.records() if r["type"] in ("tool.decision", "delegation.decision")
        ]
        return [(_who(r), r["action"]["name"], r["decision"]["code"]) for r in found]

    return read


def _who(record: Any) -> str:
    chain, actor = [record["agent"]["name"]], record.get("act")
    while actor:
        chain.append(actor["sub"].rpartition("/")[2])
        actor = actor.get("act")
    return " for ".join(chain)


class Office:
    """A manager, its workers, and the tools they hold; every body counts."""

    def __init__(self, native: bool) -> None:
        self.native = native
        self.ran: list[tuple[str, int]] = []
        self.manager: Agent | None = None

    def tool(self, name: str) -> Any:
        @tool(name)
        def work(number: int) -> str:
            """Do it."""
            self.ran.append((name, number))
            return f"{name} {number}"

        return work

    def llm(self, *script: Any) -> ScriptedLLM:
        return ScriptedLLM(model="gpt-4o", script=list(script), native=self.native)

    def agent(self, role: str, *script: Any, tools: Any = (), **more: Any) -> Agent:
        return Agent(
            role=role, goal="g", backstory="b", tools=list(tools), llm=self.llm(*script), **more
        )

    def crew(self, boss: Any, *workers: Agent, created: bool = False, **more: Any) -> Crew:
        job = Task(description="d", expected_output="e")
        managed = (
            {"manager_llm": self.llm(*boss)}
            if created
            else {"manager_agent": self.agent("Boss", *boss)}
        )
        return Crew(
            agents=list(workers), tasks=[job], process=Process.hierarchical, **managed, **more
        )


@pytest.fixture
def office(request: Any) -> Office:
    """Native calls, unless a test asks for both kinds."""
    return Office(getattr(request, "param", True))


BOTH = pytest.mark.parametrize("office", [True, False], ids=["native", "ReAct"], indirect=True)


def ask(coworker: str, name: str = DELEGATE) -> tuple[str, dict[str, Any]]:
    what = {"question": "q"} if name == ASK else {"task": "t"}
    return (name, {**what, "context": "c", "coworker": coworker})


def read(number: int, name: str = "claims_query") -> tuple[str, dict[str, Any]]:
    return (name, {"number": number})


KICKOFFS: dict[str, Callable[[Crew], object]] = {
    "kickoff": lambda crew: crew.kickoff(),
    "kickoff_async": lambda crew: asyncio.run(crew.kickoff_async()),
    "akickoff": lambda crew: asyncio.run(crew.akickoff()),
    "kickoff_for_each": lambda crew: crew.kickoff_for_each([{"x": "1"}]),
    "akickoff_for_each": lambda crew: asyncio.run(crew.akickoff_for_each([{"x": "1"}])),
}


class TestNarrowing:
    @BOTH
    @pytest.mark.parametrize(
        ("path", "created"),
        [("kickoff", False), *((path, True) for path in KICKOFFS)],
        ids=lambda value: value if isinstance(value, str) else f"made={value}",
    )
    def test_worker_has_the_rights_of_both(
        self, path: str, created: bool, office: Office, log_in: Any, told: Any
    ) -> None:
        """P4: what the worker may is what boss and worker both may, on every kickoff."""
        tools = [office.tool("claims.query"), office.tool("claims.delete")]
        worker = office.agent(
            "Adjuster", read(5), read(7), read(1, "claims_delete"), "done", tools=tools
        )
        crew = office.crew((ask("Adjuster"), "over"), worker, created=created)
        boss = "Crew Manager" if created else "Boss"
        bind(crew, {boss: log_in("lead"), "Adjuster": log_in("adjuster")})
        KICKOFFS[path](crew)
        unbind(crew)
        assert office.ran == [("claims.query", 5)]
        assert told() == [
            ("lead", DELEGATE, "ok"),
            ("lead", "adjuster", "ok"),
            ("adjuster for lead", "claims.query", "ok"),
            ("adjuster for lead", "claims.query", "arg.max"),  # the boss may, the worker may not
            ("adjuster for lead", "claims.delete", "no_grant"),  # the reverse
        ]

    @BOTH
    def test_each_call_once(self, office: Office, log_in: Any, guard: Any) -> None:
        """Every call, of a model too, is on record once and of the innermost identity."""
        worker = office.agent("Adjuster", read(5), "done", tools=[office.tool("claims.query")])
        crew = office.crew((ask("Adjuster", ASK), "over"), worker)
        bind(crew, {"Boss": log_in("lead"), "Adjuster": log_in("adjuster")})
        crew.kickoff()
        unbind(crew)
        calls = [(r["type"], _who(r)) for r in guard.records() if r["type"].endswith("decision")]
        assert calls == [
            ("model.decision", "lead"),
            ("tool.decision", "lead"),
            ("delegation.decision", "lead"),
            ("model.decision", "adjuster for lead"),
            ("tool.decision", "adjuster for lead"),
            ("model.decision", "adjuster for lead"),
            ("model.decision", "lead"),
        ]
        ended = [r for r in guard.records() if r["type"].endswith(".outcome")]
        assert [o["outcome"]["status"] for o in ended] == ["ok"] * len(calls)

    def test_protected_tool(self, office: Office, log_in: Any, told: Any) -> None:
        """A protected tool is admitted once there, too, and refused with CrewAI's ToolFailure."""
        worker = office.agent(
            "Adjuster", read(5), read(7), "done", tools=[protect(office.tool("claims.query"))]
        )
        crew = office.crew((ask("Adjuster"), "over"), worker)
        bind(crew, {"Boss": log_in("lead"), "Adjuster": log_in("adjuster")})
        crew.kickoff()
        unbind(crew)
        assert office.ran == [("claims.query", 5)]
        assert [code for _, _, code in told()] == ["ok", "ok", "ok", "arg.max"]

    def test_worker_asks_on(self, office: Office, log_in: Any, told: Any) -> None:
        """A chain of three, each link narrowing; the worker's tools are behind all of them."""
        payer = office.agent("Payer", read(5), read(7), "paid", tools=[office.tool("claims.query")])
        worker = office.agent("Adjuster", ask("Payer", ASK), "done", allow_delegation=True)
        worker.tools = AgentTools(agents=[payer]).tools()
        crew = office.crew((ask("Adjuster"), "over"), worker, payer)
        bind(
            crew,
            {"Boss": log_in("lead"), "Adjuster": log_in("adjuster"), "Payer": log_in("payer")},
        )
        crew.kickoff()
        unbind(crew)
        assert told()[2:] == [
            ("adjuster for lead", ASK, "ok"),
            ("adjuster for lead", "payer", "ok"),
            ("payer for adjuster for lead", "claims.query", "ok"),
            ("payer for adjuster for lead", "claims.query", "arg.max"),
        ]
        assert office.ran == [("claims.query", 5)]

    def test_workers_in_parallel(self, office: Office, log_in: Any, told: Any) -> None:
        """Two workers asked at once do not get into each other's chain."""
        workers = [
            office.agent(role, read(5), "done", tools=[office.tool("claims.query")])
            for role in ("Adjuster", "Payer")
        ]
        crew = office.crew(([ask("Adjuster"), ask("Payer")], "over"), *workers)
        bind(
            crew,
            {"Boss": log_in("lead"), "Adjuster": log_in("adjuster"), "Payer": log_in("payer")},
        )
        crew.kickoff()
        unbind(crew)
        assert sorted(
            who for who, name, code in told() if (name, code) == ("claims.query", "ok")
        ) == [
            "adjuster for lead",
            "payer for lead",
        ]

    def test_worker_on_its_own_afterwards(self, office: Office, log_in: Any, told: Any) -> None:
        """Once the hand-over is over the worker has its own rights again, and no others."""
        worker = office.agent("Adjuster", "done", read(1, "claims_delete"), "done")
        worker.tools = [office.tool("claims.delete")]
        crew = office.crew((ask("Adjuster"), "over"), worker)
        bind(crew, {"Boss": log_in("lead"), "Adjuster": log_in("adjuster")})
        crew.kickoff()
        worker.kickoff("go")
        unbind(crew)
        assert told()[-1] == ("adjuster", "claims.delete", "ok")

    def test_boss_under_the_current_session(self, office: Office, log_in: Any, told: Any) -> None:
        """A boss that is not bound hands over the session it works under."""
        worker = office.agent("Adjuster", read(7), "done", tools=[office.tool("claims.query")])
        crew = office.crew((ask("Adjuster"), "over"), worker)
        bind(worker, log_in("adjuster"))
        with log_in("lead"):
            crew.kickoff()
        unbind(worker)
        assert office.ran == []
        assert told()[-1] == ("adjuster for lead", "claims.query", "arg.max")

    @BOTH
    def test_sequential_crew(self, office: Office, log_in: Any, told: Any) -> None:
        """An agent that may delegate hands over in a crew without a manager, too."""
        worker = office.agent("Adjuster", read(7), "done", tools=[office.tool("claims.query")])
        boss = office.agent("Boss", ask("Adjuster"), "over", allow_delegation=True)
        job = Task(description="d", expected_output="e", agent=boss)
        crew = Crew(agents=[boss, worker], tasks=[job])
        bind(crew, {"Boss": log_in("lead"), "Adjuster": log_in("adjuster")})
        crew.kickoff()
        unbind(crew)
        assert office.ran == []
        assert told()[1:] == [
            ("lead", "adjuster", "ok"),
            ("adjuster for lead", "claims.query", "arg.max"),
        ]

    def test_nobody_bound(self, office: Office, log_in: Any, told: Any) -> None:
        """Without bindings all of it is the current session's; there is nobody to hand over to."""
        install()
        worker = office.agent("Adjuster", read(7), "done", tools=[office.tool("claims.query")])
        crew = office.crew((ask("Adjuster"), "over"), worker)
        with log_in("lead"):
            crew.kickoff()
        assert told() == [("lead", DELEGATE, "ok"), ("lead", "claims.query", "ok")]


class TestRefusals:
    def refused(self, office: Office, crew: Crew, boss: Any) -> str:
        """Run; what the boss was told. It goes on to its own answer in any case."""
        output: Any = crew.kickoff()
        unbind(crew)
        assert output.raw == "over"
        assert office.ran == []
        return "\n".join(str(m["content"]) for m in boss.seen[-1])

    def boss_of(self, crew: Crew) -> Any:
        manager: Any = crew.manager_agent
        return manager.llm

    @pytest.mark.parametrize(
        ("boss", "coworker", "code"),
        [
            ("lead", "Stranger", "delegation"),  # not in the boss's delegates_to
            ("poor-lead", "Adjuster", "delegation"),
            ("lead", "Boss", "arg.enum"),  # the tool permission says whom
            ("lead", "Nobody", "arg.enum"),
            ("adjuster", "Payer", "no_grant"),  # no permission for the tool at all
        ],
    )
    def test_boss_is_told_why_and_goes_on(
        self, boss: str, coworker: str, code: str, office: Office, log_in: Any, guard: Any
    ) -> None:
        """A hand-over the policy does not list is refused, on record, and explained."""
        roles = ("Adjuster", "Payer", "Stranger")
        workers = [
            office.agent(role, read(1), "done", tools=[office.tool("claims.query")])
            for role in roles
        ]
        crew = office.crew((ask(coworker), "over"), *workers)
        bind(crew, {"Boss": log_in(boss), **{role: log_in(role.lower()) for role in roles}})
        told = self.refused(office, crew, self.boss_of(crew))
        assert f"(code: {code})" in told
        codes = {r["decision"]["code"] for r in guard.records() if "decision" in r}
        assert code in codes
        assert not any(worker.llm.calls for worker in workers)  # type: ignore[union-attr]

    @BOTH
    def test_output_shows_it(self, office: Office, log_in: Any) -> None:
        """The refusal is in the task's output, though only hooks have seen it."""
        worker = office.agent("Stranger", "done")
        crew = office.crew((ask("Stranger"), "over"), worker)
        bind(crew, {"Boss": log_in("lead"), "Stranger": log_in("stranger")})
        result: Any = crew.kickoff()
        unbind(crew)
        [output] = result.tasks_output
        assert [f.failure.code for f in output.tool_failures] == ["delegation"]

    @pytest.mark.parametrize("how", ["revoke", "token", "close", "expire"])
    @pytest.mark.parametrize("who", ["lead", "adjuster"])
    def test_stopped_while_it_works(
        self, how: str, who: str, office: Office, log_in: Any, authority: Any, clock: Any,
        guard: Any,
    ) -> None:  # fmt: skip
        """R4: whichever of the two is stopped, by whichever lever, the worker's next call is."""
        sessions = {name: log_in(name) for name in ("lead", "adjuster")}

        @tool("claims.query")
        def stop(number: int) -> str:
            """Look, while somebody stops it."""
            office.ran.append(("claims.query", number))
            if how == "revoke":
                authority.revoke(who, reason="x")
            elif how == "token":
                authority.revoke_token(sessions[who].token.jti, reason="x")
            elif how == "close":
                sessions[who].close()
            else:
                clock.now += 301
            return "x"

        worker = office.agent("Adjuster", read(1), read(2), "done", tools=[stop])
        crew = office.crew((ask("Adjuster"), "over"), worker)
        bind(crew, {"Boss": sessions["lead"], "Adjuster": sessions["adjuster"]})
        with contextlib.suppress(HookAborted):
            crew.kickoff()
        unbind(crew)
        assert office.ran == [("claims.query", 1)]
        refusals = [r for r in guard.records() if r.get("decision", {}).get("effect") == "deny"]
        expected = {"revoke": "token_revoked", "token": "token_revoked", "close": "session_closed"}
        assert refusals[0]["decision"]["code"] == expected.get(how, "token_expired")

    def test_worker_that_is_dead_already(self, office: Office, log_in: Any) -> None:
        """A worker whose own credential does not hold is not asked at all."""
        worker = office.agent("Adjuster", "done")
        crew = office.crew((ask("Adjuster"), "over"), worker)
        session = log_in("adjuster")
        bind(crew, {"Boss": log_in("lead"), "Adjuster": session})
        session.close()
        told = self.refused(office, crew, self.boss_of(crew))
        assert "(code: session_closed)" in told

    def test_another_data_scope(self, office: Office, log_in: Any) -> None:
        """A worker bound to one claimant is not lent to a boss that handles another."""
        worker = office.agent("Adjuster", read(1), "done", tools=[office.tool("claims.query")])
        crew = office.crew((ask("Adjuster"), "over"), worker)
        bind(
            crew,
            {
                "Boss": log_in("lead", scope={"claimant_id": "C-1"}),
                "Adjuster": log_in("adjuster", scope={"claimant_id": "C-2"}),
            },
        )
        assert "(code: scope)" in self.refused(office, crew, self.boss_of(crew))

    def test_refused_model_of_the_worker(self, office: Office, log_in: Any) -> None:
        """A worker that may not call its model leaves the boss to go on."""
        worker = office.agent("Adjuster", "done")
        worker.llm.model = "gpt-3.5-turbo"  # type: ignore[union-attr]
        crew = office.crew((ask("Adjuster"), "over"), worker)
        bind(crew, {"Boss": log_in("lead"), "Adjuster": log_in("adjuster")})
        told = self.refused(office, crew, self.boss_of(crew))
        assert "model: the model is not on the agent's list" in told
        assert worker.llm.calls == 0  # type: ignore[union-attr]


class TestAttacks:
    @pytest.mark.parametrize("spelled", ['"adjuster"', " ADJUSTER ", "[Adjuster, Stranger]"])
    def test_spelling(self, spelled: str, office: Office, log_in: Any, told: Any) -> None:
        """P3: however the model spells a role, the agent that is reached is decided on."""
        worker = office.agent("Adjuster", read(7), "done", tools=[office.tool("claims.query")])
        crew = office.crew((ask(spelled), "over"), worker, office.agent("Stranger", "done"))
        bind(
            crew,
            {
                "Boss": log_in("lead"),
                "Adjuster": log_in("adjuster"),
                "Stranger": log_in("stranger"),
            },
        )
        crew.kickoff()
        unbind(crew)
        assert told()[:2] == [("lead", DELEGATE, "ok"), ("lead", "adjuster", "ok")]
        assert office.ran == []

    @BOTH
    def test_another_coworker_after_the_hook(self, office: Office, log_in: Any, guard: Any) -> None:
        """E16: a later hook that puts another coworker in gets nobody to work."""
        stranger = office.agent("Stranger", read(1), "done", tools=[office.tool("claims.query")])
        crew = office.crew((ask("Adjuster"), "over"), office.agent("Adjuster", "done"), stranger)
        bind(
            crew,
            {
                "Boss": log_in("lead"),
                "Adjuster": log_in("adjuster"),
                "Stranger": log_in("stranger"),
            },
        )

        def rewrite(context: Any) -> None:
            if "coworker" in context.tool_input:
                context.tool_input["coworker"] = "Stranger"

        register_hook(InterceptionPoint.PRE_TOOL_CALL, rewrite)
        crew.kickoff()
        unbind(crew)
        assert (office.ran, stranger.llm.calls) == ([], 0)  # type: ignore[union-attr]
        types = [r["outcome"].get("error_type") for r in guard.records() if "outcome" in r]
        assert "not_handed_over" in types

    def test_copy_of_the_worker(self, office: Office, log_in: Any, told: Any) -> None:
        """What the worker's tool starts in turn with the worker itself is narrowed as well."""
        worker: list[Agent] = []

        @tool("claims.query")
        def again(number: int) -> str:
            """Start a copy of oneself."""
            copy = worker[0].copy()
            copy.llm = office.llm(read(1, "claims_delete"), "done")
            copy.tools = [office.tool("claims.delete")]
            copy.kickoff("go")
            return "x"

        worker.append(office.agent("Adjuster", read(1), "done", tools=[again]))
        crew = office.crew((ask("Adjuster"), "over"), worker[0])
        bind(crew, {"Boss": log_in("lead"), "Adjuster": log_in("adjuster")})
        crew.kickoff()
        unbind(crew)
        assert office.ran == []
        assert told()[-1] == ("adjuster for lead", "claims.delete", "no_grant")

    def test_session_kept_for_later(self, office: Office, log_in: Any) -> None:
        """The session of a hand-over is over with it, whoever has kept it."""
        kept: list[Any] = []

        @tool("claims.query")
        def keep(number: int) -> str:
            """Keep the session."""
            kept.append(current_session())
            return "x"

        crew = office.crew(
            (ask("Adjuster"), "over"), office.agent("Adjuster", read(1), "done", tools=[keep])
        )
        bind(crew, {"Boss": log_in("lead"), "Adjuster": log_in("adjuster")})
        crew.kickoff()
        unbind(crew)
        with pytest.raises(AuthenticationFailed, match="session_closed"):
            admit(ToolCall("claims.query", {"number": 1}), session=kept[0])
        assert current_session() is None

    def test_asking_that_is_not_shown(self, office: Office, log_in: Any) -> None:
        """Where CrewAI does not show the hook which tool it runs, that tool gets nobody to work."""
        worker = office.agent("Adjuster", read(7), "done", tools=[office.tool("claims.query")])
        boss = office.agent("Boss", "over")
        bind(worker, log_in("adjuster"))
        bind(boss, log_in("lead"))
        tools = AgentTools(agents=[worker]).tools()
        _, functions, _ = convert_tools_to_openai_schema(tools)
        name, arguments = ask("Adjuster")
        call = {"id": "1", "function": {"name": name, "arguments": json.dumps(arguments)}}
        answer = execute_single_native_tool_call(
            {**call, "type": "function"},
            available_functions=functions,
            original_tools=tools,
            structured_tools=None,
            tools_handler=None,
            agent=boss,
            task=None,
            crew=None,
            event_source=boss,
        )
        unbind(boss)
        unbind(worker)
        assert "not_handed_over" in str(answer.result)
        assert (office.ran, worker.llm.calls) == ([], 0)  # type: ignore[union-attr]

    def test_protecting_the_asking(self, office: Office) -> None:
        """A hand-over is more than a tool: it is not guarded in appearance only."""
        [asking, _] = AgentTools(agents=[office.agent("Adjuster", "done")]).tools()
        with pytest.raises(ConfigurationError, match="asks a coworker"):
            protect(asking)

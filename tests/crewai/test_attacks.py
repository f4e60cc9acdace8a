"""Attacks on the tool side: other entrances, borrowed marks, borrowed identities, shared dicts."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import threading
from typing import Any

import pytest
from crewai import Agent, Crew, Task
from crewai.hooks import HookAborted, InterceptionPoint, clear_all_hooks, get_hooks
from crewai.hooks.tool_hooks import (
    ToolCallHookContext,
    run_after_tool_call_hooks,
    run_before_tool_call_hooks,
)
from crewai.tools import BaseTool, tool
from crewai.utilities.agent_utils import (
    convert_tools_to_openai_schema,
    execute_single_native_tool_call,
    parse_tools,
)

from tabard import ConfigurationError, ToolCall, admit, current_session
from tabard.testing.crewai import ScriptedLLM
from tabard_crewai import assert_installed, bind, install, protect, unbind, uninstall
from tabard_crewai.bound import session_of

pytestmark = pytest.mark.crewai

BOTH = pytest.mark.parametrize("native", [True, False], ids=["native", "ReAct"])


@pytest.fixture
def log_in(guard: Any, authority: Any) -> Any:
    """Logs an agent in by its name."""
    return lambda name: guard.login(authority.issue(name))


@pytest.fixture
def told(guard: Any) -> Any:
    """Who called which tool, and what came of it."""

    def read() -> list[tuple[str, str, str]]:
        records = [r for r in guard.records() if r["type"].startswith("tool.")]
        return [
            (
                r["agent"]["name"] if r["agent"] else "nobody",
                r["action"]["name"],
                r["decision"]["code"]
                if "decision" in r
                else r["outcome"].get("error_type") or r["outcome"]["status"],
            )
            for r in records
        ]

    return read


class Lookup(BaseTool):
    """A tool as CrewAI wants it written."""

    name: str = "claims_db.lookup"
    description: str = "Look a number up."

    def _run(self, number: int, limit: int = 1) -> str:
        return f"found {number}"


class TestEntrances:
    @pytest.mark.parametrize("entrance", ["run", "arun", "to_structured_tool", "__call__"])
    def test_entrance_of_its_own(self, entrance: str) -> None:
        """A class that reaches its body past `_run` is not protected in appearance only."""
        kind = type("Sly", (Lookup,), {entrance: lambda self, *a, **k: "past the guard"})
        with pytest.raises(ConfigurationError, match=f"has a `{entrance}` of its own"):
            protect(kind())

    def test_borrowed_mark(self, counted: Any, make_caller: Any) -> None:
        """A function around a guarded one bears its attributes; it is guarded all the same."""
        guarded: Any = protect(counted.tool())

        @functools.wraps(guarded.func)
        def sly(number: int, limit: int = 10) -> str:
            counted.ran += 1
            return "past the guard"

        target = protect(guarded.model_copy(update={"func": sly}))
        with make_caller("allowed").enter():
            assert target.run(number=7).code == "arg.enum"
        assert counted.ran == 0

    @pytest.mark.parametrize("fails", [False, True])
    def test_promised_result(self, fails: bool, make_caller: Any, told: Any) -> None:
        """A plain function that returns a coroutine ends when the coroutine does."""
        seen: list[Any] = []

        async def later(number: int) -> str:
            seen.append((current_session(), told()[-1][2]))
            if fails:
                raise OSError("C-1")
            return "x"

        @protect
        @tool("claims_db.lookup")
        def lookup(number: int, limit: int = 1) -> Any:
            """Look a number up."""
            return later(number)

        target: Any = lookup
        with make_caller("allowed").enter() as session:
            try:
                assert asyncio.run(target.arun(number=1)) == "x"
            except OSError:
                assert fails
            assert target.run(number=7).code == "arg.enum"
        assert seen == [(session, "ok")]
        assert [code for _, _, code in told()] == ["ok", "OSError" if fails else "ok", "arg.enum"]

    def test_bare_thread(self, counted: Any, make_caller: Any) -> None:
        """A thread that was not given the context has no identity."""
        target: Any = protect(counted.tool())
        answers: list[Any] = []
        with make_caller("allowed").enter():
            thread = threading.Thread(target=lambda: answers.append(target.run(number=1)))
            thread.start()
            thread.join()
        assert (answers[0].code, counted.ran) == ("no_identity", 0)

    def test_copies_stay_protected(self, counted: Any, guard: Any) -> None:
        """What CrewAI copies stays guarded."""
        for copied in (protect(counted.tool()).model_copy(), protect(counted.tool()).copy()):
            target: Any = copied
            answers = [target.run(number=1), target.func(1), target._run(1)]
            assert {answer.code for answer in answers} == {"no_identity"}
        assert counted.ran == 0


class TestWhoCalls:
    @BOTH
    def test_inside_an_unprotected_tool(
        self, native: bool, counted: Any, make_scene: Any, log_in: Any, told: Any
    ) -> None:
        """What a bound agent's tool calls in turn is that agent's, not the session's around it."""
        inner: Any = protect(counted.tool())
        answers: list[Any] = []

        @tool("stats.outer")
        def outer(number: int) -> str:
            """Call another tool."""
            answers.append(inner.run(number=number))
            return "x"

        scene = make_scene(outer, native=native)
        bind(scene.agent, log_in("analytics-agent"))
        with log_in("claims-agent") as around:
            scene.crew.kickoff()
            assert current_session() is around
        unbind(scene.agent)
        assert (answers[0].code, counted.ran) == ("no_grant", 0)
        assert told() == [
            ("analytics-agent", "stats.outer", "ok"),
            ("analytics-agent", "claims_db.lookup", "no_grant"),
            ("analytics-agent", "stats.outer", "ok"),
        ]

    @BOTH
    def test_crew_inside_a_tool(
        self, native: bool, counted: Any, make_scene: Any, log_in: Any, decisions: Any
    ) -> None:
        """A crew that a bound agent's tool starts works for that agent, save bound ones."""
        unbound = make_scene(counted.tool(), native=native, role="Unbound")
        own = make_scene(counted.tool(), native=native, role="Own")

        @tool("stats.outer")
        def outer(number: int) -> str:
            """Start two crews."""
            unbound.crew.kickoff()
            own.crew.kickoff()
            return "x"

        scene = make_scene(outer, native=native)
        bind(scene.agent, log_in("analytics-agent"))
        bind(own.agent, log_in("claims-agent"))
        scene.crew.kickoff()
        unbind(scene.agent)
        unbind(own.agent)
        calls = [(d["agent"]["name"], d["decision"]["code"]) for d in decisions("tool")]
        assert calls == [
            ("analytics-agent", "ok"),
            ("analytics-agent", "no_grant"),
            ("claims-agent", "ok"),
        ]
        assert counted.ran == 1
        assert current_session() is None

    @BOTH
    def test_cleared_hooks_of_a_bound_agent(
        self, native: bool, counted: Any, make_scene: Any, log_in: Any, told: Any
    ) -> None:
        """Once nothing tells which agent calls, nobody's identity is borrowed for it."""
        scene = make_scene(protect(counted.tool()), native=native)
        bind(scene.agent, log_in("analytics-agent"))
        clear_all_hooks()
        with log_in("claims-agent"):
            scene.crew.kickoff()
        assert counted.ran == 0
        assert told()[-1][2] == "hooks_missing"
        assert "the hooks that tell which one calls are gone" in str(scene.llm.seen[-1])
        unbind(scene.agent)

    def test_binding_installs(self, make_scene: Any, counted: Any, log_in: Any) -> None:
        """A binding without hooks would be none."""
        scene = make_scene(counted.tool(), native=True)
        bind(scene.agent, log_in("claims-agent"))
        assert_installed()
        unbind(scene.agent)

    def test_after_uninstall(self, counted: Any, make_scene: Any) -> None:
        """Uninstalled hooks see nothing, block nothing and leave nothing behind."""
        install()
        hooks = {point: get_hooks(point) for point in InterceptionPoint}
        uninstall()
        uninstall()
        assert any(hooks.values())
        assert not any(get_hooks(point) for point in InterceptionPoint)
        make_scene(counted.tool(), native=True).crew.kickoff()
        assert counted.ran == 1

    def test_thing_with_the_key_of_an_agent(
        self, counted: Any, make_scene: Any, log_in: Any
    ) -> None:
        """Only agents of CrewAI's own class are looked up."""
        scene = make_scene(counted.tool(), native=True)
        session = bind(scene.agent, log_in("claims-agent"))
        thing = type("Thing", (), {"key": scene.agent.key})()
        assert session_of(scene.agent) is session
        assert session_of(scene.agent.copy()) is session
        assert session_of(thing) is None
        unbind(scene.agent)

    @BOTH
    def test_cache_of_another_agent(
        self, native: bool, hooked: None, counted: Any, log_in: Any, decisions: Any
    ) -> None:
        """A result one agent may see is not served from the crew's cache to one that may not."""
        target = counted.tool()

        def agent(role: str, name: str) -> Any:
            script = [("claims_db_lookup", {"number": 1}), "done"]
            llm = ScriptedLLM(model="gpt-4o", script=script, native=native)
            made = Agent(role=role, goal="g", backstory="b", tools=[target], llm=llm)
            bind(made, log_in(name))
            return made

        agents = [agent("One", "claims-agent"), agent("Two", "analytics-agent")]
        jobs = [Task(description="d", expected_output="e", agent=a) for a in agents]
        Crew(agents=agents, tasks=jobs, cache=True).kickoff()
        for made in agents:
            unbind(made)
        assert [d["decision"]["code"] for d in decisions("tool")] == ["ok", "no_grant"]
        assert counted.ran == 1
        assert "found 1" not in str(agents[1].llm.seen[-1][-1])


class TestHookContexts:
    def test_one_dict_for_two_calls(self, hooked: None, make_caller: Any, told: Any) -> None:
        """Calls in progress that share one argument dict are told apart."""
        shared = {"number": 1, "limit": 1}

        def context(name: str) -> Any:
            return ToolCallHookContext(tool_name=name, tool_input=shared, tool=None)  # type: ignore[arg-type]

        with make_caller("allowed").enter():
            one, two = contextvars.copy_context(), contextvars.copy_context()
        allowed, refused = context("claims_db.lookup"), context("claims_db.drop")
        assert not one.run(run_before_tool_call_hooks, allowed)
        assert two.run(run_before_tool_call_hooks, refused)
        allowed.tool_result = refused.tool_result = "x"
        assert one.run(run_after_tool_call_hooks, allowed) in (None, "x")
        assert "no_grant" in str(two.run(run_after_tool_call_hooks, refused))
        assert [code for _, _, code in told()] == ["ok", "no_grant", "ok"]

    @pytest.mark.parametrize("tool_input", [None, 4, "text"])
    def test_unreadable_call_is_on_record(
        self, tool_input: Any, hooked: None, make_caller: Any, told: Any
    ) -> None:
        """A call that cannot be read is blocked, and the attempt is on record."""
        context = ToolCallHookContext(tool_name="x", tool_input=tool_input, tool=None)  # type: ignore[arg-type]
        with make_caller("allowed").enter():
            assert run_before_tool_call_hooks(context)
        assert told() == [("claims-agent", "x", "arg.type")]

    def test_numbered_namesakes(
        self, hooked: None, counted: Any, make_caller: Any, told: Any
    ) -> None:
        """CrewAI numbers namesakes, and may take one for the tool that is really called so."""
        ran: list[str] = []

        def make(name: str) -> Any:
            @tool(name)
            def lookup(number: int, limit: int = 1) -> str:
                """Look a number up."""
                ran.append(name)
                return "x"

            return lookup

        tools = [make("claims_db_lookup"), make("claims_db-lookup"), make("claims_db_lookup_2")]
        _, functions, _ = convert_tools_to_openai_schema(tools)
        agent = Agent(role="r", goal="g", backstory="b", tools=tools)
        call = {
            "id": "1",
            "type": "function",
            "function": {"name": "claims_db_lookup_2", "arguments": '{"number": 1}'},
        }
        with make_caller("namesakes").enter():
            answer = execute_single_native_tool_call(
                call,
                available_functions=functions,
                original_tools=tools,
                structured_tools=parse_tools(tools),
                tools_handler=None,
                agent=agent,
                task=None,
                crew=None,
                event_source=agent,
            )
        assert ran == []
        assert told()[-1][2] == "ambiguous_tool"
        assert "rename one of them" in str(answer.result)

    def test_admission_error_is_a_refusal(
        self, hooked: None, make_caller: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Even where the bookkeeping of the hook itself breaks, only HookAborted leaves it."""

        def explode(*_: Any) -> None:
            raise NotImplementedError

        monkeypatch.setattr("tabard_crewai.progress.begin", explode)
        context = ToolCallHookContext(tool_name="claims_db.lookup", tool_input={}, tool=None)  # type: ignore[arg-type]
        (hook,) = get_hooks(InterceptionPoint.PRE_TOOL_CALL)
        with make_caller("allowed").enter(), pytest.raises(HookAborted):
            hook(context)


def test_guarded_function_inside_a_tool(
    counted: Any, make_scene: Any, log_in: Any, guard: Any
) -> None:
    """Plain admissions inside an unprotected tool body are the bound agent's, too."""
    names: list[str] = []

    @tool("stats.outer")
    def outer(number: int) -> str:
        """Ask the guard."""
        with admit(ToolCall("stats.inner", {})) as permit:
            names.append(permit.session.agent.name)
        return "x"

    scene = make_scene(outer, native=True)
    bind(scene.agent, log_in("analytics-agent"))
    scene.crew.kickoff()
    unbind(scene.agent)
    assert names == ["analytics-agent"]

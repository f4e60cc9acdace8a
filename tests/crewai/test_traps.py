"""The ways in which a CrewAI hook is known to fail open, and attacks on these ones."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import Callable
from typing import Any

import pytest
from crewai import Agent, Crew, Task
from crewai.hooks import HookAborted, InterceptionPoint, clear_all_hooks, get_hooks, register_hook
from crewai.tools import BaseTool, tool
from pydantic import BaseModel

from tabard import ConfigurationError, ToolCall, admit
from tabard.testing.crewai import ScriptedLLM
from tabard_crewai import assert_installed, bind, install, progress, protect, unbind, uninstall
from tabard_crewai.ticket import Ticket

pytestmark = pytest.mark.crewai

BOTH = pytest.mark.parametrize("native", [True, False], ids=["native", "ReAct"])


def explode(*_: Any, **__: Any) -> None:
    raise NotImplementedError


class TestHooks:
    @BOTH
    @pytest.mark.parametrize("where", ["tabard_crewai.caller.admit", "tabard.delegation.decide"])
    def test_internal_error_blocks_the_tool(
        self,
        native: bool,
        where: str,
        counted: Any,
        make_scene: Any,
        make_caller: Any,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """Whatever goes wrong inside blocks the call; only HookAborted leaves a hook."""
        install()
        scene = make_scene(counted.tool(), native=native)
        with make_caller("allowed").enter():
            monkeypatch.setattr(where, explode)
            with pytest.raises(HookAborted):
                scene.crew.kickoff()
        assert (scene.llm.calls, counted.ran) == (0, 0)

    def test_context_without_what_it_needs(self) -> None:
        """A context CrewAI should never make is a refusal, too."""
        install()
        for point in (InterceptionPoint.PRE_TOOL_CALL, InterceptionPoint.PRE_MODEL_CALL):
            for hook in get_hooks(point):
                with pytest.raises(HookAborted):
                    hook(object())

    @BOTH
    def test_model_is_told_why(
        self, native: bool, hooked: None, counted: Any, make_scene: Any, make_caller: Any
    ) -> None:
        """The reason and the code reach the model, not CrewAI's bare 'blocked by hook'."""
        scene = make_scene(counted.tool(), native=native, argument=7)
        with make_caller("allowed").enter():
            scene.crew.kickoff()
        told = "\n".join(str(message["content"]) for message in scene.llm.seen[-1])
        assert "Denied: argument `number` fails the grant's `enum` (code: arg.enum)" in told

    def test_denied_model_is_never_called(
        self, hooked: None, counted: Any, make_scene: Any, make_caller: Any, decisions: Any
    ) -> None:
        """A model that is not on the list is not called; the refusal reaches kickoff's caller."""
        scene = make_scene(counted.tool(), native=True)
        scene.llm.model = "gpt-3.5-turbo"
        with make_caller("allowed").enter(), pytest.raises(HookAborted, match="model: "):
            scene.crew.kickoff()
        assert scene.llm.calls == 0
        assert decisions("model")[-1]["action"]["name"] == "openai/gpt-3.5-turbo"

    def test_install_twice_is_once(
        self, counted: Any, make_scene: Any, make_caller: Any, decisions: Any
    ) -> None:
        """Installing again registers nothing twice."""
        install()
        install()
        with make_caller("allowed").enter():
            make_scene(counted.tool(), native=True).crew.kickoff()
        assert len(decisions("tool")) == 1

    def test_uninstall_removes_its_own_only(self) -> None:
        """Uninstalling leaves other hooks where they are, and the check notices."""

        def other(context: Any) -> None:
            """Somebody else's hook."""

        install()
        assert_installed()
        register_hook(InterceptionPoint.PRE_TOOL_CALL, other)
        uninstall()
        assert get_hooks(InterceptionPoint.PRE_TOOL_CALL) == [other]
        with pytest.raises(ConfigurationError, match="pre_tool_call"):
            assert_installed()

    @BOTH
    @pytest.mark.parametrize("granted_first", [True, False])
    def test_tools_with_one_simplified_name(
        self,
        native: bool,
        granted_first: bool,
        hooked: None,
        counted: Any,
        make_caller: Any,
        guard: Any,
    ) -> None:
        """Where CrewAI cannot tell two tools apart, neither is run on the other's permission."""

        @tool("claims_db-lookup")
        def rival(number: int, limit: int = 10) -> str:
            """Look somewhere else."""
            counted.ran += 1
            return "x"

        llm = ScriptedLLM(
            model="gpt-4o", script=[("claims_db_lookup", {"number": 1}), "done"], native=native
        )
        tools = [counted.tool(), rival] if granted_first else [rival, counted.tool()]
        agent = Agent(role="r", goal="g", backstory="b", tools=tools, llm=llm)
        job = Task(description="d", expected_output="e", agent=agent)
        with make_caller("allowed").enter():
            Crew(agents=[agent], tasks=[job]).kickoff()
        assert counted.ran == 0
        told = str(llm.seen[-1])
        assert "known to CrewAI as claims_db_lookup" in told or "no grant names this tool" in told
        records = [r for r in guard.records() if r["type"].startswith("tool.")]
        codes = [r.get("decision", {}).get("code") or r["outcome"]["error_type"] for r in records]
        assert codes in (["no_grant"], ["ok", "ambiguous_tool"])

    def test_default_counts(
        self, hooked: None, make_scene: Any, make_caller: Any, decisions: Any
    ) -> None:
        """The hook decides on what CrewAI will pass: defaults filled in."""
        ran: list[int] = []

        @tool("claims_db.lookup")
        def lookup(number: int, limit: int = 1_000_000) -> str:
            """Look a number up."""
            ran.append(limit)
            return "x"

        with make_caller("allowed").enter():
            make_scene(lookup, native=True).crew.kickoff()
        assert ran == []
        assert decisions("tool")[-1]["decision"]["code"] == "arg.max"

    @BOTH
    def test_failing_tool_is_recorded_as_failed(
        self, native: bool, hooked: None, make_scene: Any, make_caller: Any, guard: Any
    ) -> None:
        """A tool that raises has an outcome that says so."""

        @tool("claims_db.lookup")
        def lookup(number: int, limit: int = 1) -> str:
            """Look a number up."""
            raise OSError("C-1")

        with make_caller("allowed").enter():
            make_scene(protect(lookup), native=native).crew.kickoff()
        outcomes = [r["outcome"] for r in guard.records() if r["type"] == "tool.outcome"]
        assert {o["status"] for o in outcomes} == {"error"}
        assert "C-1" not in str(outcomes)


class TestProtectedTool:
    @BOTH
    def test_cleared_hooks(
        self, native: bool, hooked: None, counted: Any, make_scene: Any, make_caller: Any
    ) -> None:
        """A protected tool does not depend on hooks that any code can clear."""
        scene = make_scene(protect(counted.tool()), native=native, argument=7)
        clear_all_hooks()
        with make_caller("allowed").enter():
            scene.crew.kickoff()
        assert counted.ran == 0
        assert "arg.enum" in str(scene.llm.seen[-1])

    @BOTH
    def test_arguments_changed_after_the_hook(
        self,
        native: bool,
        hooked: None,
        counted: Any,
        make_scene: Any,
        make_caller: Any,
        decisions: Any,
    ) -> None:
        """A later hook that rewrites the arguments gets them decided on again."""

        def rewrite(context: Any) -> None:
            context.tool_input["number"] = 1_000_000

        register_hook(InterceptionPoint.PRE_TOOL_CALL, rewrite)
        with make_caller("allowed").enter():
            make_scene(protect(counted.tool()), native=native).crew.kickoff()
        assert counted.ran == 0
        assert [d["decision"]["code"] for d in decisions("tool")] == ["ok", "arg.enum"]

    def test_ticket_is_good_once(
        self, hooked: None, make_scene: Any, make_caller: Any, decisions: Any
    ) -> None:
        """A tool that calls itself again inside its body needs another permit."""
        ran: list[int] = []
        inner: list[Any] = []

        @tool("claims_db.lookup")
        def lookup(number: int, limit: int = 1) -> str:
            """Look a number up."""
            ran.append(number)
            if len(ran) == 1:
                inner[0].run(number=number)
                inner[0].run(number=7)
            return "x"

        inner.append(protect(lookup))
        with make_caller("allowed").enter():
            make_scene(inner[0], native=True).crew.kickoff()
        assert ran == [1, 1]
        assert [d["decision"]["code"] for d in decisions("tool")] == ["ok", "ok", "arg.enum"]

    def stop_after_ours(self, target: Any, make_scene: Any) -> None:
        """Run a crew whose tool call our hook admits and another hook then stops."""

        def stop(context: Any) -> bool:
            return False

        register_hook(InterceptionPoint.PRE_TOOL_CALL, stop)
        make_scene(target, native=True).crew.kickoff()

    def test_ticket_of_a_stopped_call(
        self, counted: Any, make_scene: Any, make_caller: Any, authority: Any, decisions: Any
    ) -> None:
        """A permit that was not used opens nothing later, not even for the same call."""
        install()
        target = protect(counted.tool())
        with make_caller("allowed").enter():
            self.stop_after_ours(target, make_scene)
            authority.revoke("claims-agent", reason="compromised")
            assert target.func(number=1, limit=10).code == "token_revoked"
        assert target.func(number=1, limit=10).code == "no_identity"
        assert counted.ran == 0

    def test_ticket_is_a_second_look(self, guard: Any, authority: Any, counted: Any) -> None:
        """An open ticket is worth nothing once its agent is revoked, or under another session."""
        session = guard.login(authority.issue("claims-agent"))
        other = guard.login(authority.issue("analytics-agent"))
        arguments = {"number": 1, "limit": 10}
        target = protect(counted.tool())
        with session:
            action = ToolCall("claims_db.lookup", arguments)
            progress.begin(arguments, Ticket(action, admit(action)))
            with other:
                assert target.func(**arguments).code == "no_grant"
            assert target.func(number=True, limit=10).code == "arg.enum"
            authority.revoke("claims-agent", reason="compromised")
            assert target.func(**arguments).code == "token_revoked"
        progress.end(arguments)
        assert counted.ran == 0

    def test_cache_is_not_shared(self, counted: Any, make_caller: Any, decisions: Any) -> None:
        """A crew's cache never answers for a protected tool."""
        target = protect(counted.tool())
        script = [("claims_db_lookup", {"number": 1}), ("claims_db_lookup", {"number": 1}), "done"]
        llm = ScriptedLLM(model="gpt-4o", script=script)
        agent = Agent(role="r", goal="g", backstory="b", tools=[target], llm=llm)
        job = Task(description="d", expected_output="e", agent=agent)
        with make_caller("allowed").enter():
            Crew(agents=[agent], tasks=[job], cache=True).kickoff()
        assert len(decisions("tool")) == counted.ran == 2

    def test_tool_class(self, make_caller: Any) -> None:
        """A tool written as a class keeps class and schema, sync and async."""

        class Arguments(BaseModel):
            number: int
            limit: int = 1

        class Lookup(BaseTool):
            name: str = "claims_db.lookup"
            description: str = "Look a number up."
            args_schema: type[BaseModel] = Arguments

            def _run(self, number: int, limit: int = 1) -> str:
                return f"sync {number}"

            async def _arun(self, number: int, limit: int = 1) -> str:
                return f"async {number}"

        target = protect(Lookup())
        assert type(target) is Lookup
        assert target.args_schema is Arguments
        with make_caller("allowed").enter():
            assert target.run(number=1) == "sync 1"
            assert asyncio.run(target.arun(number=1)) == "async 1"
            assert target.run(number=7).code == "arg.enum"
            assert asyncio.run(target.arun(number=7)).code == "arg.enum"

    def test_async_function(self, make_caller: Any) -> None:
        """A coroutine function below @tool is guarded, too."""
        ran: list[int] = []

        @protect
        @tool("claims_db.lookup")
        async def lookup(number: int, limit: int = 1) -> str:
            """Look a number up."""
            ran.append(number)
            return "x"

        target: Any = lookup
        with make_caller("allowed").enter():
            assert asyncio.run(target.arun(number=1)) == "x"
            assert asyncio.run(target.arun(number=7)).code == "arg.enum"
            assert target.run(number=1) == "x"
        assert ran == [1, 1]

    def test_twice_is_once(self, counted: Any, make_caller: Any, decisions: Any) -> None:
        """Protecting a protected tool changes nothing."""
        with make_caller("allowed").enter():
            protect(protect(counted.tool())).run(number=1)
        assert len(decisions("tool")) == 1

    def test_arguments_that_do_not_fit(self, counted: Any, make_caller: Any) -> None:
        """A direct call whose arguments do not fit is refused, not passed on."""
        with make_caller("allowed").enter():
            assert protect(counted.tool()).func(1, 2, 3).code == "hook"
        assert counted.ran == 0

    @pytest.mark.parametrize("thing", [None, "tool", len, BaseTool, object()])
    def test_not_a_tool(self, thing: Any) -> None:
        """Protecting something else says what to do instead."""
        with pytest.raises(ConfigurationError, match="expected a CrewAI tool"):
            protect(thing)


class TestBinding:
    @pytest.fixture
    def log_in(self, guard: Any, authority: Any) -> Callable[[str], Any]:
        return lambda name: guard.login(authority.issue(name))

    @BOTH
    def test_bound_agent_wins_over_the_current_session(
        self,
        native: bool,
        hooked: None,
        counted: Any,
        make_scene: Any,
        log_in: Any,
        decisions: Any,
    ) -> None:
        """A bound agent works under its own identity; revoking the other changes nothing."""
        scene = make_scene(protect(counted.tool()), native=native)
        bind(scene.agent, log_in("claims-agent"))
        with log_in("analytics-agent"):
            scene.crew.kickoff()
            scene.crew.kickoff_for_each([{"x": "1"}])
        unbind(scene.agent)
        names = {d["agent"]["name"] for d in [*decisions("tool"), *decisions("model")]}
        assert names == {"claims-agent"}
        assert counted.ran == 1

    def test_role_with_placeholder(
        self, hooked: None, counted: Any, make_scene: Any, log_in: Any, decisions: Any
    ) -> None:
        """A role that is filled in at kickoff stays the same bound agent."""
        scene = make_scene(counted.tool(), native=True, role="{topic} Adjuster")
        bind(scene.agent, log_in("claims-agent"))
        scene.crew.kickoff_for_each([{"topic": "Gold"}, {"topic": "Silver"}])
        unbind(scene.agent)
        assert {d["agent"]["name"] for d in decisions("model")} == {"claims-agent"}
        assert len(decisions("model")) >= 3

    def test_unbound_agent_without_session(
        self, hooked: None, counted: Any, make_scene: Any, log_in: Any, decisions: Any
    ) -> None:
        """An agent that is not bound does not borrow a bound one's identity."""
        bound = make_scene(counted.tool(), native=True, role="Bound")
        bind(bound.agent, log_in("claims-agent"))
        with pytest.raises(HookAborted, match="no_identity"):
            make_scene(counted.tool(), native=True, role="Stray").crew.kickoff()
        unbind(bound.agent)
        assert counted.ran == 0

    def test_binding_a_source(
        self, hooked: None, counted: Any, make_scene: Any, guard: Any, authority: Any
    ) -> None:
        """A source is logged in when the agent is bound."""
        scene = make_scene(counted.tool(), native=True)
        session = bind(scene.agent, authority.source("claims-agent"))
        assert (session.agent.name, session.guard) == ("claims-agent", guard)
        scene.crew.kickoff()
        unbind(scene.agent)
        assert counted.ran == 1

    def test_two_agents_that_look_the_same(
        self, hooked: None, counted: Any, make_scene: Any, log_in: Any, decisions: Any
    ) -> None:
        """Agents with one role, goal and backstory each have the identity they were given."""
        one = make_scene(counted.tool(), native=True)
        two = make_scene(counted.tool(), native=True)
        bind(one.agent, log_in("claims-agent"))
        with log_in("analytics-agent"):
            with contextlib.suppress(HookAborted):
                two.crew.kickoff()
        assert {d["agent"]["name"] for d in decisions("model")} == {"analytics-agent"}
        bind(two.agent, log_in("analytics-agent"))
        one.crew.kickoff()
        assert decisions("tool")[-1]["agent"]["name"] == "claims-agent"
        unbind(one.agent)
        unbind(two.agent)

    def test_agent_that_is_gone(
        self, hooked: None, counted: Any, make_scene: Any, log_in: Any
    ) -> None:
        """A binding ends with its agent, and nobody inherits it."""
        gone = make_scene(counted.tool(), native=True)
        bind(gone.agent, log_in("claims-agent"))
        del gone
        gc.collect()
        with pytest.raises(HookAborted, match="no_identity"):
            make_scene(counted.tool(), native=True).crew.kickoff()
        assert counted.ran == 0

    def test_agent_that_has_worked_already(
        self, counted: Any, make_scene: Any, log_in: Any, authority: Any
    ) -> None:
        """An agent that worked before the hooks were put is asked from its binding on."""
        scene = make_scene(counted.tool(), native=True)
        scene.crew.kickoff()
        calls = scene.llm.calls
        install()
        with pytest.raises(ConfigurationError, match="worked before install"):
            assert_installed(scene.agent)
        session = log_in("claims-agent")
        authority.revoke("claims-agent", reason="x")
        bind(scene.agent, session)
        assert_installed(scene.agent)
        with pytest.raises(HookAborted, match="token_revoked"):
            scene.crew.kickoff()
        unbind(scene.agent)
        assert scene.llm.calls == calls

    def test_conversion_of_an_answer(
        self, hooked: None, counted: Any, make_scene: Any, log_in: Any, decisions: Any
    ) -> None:
        """Calls that convert a bound agent's answer are its own, although they name no agent."""

        class Out(BaseModel):
            number: int

        scene = make_scene(counted.tool(), native=True, output_pydantic=Out)
        scene.llm.script = ["no number", "none either", '{"number": 1}']
        bind(scene.agent, log_in("claims-agent"))
        with log_in("analytics-agent"):
            scene.crew.kickoff()
        unbind(scene.agent)
        made = [d["agent"]["name"] for d in decisions("model")]
        assert len(made) > 1
        assert set(made) == {"claims-agent"}

    @pytest.mark.parametrize("thing", [None, "Adjuster", object()])
    def test_not_an_agent(self, thing: Any, log_in: Any) -> None:
        """Binding something else is an error, not a silent nothing."""
        with pytest.raises(ConfigurationError, match="expected a CrewAI agent"):
            bind(thing, log_in("claims-agent"))

"""Attacks on a protected tool: arguments nobody decided on, and bodies nobody admitted."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Annotated, Any

import pytest
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import BaseTool, InjectedToolArg, InjectedToolCallId, StructuredTool, tool
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import InjectedState, ToolNode, ToolRuntime
from pydantic import BaseModel, ConfigDict

from tabard import (
    AccessDenied,
    AuthenticationFailed,
    ConfigurationError,
    Guard,
    GuardUnavailable,
    NotPermitted,
)
from tabard.testing.langchain import call_tool
from tabard_langchain import protect

SCHEMA: dict[str, Any] = {"type": "object", "properties": {"x": {}, "xs": {}}}

POLICY = """\
version: 1
agents:
  claims-agent:
    grants:
      - id: use
        tools: [use]
        args: {x: {enum: [1, 2]}, xs: {each: {enum: [ok]}, optional: true}}
      - {id: mine, tools: [mine], args: {x: {}, user: {equals: u1, optional: true}}}
  analytics-agent: {}
"""


@pytest.fixture
def policy_text() -> str:
    return POLICY


@pytest.fixture
def allowed(make_caller: Any) -> Iterator[None]:
    """The claims agent is logged in."""
    with make_caller("allowed").enter():
        yield


def described(function: Callable[..., Any], schema: Any = SCHEMA, **more: Any) -> BaseTool:
    """A tool with a JSON schema, which LangChain does not validate."""
    fields = {"func": function, **more}
    made: BaseTool = StructuredTool(name="use", description="d", args_schema=schema, **fields)
    return made


@pytest.mark.usefixtures("allowed")
class TestUndecidedArguments:
    """Whatever reaches the body has been decided on."""

    def test_undeclared_argument_of_a_json_schema(self) -> None:
        """An argument the schema does not name is not taken for one the host injects."""
        ran: list[bool] = []
        target = protect(described(lambda x, admin=False: ran.append(admin)))
        with pytest.raises(NotPermitted, match=r"arg\.unknown"):
            target.invoke({"x": 1, "admin": True})
        assert ran == []

    def test_undeclared_argument_of_an_open_schema(self) -> None:
        """The same for a pydantic schema that lets extra members through."""

        class Open(BaseModel):
            model_config = ConfigDict(extra="allow")
            x: int

        target = protect(described(lambda x, admin=False: "ran", Open))
        with pytest.raises(NotPermitted, match=r"arg\.unknown"):
            target.invoke({"x": 1, "admin": True})

    @pytest.mark.parametrize("name", ["config", "callbacks", "run_manager", "other"])
    def test_argument_in_kwargs(self, name: str) -> None:
        """No name passes through `**kwargs` because a framework uses it elsewhere."""

        class Takes(BaseTool):
            name: str = "use"
            description: str = "d"
            args_schema: Any = SCHEMA

            def _run(self, **kwargs: Any) -> str:
                return "ran"

        with pytest.raises(NotPermitted, match=r"arg\.unknown"):
            protect(Takes()).invoke({"x": 1, name: "evil"})

    def test_name_that_occurs_twice(self, decisions: Any) -> None:
        """A harmless value does not stand in for another under the same name."""

        def body(x: Any, /, **more: Any) -> str:
            return "ran"

        with pytest.raises(GuardUnavailable, match="hook"):
            protect(described(body)).func("evil", x=1)  # type: ignore[attr-defined]
        assert decisions()[-1]["decision"]["code"] == "arg.type"

    def test_argument_changed_after_the_decision(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The body gets what was decided on, although the caller still holds the list."""
        held = ["ok"]
        admit = Guard.admit

        def admit_then_change(*args: Any, **kwargs: Any) -> Any:
            permit = admit(*args, **kwargs)
            held.append("evil")
            return permit

        monkeypatch.setattr(Guard, "admit", admit_then_change)
        ran: list[list[str]] = []
        protect(described(lambda x, xs: ran.append(xs))).invoke({"x": 1, "xs": held})
        assert held == ["ok", "evil"]
        assert ran == [["ok"]]

    def test_unreadable_arguments_are_on_record(self, decisions: Any) -> None:
        """Arguments that fit no parameter are refused, under the tool's name."""
        with pytest.raises(GuardUnavailable, match="hook"):
            protect(described(lambda x: "ran")).invoke({"x": 1, "zz": 2})
        assert decisions()[-1]["action"]["name"] == "use"
        assert decisions()[-1]["decision"]["code"] == "arg.type"

    @pytest.mark.parametrize("value", [object(), {1, 2}, lambda: None, {"a": object()}])
    def test_argument_without_a_plain_form(self, value: Any) -> None:
        """What no rule can be applied to is refused."""
        with pytest.raises(AccessDenied):
            protect(described(lambda x: "ran")).func(x=value)  # type: ignore[attr-defined]


class TestUnreadableWithoutIdentity:
    def test_identity_comes_first(self, decisions: Any) -> None:
        """Without identity the refusal says so, whatever the arguments are like."""
        with pytest.raises(AuthenticationFailed, match="no_identity"):
            protect(described(lambda x: "ran")).invoke({"zz": 2})
        assert decisions()[-1]["decision"]["code"] == "no_identity"


@pytest.mark.usefixtures("allowed")
class TestInjection:
    """What frameworks fill in is left out; what the host fills in is decided."""

    def test_what_langgraph_fills_in(self, decisions: Any) -> None:
        """State, runtime, call id and config reach the body, and no rule and no record."""
        seen: list[Any] = []

        @protect
        @tool
        def use(
            x: int,
            state: Annotated[dict[str, Any], InjectedState],
            call_id: Annotated[str, InjectedToolCallId],
            runtime: ToolRuntime,
            config: RunnableConfig,
        ) -> str:
            """Use it."""
            seen.extend([len(state["messages"]), call_id, runtime.tool_call_id, bool(config)])
            return "ran"

        graph = StateGraph(MessagesState)
        graph.add_node("tools", ToolNode([use], handle_tool_errors=False))
        graph.add_edge(START, "tools")
        graph.compile().invoke({"messages": [call_tool("use", {"x": 1}, call_id="c-7")]})
        assert seen == [1, "c-7", "c-7", True]
        assert decisions()[-1]["action"]["args"]["names"] == ["x"]

    def test_host_value_by_schema(self) -> None:
        """An injected value declared in the schema alone, taken by `**kwargs`, is decided on."""

        class Mine(BaseModel):
            x: int
            user: Annotated[str, InjectedToolArg]

        class Takes(BaseTool):
            name: str = "mine"
            description: str = "d"
            args_schema: type[BaseModel] = Mine

            def _run(self, **kwargs: Any) -> str:
                return f"ran for {kwargs['user']}"

        target = protect(Takes())
        assert target.invoke({"x": 1, "user": "u1"}) == "ran for u1"
        with pytest.raises(NotPermitted, match=r"arg\.equals"):
            target.invoke({"x": 1, "user": "u2"})

    def test_host_object_passes_as_itself(self, decisions: Any) -> None:
        """An injected object that is no data is neither decided on nor copied."""
        handle = object()
        seen: list[object] = []

        @protect
        @tool
        def mine(x: int, db: Annotated[Any, InjectedToolArg]) -> str:
            """Read."""
            seen.append(db)
            return "ran"

        mine.invoke({"x": 1, "db": handle})
        assert seen == [handle]
        assert decisions()[-1]["action"]["args"]["names"] == ["x"]

    def test_what_a_partial_holds(self) -> None:
        """A constant bound by the developer is no argument, and LangChain still injects config."""

        def body(x: int, config: RunnableConfig, client: object = None) -> str:
            return f"{type(client).__name__} {bool(config)}"

        target = protect(described(functools.partial(body, client=object())))
        assert target.invoke({"x": 1}) == "object True"
        with pytest.raises(NotPermitted):
            target.invoke({"x": 1, "client": "evil"})


@pytest.mark.usefixtures("allowed")
class TestBodies:
    """One admission for each run of a body, and one outcome when it has ended."""

    def test_agent_inside_the_body(self, decisions: Any) -> None:
        """A tool reached through the framework from inside its own body is admitted again."""

        class Calls(BaseTool):
            name: str = "use"
            description: str = "d"
            args_schema: Any = SCHEMA

            def _run(self, x: int) -> str:
                return "done" if x == 2 else str(target.invoke({"x": x + 1}))

            async def _arun(self, x: int) -> str:
                return "done" if x == 2 else str(await target.ainvoke({"x": x + 1}))

        target = protect(Calls())
        assert target.invoke({"x": 1}) == "done"
        assert asyncio.run(target.ainvoke({"x": 1})) == "done"
        assert len(decisions()) == 4
        with pytest.raises(NotPermitted, match=r"arg\.enum"):
            target.invoke({"x": 2.5})

    def test_self_call_ends_with_the_body(self, decisions: Any) -> None:
        """What a body leaves behind cannot call on as part of it."""
        left: list[Callable[[], object]] = []

        class Leaves(BaseTool):
            name: str = "use"
            description: str = "d"
            args_schema: Any = SCHEMA

            def _run(self, x: int) -> str:
                context = __import__("contextvars").copy_context()
                left.append(lambda: context.run(self._run, 9))
                return "done"

        protect(Leaves()).invoke({"x": 1})
        with pytest.raises(NotPermitted, match=r"arg\.enum"):
            left[0]()
        assert len(left) == 1

    @pytest.mark.parametrize("entry", ["invoke", "ainvoke", "run", "arun", "batch"])
    def test_class_with_an_entry_of_its_own(self, entry: str) -> None:
        """A class whose body may not be where LangChain has it cannot be protected by halves."""

        class Odd(BaseTool):
            name: str = "use"
            description: str = "d"

            def _run(self, x: int) -> str:
                return "ran"

        odd = type("VeryOdd", (Odd,), {entry: lambda self, *a, **k: "ran", "__annotations__": {}})
        with pytest.raises(ConfigurationError, match=f"overrides `{entry}`"):
            protect(odd())

    def test_tool_without_a_body(self) -> None:
        """There is nothing to protect in a tool that cannot run."""
        with pytest.raises(ConfigurationError, match="nothing that could run"):
            protect(described(None))  # type: ignore[arg-type]

    def test_outcome_of_a_generator(self, guard: Any) -> None:
        """A body that yields ends when it is exhausted, not when it is made."""

        def body(x: int) -> Iterator[int]:
            yield x

        items = protect(described(body)).func(x=1)  # type: ignore[attr-defined]
        assert [r["type"] for r in guard.records()][-1] == "tool.decision"
        assert list(items) == [1]
        assert [r["type"] for r in guard.records()][-1] == "tool.outcome"

    def test_outcome_of_async_work_from_a_sync_function(self, guard: Any) -> None:
        """The same for a coroutine and an async generator."""

        async def later(x: int) -> str:
            return "done"

        async def stream(x: int) -> AsyncIterator[int]:
            yield x

        async def drive() -> list[Any]:
            done = [await protect(described(lambda x: later(x))).func(x=1)]  # type: ignore[attr-defined]
            return done + [i async for i in protect(described(stream)).func(x=1)]  # type: ignore[attr-defined]

        assert asyncio.run(drive()) == ["done", 1]
        kinds = [r["type"] for r in guard.records() if r["type"].startswith("tool.")]
        assert kinds == ["tool.decision", "tool.outcome"] * 2

    def test_coroutine_that_is_a_partial(self, guard: Any) -> None:
        """An async body need not be a function; its outcome waits for it all the same."""

        async def body(x: int, fail: bool) -> str:
            await asyncio.sleep(0)
            raise ValueError("no")

        target = described(None, coroutine=functools.partial(body, fail=True))  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="no"):
            asyncio.run(protect(target).ainvoke({"x": 1}))
        assert list(guard.records())[-1]["outcome"]["error_type"] == "ValueError"

    def test_values_stay_out(self, guard: Any) -> None:
        """An argument's value is in no record."""
        with pytest.raises(NotPermitted):
            protect(described(lambda x: "ran")).invoke({"x": "secret-77"})
        assert "secret-77" not in str(list(guard.records()))

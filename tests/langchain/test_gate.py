"""Attacks on a protected tool: arguments nobody decided on, and bodies nobody admitted."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
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
    Guard,
    GuardUnavailable,
    NotPermitted,
)
from tabard.testing.langchain import call_tool
from tabard_langchain import TabardCallbackHandler, protect

SCHEMA: dict[str, Any] = {"type": "object", "properties": {"x": {}, "xs": {}}}

POLICY = """\
version: 1
agents:
  claims-agent:
    grants:
      - id: use
        tools: [use]
        args: {x: {enum: [1, 2]}, xs: {each: {enum: [ok]}, optional: true}}
      - {id: lookup, tools: [lookup], args: {number: {}}}
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

    def test_values_stay_out(self, guard: Any) -> None:
        """An argument's value is in no record."""
        with pytest.raises(NotPermitted):
            protect(described(lambda x: "ran")).invoke({"x": "secret-77"})
        assert "secret-77" not in str(list(guard.records()))


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

    def test_host_value_from_a_model(self) -> None:
        """A value for a hidden parameter that came with the call is judged like any other."""

        @protect
        @tool
        def lookup(number: int, user: Annotated[str, InjectedToolArg] = "self") -> str:
            """Look up."""
            return user

        call = {"name": "lookup", "id": "1", "type": "tool_call"}
        assert lookup.invoke({**call, "args": {"number": 1}}).content == "self"
        for handlers in ([], [TabardCallbackHandler()]):
            config: Any = {"callbacks": handlers}
            with pytest.raises(NotPermitted, match=r"arg\.unknown"):
                lookup.invoke({**call, "args": {"number": 1, "user": "VICTIM"}}, config)

    @pytest.mark.parametrize("sent", [False, 0, "", None, [], {}])
    def test_falsy_host_value_from_a_model(self, sent: object, decisions: Any) -> None:
        """`False` is a value: one sent for a hidden parameter is judged and on record."""
        ran: list[object] = []

        @protect
        @tool
        def lookup(number: int, dry_run: Annotated[Any, InjectedToolArg] = True) -> str:
            """Look up."""
            ran.append(dry_run)
            return "ran"

        call = {"name": "lookup", "id": "1", "type": "tool_call"}
        for handlers in ([], [TabardCallbackHandler()]):
            config: Any = {"callbacks": handlers}
            with pytest.raises(NotPermitted, match=r"arg\.unknown"):
                lookup.invoke({**call, "args": {"number": 1, "dry_run": sent}}, config)
            assert decisions()[-1]["action"]["args"]["names"] == ["number", "dry_run"]
        lookup.invoke({**call, "args": {"number": 1}})
        assert ran == [True]

    def test_equal_is_not_the_default(self) -> None:
        """`1` sent for a hidden `True` is another value."""

        @protect
        @tool
        def lookup(number: int, dry_run: Annotated[Any, InjectedToolArg] = True) -> str:
            """Look up."""
            return "ran"

        with pytest.raises(NotPermitted, match=r"arg\.unknown"):
            lookup.invoke({"number": 1, "dry_run": 1})

    def test_falsy_default_is_no_argument(self, decisions: Any) -> None:
        """What nobody sent is not judged, though LangChain may pass it on."""

        @protect
        @tool
        def mine(x: int, user: Annotated[str, InjectedToolArg] = "") -> str:
            """Read."""
            return "ran"

        assert mine.invoke({"x": 1}) == "ran"
        assert decisions()[-1]["action"]["args"]["names"] == ["x"]

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

"""Middleware of `create_agent`: refusals reach the model, and nothing gets past them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import AgentMiddleware, ToolRetryMiddleware
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.tools import BaseTool, tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command

from tabard import AccessDenied, Authority, ConfigurationError, Guard, Session
from tabard.testing.langchain import ScriptedChatModel, call_tool
from tabard_langchain import TabardCallbackHandler, TabardMiddleware, protect

POLICY = """\
version: 1
agents:
  claims-agent:
    models: {allow: ["openai/gpt-4o"]}
    grants:
      - {id: lookup, tools: ["lookup"], args: {number: {enum: [1, 2]}}}
      - {id: outer, tools: ["outer"], args: {number: {}}}
    approvals:
      - {id: pay, tools: ["pay"], when: {amount: {max: 100}}, by: boss, ttl: 15m}
  analytics-agent: {models: {allow: ["openai/gpt-4o"]}}
  boss: {}
"""


@pytest.fixture
def policy_text() -> str:
    return POLICY


class Tools:
    """Three tools that count."""

    def __init__(self) -> None:
        self.ran: list[tuple[str, int]] = []

        @tool
        def lookup(number: int) -> str:
            """Look a number up."""
            self.ran.append(("lookup", number))
            return f"found {number}"

        @tool
        def pay(amount: int) -> str:
            """Pay."""
            self.ran.append(("pay", amount))
            return "paid"

        @tool
        def drop(number: int) -> str:
            """Drop a table."""
            self.ran.append(("drop", number))
            return "dropped"

        self.all: list[BaseTool] = [lookup, pay, drop]


@pytest.fixture
def tools() -> Tools:
    return Tools()


def asks_for(name: str, arguments: dict[str, Any], then: str = "done") -> ScriptedChatModel:
    return ScriptedChatModel(script=[call_tool(name, arguments), AIMessage(then)])


def build(model: Any, tools: Any, *middleware: Any, **more: Any) -> Any:
    return create_agent(model, tools.all, middleware=[TabardMiddleware(), *middleware], **more)


def run(agent: Any, path: str, config: Any = None) -> list[Any]:
    """Run an agent to its end on one of LangGraph's paths; returns the messages."""
    question = {"messages": [HumanMessage("go")]}
    if path == "invoke":
        found = agent.invoke(question, config)
    elif path == "stream":
        found = list(agent.stream(question, config, stream_mode="values"))[-1]
    elif path == "ainvoke":
        found = asyncio.run(agent.ainvoke(question, config))
    else:

        async def collect() -> Any:
            stream = agent.astream(question, config, stream_mode="values")
            return [state async for state in stream][-1]

        found = asyncio.run(collect())
    return list(found["messages"])


PATHS = ["invoke", "stream", "ainvoke", "astream"]


def told(messages: list[Any]) -> ToolMessage:
    [found] = [m for m in messages if isinstance(m, ToolMessage)]
    return found


def decisions(guard: Guard, kind: str = "tool") -> list[tuple[str, str]]:
    return [
        (r["action"]["name"], r["decision"]["code"])
        for r in guard.records()
        if r["type"] == f"{kind}.decision"
    ]


@pytest.mark.parametrize("path", PATHS)
class TestPaths:
    def test_allowed(self, session: Session, guard: Guard, tools: Tools, path: str) -> None:
        """Model and tool are admitted once each, and settled."""
        with session:
            messages = run(build(asks_for("lookup", {"number": 1}), tools), path)
        assert (tools.ran, messages[-1].content) == ([("lookup", 1)], "done")
        assert decisions(guard) == [("lookup", "ok")]
        assert decisions(guard, "model") == [("openai/gpt-4o", "ok")] * 2
        kinds = [r["type"] for r in guard.records()]
        assert kinds.count("tool.outcome") == 1
        assert kinds.count("model.outcome") == 2

    @pytest.mark.parametrize(
        ("name", "arguments", "code"),
        [("lookup", {"number": 3}, "arg.enum"), ("drop", {"number": 1}, "no_grant"),
         ("lookup", {"number": 1, "extra": 2}, "arg.unknown")],
    )  # fmt: skip
    def test_refused_and_told(
        self, session: Session, guard: Guard, tools: Tools, path: str, name: str, arguments: Any,
        code: str,
    ) -> None:  # fmt: skip
        """The model reads why, and the agent goes on."""
        with session:
            messages = run(build(asks_for(name, arguments, "I may not"), tools), path)
        assert tools.ran == []
        message = told(messages)
        assert (message.status, f"code: {code}" in str(message.content)) == ("error", True)
        assert messages[-1].content == "I may not"
        assert decisions(guard) == [(name, code)]

    def test_nobody(self, guard: Guard, tools: Tools, path: str) -> None:
        """Without a session not even the model is called."""
        model = asks_for("lookup", {"number": 1})
        with pytest.raises(AccessDenied):
            run(build(model, tools), path)
        assert (tools.ran, model.calls) == ([], 0)

    def test_refused_model(
        self, guard: Guard, authority: Authority, session: Session, tools: Tools, path: str
    ) -> None:
        model = ScriptedChatModel(script=[AIMessage("x")], model_name="o1-pro")
        with session, pytest.raises(AccessDenied):
            run(build(model, tools), path)
        assert model.calls == 0

    def test_revoked_in_between(
        self, authority: Authority, session: Session, tools: Tools, path: str
    ) -> None:
        """Revoked while the agent runs: the next tool does not."""

        class Revoking(ScriptedChatModel):
            def _next(self, messages: Any) -> AIMessage:
                found = super()._next(messages)
                if self.calls == 1:
                    authority.revoke("claims-agent", reason="x")
                return found

        model = Revoking(script=[call_tool("lookup", {"number": 1}), AIMessage("done")])
        with session, pytest.raises(AccessDenied) as caught:
            run(build(model, tools), path)
        assert (tools.ran, caught.value.code) == ([], "token_revoked")

    def test_seen_by_all_of_them(
        self, session: Session, guard: Guard, tools: Tools, path: str
    ) -> None:
        """Handler, middleware and wrapper all see the call; it is on record once."""
        tools.all = [protect(one) for one in tools.all]
        agent = build(asks_for("lookup", {"number": 1}), tools)
        with session:
            run(agent, path, {"callbacks": [TabardCallbackHandler(), TabardCallbackHandler()]})
        assert tools.ran == [("lookup", 1)]
        assert decisions(guard) == [("lookup", "ok")]
        assert decisions(guard, "model") == [("openai/gpt-4o", "ok")] * 2

    def test_session_of_its_own(
        self, guard: Guard, session: Session, tools: Tools, path: str
    ) -> None:
        """A middleware bound to a session needs no other one around it."""
        model = asks_for("lookup", {"number": 1})
        agent = create_agent(model, tools.all, middleware=[TabardMiddleware(session)])
        run(agent, path)
        assert tools.ran == [("lookup", 1)]


class Rewriting(AgentMiddleware[Any, Any]):
    """Changes the arguments after whoever came before it has approved of them."""

    def wrap_tool_call(self, request: Any, handler: Callable[[Any], Any]) -> Any:
        call = {**request.tool_call, "args": {"number": 1_000_000}}
        return handler(request.override(tool_call=call))

    async def awrap_tool_call(self, request: Any, handler: Callable[[Any], Any]) -> Any:
        call = {**request.tool_call, "args": {"number": 1_000_000}}
        return await handler(request.override(tool_call=call))


class Calling(AgentMiddleware[Any, Any]):
    """Runs a tool by itself, without the agent's own way of doing so."""

    def __init__(self, tool: BaseTool) -> None:
        super().__init__()
        self.inner = tool

    def wrap_tool_call(self, request: Any, handler: Callable[[Any], Any]) -> Any:
        self.inner.invoke({"number": 1}, config={"callbacks": []})
        return handler(request)


class TestOtherMiddleware:
    @pytest.mark.parametrize("first", [True, False])
    def test_arguments_rewritten_afterwards(
        self, session: Session, guard: Guard, tools: Tools, first: bool
    ) -> None:
        """Approved 1 does not run 1,000,000, wherever in the list the middleware is."""
        order = [TabardMiddleware(), Rewriting()]
        model = asks_for("lookup", {"number": 1})
        agent = create_agent(model, tools.all, middleware=order if first else order[::-1])
        with session:
            messages = agent.invoke({"messages": [HumanMessage("go")]})["messages"]
        assert tools.ran == []
        assert told(messages).status == "error"
        assert decisions(guard) == [("lookup", "arg.enum")]

    def test_retries(self, session: Session, guard: Guard) -> None:
        """Each execution of the body is admitted, charged and on record."""
        ran: list[int] = []

        @tool
        def lookup(number: int) -> str:
            """Look a number up."""
            ran.append(number)
            raise ConnectionError("again")

        model = asks_for("lookup", {"number": 1})
        retry = ToolRetryMiddleware(max_retries=2, initial_delay=0.0, jitter=False)
        agent = create_agent(model, [lookup], middleware=[TabardMiddleware(), retry])
        with session:
            agent.invoke({"messages": [HumanMessage("go")]})
        assert len(ran) == 3
        assert decisions(guard) == [("lookup", "ok")] * 3

    def test_tool_called_by_a_middleware(
        self, session: Session, guard: Guard, tools: Tools
    ) -> None:
        """What another middleware runs by itself is asked about as well."""
        drop = tools.all[2]
        agent = build(asks_for("lookup", {"number": 1}), tools, Calling(drop))
        with session:
            messages = agent.invoke({"messages": [HumanMessage("go")]})["messages"]
        assert tools.ran == []
        assert "no_grant" in str(told(messages).content)


class TestModelSees:
    def shown(self, agent: Any, model: Any, session: Session) -> set[str]:
        with session:
            agent.invoke({"messages": [HumanMessage("go")]})
        return set(model.shown)

    def test_only_tools_the_agent_may_use(
        self, guard: Guard, authority: Authority, session: Session, tools: Tools
    ) -> None:
        """Tools that would be refused whatever their arguments are not offered to the model."""
        for one, expected in (
            (session, {"lookup", "pay"}),
            (guard.login(authority.issue("analytics-agent")), set()),
        ):
            model = Showing(script=[AIMessage("done")])
            assert self.shown(build(model, tools), model, one) == expected

    def test_provider_tools(self, session: Session, tools: Tools) -> None:
        """What the provider would run itself is hidden unless its name is granted."""
        model = Showing(script=[AIMessage("done")])
        agent = create_agent(
            model,
            [*tools.all, {"type": "web_search"}],
            middleware=[TabardMiddleware()],
        )
        assert self.shown(agent, model, session) == {"lookup", "pay"}


class Showing(ScriptedChatModel):
    """Remembers which tools it was shown."""

    shown: list[str] = []  # noqa: RUF012  pydantic copies it

    def bind_tools(self, tools: Any, **kwargs: Any) -> Any:
        self.shown.extend(t["type"] if isinstance(t, dict) else t.name for t in tools)
        return self


class TestApproval:
    @pytest.fixture
    def boss(self, guard: Guard, authority: Authority) -> Session:
        authority.register("boss", team="claims", environment="prod", attributes={"roles": "boss"})
        return guard.login(authority.issue("boss"))

    def interrupted(self, agent: Any, config: Any) -> dict[str, Any]:
        found = agent.invoke({"messages": [HumanMessage("go")]}, config)
        [question] = found["__interrupt__"]
        return dict(question.value)

    @pytest.mark.parametrize("answer", ["grant", "deny", "none"])
    def test_interrupt_and_resume(
        self, guard: Guard, session: Session, boss: Session, tools: Tools, answer: str
    ) -> None:
        """The graph waits for a person, and goes on with what they have said."""
        agent = build(asks_for("pay", {"amount": 50}), tools, checkpointer=InMemorySaver())
        config = {"configurable": {"thread_id": "t"}}
        with session:
            asked = self.interrupted(agent, config)
            assert (asked["type"], asked["tool"], tools.ran) == ("tabard.approval", "pay", [])
            if answer == "grant":
                guard.approvals.grant(asked["request"], session=boss)
            elif answer == "deny":
                guard.approvals.deny(asked["request"], session=boss, reason="no")
            found = agent.invoke(Command(resume="go on"), config)
        assert tools.ran == ([("pay", 50)] if answer == "grant" else [])
        assert (told(found["messages"]).status == "error") is (answer != "grant")

    def test_a_resume_is_no_yes(self, guard: Guard, session: Session, tools: Tools) -> None:
        """Whoever resumes the graph has not agreed by that, whatever they resume it with."""
        agent = build(asks_for("pay", {"amount": 50}), tools, checkpointer=InMemorySaver())
        config = {"configurable": {"thread_id": "t"}}
        with session:
            self.interrupted(agent, config)
            agent.invoke(Command(resume={"approved": True, "grant": True}), config)
        assert tools.ran == []

    def test_without_a_checkpointer(self, session: Session, tools: Tools) -> None:
        """A graph that cannot wait tells the model that a person has to agree."""
        agent = build(asks_for("pay", {"amount": 50}), tools)
        with session:
            found = agent.invoke({"messages": [HumanMessage("go")]})
        assert tools.ran == []
        assert "code: ask" in str(told(found["messages"]).content)


def test_unknown_tool_is_on_record(session: Session, guard: Guard, tools: Tools) -> None:
    """A tool that is not there: refused by the policy, and on record."""
    with session:
        found = build(asks_for("nothing", {}), tools).invoke({"messages": [HumanMessage("go")]})
    assert told(found["messages"]).status == "error"
    assert decisions(guard) == [("nothing", "no_grant")]


@pytest.mark.parametrize("thing", ["claims-agent", 7, {"token": "x"}])
def test_what_is_no_session(thing: Any) -> None:
    with pytest.raises(ConfigurationError, match="expected a session"):
        TabardMiddleware(thing)

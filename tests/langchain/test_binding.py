"""Agents inside of agents: each under its own identity, and narrowed where work is handed over."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import nullcontext, suppress
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.runnables import Runnable, RunnableLambda
from langchain_core.tools import BaseTool, tool
from langgraph.graph import END, START, MessagesState, StateGraph

from tabard import AccessDenied, Authority, ConfigurationError, Guard, Session, current_session
from tabard.testing.langchain import ScriptedChatModel, call_tool
from tabard_langchain import (
    TabardCallbackHandler,
    TabardMiddleware,
    bind,
    hand_over,
    protect,
    tool_node,
)

POLICY = """\
version: 1
agents:
  claims-agent:
    models: {allow: [openai/gpt-4o]}
    grants: [{id: look, tools: [lookup, ask_worker], unknown_args: allow}]
    delegates_to: [analytics-agent]
  analytics-agent:
    models: {allow: [openai/gpt-4o]}
    grants: [{id: all, tools: [lookup, drop], unknown_args: allow}]
  other-agent: {}
"""


@pytest.fixture
def policy_text() -> str:
    return POLICY


class Work:
    """Two tools that count, and who was current in them."""

    def __init__(self) -> None:
        self.ran: list[tuple[str, str]] = []

        @tool
        def lookup(number: int) -> str:
            """Look a number up."""
            return self._note("lookup")

        @tool
        def drop(number: int) -> str:
            """Drop a table."""
            return self._note("drop")

        self.tools: list[BaseTool] = [lookup, drop]

    def _note(self, name: str) -> str:
        session = current_session()
        self.ran.append((name, "nobody" if session is None else session.agent.name))
        return "done"


@pytest.fixture
def work() -> Work:
    return Work()


@pytest.fixture
def boss(guard: Guard, authority: Authority) -> Session:
    return guard.login(authority.issue("claims-agent"))


@pytest.fixture
def worker(guard: Guard, authority: Authority) -> Session:
    return guard.login(authority.issue("analytics-agent"))


def worker_graph(work: Work, name: str, *middleware: Any) -> Any:
    script = [call_tool(name, {"number": 1}), AIMessage("worked")]
    return create_agent(ScriptedChatModel(script=script), work.tools, middleware=list(middleware))


QUESTION = {"messages": [HumanMessage("go")]}


def decisions(guard: Guard) -> list[tuple[str, str, str]]:
    return [
        (r["agent"]["name"], r["action"]["name"], r["decision"]["code"])
        for r in guard.records()
        if r["type"] in ("tool.decision", "model.decision")
    ]


async def _collect(stream: Any) -> list[Any]:
    return [part async for part in stream]


RUNS: dict[str, Callable[[Any, Any], object]] = {
    "invoke": lambda r, c: r.invoke(QUESTION, c),
    "ainvoke": lambda r, c: asyncio.run(r.ainvoke(QUESTION, c)),
    "stream": lambda r, c: list(r.stream(QUESTION, c)),
    "astream": lambda r, c: asyncio.run(_collect(r.astream(QUESTION, c))),
    "batch": lambda r, c: r.batch([QUESTION], c),
    "abatch": lambda r, c: asyncio.run(r.abatch([QUESTION], c)),
}


@pytest.mark.parametrize("path", RUNS)
class TestBind:
    @pytest.mark.parametrize("outer", [None, "current", "handler"])
    def test_innermost_identity_wins(
        self, path: str, outer: str | None, work: Work, boss: Session, worker: Session, guard: Guard
    ) -> None:
        """P4: whoever is current or given to a handler outside, the bound agent calls and pays."""
        handler = TabardCallbackHandler(boss if outer == "handler" else None)
        bound = bind(worker_graph(work, "drop"), worker)
        if outer == "current":
            with boss:
                RUNS[path](bound, {"callbacks": [handler]})
        else:
            RUNS[path](bound, {"callbacks": [handler]})
        assert work.ran == [("drop", "analytics-agent")]
        assert decisions(guard) == [
            ("analytics-agent", "openai/gpt-4o", "ok"),
            ("analytics-agent", "drop", "ok"),
            ("analytics-agent", "openai/gpt-4o", "ok"),
        ]

    def test_session_is_not_left_behind(
        self, path: str, work: Work, boss: Session, worker: Session
    ) -> None:
        """Afterwards whoever was current is current again, also where the run failed."""
        failing = bind(RunnableLambda(lambda _: 1 / 0), worker)
        with boss:
            RUNS[path](bind(worker_graph(work, "drop"), worker), {})
            with pytest.raises(ZeroDivisionError):
                RUNS[path](failing, {})
            assert current_session() is boss


@pytest.mark.parametrize("path", RUNS)
class TestHandOver:
    def test_narrowed(self, path: str, work: Work, boss: Session, guard: Guard) -> None:
        """The worker may do what both may: a tool the boss lacks is refused, however it is run."""
        handler = {"callbacks": [TabardCallbackHandler()]}
        allowed = hand_over(worker_graph(work, "lookup"), "analytics-agent", tools=["lookup"])
        refused = hand_over(worker_graph(work, "drop"), "analytics-agent", tools=["lookup", "drop"])
        with boss:
            RUNS[path](allowed, handler)
            with pytest.raises(AccessDenied):
                RUNS[path](refused, handler)
            assert current_session() is boss
        assert work.ran == [("lookup", "analytics-agent")]
        assert decisions(guard)[-1] == ("analytics-agent", "drop", "no_grant")

    def test_nothing_more_than_handed_over(
        self, path: str, work: Work, boss: Session, guard: Guard
    ) -> None:
        """What both may and was not named is refused."""
        with boss, pytest.raises(AccessDenied):
            RUNS[path](
                hand_over(worker_graph(work, "lookup"), "analytics-agent", tools=["other"]),
                {"callbacks": [TabardCallbackHandler()]},
            )
        assert work.ran == []
        assert decisions(guard)[-1] == ("analytics-agent", "lookup", "delegation")

    @pytest.mark.parametrize("to", ["other-agent", "nobody-agent"])
    def test_not_to_everybody(
        self, path: str, to: str, work: Work, boss: Session, authority: Authority
    ) -> None:
        """An agent the policy does not name takes nothing over; nothing runs."""
        authority.register("other-agent", team="claims", environment="prod")
        with boss, pytest.raises((AccessDenied, ConfigurationError)):
            RUNS[path](hand_over(worker_graph(work, "lookup"), to, tools=["lookup"]), {})
        assert work.ran == []

    def test_nobody_hands_over(self, path: str, work: Work, guard: Guard) -> None:
        """I1: without a session there is nothing to hand over."""
        handed = hand_over(worker_graph(work, "lookup"), "analytics-agent", tools=["lookup"])
        with pytest.raises(AccessDenied, match="no_identity"):
            RUNS[path](handed, {})
        assert work.ran == []


class TestHandOverEnds:
    def test_with_the_run(self, work: Work, boss: Session) -> None:
        """A session that was kept from a run is closed after it."""
        kept: list[Any] = []
        handed = hand_over(
            RunnableLambda(lambda _: kept.append(current_session())),
            "analytics-agent",
            tools=["lookup"],
        )
        with boss:
            handed.invoke(None)
        with pytest.raises(AccessDenied, match="session_closed"), kept[0]:
            protect(work.tools[0]).invoke({"number": 1})

    def test_when_the_boss_is_revoked(
        self, work: Work, boss: Session, authority: Authority, guard: Guard
    ) -> None:
        """R4: whoever works for a revoked agent stops, in mid-run."""

        def strike(question: Any) -> Any:
            authority.revoke("claims-agent", reason="compromised")
            return question

        chain = RunnableLambda(strike) | worker_graph(work, "lookup")
        handed = hand_over(chain, "analytics-agent", tools=["lookup"])
        with boss, pytest.raises(AccessDenied):
            handed.invoke(QUESTION, {"callbacks": [TabardCallbackHandler()]})
        assert work.ran == []

    @pytest.mark.parametrize("path", ["stream", "astream"])
    def test_stream_that_is_broken_off(self, path: str, work: Work, boss: Session) -> None:
        """Between the parts the caller is current; a stream that is left ends its session."""
        seen: list[Any] = []

        def parts(_: Any) -> Iterator[int]:
            for number in range(3):
                seen.append(current_session())
                yield number

        async def later(_: Any) -> AsyncIterator[int]:
            for number in parts(None):
                yield number

        both = RunnableLambda(parts, afunc=later)
        handed = hand_over(both, "analytics-agent", tools=["lookup"])

        async def leave() -> None:
            stream: Any = handed.astream(None)
            assert await anext(stream) == 0
            assert current_session() is boss
            await stream.aclose()

        with boss:
            if path == "stream":
                stream: Any = handed.stream(None)
                assert next(stream) == 0
                assert current_session() is boss
                stream.close()
            else:
                asyncio.run(leave())
            assert current_session() is boss
        assert {one.agent.name for one in seen} == {"analytics-agent"}
        assert all(one.closed for one in seen)


class TestGraph:
    def test_nodes_under_identities_of_their_own(
        self, work: Work, boss: Session, worker: Session, guard: Guard
    ) -> None:
        """A graph of two agents, each bound: each call is its own, none is logged twice."""
        graph = StateGraph(MessagesState)
        graph.add_node("boss", bind(worker_graph(work, "lookup", TabardMiddleware()), boss))
        graph.add_node("worker", bind(worker_graph(work, "drop", TabardMiddleware()), worker))
        graph.add_edge(START, "boss")
        graph.add_edge("boss", "worker")
        graph.add_edge("worker", END)
        compiled: Any = graph.compile()
        compiled.invoke(QUESTION, {"callbacks": [TabardCallbackHandler()]})
        assert work.ran == [("lookup", "claims-agent"), ("drop", "analytics-agent")]
        assert [who for who, _, _ in decisions(guard)] == (
            ["claims-agent"] * 3 + ["analytics-agent"] * 3
        )

    @pytest.mark.parametrize("path", ["invoke", "ainvoke", "stream", "astream"])
    def test_supervisor(self, path: str, work: Work, boss: Session, guard: Guard) -> None:
        """A supervisor that calls its worker as a tool: handed over, narrowed, once each."""
        inner = hand_over(
            worker_graph(work, "lookup", TabardMiddleware()), "analytics-agent", tools=["lookup"]
        )

        @tool
        async def ask_worker(what: str) -> str:
            """Ask the worker."""
            found = await inner.ainvoke({"messages": [HumanMessage(what)]})
            return str(found["messages"][-1].content)

        @tool("ask_worker")
        def ask_worker_now(what: str) -> str:
            """Ask the worker."""
            return str(inner.invoke({"messages": [HumanMessage(what)]})["messages"][-1].content)

        script = [call_tool("ask_worker", {"what": "x"}), AIMessage("done")]
        supervisor = create_agent(
            ScriptedChatModel(script=script),
            [protect(ask_worker if path.startswith("a") else ask_worker_now)],
            middleware=[TabardMiddleware()],
        )
        with boss:
            RUNS[path](supervisor, {"callbacks": [TabardCallbackHandler()]})
        assert work.ran == [("lookup", "analytics-agent")]
        assert [(who, what) for who, what, _ in decisions(guard)] == [
            ("claims-agent", "openai/gpt-4o"),
            ("claims-agent", "ask_worker"),
            ("analytics-agent", "openai/gpt-4o"),
            ("analytics-agent", "lookup"),
            ("analytics-agent", "openai/gpt-4o"),
            ("claims-agent", "openai/gpt-4o"),
        ]


class TestInnermost:
    """`with session:` inside of a graph whose handler was made for another session."""

    def test_session_entered_within(
        self, work: Work, boss: Session, worker: Session, guard: Guard
    ) -> None:
        """P4: a node that works as somebody else is that one's, not the handler's."""

        def node(_: Any) -> Any:
            with worker:
                return work.tools[1].invoke({"number": 1})

        chain = RunnableLambda(node) | RunnableLambda(lambda _: work.tools[0].invoke({"number": 1}))
        for outside in (False, True):
            with boss if outside else nullcontext():
                chain.invoke(None, {"callbacks": [TabardCallbackHandler(boss)]})
        assert (
            decisions(guard)
            == [
                ("analytics-agent", "drop", "ok"),
                ("claims-agent", "lookup", "ok"),
            ]
            * 2
        )

    @pytest.mark.parametrize("order", [1, -1])
    def test_handlers_of_two_sessions(
        self, order: int, work: Work, boss: Session, worker: Session, guard: Guard
    ) -> None:
        """Whose call it is cannot be told, in whatever order they stand: nobody's."""
        handlers: Any = [TabardCallbackHandler(), TabardCallbackHandler(boss)][::order]
        with worker, pytest.raises(AccessDenied) as caught:
            work.tools[0].invoke({"number": 1}, {"callbacks": handlers})
        assert caught.value.code == "two_identities"
        assert work.ran == []
        outcomes = [r["outcome"]["status"] for r in guard.records() if r["type"] == "tool.outcome"]
        assert outcomes == ["error"]


class TestToolNode:
    def graph(self, work: Work, **options: Any) -> Any:
        graph = StateGraph(MessagesState)
        graph.add_node("tools", tool_node(work.tools, **options))
        graph.add_edge(START, "tools")
        return graph.compile()

    @pytest.mark.parametrize("path", ["invoke", "ainvoke", "stream", "astream"])
    def test_refusal_is_told(self, path: str, work: Work, boss: Session, guard: Guard) -> None:
        """An allowed call runs, a refused one is a message; each is asked about once."""
        calls = [call_tool(name, {"number": 1}).tool_calls[0] for name in ("lookup", "drop")]
        asked = [{**call, "id": f"c{number}"} for number, call in enumerate(calls)]
        state = {"messages": [AIMessage("", tool_calls=asked)]}
        run: dict[str, Callable[[Any], Any]] = {
            "invoke": lambda g: g.invoke(state),
            "ainvoke": lambda g: asyncio.run(g.ainvoke(state)),
            "stream": lambda g: list(g.stream(state, stream_mode="values"))[-1],
            "astream": lambda g: asyncio.run(_collect(g.astream(state, stream_mode="values")))[-1],
        }
        with boss:
            found = run[path](self.graph(work))
        assert [m.status for m in found["messages"][1:]] == ["success", "error"]
        assert "no grant names this tool" in found["messages"][-1].content
        assert sorted(decisions(guard)) == [
            ("claims-agent", "drop", "no_grant"),
            ("claims-agent", "lookup", "ok"),
        ]
        assert work.ran == [("lookup", "claims-agent")]

    def test_session_of_its_own(self, work: Work, boss: Session, worker: Session) -> None:
        """A node made for one session works as that one."""
        state = {"messages": [call_tool("drop", {"number": 1})]}
        with boss:
            self.graph(work, session=worker).invoke(state)
        assert work.ran == [("drop", "analytics-agent")]


def _runnable() -> Runnable[Any, Any]:
    return RunnableLambda(lambda x: x)


@pytest.mark.parametrize(
    "misuse",
    [
        lambda: bind(lambda x: x, "token"),  # type: ignore[arg-type]
        lambda: bind(_runnable(), None),  # type: ignore[arg-type]
        lambda: bind(_runnable(), "not a token"),
        lambda: hand_over("agent", "x", tools=[]),  # type: ignore[arg-type]
        lambda: hand_over(_runnable(), "x", tools="lookup"),
        lambda: hand_over(_runnable(), "x", tools=None),  # type: ignore[arg-type]
        lambda: hand_over(_runnable(), "x", tools=[5]),  # type: ignore[list-item]
        lambda: hand_over(_runnable(), 5, tools=[]),  # type: ignore[arg-type]
        lambda: tool_node([], wrap_tool_call=lambda request, handler: handler(request)),
        lambda: tool_node([], session="x"),  # type: ignore[arg-type]
    ],
)
def test_misuse(misuse: Callable[[], object], guard: Guard) -> None:
    """E10: what cannot be bound is refused at once."""
    with pytest.raises((ConfigurationError, AccessDenied)):
        misuse()


def test_revoked_binding(work: Work, worker: Session, authority: Authority) -> None:
    """A bound agent that is revoked runs nothing more, whoever is around it."""
    bound = bind(worker_graph(work, "drop"), worker)
    authority.revoke("analytics-agent", reason="x")
    with suppress(AccessDenied):
        bound.invoke(QUESTION, {"callbacks": [TabardCallbackHandler()]})
    assert work.ran == []

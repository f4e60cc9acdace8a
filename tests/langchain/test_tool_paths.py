"""Every path on which LangChain runs a tool, with every kind of caller: the body never runs."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.runnables import RunnableLambda, RunnableParallel
from langchain_core.tools import BaseTool, tool
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode

from tabard import AccessDenied
from tabard.testing.langchain import ScriptedChatModel, call_tool
from tabard_langchain import TabardCallbackHandler, protect

Path = Callable[[Any, Any, Any], object]


def call_of(target: BaseTool, argument: Any) -> dict[str, Any]:
    return {
        "name": target.name,
        "args": {"number": argument},
        "id": "call-1",
        "type": "tool_call",
    }


def agent_of(target: BaseTool, argument: Any) -> Any:
    script = [call_tool(target.name, {"number": argument}), AIMessage("done")]
    return create_agent(ScriptedChatModel(script=script), [target], name="claims-agent")


QUESTION = {"messages": [HumanMessage("go")]}


async def collect(stream: Any) -> list[Any]:
    return [item async for item in stream]


def in_thread(work: Callable[[], object]) -> object:
    """Run in a bare thread, which inherits no context; re-raise what it raised."""
    result: list[object] = []
    error: list[BaseException] = []

    def run() -> None:
        try:
            result.append(work())
        except BaseException as caught:
            error.append(caught)

    thread = threading.Thread(target=copy_context().run, args=(run,))
    thread.start()
    thread.join()
    if error:
        raise error[0]
    return result[0]


def nested(target: BaseTool, argument: Any, config: Any) -> object:
    @tool
    def outer(number: int) -> str:
        """Call another tool."""
        return str(target.invoke({"number": number}))

    return outer.invoke({"number": argument}, config)


def graph_of(target: BaseTool, argument: Any, handle: Any) -> Any:
    graph = StateGraph(MessagesState)
    graph.add_node("tools", ToolNode([target], handle_tool_errors=handle))
    graph.add_edge(START, "tools")
    state = {"messages": [call_tool(target.name, {"number": argument})]}
    return graph.compile(), state


def node(target: BaseTool, argument: Any, config: Any, handle: Any) -> object:
    graph, state = graph_of(target, argument, handle)
    return graph.invoke(state, config)


async def anode(target: BaseTool, argument: Any, config: Any, handle: Any) -> object:
    graph, state = graph_of(target, argument, handle)
    return await graph.ainvoke(state, config)


# Each takes the tool, the argument and the config that carries the handler (if any).
PATHS: dict[str, Path] = {
    "invoke": lambda t, a, c: t.invoke({"number": a}, c),
    "invoke with a tool call": lambda t, a, c: t.invoke(call_of(t, a), c),
    "ainvoke": lambda t, a, c: asyncio.run(t.ainvoke({"number": a}, c)),
    "ainvoke with a tool call": lambda t, a, c: asyncio.run(t.ainvoke(call_of(t, a), c)),
    "run": lambda t, a, c: t.run({"number": a}, callbacks=c.get("callbacks")),
    "arun": lambda t, a, c: asyncio.run(t.arun({"number": a}, callbacks=c.get("callbacks"))),
    "batch": lambda t, a, c: t.batch([{"number": a}], c),
    "batch keeping exceptions": lambda t, a, c: t.batch([{"number": a}], c, return_exceptions=True),
    "abatch": lambda t, a, c: asyncio.run(t.abatch([{"number": a}], c)),
    "batch as completed": lambda t, a, c: list(t.batch_as_completed([{"number": a}], c)),
    "stream": lambda t, a, c: list(t.stream({"number": a}, c)),
    "astream": lambda t, a, c: asyncio.run(collect(t.astream({"number": a}, c))),
    "astream_events": lambda t, a, c: asyncio.run(
        collect(t.astream_events({"number": a}, c, version="v2"))
    ),
    "astream_log": lambda t, a, c: asyncio.run(collect(t.astream_log({"number": a}, c))),
    "with_config": lambda t, a, c: t.with_config(c).invoke({"number": a}),
    "sequence": lambda t, a, c: (RunnableLambda(lambda n: {"number": n}) | t).invoke(a, c),
    "async sequence": lambda t, a, c: asyncio.run(
        (RunnableLambda(lambda n: {"number": n}) | t).ainvoke(a, c)
    ),
    "parallel": lambda t, a, c: RunnableParallel(one=t).invoke({"number": a}, c),
    "async parallel": lambda t, a, c: asyncio.run(
        RunnableParallel(one=t).ainvoke({"number": a}, c)
    ),
    "inside a lambda": lambda t, a, c: RunnableLambda(lambda n: t.invoke({"number": n})).invoke(
        a, c
    ),
    "with_retry": lambda t, a, c: t.with_retry(
        stop_after_attempt=2, wait_exponential_jitter=False
    ).invoke({"number": a}, c),
    "with_fallbacks": lambda t, a, c: t.with_fallbacks([t]).invoke({"number": a}, c),
    "map": lambda t, a, c: t.map().invoke([{"number": a}], c),
    "nested tool": nested,
    "thread": lambda t, a, c: in_thread(lambda: t.invoke({"number": a}, c)),
    "thread pool": lambda t, a, c: (
        ThreadPoolExecutor(1).submit(copy_context().run, t.invoke, {"number": a}, c).result()
    ),
    "to_thread": lambda t, a, c: asyncio.run(asyncio.to_thread(t.invoke, {"number": a}, c)),
    "ToolNode that raises": lambda t, a, c: node(t, a, c, False),
    "ToolNode that handles errors": lambda t, a, c: node(t, a, c, True),
    "ToolNode, async": lambda t, a, c: asyncio.run(anode(t, a, c, False)),
    "ToolNode that handles errors, async": lambda t, a, c: asyncio.run(anode(t, a, c, True)),
    "create_agent": lambda t, a, c: agent_of(t, a).invoke(QUESTION, c),
    "create_agent, async": lambda t, a, c: asyncio.run(agent_of(t, a).ainvoke(QUESTION, c)),
    "create_agent, stream": lambda t, a, c: list(agent_of(t, a).stream(QUESTION, c)),
    "create_agent, astream": lambda t, a, c: asyncio.run(
        collect(agent_of(t, a).astream(QUESTION, c))
    ),
    "create_agent, batch": lambda t, a, c: agent_of(t, a).batch([QUESTION], c),
}

# Past the callbacks: only the tool itself can refuse here.
DIRECT: dict[str, Path] = {
    ".func": lambda t, a, _: t.func(number=a),
    ".func, by position": lambda t, a, _: t.func(a),
    "._run": lambda t, a, _: t._run(number=a, config={}),
    "._arun": lambda t, a, _: asyncio.run(t._arun(number=a, config={})),
    "callbacks=[]": lambda t, a, _: t.invoke({"number": a}, {"callbacks": []}),
    "run": lambda t, a, _: t.run({"number": a}),
    "bare executor": lambda t, a, _: (
        ThreadPoolExecutor(1).submit(copy_context().run, t.run, {"number": a}).result()
    ),
}
REFUSED_KINDS = (
    "no_identity",
    "forged",
    "expired",
    "revoked",
    "ended",
    "denied_tool",
    "denied_argument",
)


def attempt(work: Callable[[], object]) -> str | None:
    """The code of the refusal that came out; None when a layer above swallowed it."""
    try:
        work()
    except AccessDenied as refusal:
        return refusal.code
    return None


class TestHandler:
    """The callback handler stops the call before the body on every path."""

    @pytest.mark.parametrize("coroutine", [False, True], ids=["sync body", "async body"])
    @pytest.mark.parametrize("path", PATHS)
    def test_allowed(
        self, path: str, coroutine: bool, counted: Any, make_caller: Any, decisions: Any, guard: Any
    ) -> None:
        """The control: an allowed call runs once and leaves its decision and its outcome."""
        config = {"callbacks": [TabardCallbackHandler()]}
        with make_caller("allowed").enter():
            PATHS[path](counted.tool(coroutine=coroutine), 1, config)
        assert counted.ran == 1
        mine = [r for r in guard.records() if r.get("action", {}).get("name") == "lookup"]
        assert [r["type"] for r in mine] == ["tool.decision", "tool.outcome"]
        assert mine[1]["outcome"]["status"] == "ok"

    @pytest.mark.parametrize("kind", REFUSED_KINDS)
    @pytest.mark.parametrize("path", PATHS)
    def test_refused(
        self, path: str, kind: str, counted: Any, make_caller: Any, decisions: Any
    ) -> None:
        """A refused call never reaches the body, and the record says why."""
        caller = make_caller(kind)
        config = {"callbacks": [TabardCallbackHandler()]}
        target = counted.tool(caller.tool_name, coroutine=path.startswith("a"))
        with caller.enter():
            code = attempt(lambda: PATHS[path](target, caller.argument, config))
        assert counted.ran == 0
        assert code in (caller.code, None)
        assert decisions()[-1]["decision"]["code"] == caller.code
        assert decisions()[-1]["decision"]["effect"] == "deny"


class TestProtect:
    """A protected tool refuses by itself, on the callback paths and past them."""

    ALL = PATHS | DIRECT

    @pytest.mark.parametrize("path", ALL)
    def test_allowed(self, path: str, counted: Any, make_caller: Any, decisions: Any) -> None:
        """The control: an allowed call of a protected tool runs once, with one decision."""
        with make_caller("allowed").enter():
            self.ALL[path](protect(counted.tool(coroutine="_arun" in path)), 1, {})
        assert counted.ran == 1
        assert [d["decision"]["code"] for d in decisions()] == ["ok"]

    @pytest.mark.parametrize("kind", REFUSED_KINDS)
    @pytest.mark.parametrize("path", ALL)
    def test_refused(
        self, path: str, kind: str, counted: Any, make_caller: Any, decisions: Any
    ) -> None:
        """A refused call never reaches the body, and the record says why."""
        caller = make_caller(kind)
        target = protect(counted.tool(caller.tool_name, coroutine="a" in path[:2]))
        with caller.enter():
            code = attempt(lambda: self.ALL[path](target, caller.argument, {}))
        assert counted.ran == 0
        assert code in (caller.code, None)
        assert decisions()[-1]["decision"]["code"] == caller.code


def test_matrix_is_wide_enough() -> None:
    """The table covers at least the paths that were promised."""
    assert len(PATHS) >= 24
    assert len(PATHS | DIRECT) * len(REFUSED_KINDS) >= 250

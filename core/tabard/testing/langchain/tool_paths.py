"""Every way LangChain and LangGraph run a tool.

Three tables: on `REPORTED` paths LangChain tells the callbacks of the config; on `DROPPED` ones it
does not pass the config on, so that only a process-wide handler hears of the call; on `DIRECT` ones
it tells nobody, and only the tool itself can refuse. What stands in `AGENTS` runs in an agent.
"""

from __future__ import annotations

import asyncio
import threading
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any

from langchain_core.runnables import RunnableLambda, RunnableParallel
from langchain_core.tools import StructuredTool

from tabard.testing.langchain.case import QUESTION, Case

Path = Callable[[Case], object]


async def collect(stream: Any) -> list[Any]:
    """Everything an async stream yields."""
    return [item async for item in stream]


def in_thread(work: Callable[[], object]) -> object:
    """Run in a new thread with this context; what it raises is raised here."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(copy_context().run, work).result()


def in_bare_thread(work: Callable[[], object]) -> object:
    """Run in a thread of `threading`, which begins with the context of nobody but the session."""
    found: list[Any] = []

    def run() -> None:
        try:
            found.append((work(), None))
        except BaseException as error:
            found.append((None, error))

    thread = threading.Thread(target=copy_context().run, args=(run,))
    thread.start()
    thread.join()
    result, error = found[0]
    if error is not None:
        raise error
    return result


def _within_a_tool(case: Case) -> object:
    inner = case.tool

    def outer(number: int) -> str:
        """Call another tool."""
        return str(inner.invoke({"number": number}))

    made = StructuredTool.from_function(func=outer, name="outer", description="Call another.")
    return made.invoke({"number": case.number}, case.config)


def _graph(case: Case, *, handles_errors: bool) -> Any:
    from langgraph.graph import START, MessagesState, StateGraph
    from langgraph.prebuilt import ToolNode

    graph = StateGraph(MessagesState)
    graph.add_node("tools", ToolNode([case.tool], handle_tool_errors=handles_errors))
    graph.add_edge(START, "tools")
    return graph.compile()


def _node(case: Case, *, handles_errors: bool) -> object:
    graph = _graph(case, handles_errors=handles_errors)
    return graph.invoke({"messages": [_asking(case)]}, case.config)


def _async_node(case: Case, *, handles_errors: bool) -> object:
    graph = _graph(case, handles_errors=handles_errors)
    return asyncio.run(graph.ainvoke({"messages": [_asking(case)]}, case.config))


def _asking(case: Case) -> Any:
    from langchain_core.messages import AIMessage

    return AIMessage("", tool_calls=[case.call])


def _numbered(case: Case) -> Any:
    """A chain that makes the tool's arguments of a number."""
    return RunnableLambda(lambda number: {"number": number}) | case.tool


def _lambda(work: Callable[[int], object]) -> RunnableLambda[int, object]:
    return RunnableLambda(work)


def _astream_log(case: Case) -> object:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is deprecated, and still there
        return asyncio.run(collect(case.tool.astream_log(case.arguments, case.config)))


AGENTS: dict[str, Path] = {
    "create_agent.invoke": lambda c: c.agent(c.tool).invoke(QUESTION, c.config),
    "create_agent.ainvoke": lambda c: asyncio.run(c.agent(c.tool).ainvoke(QUESTION, c.config)),
    "create_agent.ainvoke, async body": lambda c: asyncio.run(
        c.agent(c.async_tool).ainvoke(QUESTION, c.config)
    ),
    "create_agent.stream": lambda c: list(c.agent(c.tool).stream(QUESTION, c.config)),
    "create_agent.astream": lambda c: asyncio.run(
        collect(c.agent(c.tool).astream(QUESTION, c.config))
    ),
    "create_agent.batch": lambda c: c.agent(c.tool).batch([QUESTION], c.config),
}

REPORTED: dict[str, Path] = {
    "invoke": lambda c: c.tool.invoke(c.arguments, c.config),
    "invoke, with a tool call": lambda c: c.tool.invoke(c.call, c.config),
    "ainvoke, sync body": lambda c: asyncio.run(c.tool.ainvoke(c.arguments, c.config)),
    "ainvoke, async body": lambda c: asyncio.run(c.async_tool.ainvoke(c.arguments, c.config)),
    "ainvoke, with a tool call": lambda c: asyncio.run(c.async_tool.ainvoke(c.call, c.config)),
    "run": lambda c: c.tool.run(c.arguments, callbacks=c.callbacks),
    "arun": lambda c: asyncio.run(c.async_tool.arun(c.arguments, callbacks=c.callbacks)),
    "batch": lambda c: c.tool.batch([c.arguments], c.config),
    "batch, keeping exceptions": lambda c: c.tool.batch(
        [c.arguments], c.config, return_exceptions=True
    ),
    "abatch": lambda c: asyncio.run(c.tool.abatch([c.arguments], c.config)),
    "batch_as_completed": lambda c: list(c.tool.batch_as_completed([c.arguments], c.config)),
    "stream": lambda c: list(c.tool.stream(c.arguments, c.config)),
    "astream": lambda c: asyncio.run(collect(c.async_tool.astream(c.arguments, c.config))),
    "astream_events": lambda c: asyncio.run(
        collect(c.tool.astream_events(c.arguments, c.config, version="v2"))
    ),
    "astream_log": _astream_log,
    "with_config": lambda c: c.tool.with_config(c.config).invoke(c.arguments),
    "sequence": lambda c: _numbered(c).invoke(c.number, c.config),
    "sequence, async": lambda c: asyncio.run(_numbered(c).ainvoke(c.number, c.config)),
    "parallel": lambda c: RunnableParallel(one=c.tool).invoke(c.arguments, c.config),
    "parallel, async": lambda c: asyncio.run(
        RunnableParallel(one=c.tool).ainvoke(c.arguments, c.config)
    ),
    "inside a lambda": lambda c: RunnableLambda(lambda n: c.tool.invoke({"number": n})).invoke(
        c.number, c.config
    ),
    "with_retry": lambda c: c.tool.with_retry(
        stop_after_attempt=2, wait_exponential_jitter=False
    ).invoke(c.arguments, c.config),
    "with_fallbacks": lambda c: c.tool.with_fallbacks([c.tool]).invoke(c.arguments, c.config),
    "map": lambda c: c.tool.map().invoke([c.arguments], c.config),
    "inside a tool": _within_a_tool,
    "thread": lambda c: in_bare_thread(lambda: c.tool.invoke(c.arguments, c.config)),
    "thread pool": lambda c: in_thread(lambda: c.tool.invoke(c.arguments, c.config)),
    "to_thread": lambda c: asyncio.run(asyncio.to_thread(c.tool.invoke, c.arguments, c.config)),
    "ToolNode": lambda c: _node(c, handles_errors=False),
    "ToolNode, handling errors": lambda c: _node(c, handles_errors=True),
    "ToolNode, async": lambda c: _async_node(c, handles_errors=False),
    "ToolNode, async, handling errors": lambda c: _async_node(c, handles_errors=True),
    **AGENTS,
}

DROPPED: dict[str, Path] = {
    "callbacks=[]": lambda c: c.tool.invoke(c.arguments, {"callbacks": []}),
    "with_config(callbacks=[])": lambda c: c.tool.with_config(callbacks=[]).invoke(c.arguments),
    "run without callbacks": lambda c: c.tool.run(c.arguments),
    "arun without callbacks": lambda c: asyncio.run(c.async_tool.arun(c.arguments)),
    "run inside a lambda": lambda c: RunnableLambda(lambda n: c.tool.run({"number": n})).invoke(
        c.number, c.config
    ),
    "callbacks=[] inside a lambda": lambda c: RunnableLambda(
        lambda n: c.tool.invoke({"number": n}, {"callbacks": []})
    ).invoke(c.number, c.config),
    "pool inside a lambda": lambda c: _lambda(
        lambda n: in_thread(lambda: c.tool.invoke({"number": n}, {"callbacks": []}))
    ).invoke(c.number, c.config),
}

DIRECT: dict[str, Path] = {
    ".func": lambda c: _of(c.tool).func(number=c.number),
    ".func, by position": lambda c: _of(c.tool).func(c.number),
    ".coroutine": lambda c: asyncio.run(_of(c.async_tool).coroutine(number=c.number)),
    "._run": lambda c: c.tool._run(number=c.number, config={}),
    "._arun, sync body": lambda c: asyncio.run(c.tool._arun(number=c.number, config={})),
    "._arun, async body": lambda c: asyncio.run(c.async_tool._arun(number=c.number, config={})),
    ".func in a thread": lambda c: in_bare_thread(lambda: _of(c.tool).func(c.number)),
}


def _of(tool: Any) -> Any:
    """The tool, as what has the attributes of a `StructuredTool`."""
    return tool


ALL: dict[str, Path] = REPORTED | DROPPED | DIRECT
"""Every path of a tool."""

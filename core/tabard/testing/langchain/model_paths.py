"""Every way LangChain calls a chat model, a completion model and a retriever."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda, RunnableParallel

from tabard.testing.langchain.case import QUESTION, Case
from tabard.testing.langchain.models import ScriptedChatModel
from tabard.testing.langchain.tool_paths import Path, collect, in_bare_thread, in_thread


def _chain(case: Case) -> Any:
    return ChatPromptTemplate.from_template("{x}") | case.chat | StrOutputParser()


def _agent(case: Case) -> Any:
    from langchain.agents import create_agent  # takes seconds

    return create_agent(case.chat, [], middleware=list(case.fitting.middleware))


def _of_a_middleware(case: Case, *, wraps: bool) -> object:
    """An agent whose own model is a free one, and a middleware in front that calls another."""
    from langchain.agents import create_agent  # takes seconds
    from langchain.agents.middleware import AgentMiddleware

    class Wrapping(AgentMiddleware[Any, Any]):
        def wrap_model_call(self, request: Any, handler: Any) -> Any:
            case.chat.invoke("hi")
            return handler(request)

    class Before(AgentMiddleware[Any, Any]):
        def before_model(self, state: Any, runtime: Any) -> None:
            case.chat.invoke("hi")

    free = ScriptedChatModel(script=[AIMessage("done")], model_name="planner", max_tokens=10)
    first = Wrapping() if wraps else Before()
    agent: Any = create_agent(free, [], middleware=[first, *case.fitting.middleware])
    return agent.invoke(QUESTION, case.config)


def _after_a_failure(case: Case) -> object:
    """A chain whose first model always fails, so that the second is called.

    Where that is refused as well, LangChain raises what the first one did.
    """
    failing = ScriptedChatModel(
        script=[AIMessage("")], model_name="planner", max_tokens=1, fails_with=OSError("down")
    )
    with suppress(OSError):
        return failing.with_fallbacks([case.chat]).invoke("hi", case.config)
    return None


_RETRY: dict[str, Any] = {"stop_after_attempt": 2, "wait_exponential_jitter": False}

CHAT: dict[str, Path] = {
    "invoke": lambda c: c.chat.invoke("hi", c.config),
    "ainvoke": lambda c: asyncio.run(c.chat.ainvoke("hi", c.config)),
    "stream": lambda c: list(c.chat.stream("hi", c.config)),
    "astream": lambda c: asyncio.run(collect(c.chat.astream("hi", c.config))),
    "astream_events": lambda c: asyncio.run(
        collect(c.chat.astream_events("hi", c.config, version="v2"))
    ),
    "batch": lambda c: c.chat.batch(["hi"], c.config),
    "abatch": lambda c: asyncio.run(c.chat.abatch(["hi"], c.config)),
    "generate": lambda c: c.chat.generate([[HumanMessage("hi")]], callbacks=c.callbacks),
    "agenerate": lambda c: asyncio.run(
        c.chat.agenerate([[HumanMessage("hi")]], callbacks=c.callbacks)
    ),
    "generate_prompt": lambda c: c.chat.generate_prompt(
        [ChatPromptTemplate.from_template("x").invoke({})], callbacks=c.callbacks
    ),
    "chain": lambda c: _chain(c).invoke({"x": "hi"}, c.config),
    "chain, async": lambda c: asyncio.run(_chain(c).ainvoke({"x": "hi"}, c.config)),
    "chain, stream": lambda c: list(_chain(c).stream({"x": "hi"}, c.config)),
    "parallel": lambda c: RunnableParallel(one=c.chat).invoke("hi", c.config),
    "inside a lambda": lambda c: RunnableLambda(c.chat.invoke).invoke("hi", c.config),
    "bound": lambda c: c.chat.bind(stop=["x"]).invoke("hi", c.config),
    "with_retry": lambda c: c.chat.with_retry(**_RETRY).invoke("hi", c.config),
    "with_fallbacks": _after_a_failure,
    "thread": lambda c: in_bare_thread(lambda: c.chat.invoke("hi", c.config)),
    "thread pool": lambda c: in_thread(lambda: c.chat.invoke("hi", c.config)),
    "of a middleware around the model": lambda c: _of_a_middleware(c, wraps=True),
    "of a middleware before the model": lambda c: _of_a_middleware(c, wraps=False),
    "in create_agent, invoke": lambda c: _agent(c).invoke(QUESTION, c.config),
    "in create_agent, ainvoke": lambda c: asyncio.run(_agent(c).ainvoke(QUESTION, c.config)),
    "in create_agent, stream": lambda c: list(_agent(c).stream(QUESTION, c.config)),
}

COMPLETION: dict[str, Path] = {
    "completion, invoke": lambda c: c.completion.invoke("hi", c.config),
    "completion, ainvoke": lambda c: asyncio.run(c.completion.ainvoke("hi", c.config)),
    "completion, stream": lambda c: list(c.completion.stream("hi", c.config)),
    "completion, astream": lambda c: asyncio.run(collect(c.completion.astream("hi", c.config))),
    "completion, batch": lambda c: c.completion.batch(["hi"], c.config),
}

DROPPED_MODELS: dict[str, Path] = {
    "callbacks=[]": lambda c: c.chat.invoke("hi", {"callbacks": []}),
    "callbacks=[], async": lambda c: asyncio.run(c.chat.ainvoke("hi", {"callbacks": []})),
    "callbacks=[], stream": lambda c: list(c.chat.stream("hi", {"callbacks": []})),
    "generate without callbacks": lambda c: c.chat.generate([[HumanMessage("hi")]]),
    "completion, callbacks=[]": lambda c: c.completion.invoke("hi", {"callbacks": []}),
}
"""Here LangChain does not pass the config on: only a process-wide handler hears of the call."""

RETRIEVER: dict[str, Path] = {
    "invoke": lambda c: c.retriever.invoke(c.attempt.query, c.config),
    "ainvoke": lambda c: asyncio.run(c.retriever.ainvoke(c.attempt.query, c.config)),
    "batch": lambda c: c.retriever.batch([c.attempt.query], c.config),
    "abatch": lambda c: asyncio.run(c.retriever.abatch([c.attempt.query], c.config)),
    "stream": lambda c: list(c.retriever.stream(c.attempt.query, c.config)),
    "chain": lambda c: (c.retriever | str).invoke(c.attempt.query, c.config),
}

MODELS: dict[str, Path] = CHAT | COMPLETION
"""Every path of a model."""

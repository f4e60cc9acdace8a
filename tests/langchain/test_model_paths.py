"""Every path on which LangChain calls a model or a retriever, with every kind of caller."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.documents import Document
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableParallel

from tabard import AccessDenied, NotPermitted
from tabard.testing.langchain import ScriptedChatModel, ScriptedCompletionModel, ScriptedRetriever
from tabard_langchain import TabardCallbackHandler

Path = Callable[[Any, Any], object]


async def collect(stream: Any) -> list[Any]:
    return [item async for item in stream]


def chain(model: Any) -> Any:
    return ChatPromptTemplate.from_template("{x}") | model | StrOutputParser()


def agent_of(model: Any) -> Any:
    return create_agent(model, [])


def fallback(model: Any) -> Any:
    """A chain whose first model always fails, so that the second is called."""
    return ScriptedChatModel(script=[], model_name="gpt-4o").with_fallbacks([model])


CHAT: dict[str, Path] = {
    "invoke": lambda m, c: m.invoke("hi", c),
    "ainvoke": lambda m, c: asyncio.run(m.ainvoke("hi", c)),
    "stream": lambda m, c: list(m.stream("hi", c)),
    "astream": lambda m, c: asyncio.run(collect(m.astream("hi", c))),
    "astream_events": lambda m, c: asyncio.run(collect(m.astream_events("hi", c, version="v2"))),
    "batch": lambda m, c: m.batch(["hi"], c),
    "abatch": lambda m, c: asyncio.run(m.abatch(["hi"], c)),
    "generate": lambda m, c: m.generate([[HumanMessage("hi")]], callbacks=c["callbacks"]),
    "agenerate": lambda m, c: asyncio.run(
        m.agenerate([[HumanMessage("hi")]], callbacks=c["callbacks"])
    ),
    "generate_prompt": lambda m, c: m.generate_prompt(
        [ChatPromptTemplate.from_template("x").invoke({})], callbacks=c["callbacks"]
    ),
    "chain": lambda m, c: chain(m).invoke({"x": "hi"}, c),
    "async chain": lambda m, c: asyncio.run(chain(m).ainvoke({"x": "hi"}, c)),
    "chain stream": lambda m, c: list(chain(m).stream({"x": "hi"}, c)),
    "parallel": lambda m, c: RunnableParallel(one=m).invoke("hi", c),
    "bound": lambda m, c: m.bind(stop=["x"]).invoke("hi", c),
    "retry": lambda m, c: m.with_retry(stop_after_attempt=2, wait_exponential_jitter=False).invoke(
        "hi", c
    ),
    "fallback": lambda m, c: fallback(m).invoke("hi", c),
    "create_agent": lambda m, c: agent_of(m).invoke({"messages": [("user", "hi")]}, c),
    "create_agent, async": lambda m, c: asyncio.run(
        agent_of(m).ainvoke({"messages": [("user", "hi")]}, c)
    ),
}
COMPLETION: dict[str, Path] = {
    "invoke": lambda m, c: m.invoke("hi", c),
    "ainvoke": lambda m, c: asyncio.run(m.ainvoke("hi", c)),
    "stream": lambda m, c: list(m.stream("hi", c)),
    "astream": lambda m, c: asyncio.run(collect(m.astream("hi", c))),
    "batch": lambda m, c: m.batch(["hi"], c),
}
RETRIEVER: dict[str, Path] = {
    "invoke": lambda r, c: r.invoke("hi", c),
    "ainvoke": lambda r, c: asyncio.run(r.ainvoke("hi", c)),
    "batch": lambda r, c: r.batch(["hi"], c),
    "stream": lambda r, c: list(r.stream("hi", c)),
    "chain": lambda r, c: (r | str).invoke("hi", c),
}
IDENTITIES = ("no_identity", "forged", "expired", "revoked", "ended")


def handler() -> dict[str, Any]:
    return {"callbacks": [TabardCallbackHandler()]}


def attempt(work: Callable[[], object]) -> str | None:
    try:
        work()
    except AccessDenied as refusal:
        return refusal.code
    except IndexError:
        return None  # the failing first model of `fallback`, whose error comes out in the end
    return None


@pytest.mark.parametrize("path", CHAT)
class TestChatModel:
    def test_allowed(self, path: str, make_caller: Any, guard: Any) -> None:
        """The control: an allowed model is called once, with decision, outcome and usage."""
        usage = {"input_tokens": 3, "output_tokens": 2, "total_tokens": 5}
        model = ScriptedChatModel(script=[AIMessage("a b", usage_metadata=usage)])
        with make_caller("allowed").enter():
            CHAT[path](model, handler())
        assert model.calls == 1
        mine = [r for r in guard.records() if r["type"].startswith("model.")]
        assert [r["type"] for r in mine][-2:] == ["model.decision", "model.outcome"]
        assert mine[-1]["usage"]["input_tokens"] == 3

    @pytest.mark.parametrize("kind", IDENTITIES)
    def test_refused(self, path: str, kind: str, make_caller: Any, decisions: Any) -> None:
        """Without a live identity the model is not called, and the record says why."""
        model = ScriptedChatModel(script=[AIMessage("done")])
        caller = make_caller(kind)
        with caller.enter():
            code = attempt(lambda: CHAT[path](model, handler()))
        assert model.calls == 0
        assert code == caller.code == decisions()[-1]["decision"]["code"]

    def test_model_not_on_the_list(self, path: str, make_caller: Any, decisions: Any) -> None:
        """A model the agent may not use is not called."""
        model = ScriptedChatModel(script=[AIMessage("done")], model_name="gpt-3.5-turbo")
        with make_caller("allowed").enter():
            code = attempt(lambda: CHAT[path](model, handler()))
        assert code == (None if path == "fallback" else "model")
        assert model.calls == 0
        assert decisions()[-1]["action"]["name"] == "openai/gpt-3.5-turbo"


@pytest.mark.parametrize("path", COMPLETION)
class TestCompletionModel:
    def test_allowed(self, path: str, make_caller: Any, decisions: Any) -> None:
        """The control: an allowed completion model is called once."""
        model = ScriptedCompletionModel(model_name="gpt-4o")
        with make_caller("allowed").enter():
            COMPLETION[path](model, handler())
        assert model.calls == 1
        assert [d["decision"]["code"] for d in decisions()] == ["ok"]

    @pytest.mark.parametrize("kind", [*IDENTITIES, "model"])
    def test_refused(self, path: str, kind: str, make_caller: Any, decisions: Any) -> None:
        """A refused completion model is not called."""
        name = "gpt-3.5-turbo-instruct" if kind == "model" else "gpt-4o"
        model = ScriptedCompletionModel(model_name=name)
        caller = make_caller("allowed" if kind == "model" else kind)
        with caller.enter():
            code = attempt(lambda: COMPLETION[path](model, handler()))
        assert model.calls == 0
        assert code == decisions()[-1]["decision"]["code"] == (caller.code or "model")


@pytest.mark.parametrize("work", ["generate", "agenerate"])
def test_completion_without_a_provider(work: str, make_caller: Any, decisions: Any) -> None:
    """LangChain names no provider when a completion model is called directly: refused."""
    model = ScriptedCompletionModel(model_name="gpt-4o")
    callbacks: Any = [TabardCallbackHandler()]
    calls: dict[str, Callable[[], object]] = {
        "generate": lambda: model.generate(["hi"], callbacks=callbacks),
        "agenerate": lambda: asyncio.run(model.agenerate(["hi"], callbacks=callbacks)),
    }
    with make_caller("allowed").enter(), pytest.raises(NotPermitted):
        calls[work]()
    assert model.calls == 0
    assert decisions()[-1]["action"]["name"] == "unknown/gpt-4o"


@pytest.mark.parametrize("path", RETRIEVER)
class TestRetriever:
    def test_allowed(self, path: str, make_caller: Any, guard: Any) -> None:
        """The control: a granted search runs once and has its outcome."""
        source = ScriptedRetriever(name="docs", found=[Document("x")])
        with make_caller("allowed").enter():
            RETRIEVER[path](source, handler())
        assert source.calls == 1
        assert [r["type"] for r in guard.records()][-2:] == [
            "retrieval.decision",
            "retrieval.outcome",
        ]

    @pytest.mark.parametrize("kind", [*IDENTITIES, "other source"])
    def test_refused(self, path: str, kind: str, make_caller: Any, decisions: Any) -> None:
        """A refused search does not run."""
        source = ScriptedRetriever(name="secrets" if kind == "other source" else "docs")
        caller = make_caller("allowed" if kind == "other source" else kind)
        with caller.enter():
            code = attempt(lambda: RETRIEVER[path](source, handler()))
        assert source.calls == 0
        assert code == decisions()[-1]["decision"]["code"] == (caller.code or "no_grant")

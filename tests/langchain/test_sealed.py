"""A provider's SDK under seal, called by LangChain on every path: what the handler has not admitted
does not leave, and nothing else stands in the way."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import openai
import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import RunnableParallel

from tabard import AccessDenied
from tabard.testing.langchain import ScriptedChatModel
from tabard.testing.provider import Answer, StandInProvider
from tabard.transport import PLACEHOLDER, ProviderKey, Seal
from tabard_langchain import TabardCallbackHandler, TabardMiddleware

KEY = "sk-real-0123456789abcdef"
Path = Callable[[Any, Any], object]


class SdkChatModel(ScriptedChatModel):
    """A chat model that calls OpenAI's SDK, sync and async, plain and streamed."""

    client: Any
    async_client: Any
    script: list[AIMessage] = []  # noqa: RUF012  copied by pydantic
    swapped_for: str | None = None
    asks: int = 1

    def _asked(self, messages: list[BaseMessage]) -> dict[str, Any]:
        said = [{"role": "user", "content": str(message.content)} for message in messages]
        return {"model": self.swapped_for or self.model_name, "messages": said}

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        for _ in range(self.asks):
            answer = self.client.chat.completions.create(**self._asked(messages))
        return _result(answer)

    async def _agenerate(
        self, messages: list[BaseMessage], *args: Any, **kwargs: Any
    ) -> ChatResult:
        for _ in range(self.asks):
            answer = await self.async_client.chat.completions.create(**self._asked(messages))
        return _result(answer)

    def _stream(
        self, messages: list[BaseMessage], *args: Any, **kwargs: Any
    ) -> Iterator[ChatGenerationChunk]:
        for chunk in self.client.chat.completions.create(**self._asked(messages), stream=True):
            yield _chunk(chunk)

    async def _astream(
        self, messages: list[BaseMessage], *args: Any, **kwargs: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        create = self.async_client.chat.completions.create
        async for chunk in await create(**self._asked(messages), stream=True):
            yield _chunk(chunk)


def _result(answer: Any) -> ChatResult:
    message = AIMessage(answer.choices[0].message.content)
    return ChatResult(generations=[ChatGeneration(message=message)])


def _chunk(chunk: Any) -> ChatGenerationChunk:
    return ChatGenerationChunk(message=AIMessageChunk(content=chunk.choices[0].delta.content or ""))


async def collect(stream: Any) -> list[Any]:
    return [item async for item in stream]


async def agather(model: Any, config: Any) -> Any:
    return await asyncio.gather(*(model.ainvoke("hi", config) for _ in range(3)))


async def in_a_thread(model: Any, config: Any) -> Any:
    return await asyncio.to_thread(model.invoke, "hi", config)


def agent_of(model: Any) -> Any:
    return create_agent(model, [])


PATHS: dict[str, tuple[int, Path]] = {
    "invoke": (1, lambda m, c: m.invoke("hi", c)),
    "ainvoke": (1, lambda m, c: asyncio.run(m.ainvoke("hi", c))),
    "stream": (1, lambda m, c: list(m.stream("hi", c))),
    "astream": (1, lambda m, c: asyncio.run(collect(m.astream("hi", c)))),
    "astream_events": (
        1,
        lambda m, c: asyncio.run(collect(m.astream_events("hi", c, version="v2"))),
    ),
    "batch": (3, lambda m, c: m.batch(["a", "b", "c"], c)),
    "abatch": (3, lambda m, c: asyncio.run(m.abatch(["a", "b", "c"], c))),
    "batch_as_completed": (2, lambda m, c: list(m.batch_as_completed(["a", "b"], c))),
    "generate": (
        2,
        lambda m, c: m.generate([[AIMessage("a")], [AIMessage("b")]], callbacks=c["callbacks"]),
    ),
    "agenerate": (
        2,
        lambda m, c: asyncio.run(
            m.agenerate([[AIMessage("a")], [AIMessage("b")]], callbacks=c["callbacks"])
        ),
    ),
    "parallel": (2, lambda m, c: RunnableParallel(one=m, two=m).invoke("hi", c)),
    "gather": (3, lambda m, c: asyncio.run(agather(m, c))),
    "to_thread": (1, lambda m, c: asyncio.run(in_a_thread(m, c))),
    "create_agent": (1, lambda m, c: agent_of(m).invoke({"messages": [("user", "hi")]}, c)),
    "create_agent, async": (
        1,
        lambda m, c: asyncio.run(agent_of(m).ainvoke({"messages": [("user", "hi")]}, c)),
    ),
    "create_agent, stream": (
        1,
        lambda m, c: list(
            agent_of(m).stream({"messages": [("user", "hi")]}, c, stream_mode="messages")
        ),
    ),
}


@pytest.fixture
def provider() -> Iterator[StandInProvider]:
    with StandInProvider() as running:
        yield running


@pytest.fixture
def make_model(provider: StandInProvider) -> Iterator[Callable[..., SdkChatModel]]:
    """Makes a model over sealed clients, anew for each event loop."""
    seal = Seal("openai", ProviderKey(lambda: KEY), base_url=provider.base_url)
    made: list[SdkChatModel] = []

    def make(**fields: Any) -> SdkChatModel:
        to: dict[str, Any] = {"api_key": PLACEHOLDER, "base_url": provider.base_url}
        model = SdkChatModel(
            client=openai.OpenAI(http_client=seal.client(), **to),
            async_client=openai.AsyncOpenAI(http_client=seal.async_client(), **to),
            **fields,
        )
        made.append(model)
        return model

    yield make
    for model in made:
        model.client.close()


def handler() -> dict[str, Any]:
    return {"callbacks": [TabardCallbackHandler()]}


def test_every_path(provider: StandInProvider, make_caller: Any, make_model: Any) -> None:
    """What the handler admits leaves, once for each call; what it was not asked about does not.

    In one test: homes take longer to make than calls.
    """
    allowed = make_caller("allowed")
    for path, (calls, run) in PATHS.items():
        with allowed.enter():
            run(make_model(), handler())
        assert len(provider.requests) == calls, path
        assert {r.headers["authorization"] for r in provider.requests} == {f"Bearer {KEY}"}
        provider.requests.clear()
        for identity in ("allowed", "no_identity"):
            with make_caller(identity).enter(), pytest.raises(openai.PermissionDeniedError):
                run(make_model(), {"callbacks": []})
        with pytest.raises(AccessDenied, match="no_identity"):
            run(make_model(), handler())
        assert provider.requests == [], path


def test_a_model_object_that_does_what_it_does_not_tell(
    provider: StandInProvider, make_caller: Any, make_model: Any
) -> None:
    """It asks for another model than it tells LangChain, or asks twice: one admission, one answer
    of the admitted model."""
    with make_caller("allowed").enter():
        for path in ("invoke", "ainvoke", "stream", "astream", "create_agent"):
            with pytest.raises(openai.PermissionDeniedError, match="another model"):
                PATHS[path][1](make_model(swapped_for="gpt-5"), handler())
        assert provider.requests == []
        for path in ("invoke", "ainvoke"):
            with pytest.raises(openai.PermissionDeniedError, match="spent"):
                PATHS[path][1](make_model(asks=2), handler())
    assert len(provider.requests) == 2


def test_retries_and_fallbacks(
    provider: StandInProvider,
    make_caller: Any,
    make_model: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The SDK's own retries are the same call; those of LangChain are admitted anew."""
    monkeypatch.setattr("openai._base_client.BaseClient._calculate_retry_timeout", lambda *_: 0)
    with make_caller("allowed").enter():
        provider.answers.extend([Answer(status=429), Answer(breaks=True)])
        assert make_model().invoke("hi", handler()).content == "hello"
        provider.answers.extend([Answer(status=500)] * 3)
        retried = make_model().with_retry(stop_after_attempt=2, wait_exponential_jitter=False)
        assert retried.invoke("hi", handler()).content == "hello"
        provider.answers.extend([Answer(status=400)])
        assert make_model().with_fallbacks([make_model()]).invoke("hi", handler()).content
    assert len(provider.requests) == 3 + 4 + 2


def test_a_tool_that_uses_the_client_itself(
    provider: StandInProvider, make_caller: Any, make_model: Any, counted: Any
) -> None:
    """A tool of the agent gets hold of the client: its own call was admitted by nobody."""
    model = make_model()

    def body(number: int) -> str:
        """Look a number up."""
        return str(model._generate([AIMessage("hi")]))

    counted.body = body
    with make_caller("allowed").enter():
        model.invoke("hi", handler())
        with pytest.raises(openai.PermissionDeniedError, match="not_admitted"):
            counted.tool().invoke({"number": 1}, handler())
        found: list[str] = []

        def in_the_middle_of_a_stream() -> None:
            for _ in model.stream("hi", handler()):
                with pytest.raises(openai.PermissionDeniedError) as caught:
                    model._generate([AIMessage("hi")])
                found.append(str(caught.value.code))

        in_the_middle_of_a_stream()
        assert set(found) == {"permit_spent"}
    assert len(provider.requests) == 2


def test_a_handler_with_a_session_of_its_own(
    provider: StandInProvider, make_model: Any, guard: Any, authority: Any
) -> None:
    """Its session counts where none is current; another one that is current gets nothing of it."""
    own = {"callbacks": [TabardCallbackHandler(guard.login(authority.issue("claims-agent")))]}
    assert make_model().invoke("hi", own).content == "hello"
    with guard.login(authority.issue("analytics-agent")):
        assert make_model().invoke("hi", own).content == "hello"
        with pytest.raises(openai.PermissionDeniedError, match="not_admitted"):
            make_model().invoke("hi")
    assert len(provider.requests) == 2


def test_only_one_half_sealed(provider: StandInProvider, make_caller: Any, make_model: Any) -> None:
    """K3: a client that somebody forgot to seal has no key, only what stands in its place."""
    model = make_model()
    model.async_client = openai.AsyncOpenAI(api_key=PLACEHOLDER, base_url=provider.base_url)
    with make_caller("allowed").enter():
        asyncio.run(model.ainvoke("hi", handler()))
    assert provider.requests[0].headers["authorization"] == f"Bearer {PLACEHOLDER}"


def test_middleware_and_a_limit(
    provider: StandInProvider, make_caller: Any, make_model: Any
) -> None:
    """The middleware brings the handler along; an admitted limit has to be in the request."""

    def agent() -> Any:
        return create_agent(make_model(), [], middleware=[TabardMiddleware()])

    asked = {"messages": [("user", "hi")]}
    with make_caller("allowed").enter():
        assert agent().invoke(asked)["messages"][-1].content == "hello"
        assert asyncio.run(agent().ainvoke(asked))["messages"][-1].content == "hello"
        with pytest.raises(openai.PermissionDeniedError, match="max_output_tokens"):
            make_model(max_tokens=10).invoke("hi", handler())
    assert len(provider.requests) == 2


def test_a_bare_thread(provider: StandInProvider, make_caller: Any, make_model: Any) -> None:
    """A thread that nobody gave the context: no identity, so no key."""
    model, caught = make_model(), []

    def ask() -> None:
        try:
            model.invoke("hi", {"callbacks": []})
        except openai.PermissionDeniedError as error:
            caught.append(error.code)

    with make_caller("allowed").enter():
        thread = threading.Thread(target=ask)
        thread.start()
        thread.join()
    assert caught == ["no_identity"]
    assert provider.requests == []

"""Model calls of LangChain are held for and settled on every path, streams included."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage
from langchain_core.outputs import ChatGenerationChunk

from tabard import AccessDenied, Authority, BudgetExceeded, Guard, NotPermitted, Session
from tabard.budget import IMAGE_TOKENS
from tabard.budget.money import NANO
from tabard.testing.langchain import ScriptedChatModel
from tabard_langchain import TabardCallbackHandler
from tabard_langchain.tokens import most_read, most_written

POLICY = """\
version: 1
prices: {"openai/gpt-4o": {input: "1000", output: "1000", cache_read: "0"}}
agents:
  claims-agent:
    models: {allow: ["openai/**"], max_output_tokens: 200}
    budgets: [{per: session, limit: "1"}]
"""
USED = {"input_tokens": 100, "output_tokens": 50, "total_tokens": 150}


@pytest.fixture
def policy_text() -> str:
    return POLICY


@pytest.fixture
def session(guard: Guard, authority: Authority) -> Session:
    return guard.login(authority.issue("claims-agent"))


@pytest.fixture
def spent(guard: Guard) -> Callable[[], tuple[float, float]]:
    """Spent and held in the session, in thousandths of a euro (tokens, at these prices)."""

    def read() -> tuple[float, float]:
        balances = guard._store.balances()
        return tuple(round(1000 * x / NANO, 6) for x in (balances[0].spent, balances[0].held))  # type: ignore[return-value]

    return read


def model(**how: Any) -> ScriptedChatModel:
    message = AIMessage("two words", usage_metadata=how.pop("usage", USED))
    return ScriptedChatModel(script=[message], **{"max_tokens": 200, **how})


CONFIG: Any = {"callbacks": [TabardCallbackHandler()]}


async def drain(stream: Any) -> None:
    async for _ in stream:
        pass


PATHS: dict[str, Callable[[Any], object]] = {
    "invoke": lambda m: m.invoke("hi", CONFIG),
    "ainvoke": lambda m: asyncio.run(m.ainvoke("hi", CONFIG)),
    "stream": lambda m: list(m.stream("hi", CONFIG)),
    "astream": lambda m: asyncio.run(drain(m.astream("hi", CONFIG))),
    "batch": lambda m: m.batch(["hi"], CONFIG),
}


@pytest.mark.parametrize("path", PATHS)
def test_settled_on_real_usage(session: Session, spent: Callable[[], Any], path: str) -> None:
    """What the model says it used is charged, and nothing stays held."""
    with session:
        PATHS[path](model())
    assert spent() == (150, 0)


@pytest.mark.parametrize("path", PATHS)
def test_unknown_usage_is_charged_at_the_estimate(
    guard: Guard, session: Session, spent: Callable[[], Any], path: str
) -> None:
    """A provider that tells nothing costs the most the call could."""
    with session:
        PATHS[path](model(usage=None))
    *_, last = guard.records()
    assert last["cost"]["estimated"] is True
    assert spent()[0] >= 200
    assert spent()[1] == 0


@pytest.mark.parametrize(
    "usage",
    [
        {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0},
        {**USED, "input_token_details": {"cache_read": 500, "cache_creation": 100_000}},
    ],
)
def test_report_that_cannot_be_meant(
    guard: Guard, session: Session, spent: Callable[[], Any], usage: Any
) -> None:
    """All zeros is no report, nor is more from the cache than was read: the estimate is charged."""
    with session:
        model(usage=usage).invoke("hi", CONFIG)
    *_, last = guard.records()
    assert last["cost"]["estimated"] is True
    assert spent()[0] >= 200


def test_cached_tokens(session: Session, spent: Callable[[], Any]) -> None:
    """Tokens from the provider's cache are charged at their own price."""
    used = {**USED, "input_token_details": {"cache_read": 60}}
    with session:
        model(usage=used).invoke("hi", CONFIG)
    assert spent() == (90, 0)


def test_stream_that_is_broken_off(session: Session, spent: Callable[[], Any]) -> None:
    """A stream nobody reads to its end is charged: the provider may have written it all."""
    with session:
        stream = model().stream("hi", CONFIG)
        next(stream)
        stream.close()  # type: ignore[attr-defined]
    assert spent()[0] >= 200
    assert spent()[1] == 0


class Refused(Exception):
    status_code = 429


THOUGHTS: list[AIMessageChunk] = [
    AIMessageChunk(content=[{"type": "thinking", "thinking": "hmm", "index": 0}]),
    AIMessageChunk(content="", additional_kwargs={"reasoning_content": "hmm"}),
    AIMessageChunk(content=""),
    AIMessageChunk(content="", usage_metadata={**USED}),  # type: ignore[arg-type]
]


class Thinking(ScriptedChatModel):
    """Streams thoughts, and breaks off with an error that a provider also refuses with."""

    thought: AIMessageChunk

    def _stream(self, *args: Any, **kwargs: Any) -> Any:
        yield ChatGenerationChunk(message=self.thought)
        raise Refused


@pytest.mark.parametrize("thought", THOUGHTS)
def test_stream_that_breaks_off_in_thought(
    session: Session, spent: Callable[[], Any], thought: AIMessageChunk
) -> None:
    """Whatever a provider has sent was written by it, and is charged at the estimate."""
    broken = Thinking(script=[AIMessage("")], max_tokens=200, thought=thought)
    with session, pytest.raises(Refused):
        list(broken.stream("hi", CONFIG))
    assert spent()[0] >= 200
    assert spent()[1] == 0


@pytest.mark.parametrize(
    ("error", "charged"), [(Refused(), False), (TimeoutError(), True), (ValueError(), True)]
)
def test_failures(
    session: Session, spent: Callable[[], Any], error: Exception, charged: bool
) -> None:
    """What the provider refused costs nothing; what just broke may have cost everything."""
    with session, pytest.raises(type(error)):
        model(fails_with=error).invoke("hi", CONFIG)
    assert (spent()[0] > 0) is charged
    assert spent()[1] == 0


def test_answer_from_the_cache_is_free(session: Session, spent: Callable[[], Any]) -> None:
    """An answer from LangChain's cache is admitted and costs nothing."""
    cached = model(cache=InMemoryCache())
    with session:
        cached.invoke("hi", CONFIG)
        cached.invoke("hi", CONFIG)
    assert cached.calls == 1
    assert spent() == (150, 0)


def test_stops_at_the_limit(session: Session) -> None:
    """The call that could go beyond the budget never reaches the model."""
    stingy = model()
    with session, pytest.raises(BudgetExceeded, match="budget"):
        call_for_ever(stingy)
    assert stingy.calls == 6  # 6 x 150 of 1000, and no room for 218 more


def call_for_ever(stingy: ScriptedChatModel) -> None:
    while True:
        stingy.invoke("hi", CONFIG)


@pytest.mark.parametrize(
    ("how", "error", "code"),
    [
        ({"max_tokens": None}, NotPermitted, "model.max_output_tokens"),
        ({"max_tokens": 201}, NotPermitted, "model.max_output_tokens"),
        ({"model_name": "gpt-unheard-of"}, BudgetExceeded, "unknown_price"),
    ],
)
def test_refused(session: Session, how: Any, error: type[AccessDenied], code: str) -> None:
    """No limit, a higher one, or no price: the model is not called."""
    refused = model(**how)
    with session, pytest.raises(error) as caught:
        refused.invoke("hi", CONFIG)
    assert (caught.value.code, refused.calls) == (code, 0)


class TestBounds:
    def test_text(self) -> None:
        """Never less than a token for each byte."""
        assert (most_read([[HumanMessage("héé")]], None) or 0) >= len("héé".encode())
        assert most_read(["abc", "de"], None) == 5

    def test_tools_count(self) -> None:
        """What is offered is read, too."""
        tools = [{"name": "t", "description": "x" * 500}]
        assert (most_read([[HumanMessage("")]], {"tools": tools}) or 0) > 1500

    @pytest.mark.parametrize(
        ("block", "least"),
        [
            ({"type": "image_url", "image_url": {"url": "https://x.example/a.png"}}, IMAGE_TOKENS),
            ({"type": "text", "text": "x" * 100}, 100),
            ({"type": "file", "base64": "x" * 1000}, 1000),
        ],
    )
    def test_blocks(self, block: dict[str, Any], least: int) -> None:
        """A picture counts as the dearest, a file as all its bytes."""
        assert (most_read([[HumanMessage(content=[block])]], None) or 0) >= least

    @pytest.mark.parametrize(
        "block",
        [
            {"type": "file", "file_id": "f1"},
            {"type": "file", "file": {"file_id": "f1"}},
            {"type": "video", "url": "https://x.example/v"},
            {"type": "odd", "value": object()},
        ],
    )
    def test_no_bound(self, block: dict[str, Any]) -> None:
        """What lies elsewhere has no bound, and so no price."""
        assert most_read([[HumanMessage(content=[block])]], None) is None

    @pytest.mark.parametrize(
        ("serialized", "parameters", "most"),
        [
            (None, None, None),
            ({}, {"max_tokens": True}, None),
            ({}, {"max_tokens": "5"}, None),
            ({}, {"max_tokens": 5}, 5),
            ({"kwargs": {"max_tokens": 9}}, {"max_completion_tokens": 5}, 9),
            ({}, {"max_tokens": 5, "n": 3}, 15),
            ({"kwargs": {"num_predict": -1}}, {}, None),
        ],
    )
    def test_limit(self, serialized: Any, parameters: Any, most: int | None) -> None:
        """The highest limit the call names, for each answer it asks for."""
        assert most_written(serialized, parameters) == most


STREAMS: dict[str, Callable[[Any, list[str]], Any]] = {
    "stream": lambda m, out: out.extend(str(part.content) for part in m.stream("hi", CONFIG)),
    "astream": lambda m, out: asyncio.run(_collect(m, out)),
}


async def _collect(model: Any, out: list[str]) -> None:
    async for part in model.astream("hi", CONFIG):
        out.append(str(part.content))


class TestStreamPastItsLimit:
    @pytest.mark.parametrize("path", STREAMS)
    def test_cut_off(self, path: str, session: Session, spent: Any, guard: Guard) -> None:
        """B9: a model that ignores the limit its call was held for is stopped, and paid for."""
        talker = ScriptedChatModel(script=[AIMessage("word " * 500)], max_tokens=20)
        heard: list[str] = []
        with session, pytest.raises(NotPermitted) as caught:
            STREAMS[path](talker, heard)
        assert caught.value.code == "model.max_output_tokens"
        assert 20 <= len(heard) <= 30
        [outcome] = [r for r in guard.records() if r["type"] == "model.outcome"]
        assert outcome["cost"]["estimated"] is True
        assert spent()[0] > 20
        assert spent()[1] == 0

    @pytest.mark.parametrize("path", STREAMS)
    @pytest.mark.parametrize("text", ["word " * 19, "a " * 39, "\u754c " * 19])
    def test_within_the_limit(self, path: str, text: str, session: Session) -> None:
        """An answer within its limit is never cut, even where a provider sends half tokens."""
        talker = ScriptedChatModel(script=[AIMessage(text)], max_tokens=20)
        heard: list[str] = []
        with session:
            STREAMS[path](talker, heard)
        assert "".join(heard) == text

    def test_two_streams_at_once(self, session: Session) -> None:
        """Each stream is counted for itself."""
        models = [
            ScriptedChatModel(script=[AIMessage("word " * 15)], max_tokens=20) for _ in range(2)
        ]
        with session:
            streams = [one.stream("hi", CONFIG) for one in models]
            heard = [
                "".join(str(part.content) for part in pair) for pair in zip(*streams, strict=True)
            ]
        assert "".join(heard) == "word word " * 15

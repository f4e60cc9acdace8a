"""CrewAI's own OpenAI provider against a server on this machine: real HTTP, real streams."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from crewai import LLM, Agent, Crew, Task
from crewai.events import crewai_event_bus
from crewai.hooks import HookAborted

from tabard import Authority, Guard
from tabard.budget.money import NANO
from tabard_crewai import bind, install, unbind

pytestmark = pytest.mark.crewai

POLICY = """\
version: 1
prices: {"openai/gpt-4o": {input: "100", output: "100"}}
agents:
  claims-agent:
    models: {allow: ["openai/gpt-4o"], max_output_tokens: 100}
    budgets: [{per: session, limit: "100"}]
    grants: [{id: lookup, tools: ["claims_db.lookup"], unknown_args: allow}]
"""
USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
SPENT = 10 * 100 / 1_000_000
BOTH = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])


@pytest.fixture
def policy_text() -> str:
    return POLICY


class Provider:
    """What the server answers, and what it was asked."""

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.answers: list[Any] = []
        self.url = ""

    def answer(self) -> Any:
        """The next answer; the last one again and again."""
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


@pytest.fixture
def provider() -> Iterator[Provider]:
    made = Provider()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            made.asked.append(body)
            answer = made.answer()
            if isinstance(answer, int):
                self._send(answer, "application/json", b'{"error": {"message": "no"}}')
            elif body.get("stream"):
                self._send(200, "text/event-stream", _events(answer))
            else:
                self._send(200, "application/json", json.dumps(_whole(answer)).encode())

        def _send(self, status: int, kind: str, content: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(
        target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
    ).start()
    made.url = f"http://127.0.0.1:{server.server_port}/v1"
    yield made
    server.shutdown()
    server.server_close()


CALL = {
    "index": 0,
    "id": "c1",
    "type": "function",
    "function": {"name": "claims_db_lookup", "arguments": '{"number": 1}'},
}


def _message(answer: Any) -> dict[str, Any]:
    text = answer if isinstance(answer, str) else None
    calls = None if isinstance(answer, str) else [CALL]
    return {"role": "assistant", "content": text, "tool_calls": calls}


def _whole(answer: Any) -> dict[str, Any]:
    choice = {"index": 0, "message": _message(answer), "finish_reason": "stop"}
    return {"id": "r", "object": "chat.completion", "created": 1, "model": "gpt-4o",
            "choices": [choice], "usage": USAGE}  # fmt: skip


def _events(answer: Any) -> bytes:
    base = {"id": "r", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4o"}
    finish = "stop" if isinstance(answer, str) else "tool_calls"
    chunks: list[dict[str, Any]] = [
        {**base, "choices": [{"index": 0, "delta": _message(answer), "finish_reason": None}]},
        {**base, "choices": [{"index": 0, "delta": {}, "finish_reason": finish}]},
        {**base, "choices": [], "usage": USAGE},
    ]
    if answer != "broken":
        return b"".join(f"data: {json.dumps(c)}\n\n".encode() for c in chunks) + b"data: [DONE]\n\n"
    return f"data: {json.dumps(chunks[0])}\n\ndata: {{broken".encode()


@pytest.fixture
def make_llm(provider: Provider) -> Callable[..., LLM]:
    def make(**more: Any) -> Any:
        return LLM(
            model="gpt-4o",
            api_key="none",
            base_url=provider.url,
            **{"max_tokens": 50, "max_retries": 0, **more},
        )

    return make


def crew_of(llm: Any, *tools: Any) -> Any:
    agent = Agent(role="Clerk", goal="g", backstory="b", llm=llm, tools=list(tools))
    return Crew(agents=[agent], tasks=[Task(description="d", expected_output="e", agent=agent)])


CALLS: dict[str, Callable[[Any], object]] = {
    "kickoff": lambda llm: crew_of(llm).kickoff(),
    "akickoff": lambda llm: asyncio.run(crew_of(llm).akickoff()),
    "call": lambda llm: llm.call("hello"),
    "acall": lambda llm: asyncio.run(llm.acall("hello")),
}


def outcomes(guard: Guard) -> list[tuple[str, Any]]:
    crewai_event_bus.flush()
    found = [r for r in guard.records() if r["type"] == "model.outcome"]
    return [(r["outcome"]["status"], r.get("usage")) for r in found]


def money(guard: Guard) -> tuple[float, float]:
    [balance] = guard._store.balances()
    return balance.spent / NANO, balance.held / NANO


@BOTH
@pytest.mark.parametrize("path", CALLS)
class TestCalls:
    def test_settled_by_real_usage(
        self,
        path: str,
        stream: bool,
        provider: Provider,
        make_llm: Any,
        guard: Guard,
        authority: Authority,
    ) -> None:
        """Held for, made once, settled by what the provider says it took."""
        install()
        provider.answers = ["done"]
        with guard.login(authority.issue("claims-agent")):
            CALLS[path](make_llm(stream=stream))
        assert len(provider.asked) == 1
        assert provider.asked[0].get("stream", False) is stream
        assert outcomes(guard) == [("ok", {"input_tokens": 7, "output_tokens": 3})]
        assert money(guard) == (SPENT, 0)

    def test_error_of_the_provider(
        self,
        path: str,
        stream: bool,
        provider: Provider,
        make_llm: Any,
        guard: Guard,
        authority: Authority,
    ) -> None:
        """A call that fails has an outcome that says so, and holds nothing for ever."""
        install()
        provider.answers = [401]
        with guard.login(authority.issue("claims-agent")):
            with pytest.raises(Exception, match="401"):
                CALLS[path](make_llm(stream=stream))
        assert [status for status, _ in outcomes(guard)] == ["error"] * len(provider.asked)
        assert provider.asked
        assert money(guard)[1] == 0


@pytest.mark.parametrize("path", CALLS)
@pytest.mark.parametrize(
    ("kind", "more"),
    [("model", {"model": "gpt-4o-mini"}), ("cap", {"max_tokens": 101}), ("nobody", {})],
)
def test_refused_before_the_wire(
    path: str,
    kind: str,
    more: dict[str, Any],
    provider: Provider,
    make_llm: Any,
    guard: Guard,
    authority: Authority,
) -> None:
    """Another model, a limit too high, no identity: the provider never hears of it."""
    install()
    provider.answers = ["done"]
    llm = make_llm(stream=True, **{k: v for k, v in more.items() if k != "model"})
    llm.model = more.get("model", "gpt-4o")
    session = guard.login(authority.issue("claims-agent"))
    with contextlib.nullcontext() if kind == "nobody" else session:
        with pytest.raises(HookAborted):
            CALLS[path](llm)
    assert provider.asked == []


@BOTH
def test_tool_call_of_a_real_answer(
    stream: bool,
    provider: Provider,
    make_llm: Any,
    guard: Guard,
    authority: Authority,
    counted: Any,
) -> None:
    """An answer that asks for a tool is settled as well; CrewAI runs no hook after it."""
    provider.answers = [CALL, "done"]
    crew = crew_of(make_llm(stream=stream), counted.tool())
    bind(crew, {"Clerk": authority.source("claims-agent")}, guard=guard)
    crew.kickoff()
    unbind(crew)
    assert counted.ran == 1
    assert outcomes(guard) == [("ok", {"input_tokens": 7, "output_tokens": 3})] * 2
    assert money(guard) == (2 * SPENT, 0)


def test_retried_by_the_sdk(
    provider: Provider, make_llm: Any, guard: Guard, authority: Authority
) -> None:
    """The SDK tries again below every hook: one admission, settled by the answer there was."""
    install()
    provider.answers = [500, "done"]
    with guard.login(authority.issue("claims-agent")):
        assert make_llm(max_retries=1).call("hello") == "done"
    assert len(provider.asked) == 2
    assert outcomes(guard) == [("ok", {"input_tokens": 7, "output_tokens": 3})]


def test_broken_stream(
    provider: Provider, make_llm: Any, guard: Guard, authority: Authority
) -> None:
    """A stream that breaks off tells no usage: it is charged at the most it can have cost."""
    install()
    provider.answers = ["broken"]
    with guard.login(authority.issue("claims-agent")):
        with contextlib.suppress(Exception):
            crew_of(make_llm(stream=True)).kickoff()
    assert len(provider.asked) >= 1
    assert len(outcomes(guard)) == len(provider.asked)
    spent, held = money(guard)
    assert spent > SPENT
    assert held == 0

"""MCP tools: the same hooks, the same permission, and a server that never hears of a refusal."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import uvicorn
from crewai import Agent, Crew, Task
from crewai.mcp import MCPServerSSE
from crewai.mcp.tool_resolver import MCPToolResolver
from crewai.tools.mcp_native_tool import MCPNativeTool
from crewai.tools.mcp_tool_wrapper import MCPToolWrapper
from crewai.utilities.string_utils import sanitize_tool_name
from mcp.server.fastmcp import FastMCP
from pydantic import BaseModel

from tabard.testing.crewai import ScriptedLLM
from tabard_crewai import protect

pytestmark = pytest.mark.crewai

POLICY = """\
version: 1
agents:
  claims-agent:
    models: {allow: ["openai/gpt-4o"]}
    grants: [{id: lookup, tools: ["**_lookup"], args: {number: {enum: [1, 2]}}}]
"""


@pytest.fixture
def policy_text() -> str:
    return POLICY


class Arguments(BaseModel):
    number: int


class Client:
    """Stands for a connection to a server, and counts what reaches it."""

    def __init__(self) -> None:
        self.asked: list[Any] = []

    async def connect(self) -> None: ...

    async def disconnect(self) -> None: ...

    async def call_tool_result(self, name: str, arguments: Any) -> Any:
        self.asked.append(arguments)
        return type("Result", (), {"content": "found", "is_error": False})()


def native_tool(client: Client) -> Any:
    schema = {"description": "Look up.", "args_schema": Arguments}
    return MCPNativeTool(lambda: client, "lookup", schema, "claims")


ENTRANCES: dict[str, Callable[[Any, int], Any]] = {
    "run": lambda t, n: t.run(number=n),
    "_run": lambda t, n: t._run(number=n),
    "_run_async": lambda t, n: asyncio.run(t._run_async(number=n)),
    "structured": lambda t, n: t.to_structured_tool().invoke({"number": n}),
}


@pytest.mark.parametrize("entrance", ENTRANCES)
class TestProtected:
    def test_native(self, entrance: str, make_caller: Any, decisions: Any) -> None:
        """Whichever way it is called, the server is asked once per admission, or not at all."""
        client = Client()
        target = protect(native_tool(client))
        with make_caller("allowed").enter():
            assert ENTRANCES[entrance](target, 1) == "found"
            assert ENTRANCES[entrance](target, 7).code == "arg.enum"
        assert ENTRANCES[entrance](target, 1).code == "no_identity"
        assert client.asked == [{"number": 1}]
        assert [d["decision"]["code"] for d in decisions("tool")] == [
            "ok",
            "arg.enum",
            "no_identity",
        ]

    def test_wrapper_retries(
        self, entrance: str, make_caller: Any, decisions: Any, monkeypatch: Any
    ) -> None:
        """E17: each time the server is asked again is admitted by itself."""
        asked: list[Any] = []

        async def ask(self: Any, **arguments: Any) -> str:
            asked.append(arguments)
            if len(asked) == 1:
                raise OSError("connection lost")
            return "found"

        async def no_sleep(seconds: float) -> None: ...

        monkeypatch.setattr(MCPToolWrapper, "_execute_tool", ask)
        monkeypatch.setattr("crewai.tools.mcp_tool_wrapper.asyncio.sleep", no_sleep)
        schema = {"description": "Look up.", "args_schema": Arguments}
        target = protect(MCPToolWrapper({"url": "https://x"}, "lookup", schema, "claims"))
        with make_caller("allowed").enter():
            assert ENTRANCES[entrance](target, 1) == "found"
            assert ENTRANCES[entrance](target, 7).code == "arg.enum"
        assert len(asked) == 2
        assert [d["decision"]["code"] for d in decisions("tool")] == ["ok", "ok", "arg.enum"]


@pytest.fixture
def served() -> Iterator[tuple[str, list[int]]]:
    """A real MCP server over HTTP, in a thread of this process: its URL, and the calls it got."""
    calls: list[int] = []
    server = FastMCP("claims", log_level="ERROR")

    @server.tool()
    def lookup(number: int) -> str:
        """Look a number up."""
        calls.append(number)
        if number == 2:
            raise ValueError("no such number")
        return f"found {number}"

    listening = socket.create_server(("127.0.0.1", 0))
    app = uvicorn.Server(uvicorn.Config(server.sse_app(), log_level="error"))
    thread = threading.Thread(target=app.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{listening.getsockname()[1]}/sse", calls
    app.should_exit = True
    thread.join(5)


@pytest.mark.parametrize("native", [True, False], ids=["native", "ReAct"])
def test_real_server(native: bool, served: Any, hooked: None, make_caller: Any, guard: Any) -> None:
    """An agent with `mcps=[...]`: allowed, failed by the server, refused; recorded as such."""
    url, calls = served
    name = sanitize_tool_name(f"{MCPToolResolver._extract_server_name(url)}_lookup")
    script = [(name, {"number": number}) for number in (1, 2, 7)]
    llm = ScriptedLLM(model="gpt-4o", script=[*script, "done"], native=native)
    agent = Agent(role="r", goal="g", backstory="b", mcps=[MCPServerSSE(url=url)], llm=llm)
    job = Task(description="d", expected_output="e", agent=agent)
    with make_caller("allowed").enter():
        output: Any = Crew(agents=[agent], tasks=[job]).kickoff()
    assert calls == [1, 2]
    assert "found 1" in str(llm.seen[1])
    assert "(code: arg.enum)" in str(llm.seen[3])
    records = [r for r in guard.records() if r["type"].startswith("tool.")]
    told = [r["decision"]["code"] if "decision" in r else r["outcome"]["status"] for r in records]
    assert told == ["ok", "ok", "ok", "error", "arg.enum"]
    codes = [failure.failure.code for failure in output.tasks_output[0].tool_failures]
    assert codes[-1] == "arg.enum"

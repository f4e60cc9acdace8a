"""A protected tool's body: one admission for each run of it, one outcome when it has ended."""

from __future__ import annotations

import asyncio
import functools
import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from contextvars import copy_context
from typing import Any

import pytest
from langchain_core.tools import BaseTool, StructuredTool

from tabard import ConfigurationError, NotPermitted
from tabard_langchain import TabardCallbackHandler, protect

SCHEMA: dict[str, Any] = {"type": "object", "properties": {"x": {}}}

POLICY = """\
version: 1
agents:
  claims-agent:
    grants:
      - {id: use, tools: [use], args: {x: {enum: [1, 2]}}}
      - {id: lookup, tools: [lookup], args: {number: {}}}
  analytics-agent: {}
"""


@pytest.fixture
def policy_text() -> str:
    return POLICY


@pytest.fixture(autouse=True)
def _allowed(make_caller: Any) -> Iterator[None]:
    with make_caller("allowed").enter():
        yield


def described(function: Callable[..., Any] | None, **more: Any) -> Any:
    return StructuredTool(name="use", description="d", func=function, args_schema=SCHEMA, **more)


class TestBodies:
    def test_agent_inside_the_body(self, decisions: Any) -> None:
        """A tool reached through the framework from inside its own body is admitted again."""

        class Calls(BaseTool):
            name: str = "use"
            description: str = "d"
            args_schema: Any = SCHEMA

            def _run(self, x: int) -> str:
                return "done" if x == 2 else str(target.invoke({"x": x + 1}))

            async def _arun(self, x: int) -> str:
                return "done" if x == 2 else str(await target.ainvoke({"x": x + 1}))

        target = protect(Calls())
        assert target.invoke({"x": 1}) == "done"
        assert asyncio.run(target.ainvoke({"x": 1})) == "done"
        assert len(decisions()) == 4
        with pytest.raises(NotPermitted, match=r"arg\.enum"):
            target.invoke({"x": 2.5})

    def test_self_call_ends_with_the_body(self, decisions: Any) -> None:
        """What a body leaves behind cannot call on as part of it."""
        left: list[Callable[[], object]] = []

        class Leaves(BaseTool):
            name: str = "use"
            description: str = "d"
            args_schema: Any = SCHEMA

            def _run(self, x: int) -> str:
                context = copy_context()
                left.append(lambda: context.run(self._run, 9))
                return "done"

        protect(Leaves()).invoke({"x": 1})
        with pytest.raises(NotPermitted, match=r"arg\.enum"):
            left[0]()
        assert len(left) == 1

    @pytest.mark.parametrize("entry", ["invoke", "ainvoke", "run", "arun", "batch"])
    def test_class_with_an_entry_of_its_own(self, entry: str) -> None:
        """A class whose body may not be where LangChain has it cannot be protected by halves."""

        class Odd(BaseTool):
            name: str = "use"
            description: str = "d"

            def _run(self, x: int) -> str:
                return "ran"

        odd = type("VeryOdd", (Odd,), {entry: lambda self, *a, **k: "ran", "__annotations__": {}})
        with pytest.raises(ConfigurationError, match=f"overrides `{entry}`"):
            protect(odd())

    def test_tool_without_a_body(self) -> None:
        """There is nothing to protect in a tool that cannot run."""
        with pytest.raises(ConfigurationError, match="nothing that could run"):
            protect(described(None))

    def test_outcome_of_a_generator(self, guard: Any) -> None:
        """A body that yields ends when it is exhausted, not when it is made."""

        def body(x: int) -> Iterator[int]:
            yield x

        items = protect(described(body)).func(x=1)
        assert [r["type"] for r in guard.records()][-1] == "tool.decision"
        assert list(items) == [1]
        assert [r["type"] for r in guard.records()][-1] == "tool.outcome"

    def test_outcome_of_async_work_from_a_sync_function(self, guard: Any) -> None:
        """The same for a coroutine and an async generator."""

        async def later(x: int) -> str:
            return "done"

        async def stream(x: int) -> AsyncIterator[int]:
            yield x

        async def drive() -> list[Any]:
            done = [await protect(described(lambda x: later(x))).func(x=1)]
            return done + [i async for i in protect(described(stream)).func(x=1)]

        assert asyncio.run(drive()) == ["done", 1]
        kinds = [r["type"] for r in guard.records() if r["type"].startswith("tool.")]
        assert kinds == ["tool.decision", "tool.outcome"] * 2

    def test_coroutine_that_is_a_partial(self, guard: Any) -> None:
        """An async body need not be a function; its outcome waits for it all the same."""

        async def body(x: int, fail: bool) -> str:
            await asyncio.sleep(0)
            raise ValueError("no")

        target = described(None, coroutine=functools.partial(body, fail=True))
        with pytest.raises(ValueError, match="no"):
            asyncio.run(protect(target).ainvoke({"x": 1}))
        assert list(guard.records())[-1]["outcome"]["error_type"] == "ValueError"


class TestIterators:
    """What a tool returns to be gone through later is not gone through by tabard."""

    @pytest.mark.parametrize("guarded", ["handler", "protect", "both"])
    @pytest.mark.parametrize("kind", ["generator", "map", "endless"])
    def test_is_left_whole(self, guarded: str, kind: str, make_caller: Any) -> None:
        made: dict[str, Callable[[], Any]] = {
            "generator": lambda: (n for n in range(3)),
            "map": lambda: map(int, "012"),
            "endless": lambda: itertools.count(),
        }

        def lookup(number: int) -> Any:
            """Look numbers up."""
            return made[kind]()

        found: Any = StructuredTool.from_function(func=lookup, name="lookup")
        found = found if guarded == "handler" else protect(found)
        config: Any = {} if guarded == "protect" else {"callbacks": [TabardCallbackHandler()]}
        with make_caller("allowed").enter():
            result = found.invoke({"number": 1}, config)
            assert list(itertools.islice(result, 3)) == [0, 1, 2]

"""Tools of every shape a developer can write, on the paths that differ for them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import BaseTool, StructuredTool, Tool
from pydantic import BaseModel, ConfigDict

from tabard import AccessDenied
from tabard_langchain import TabardCallbackHandler, protect

CALLERS = (
    "no_identity",
    "forged",
    "expired",
    "revoked",
    "ended",
    "denied_tool",
    "denied_argument",
)


class Arguments(BaseModel):
    number: int


class Written(BaseTool):
    """A tool written as a class; pydantic forbids it any further field."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = "lookup"
    description: str = "Look a number up."
    args_schema: type[BaseModel] = Arguments
    counted: Any = None

    def _run(self, number: int) -> str:
        return str(self.counted.body(number))


class WrittenTwice(Written):
    """The same with a body for async paths."""

    async def _arun(self, number: int) -> str:
        return str(await self.counted.abody(number))


class HandsOver(Written):
    """The same with an async method that calls the sync one."""

    async def _arun(self, number: int) -> str:
        return self._run(number)


class Derived(StructuredTool):
    """A structured tool with a `_run` of its own around LangChain's."""

    def _run(self, *args: Any, config: RunnableConfig, run_manager: Any = None, **more: Any) -> Any:
        return super()._run(*args, config=config, run_manager=run_manager, **more)


def async_only(counted: Any, name: str) -> BaseTool:
    return StructuredTool.from_function(
        coroutine=counted.abody, name=name, description="Look a number up."
    )


def derived(counted: Any, name: str) -> BaseTool:
    return Derived.from_function(func=counted.body, name=name, description="Look a number up.")


def single(counted: Any, name: str) -> BaseTool:
    """A classic tool, whose only argument is text."""
    return Tool(name, lambda number: counted.body(int(number)), "Look a number up.")


SHAPES: dict[str, Callable[[Any, str], BaseTool]] = {
    "class": lambda counted, name: Written(name=name, counted=counted),
    "class with async body": lambda counted, name: WrittenTwice(name=name, counted=counted),
    "class that hands over": lambda counted, name: HandsOver(name=name, counted=counted),
    "derived": derived,
    "async only": async_only,
}

Path = Callable[[Any, int, dict[str, Any]], object]
SYNC: dict[str, Path] = {
    "invoke": lambda t, n, c: t.invoke({"number": n}, c),
    "run": lambda t, n, c: t.run({"number": n}, callbacks=c["callbacks"]),
    "batch": lambda t, n, c: t.batch([{"number": n}], c),
}
ASYNC: dict[str, Path] = {
    "ainvoke": lambda t, n, c: asyncio.run(t.ainvoke({"number": n}, c)),
    "arun": lambda t, n, c: asyncio.run(t.arun({"number": n}, callbacks=c["callbacks"])),
    "abatch": lambda t, n, c: asyncio.run(t.abatch([{"number": n}], c)),
}
CASES = [
    (shape, path)
    for shape in SHAPES
    for path in ASYNC | SYNC
    if not (shape == "async only" and path in SYNC)
]


def drive(target: BaseTool, path: str, number: int, config: dict[str, Any]) -> str | None:
    try:
        (SYNC | ASYNC)[path](target, number, config)
    except AccessDenied as refusal:
        return refusal.code
    return None


@pytest.mark.parametrize("by", ["handler", "protect"])
@pytest.mark.parametrize(("shape", "path"), CASES)
class TestEveryShape:
    def target(self, by: str, made: BaseTool) -> tuple[BaseTool, dict[str, Any]]:
        if by == "handler":
            return made, {"callbacks": [TabardCallbackHandler()]}
        return protect(made), {"callbacks": []}

    def test_allowed(
        self, by: str, shape: str, path: str, counted: Any, make_caller: Any, guard: Any
    ) -> None:
        """The control: it runs once, with one decision and one outcome."""
        target, config = self.target(by, SHAPES[shape](counted, "lookup"))
        with make_caller("allowed").enter():
            assert drive(target, path, 1, config) is None
        assert counted.seen == [1]
        mine = [r for r in guard.records() if r["type"].startswith("tool.")]
        assert [r["type"] for r in mine] == ["tool.decision", "tool.outcome"]
        assert mine[1]["outcome"]["status"] == "ok"

    @pytest.mark.parametrize("kind", CALLERS)
    def test_refused(
        self,
        by: str,
        shape: str,
        path: str,
        kind: str,
        counted: Any,
        make_caller: Any,
        decisions: Any,
    ) -> None:
        """The body never runs, and exactly one record says why."""
        caller = make_caller(kind)
        target, config = self.target(by, SHAPES[shape](counted, caller.tool_name))
        with caller.enter():
            assert drive(target, path, caller.argument, config) == caller.code
        assert counted.ran == 0
        assert [d["decision"]["code"] for d in decisions()] == [caller.code]


class TestProtectedShapes:
    @pytest.mark.parametrize("shape", SHAPES)
    def test_class_and_schema_stay(self, shape: str, counted: Any) -> None:
        """A protected tool is of the same class with the same schema; the original is untouched."""
        original = SHAPES[shape](counted, "lookup")
        before = dict(vars(original))
        target = protect(original)
        assert type(target) is type(original)
        assert target.tool_call_schema.model_json_schema() == (  # type: ignore[union-attr]
            original.tool_call_schema.model_json_schema()  # type: ignore[union-attr]
        )
        assert {k: vars(original)[k] for k in before} == before
        assert repr(target).startswith(type(original).__name__)

    @pytest.mark.parametrize("shape", SHAPES)
    def test_twice_is_once(self, shape: str, counted: Any) -> None:
        """A protected tool is returned as it is."""
        target = protect(SHAPES[shape](counted, "lookup"))
        assert protect(target) is target

    @pytest.mark.parametrize("shape", ["class", "class with async body", "class that hands over"])
    def test_own_methods(self, shape: str, counted: Any, make_caller: Any, decisions: Any) -> None:
        """The methods behind the framework are guarded, too."""
        target: Any = protect(SHAPES[shape](counted, "lookup"))
        with make_caller("allowed").enter():
            target._run(1)
            asyncio.run(target._arun(number=2))
            attempts: list[Callable[[], Any]] = [
                lambda: target._run(7),
                lambda: asyncio.run(target._arun(7)),
            ]
            for refused in attempts:
                with pytest.raises(AccessDenied, match=r"arg\.enum"):
                    refused()
        assert counted.seen == [1, 2]
        assert [d["decision"]["code"] for d in decisions()] == ["ok", "ok", "arg.enum", "arg.enum"]

    @pytest.mark.parametrize("text", ["1", "7"])
    def test_single_input(
        self, text: str, counted: Any, make_caller: Any, decisions: Any, guard: Any
    ) -> None:
        """A tool that takes plain text is decided on under its parameter's name, as text."""
        target = protect(single(counted, "lookup"))
        with make_caller("allowed").enter(), pytest.raises(AccessDenied, match=r"arg\.enum"):
            target.invoke(text)
        assert counted.ran == 0
        assert decisions()[0]["action"]["args"]["names"] == ["number"]

    def test_session_for_bare_threads(self, counted: Any, guard: Any, authority: Any) -> None:
        """A tool made for a session speaks for it where no context reaches."""
        session = guard.login(authority.issue("claims-agent"))
        target = protect(counted.tool(), session=session)
        thread = threading.Thread(target=lambda: target.invoke({"number": 2}))
        thread.start()
        thread.join()
        assert counted.seen == [2]

"""Every path on which CrewAI runs a tool or a model, with every kind of caller."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any

import pytest
from crewai.hooks import HookAborted

from tabard import ToolCall, admit
from tabard.testing.attempt import Attempt
from tabard.testing.crewai.paths import DIRECT, Case
from tabard_crewai import protect

pytestmark = pytest.mark.crewai

KICKOFFS: dict[str, Callable[[Any], object]] = {
    "kickoff": lambda scene: scene.crew.kickoff(),
    "kickoff_async": lambda scene: asyncio.run(scene.crew.kickoff_async()),
    "akickoff": lambda scene: asyncio.run(scene.crew.akickoff()),
    "kickoff_for_each": lambda scene: scene.crew.kickoff_for_each([{"x": "1"}]),
    "Agent.kickoff": lambda scene: scene.agent.kickoff("go"),
    "Agent.kickoff_async": lambda scene: asyncio.run(scene.agent.kickoff_async("go")),
    "Agent.akickoff": lambda scene: asyncio.run(scene.agent.akickoff("go")),
    "kickoff_for_each_async": lambda scene: asyncio.run(
        scene.crew.kickoff_for_each_async([{"x": "1"}])
    ),
    "akickoff_for_each": lambda scene: asyncio.run(scene.crew.akickoff_for_each([{"x": "1"}])),
    "async task": lambda scene: scene.crew.kickoff(),
    "tools of the task": lambda scene: _with_task_tools(scene).kickoff(),
    "streamed": lambda scene: list(_streaming(scene).kickoff()),
}


def _with_task_tools(scene: Any) -> Any:
    scene.crew.tasks[0].tools, scene.agent.tools = scene.agent.tools, []
    return scene.crew


def _streaming(scene: Any) -> Any:
    scene.crew.stream = True
    return scene.crew


PATHS = [(name, native) for name in KICKOFFS for native in (True, False)]
IDS = [f"{name}, {'native' if native else 'ReAct'}" for name, native in PATHS]


def run(scene: Any, path: str) -> None:
    """Run to the end; a refusal of the model call comes out as HookAborted and is expected."""
    try:
        KICKOFFS[path](scene)
    except HookAborted:
        pass


@pytest.mark.parametrize(("path", "native"), PATHS, ids=IDS)
class TestHooks:
    """`install()` alone: tools that know nothing of tabard."""

    def test_allowed(
        self,
        path: str,
        native: bool,
        hooked: None,
        counted: Any,
        make_scene: Any,
        make_caller: Any,
        guard: Any,
    ) -> None:
        """The control: the tool runs once, and both calls have decision and outcome."""
        scene = make_scene(counted.tool(), native=native, async_execution=path == "async task")
        with make_caller("allowed").enter():
            run(scene, path)
        assert counted.ran == 1
        types = [r["type"] for r in guard.records() if "action" in r]
        assert types == [
            "model.decision", "model.outcome", "tool.decision", "tool.outcome",
            "model.decision", "model.outcome",
        ]  # fmt: skip


@pytest.mark.parametrize(("path", "native"), PATHS, ids=IDS)
class TestProtect:
    """`@protect` and the hooks together."""

    def test_allowed_with_hooks(
        self,
        path: str,
        native: bool,
        hooked: None,
        counted: Any,
        make_scene: Any,
        make_caller: Any,
        decisions: Any,
    ) -> None:
        """With the hooks too, it is one admission, not two, on every path."""
        scene = make_scene(
            protect(counted.tool()), native=native, async_execution=path == "async task"
        )
        with make_caller("allowed").enter():
            run(scene, path)
        assert counted.ran == 1
        assert [d["decision"]["code"] for d in decisions("tool")] == ["ok"]


@pytest.mark.parametrize("path", [name for name in DIRECT if not name.startswith("LLM.call")])
def test_answer_of_a_refused_tool(path: str, make_caller: Any) -> None:
    """Past every hook the answer is CrewAI's ToolFailure with our code, so the model is told."""
    attempt = Attempt(tool="claims_db.drop")
    with make_caller("allowed").enter():
        answer: Any = DIRECT[path](Case(attempt=attempt, wrap=protect))
    assert attempt.ran == 0
    assert answer.code == "no_grant"


def test_structured_ainvoke(counted: Any, make_caller: Any) -> None:
    """CrewAI puts a sync tool into a bare thread here, where no session is current: refused."""
    target = protect(counted.tool()).to_structured_tool()
    with make_caller("allowed").enter():
        assert asyncio.run(target.ainvoke({"number": 1})).code == "no_identity"
    assert counted.ran == 0


def test_parallel_native_calls(
    hooked: None, counted: Any, make_scene: Any, make_caller: Any, decisions: Any
) -> None:
    """Calls that CrewAI runs in parallel are decided one by one."""
    name = "claims_db_lookup"
    for protected in (False, True):
        target = protect(counted.tool()) if protected else counted.tool()
        scene = make_scene(target, native=True)
        scene.llm.script = [[(name, {"number": n}) for n in (1, 7, 2, 8)], "done"]
        with make_caller("allowed").enter():
            scene.crew.kickoff()
    codes = sorted(d["decision"]["code"] for d in decisions("tool"))
    assert codes == ["arg.enum"] * 4 + ["ok"] * 4
    assert sorted(number for number, _ in counted.seen) == [1, 1, 2, 2]


def test_nothing_connects(
    hooked: None, counted: Any, make_scene: Any, make_caller: Any, monkeypatch: Any
) -> None:
    """A whole run, hooks and all, opens no network connection."""
    tried: list[Any] = []
    monkeypatch.setattr(socket.socket, "connect", lambda self, address: tried.append(address))
    with make_caller("allowed").enter():
        make_scene(protect(counted.tool()), native=True).crew.kickoff()
    assert tried == []
    assert counted.ran == 1


def test_admission_outside_a_crew_is_unchanged(guard: Any, make_caller: Any) -> None:
    """Plain admissions work beside CrewAI as without it."""
    with make_caller("allowed").enter():
        assert admit(ToolCall("claims_db.lookup", {"number": 1, "limit": 1})).settle()

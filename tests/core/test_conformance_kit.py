"""The kit itself, with a framework of thirty lines: a sound plugin passes, each leak is found."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from tabard import AccessDenied, ModelCall, Retrieval, ToolCall, admit
from tabard.testing.attempt import Attempt
from tabard.testing.board import ALLOWED, HELD, RAN, UNKNOWN, Board
from tabard.testing.conformance import Conformance
from tabard.testing.faults import FAULTS
from tabard.testing.scene import Scene, open_scene

ON_RECORD = [name for name, one in FAULTS.items() if one.on_record]


class Framework:
    """Runs tools; asks its hooks first, and swallows what they raise if it is told to."""

    def __init__(self, hook: Callable[[str, dict[str, Any]], object], *, swallows: bool = False):
        self.hook = hook
        self.swallows = swallows

    def run(self, name: str, body: Callable[..., str], arguments: dict[str, Any]) -> str:
        try:
            self.hook(name, arguments)
        except Exception:
            if not self.swallows:
                raise
        return body(**arguments)


def settle_at_once(name: str, arguments: dict[str, Any]) -> object:
    admit(ToolCall(name, arguments)).settle()
    return None


def run(framework: Framework, attempt: Attempt) -> str:
    return framework.run(attempt.tool, attempt.body, attempt.arguments)


class TestSoundPlugin(Conformance):
    """What somebody writes for a framework of their own."""

    title = "a framework of thirty lines"
    tool_paths: ClassVar = {
        "async": lambda attempt: asyncio.run(_later(attempt)),
        "told instead": lambda attempt: _told(attempt),
    }

    def run_tool(self, attempt: Attempt) -> object:
        return run(Framework(settle_at_once), attempt)

    def run_model(self, attempt: Attempt) -> object:
        name, limit = attempt.model, attempt.max_output_tokens
        call = ModelCall(name, provider=attempt.provider, input_tokens=10, max_output_tokens=limit)
        with admit(call):
            return attempt.body()

    def run_retrieval(self, attempt: Attempt) -> object:
        with admit(Retrieval(attempt.source, attempt.query)):
            return attempt.body()


async def _later(attempt: Attempt) -> str:
    with admit(ToolCall(attempt.tool, attempt.arguments)):
        return await attempt.abody(**attempt.arguments)


def _told(attempt: Attempt) -> str:
    try:
        return run(Framework(settle_at_once), attempt)
    except AccessDenied as refusal:
        return f"Denied: {refusal.reason}"


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with open_scene(tmp_path_factory.mktemp("kit")) as opened:
        yield opened


def try_it(work: Callable[[Attempt], object], scene: Scene, fault: str) -> list[Any]:
    """Run one cell of a plugin with this one path; returns what it put on the board."""

    class Plugin(Conformance):
        title = "leaky"
        tool_paths: ClassVar = {"path": work}

    board: list[Any] = []
    try:
        Plugin().test_refused(scene, "tool", "path", fault, lambda _, cell: board.append(cell))
    finally:
        scene.new_records()
    return board


def _swallowing(attempt: Attempt) -> object:
    return run(Framework(settle_at_once, swallows=True), attempt)


def _in_a_bare_thread(attempt: Attempt) -> None:
    """The session is lost on the way, and the plugin takes that for a pass."""

    def work() -> None:
        try:
            settle_at_once(attempt.tool, attempt.arguments)
        except AccessDenied as refusal:
            if refusal.code != "no_identity":
                return
        attempt.body()

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


@pytest.mark.parametrize("fault", FAULTS)
def test_swallowed_refusal_is_found(fault: str, scene: Scene) -> None:
    """E1: a plugin that runs the body after a refusal fails in every column."""
    with pytest.raises(AssertionError, match="the body ran"):
        try_it(_swallowing, scene, fault)


@pytest.mark.parametrize("fault", FAULTS)
def test_unguarded_path_is_found(fault: str, scene: Scene) -> None:
    """E9: a path on which nobody is asked fails in every column."""
    with pytest.raises(AssertionError, match="the body ran"):
        try_it(lambda attempt: attempt.body(), scene, fault)


@pytest.mark.parametrize("fault", ON_RECORD)
def test_missing_identity_as_a_warning_is_found(fault: str, scene: Scene) -> None:
    """I1: a plugin that lets a call pass where it finds no session fails in these columns."""
    with pytest.raises(AssertionError, match="the body ran"):
        try_it(_in_a_bare_thread, scene, fault)


@pytest.mark.parametrize("fault", FAULTS)
def test_foreign_exception_is_found(fault: str, scene: Scene) -> None:
    """A refusal that comes out as some other error fails: a framework could take it for its own."""

    def work(attempt: Attempt) -> object:
        try:
            return run(Framework(settle_at_once), attempt)
        except AccessDenied:
            raise KeyError("policy") from None

    with pytest.raises(KeyError):
        try_it(work, scene, fault)


@pytest.mark.parametrize("fault", ON_RECORD)
def test_refusal_without_a_record_is_found(fault: str, scene: Scene) -> None:
    """A6: stopping the call is half of it; a plugin that asks nobody leaves no record."""

    def work(attempt: Attempt) -> object:
        return None

    with pytest.raises(AssertionError):
        try_it(work, scene, fault)


def test_call_that_is_admitted_twice_is_found(scene: Scene) -> None:
    """Nothing may be charged or logged twice."""

    class Plugin(Conformance):
        def run_tool(self, attempt: Attempt) -> object:
            settle_at_once(attempt.tool, attempt.arguments)
            return run(Framework(settle_at_once), attempt)

    scene.new_records()
    with pytest.raises(AssertionError):
        Plugin().test_allowed(scene, "tool", "run_tool")


def test_each_fault_is_over_afterwards(scene: Scene) -> None:
    """Whatever a fault has broken is whole again: the next allowed call goes through."""
    for fault in FAULTS.values():
        with fault.arrange(scene) as strike:
            strike()
        with scene.log_in():
            settle_at_once("lookup", {"number": 1})


def test_board() -> None:
    """The table counts what must not run and what must, and shows what a guard does not know."""
    board = Board(title="t")
    for fault, mark in {ALLOWED: HELD, "a b": RAN, "c": HELD, "d": UNKNOWN}.items():
        board.put("path", fault, mark)
    title, first, second, row, verdict = board.lines([ALLOWED, "a b", "c", "d"])
    assert (title, first.split(), second.split()) == ("t", ["a"], ["allowed", "b", "c", "d"])
    assert row.split() == ["path", "ok", "RAN", "ok", "-"]
    assert verdict == (
        "1 of 2 attempts ran the body against orders. 1 of 1 allowed calls ran it, once."
    )


def test_scene_is_a_home_of_its_own(tmp_path: Path) -> None:
    """Two scenes at once do not know each other."""
    with open_scene(tmp_path / "a") as one, open_scene(tmp_path / "b") as other:
        with one.log_in() as session, pytest.raises(AccessDenied) as caught:
            other.guard.admit(ToolCall("lookup", {"number": 1}), session=session)
        assert caught.value.code == "foreign_session"

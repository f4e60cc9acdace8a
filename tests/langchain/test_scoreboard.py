"""The scoreboard: any guard for LangChain is tried on every path, and what leaks is shown."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from langchain_core.callbacks import AsyncCallbackHandler, BaseCallbackHandler

from tabard import ConfigurationError
from tabard.testing.board import ALLOWED, HELD, RAN, UNKNOWN
from tabard.testing.langchain import scoreboard
from tabard.testing.langchain.case import Fitting
from tabard.testing.langchain.guards import load_guard
from tabard.testing.langchain.tool_paths import ALL, DIRECT, DROPPED

HERE = __name__


class Silent(BaseCallbackHandler):
    """E1: what it raises is only logged."""

    def on_tool_start(self, *args: Any, **kwargs: Any) -> Any:
        raise PermissionError("no")


class Strict(Silent):
    """It refuses every tool."""

    raise_error = True
    run_inline = True


class Later(AsyncCallbackHandler):
    """E2: a sync path never waits for it."""

    raise_error = True

    async def on_tool_start(self, *args: Any, **kwargs: Any) -> Any:
        raise PermissionError("no")


class Unfinished(Strict):
    """E3: LangChain takes this error for a handler without the hook."""

    def on_tool_start(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError


def by_fault(fault: str) -> BaseCallbackHandler | None:
    """It knows of one fault only."""
    return Strict() if fault == "denied tool" else None


@contextmanager
def block(fault: str) -> Iterator[Fitting]:
    yield Fitting() if fault == ALLOWED else Fitting(callbacks=[Strict()])


A_HANDLER = Strict()
NOT_A_GUARD = 7


def odd(fault: str) -> Any:
    return "no guard"


def row(guard: str, path: str) -> dict[str, str]:
    """What a guard gets on one path of a tool."""
    found = load_guard(f"{HERE}:{guard}")
    work = ALL[path]
    return {
        fault: scoreboard._try(found, "tool", path, work, fault) for fault in scoreboard.COLUMNS
    }


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, HERE, sys.modules[HERE])


@pytest.mark.parametrize(
    ("guard", "path", "mark"),
    [
        ("Silent", "invoke", RAN),
        ("Later", "invoke", RAN),
        ("Later", "ainvoke, sync body", RAN),
        ("Later", "arun", HELD),
        ("Unfinished", "invoke", RAN),
        ("Unfinished", "create_agent.ainvoke", RAN),
        ("Strict", "invoke", HELD),
        ("Strict", "create_agent.invoke", HELD),
        ("A_HANDLER", "ToolNode, handling errors", HELD),
        *(("Strict", path, RAN) for path in DROPPED | DIRECT),
    ],
)
def test_what_leaks_is_shown(guard: str, path: str, mark: str) -> None:
    """The known traps of handlers show on the board, and a sound one is sound on its paths."""
    marks = row(guard, path)
    assert marks.pop(ALLOWED) == UNKNOWN
    assert set(marks.values()) == {mark}


def test_guard_that_knows_one_fault() -> None:
    """What a guard knows nothing of does not count."""
    marks = row("by_fault", "invoke")
    assert marks.pop("denied tool") == HELD
    assert set(marks.values()) == {UNKNOWN}


def test_guard_as_a_block() -> None:
    """It may set up and tear down, and show that an allowed call runs."""
    assert set(row("block", "invoke").values()) == {HELD}


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nonsense", "expected `module:attribute`, found `nonsense`"),
        ("no.such.module:x", "cannot be imported"),
        (f"{HERE}:missing", "has no handler or function `missing`"),
        (f"{HERE}:NOT_A_GUARD", "has no handler or function `NOT_A_GUARD`"),
    ],
)
def test_no_such_guard(name: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        load_guard(name)


def test_function_that_returns_something_else() -> None:
    with pytest.raises(ConfigurationError, match="found str"):
        row("odd", "invoke")


def test_command() -> None:
    """The command of the README: tabard itself, on every path, and what it says to machines."""
    module = "tabard.testing.langchain"
    command = [sys.executable, "-m", module, "--guard", "tabard_langchain.scoreboard:everything"]
    ran = subprocess.run([*command, "--json"], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    boards = json.loads(ran.stdout)
    assert {name: len(rows) for name, rows in boards.items()} == {
        "tool paths": 52,
        "model paths": 35,
        "retrieval paths": 6,
    }
    marks = [mark for rows in boards.values() for row in rows.values() for mark in row.values()]
    assert set(marks) == {HELD}


def test_command_without_a_guard() -> None:
    command = [sys.executable, "-m", "tabard.testing.langchain", "--guard", "nonsense"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr.count("\n") == 1

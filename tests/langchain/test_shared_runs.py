"""A run that several handlers see is admitted once; another run never rides on its permit."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
from langchain_core.callbacks import CallbackManager
from langchain_core.messages import AIMessage
from langchain_core.tools import tool

from tabard import AccessDenied, Guard, Session
from tabard.testing.langchain import ScriptedChatModel, ScriptedRetriever
from tabard_langchain import TabardCallbackHandler

POLICY = """\
version: 1
agents:
  claims-agent:
    models: {allow: ["openai/gpt-4o"]}
    grants:
      - {id: slow, tools: ["slow"], args: {}}
      - {id: docs, tools: ["retrieval.docs"], args: {query: {}}}
"""


@pytest.fixture
def policy_text() -> str:
    return POLICY


@pytest.fixture
def ran() -> list[str]:
    return []


@pytest.fixture
def works(ran: list[str]) -> dict[str, Callable[[Any], Any]]:
    """What nobody is logged in for, each kind on its own path."""

    @tool
    def drop() -> str:
        """Drop."""
        ran.append("drop")
        return "dropped"

    model = ScriptedChatModel(script=[AIMessage("x")])
    retriever = ScriptedRetriever(name="docs")
    return {
        "tool": lambda config: drop.invoke({}, config),
        "model": lambda config: model.invoke("hi", config),
        "retriever": lambda config: retriever.invoke("hi", config),
    }


@pytest.mark.parametrize("other", ["tool", "model", "retriever"])
@pytest.mark.parametrize("manager", [False, True])
def test_chosen_run_id(
    session: Session, works: dict[str, Any], ran: list[str], other: str, manager: bool
) -> None:
    """While an admitted run is open, a run under the same id is asked about by itself."""
    started, go, run_id = threading.Event(), threading.Event(), uuid4()

    @tool
    def slow() -> str:
        """Wait."""
        started.set()
        go.wait(10)
        return "done"

    shared = CallbackManager(handlers=[])

    def config() -> Any:
        handlers = [TabardCallbackHandler()]
        if not manager:
            return {"run_id": run_id, "callbacks": handlers}
        shared.set_handlers(list(handlers))
        return {"run_id": run_id, "callbacks": shared}

    def first() -> None:
        with session:
            slow.invoke({}, config())

    thread = threading.Thread(target=first)
    thread.start()
    try:
        assert started.wait(10)
        with pytest.raises(AccessDenied, match="no_identity"):
            works[other](config())
    finally:
        go.set()
        thread.join()
    assert ran == []


def test_within_the_body(session: Session, guard: Guard, ran: list[str]) -> None:
    """A body that starts a run under its own run's id does not start it on its permit."""
    run_id = uuid4()

    @tool
    def drop() -> str:
        """Drop."""
        ran.append("drop")
        return "dropped"

    @tool
    def slow() -> str:
        """Call another one."""
        config: Any = {"run_id": run_id, "callbacks": [TabardCallbackHandler()]}
        with pytest.raises(AccessDenied, match="no_grant"):
            drop.invoke({}, config)
        return "done"

    with session:
        slow.invoke({}, {"run_id": run_id, "callbacks": [TabardCallbackHandler()]})
    assert ran == []


@pytest.mark.parametrize("kind", ["model", "retriever"])
def test_seen_by_several(session: Session, guard: Guard, works: dict[str, Any], kind: str) -> None:
    """Three handlers, one record."""
    with session:
        works[kind]({"callbacks": [TabardCallbackHandler() for _ in range(3)]})
    kinds = [r["type"] for r in guard.records() if r["type"].endswith((".decision", ".outcome"))]
    assert len(kinds) == 2

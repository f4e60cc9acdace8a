"""Attacks on the callback handler: made to look away, lied to, or left without an ending."""

from __future__ import annotations

import copy
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import AIMessage
from langchain_core.tools import StructuredTool, ToolException, tool

from tabard import AuthenticationFailed, NotPermitted
from tabard.testing.langchain import ScriptedChatModel
from tabard_langchain import TabardCallbackHandler, protect

POLICY = """\
version: 1
agents:
  claims-agent:
    models: {allow: ["openai/gpt-4o"]}
    grants:
      - {id: lookup, tools: ["lookup"], args: {number: {enum: [1, 2]}}}
  analytics-agent: {}
"""


@pytest.fixture
def policy_text() -> str:
    return POLICY


@pytest.fixture
def allowed(make_caller: Any) -> Iterator[None]:
    """The claims agent is logged in."""
    with make_caller("allowed").enter():
        yield


def watched(**more: Any) -> Any:
    return {"callbacks": [TabardCallbackHandler()], **more}


class Silent:
    """A mixin that would let every tool through."""

    def on_tool_start(self, *args: Any, **kwargs: Any) -> None:
        """Nothing."""


class Lax:
    """A mixin whose refusals would only be logged."""

    raise_error = False


class Deaf(BaseCallbackHandler):
    """A handler that is told of no tool."""

    @property
    def ignore_agent(self) -> bool:
        return True


class TestMadeToLookAway:
    @pytest.mark.parametrize("mixin", [Silent, Lax, Deaf], ids=lambda kind: kind.__name__)
    @pytest.mark.parametrize("first", [True, False])
    def test_mixin(self, mixin: type, first: bool) -> None:
        """What a class inherits weakens it no less than what it says itself."""
        bases = (mixin, TabardCallbackHandler) if first else (TabardCallbackHandler, mixin)
        if first and mixin is Deaf:
            bases = (Deaf, TabardCallbackHandler)
        with pytest.raises(TypeError, match="fail open"):
            type("Open", bases, {})

    def test_grandchild(self) -> None:
        """A harmless subclass hands the rule on to its own."""
        harmless = type("Harmless", (TabardCallbackHandler,), {"label": "mine"})
        with pytest.raises(TypeError, match="fail open"):
            type("Open", (harmless,), {"on_llm_start": lambda self, *a, **k: None})

    @pytest.mark.parametrize(
        "name", ["on_tool_start", "on_llm_start", "_admit", "raise_error", "ignore_agent"]
    )
    def test_one_object(self, name: str, counted: Any, guard: Any) -> None:
        """A hook or a switch cannot be replaced on a single handler."""
        handler = TabardCallbackHandler()
        with pytest.raises(AttributeError):
            setattr(handler, name, lambda *a, **k: None)
        with pytest.raises(AuthenticationFailed):
            counted.tool().invoke({"number": 1}, {"callbacks": [handler]})
        assert counted.ran == 0

    def test_copies(self, counted: Any, allowed: None, guard: Any) -> None:
        """A copied tool that holds a handler is as guarded as before."""
        made = counted.tool()
        made.callbacks = [TabardCallbackHandler()]
        with pytest.raises(NotPermitted):
            copy.deepcopy(made).invoke({"number": 7})
        assert counted.ran == 0

    def test_run_id_that_is_still_open(self, allowed: None, guard: Any) -> None:
        """A run id the caller uses twice skips no admission, and both calls have an outcome."""
        config = watched(run_id=uuid.uuid4())

        @tool
        def lookup(number: int) -> str:
            """Look a number up, and the next."""
            return "done" if number == 2 else str(lookup.invoke({"number": number + 1}, config))

        lookup.invoke({"number": 1}, config)
        kinds = [r["type"] for r in guard.records() if r["type"].startswith("tool.")]
        assert sorted(kinds) == ["tool.decision"] * 2 + ["tool.outcome"] * 2


class TestAfterTheCall:
    def test_nothing_is_left_for_the_next(
        self, counted: Any, guard: Any, authority: Any, make_caller: Any
    ) -> None:
        """What the handler admitted lends its session to no later call of a protected tool."""
        target = protect(counted.tool())
        with make_caller("allowed").enter():
            target.invoke({"number": 1}, watched())
        with pytest.raises(AuthenticationFailed, match="no_identity"):
            target.func(number=2)
        with guard.login(authority.issue("analytics-agent")), pytest.raises(NotPermitted):
            target.func(number=2)
        assert counted.seen == [1]

    def test_run_that_another_handler_stopped(
        self, counted: Any, authority: Any, make_caller: Any, guard: Any
    ) -> None:
        """What was admitted and never ran is no permit for a later call, nor after a revocation."""

        class Stops(BaseCallbackHandler):
            raise_error = True

            def on_tool_start(self, *args: Any, **kwargs: Any) -> None:
                raise ValueError("stop")

        target = protect(counted.tool())
        with make_caller("allowed").enter():
            with pytest.raises(ValueError, match="stop"):
                target.invoke({"number": 1}, {"callbacks": [TabardCallbackHandler(), Stops()]})
            authority.revoke("claims-agent", reason="compromised")
            with pytest.raises(AuthenticationFailed, match="token_revoked"):
                target.func(number=1)
        assert counted.ran == 0

    def test_equal_is_not_the_same(self, make_caller: Any, decisions: Any) -> None:
        """Arguments that Python calls equal are not what the handler decided on."""
        target: Any = protect(
            StructuredTool(
                name="lookup",
                description="d",
                func=lambda number: "ran",
                args_schema={"type": "object", "properties": {"number": {}}},
            )
        )
        handler = TabardCallbackHandler()

        def outer(number: int) -> str:
            return str(target.func(number=True))

        made = StructuredTool.from_function(outer, name="lookup", description="d")
        with make_caller("allowed").enter(), pytest.raises(NotPermitted):
            made.invoke({"number": 1}, {"callbacks": [handler]})
        assert [d["decision"]["code"] for d in decisions()] == ["ok", "arg.enum"]

    def test_inner_agent_answers_for_itself(
        self, counted: Any, guard: Any, authority: Any, make_caller: Any
    ) -> None:
        """A call made under another session inside a tool is that session's, not the tool's."""
        inner = protect(counted.tool())

        def body(number: int) -> str:
            with guard.login(authority.issue("analytics-agent")):
                return str(inner.func(number=number))

        outer = StructuredTool.from_function(body, name="lookup", description="Look it up.")
        with make_caller("allowed").enter(), pytest.raises(NotPermitted):
            outer.invoke({"number": 1}, watched())
        assert counted.ran == 0


@pytest.mark.usefixtures("allowed")
class TestOutcomes:
    def last(self, guard: Any) -> dict[str, Any]:
        record: dict[str, Any] = list(guard.records())[-1]
        return record

    def test_error_that_became_a_message(self, guard: Any) -> None:
        """A tool that failed has failed on record, although LangChain made a message of it."""

        def body(number: int) -> str:
            raise ToolException("no")

        made = StructuredTool.from_function(
            body, name="lookup", description="d", handle_tool_error=True
        )
        call = {"name": "lookup", "args": {"number": 1}, "id": "c", "type": "tool_call"}
        assert made.invoke(call, watched()).status == "error"
        assert self.last(guard)["outcome"] == {
            "status": "error",
            "error_type": "ToolException",
            "duration_ms": self.last(guard)["outcome"]["duration_ms"],
        }

    def test_stream_that_is_broken_off(self, guard: Any) -> None:
        """A consumer that walks away leaves a failed call, not an open one."""
        stream = ScriptedChatModel(script=[AIMessage("a b c")]).stream("hi", watched())
        next(stream)
        stream.close()  # type: ignore[attr-defined]
        assert self.last(guard)["outcome"]["error_type"] == "GeneratorExit"

    def test_answer_from_the_cache(self, guard: Any) -> None:
        """An answer LangChain had cached costs no tokens on record."""
        usage = {"input_tokens": 3, "output_tokens": 2, "total_tokens": 5}
        model = ScriptedChatModel(
            script=[AIMessage("a", usage_metadata=usage)], cache=InMemoryCache()
        )
        model.disable_streaming = True
        for expected in (3, 0):
            model.invoke("hi", watched())
            assert self.last(guard)["usage"]["input_tokens"] == expected
        assert model.calls == 1

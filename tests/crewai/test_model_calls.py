"""Which model a call is taken for, and how its outcome becomes known."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from crewai import LLM, Agent, Crew, Task
from crewai.hooks import HookAborted

from tabard.testing.crewai import ScriptedLLM
from tabard_crewai.model_hooks import _call_of

pytestmark = pytest.mark.crewai

BOTH = pytest.mark.parametrize("native", [True, False], ids=["native", "ReAct"])
LOOKUP = ("claims_db_lookup", {"number": 1})


@pytest.fixture
def outcomes(guard: Any) -> Callable[[], list[dict[str, Any]]]:
    """The outcomes of the model calls so far; every admitted call has exactly one."""

    def read() -> list[dict[str, Any]]:
        records = list(guard.records())
        ended = [r for r in records if r["type"] == "model.outcome"]
        begun = [r for r in records if r["type"] == "model.decision"]
        assert len(ended) == len([r for r in begun if r["decision"]["effect"] == "allow"])
        return ended

    return read


class Failing(ScriptedLLM):
    """A model whose provider fails from some call on."""

    works: int = 0

    def call(self, *args: Any, **kwargs: Any) -> Any:
        """Play the script, then fail."""
        if self.calls >= self.works:
            raise RuntimeError("the provider is down")
        return super().call(*args, **kwargs)


def crew_of(llm: Any, *tools: Any) -> Crew:
    agent = Agent(role="r", goal="g", backstory="b", tools=list(tools), llm=llm)
    return Crew(agents=[agent], tasks=[Task(description="d", expected_output="e", agent=agent)])


class TestNames:
    @pytest.mark.parametrize(
        ("model", "provider", "name"),
        [
            ("gpt-4o", None, "openai/gpt-4o"),
            ("openai/gpt-4o", None, "openai/gpt-4o"),
            ("ollama/llama3", None, "ollama/llama3"),
            ("openai/gpt-4o", "openrouter", "openrouter/openai/gpt-4o"),
            ("hosted_vllm/openai/gpt-4o", None, "hosted_vllm/openai/gpt-4o"),
        ],
    )
    def test_real_model_classes(self, model: str, provider: str | None, name: str) -> None:
        """A router's `openai/gpt-4o` is not OpenAI's."""
        extra: dict[str, Any] = {"provider": provider} if provider else {}
        assert _call_of(LLM(model=model, api_key="none", **extra)).name == name

    @pytest.mark.parametrize("llm", [None, object(), "", 4])
    def test_nameless(self, llm: Any) -> None:
        """What has no name is called so, and never by a name a policy can mean."""
        assert _call_of(llm).name == "unknown"

    @pytest.mark.parametrize(
        ("more", "name"),
        [
            ({}, "openai/gpt-4o"),
            ({"additional_params": {"model": "gpt-4o", "top_k": 1}}, "openai/gpt-4o"),
            ({"additional_params": {"model": "gpt-9"}}, "unknown"),
            ({"additional_params": {"fallbacks": [{"model": "gpt-9"}]}}, "unknown"),
            ({"additional_params": {"extra_body": {"models": ["gpt-9"]}}}, "unknown"),
            ({"additional_params": {"extra_body": [("model", "gpt-9")]}}, "unknown"),
            ({"extra_body": {"model": "gpt-9"}}, "unknown"),
        ],
        ids=str,
    )
    def test_named_past_its_name(self, more: dict[str, Any], name: str) -> None:
        """What is merged over the model's name must not name another."""
        llm = LLM(model="gpt-4o", api_key="none", **more)
        assert _call_of(llm).name == name

    def test_nameless_is_refused(
        self, hooked: None, counted: Any, make_caller: Any, guard: Any, outcomes: Any
    ) -> None:
        """A model without a name is refused even where the policy allows every model."""
        llm = ScriptedLLM(model="unknown", provider="", script=["done"])
        llm.provider = ""
        with make_caller("any_model").enter(), pytest.raises(HookAborted, match="model: "):
            crew_of(llm, counted.tool()).kickoff()
        assert llm.calls == 0
        assert [o["outcome"]["error_type"] for o in outcomes()] == ["model"]


class TestOutcomes:
    @BOTH
    def test_usage_of_each_call(
        self, native: bool, hooked: None, counted: Any, make_caller: Any, outcomes: Any
    ) -> None:
        """Each call has the tokens it used, also one that was answered with a tool call."""
        llm = ScriptedLLM(model="gpt-4o", script=[LOOKUP, "done"], native=native)
        with make_caller("allowed").enter():
            crew_of(llm, counted.tool()).kickoff()
        usage = {"input_tokens": 10, "output_tokens": 5}
        assert [(o["outcome"]["status"], o["usage"]) for o in outcomes()] == [("ok", usage)] * 2

    @pytest.mark.parametrize("works", [0, 1])
    @BOTH
    def test_failing_model(
        self,
        native: bool,
        works: int,
        hooked: None,
        counted: Any,
        make_caller: Any,
        outcomes: Any,
    ) -> None:
        """Every call that fails has an outcome that says so, the last one, too."""
        llm = Failing(model="gpt-4o", script=[LOOKUP, "done"], works=works, native=native)
        with make_caller("allowed").enter(), pytest.raises(RuntimeError, match="is down"):
            crew_of(llm, counted.tool()).kickoff()
        states = [o["outcome"]["status"] for o in outcomes()]
        assert states[:works] == ["ok"] * works
        assert set(states[works:]) == {"error"}

    def test_failing_model_of_an_agent_alone(
        self, hooked: None, make_caller: Any, outcomes: Any
    ) -> None:
        """The same without a crew."""
        agent = Agent(role="r", goal="g", backstory="b", llm=Failing(model="gpt-4o", script=["x"]))
        with make_caller("allowed").enter(), pytest.raises(RuntimeError, match="is down"):
            agent.kickoff("go")
        assert {o["outcome"]["status"] for o in outcomes()} == {"error"}

    def test_answer_that_leads_to_no_tool_call(
        self, hooked: None, counted: Any, make_caller: Any, outcomes: Any
    ) -> None:
        """A native answer CrewAI cannot use was an answer all the same: its tokens were counted."""

        class Garbled(ScriptedLLM):
            def _say(self, step: Any) -> Any:
                said = super()._say(step)
                if isinstance(said, list):
                    said[0]["function"]["arguments"] = "{not JSON"
                return said

        llm = Garbled(model="gpt-4o", script=[LOOKUP, "done"])
        with make_caller("allowed").enter():
            crew_of(llm, counted.tool()).kickoff()
        assert counted.ran == 0
        assert [o["outcome"]["status"] for o in outcomes()] == ["ok", "ok"]

    def test_shared_model(self, hooked: None, make_caller: Any, outcomes: Any) -> None:
        """Of calls that share a model at the same time, no usage is made up."""
        started: list[int] = []

        class Slow(ScriptedLLM):
            async def acall(self, *args: Any, **kwargs: Any) -> Any:
                started.append(1)
                self._invoke_before_llm_call_hooks([], None)
                while len(started) < 2:
                    await asyncio.sleep(0)
                self._track_token_usage_internal({"prompt_tokens": 3, "completion_tokens": 1})
                return self._invoke_after_llm_call_hooks([], "done", None)

        llm = Slow(model="gpt-4o", script=["done"])

        async def both() -> None:
            await asyncio.gather(llm.acall("a"), llm.acall("b"))

        with make_caller("allowed").enter():
            asyncio.run(both())
        assert [o["outcome"]["status"] for o in outcomes()] == ["ok", "ok"]
        assert not any(o.get("usage") for o in outcomes())

    def test_direct_call(self, hooked: None, make_caller: Any, decisions: Any) -> None:
        """A model called without any agent is the current session's; without one it is refused."""
        llm = ScriptedLLM(model="gpt-4o", script=["done"])
        with make_caller("allowed").enter():
            assert llm.call("hello") == "done"
        with pytest.raises(HookAborted, match="no_identity"):
            llm.call("hello")
        assert llm.calls == 1
        assert [d["decision"]["code"] for d in decisions("model")] == ["ok", "no_identity"]

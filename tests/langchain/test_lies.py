"""Lies about models and sources, under a policy that allows nearly everything but a few denials."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnableLambda

from tabard import NotPermitted
from tabard_langchain import TabardCallbackHandler

POLICY = """\
version: 1
agents:
  claims-agent:
    models: {allow: ["local/**"]}
    grants:
      - {id: search, tools: ["retrieval.*"], args: {query: {}}}
  analytics-agent: {}
deny:
  - {id: ban, models: ["local/banned"]}
  - {id: secrets, tools: ["retrieval.secrets"]}
"""


@pytest.fixture
def policy_text() -> str:
    return POLICY


@pytest.fixture(autouse=True)
def _allowed(make_caller: Any) -> Iterator[None]:
    with make_caller("allowed").enter():
        yield


def watched(**more: Any) -> Any:
    return {"callbacks": [TabardCallbackHandler()], **more}


class Local(BaseChatModel):
    """A model that LangChain cannot serialize and that reports no parameters, as Ollama's does."""

    model: str
    calls: int = 0

    @property
    def _llm_type(self) -> str:
        return "local"

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> Any:
        return {"ls_provider": "local", "ls_model_name": self.model, "ls_model_type": "chat"}

    def _generate(
        self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        self.calls += 1
        return ChatResult(generations=[ChatGeneration(message=AIMessage("done"))])


class Nameless(Local):
    """A model whose name nobody can tell but the caller."""

    model: str = ""

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> Any:
        return {"ls_provider": "local", "ls_model_type": "chat"}


class TestLies:
    def test_model_known_by_its_object(self, decisions: Any) -> None:
        """A model that reports no parameters is known by what it was made with."""
        model = Local(model="llama3")
        model.invoke("hi", watched())
        assert (model.calls, decisions()[-1]["action"]["name"]) == (1, "local/llama3")

    def test_denied_model_known_by_its_object(self) -> None:
        """So a denial of it holds under a wildcard."""
        model = Local(model="banned")
        with pytest.raises(NotPermitted, match="denied_by_rule"):
            model.invoke("hi", watched())
        assert model.calls == 0

    def test_denied_model_switched_to_at_run_time(self) -> None:
        """And where the label keeps the old name, the new one counts."""
        model = Local(model="llama3")
        with pytest.raises(NotPermitted, match="denied_by_rule"):
            model.bind(model="banned").invoke("hi", watched())
        assert model.calls == 0

    @pytest.mark.parametrize("lie", [{}, {"ls_model_name": "llama3"}])
    def test_model_without_a_name(self, lie: dict[str, str], guard: Any) -> None:
        """A name only the caller vouches for is none, and that is refused under any wildcard."""
        model = Nameless()
        with pytest.raises(NotPermitted, match="cannot be established"):
            model.invoke("hi", watched(metadata=lie))
        assert model.calls == 0
        assert list(guard.records())[-1]["outcome"]["error_type"] == "UnknownName"

    def test_retriever_without_a_name(self) -> None:
        """The same for a source."""

        class Odd(BaseRetriever):
            calls: int = 0

            def _get_ls_params(self, **kwargs: Any) -> Any:
                return {}

            def _get_relevant_documents(self, query: str, *, run_manager: Any) -> list[Any]:
                self.calls += 1
                return []

        source = Odd(name="secrets")
        with pytest.raises(NotPermitted, match="cannot be established"):
            source.invoke("hi", watched())
        assert source.calls == 0


class TestDecisionModel:
    """`BaseDecisionModel` (langchain-core 1.8) calls a provider under the guise of a chain."""

    def make(self, name: str) -> Any:
        decisions = pytest.importorskip("langchain_core.decisions")

        class Decides(decisions.BaseDecisionModel):  # type: ignore[misc,name-defined]
            calls: int = 0

            @property
            def _provider(self) -> str:
                return "local"

            def _classify(self, state: Any, questions: Any) -> Any:
                self.calls += 1
                RunnableLambda(lambda x: x).invoke(1)  # inherits the labels, and is no model
                usage = {"input_tokens": 4, "output_tokens": 1, "total_tokens": 5}
                return decisions.ClassifierResponse(model=self.model, answers={}, usage=usage)

        return Decides(model=name)

    @pytest.mark.parametrize("is_async", [False, True])
    @pytest.mark.parametrize("name", ["llama3", "banned"])
    def test_model(self, name: str, is_async: bool, decisions: Any, guard: Any) -> None:
        """It is admitted as the model it is, whatever the caller's metadata says."""
        model = self.make(name)
        config = watched(metadata={"ls_model_name": "llama3", "ls_provider": "local"})
        request: dict[str, Any] = {"state": {}, "questions": {}}

        def work() -> object:
            if is_async:
                return asyncio.run(model.ainvoke(request, config))
            return model.invoke(request, config)

        if name == "banned":
            with pytest.raises(NotPermitted):
                work()
        else:
            work()
            assert len(decisions()) == 1
            assert list(guard.records())[-1]["usage"] == {"input_tokens": 4, "output_tokens": 1}
        assert model.calls == (name != "banned")
        assert decisions()[-1]["action"]["name"] == f"local/{name}"

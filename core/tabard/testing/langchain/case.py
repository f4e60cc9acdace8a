"""One attempt, dressed for LangChain: a tool, a model, a retriever, with what a guard adds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from langchain_core.callbacks import CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolCall
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import BaseTool, StructuredTool
from pydantic import Field

from tabard.testing.attempt import Attempt, nothing
from tabard.testing.langchain.models import (
    ScriptedChatModel,
    ScriptedCompletionModel,
    ScriptedRetriever,
    call_tool,
)

QUESTION = {"messages": [HumanMessage("go")]}
_USAGE = {"input_tokens": 3, "output_tokens": 2, "total_tokens": 5}


def _as_it_is(tool: BaseTool) -> BaseTool:
    return tool


@dataclass(frozen=True, kw_only=True)
class Fitting:
    """What a guard puts into LangChain.

    Attributes:
        callbacks: Handlers, for the config.
        middleware: For `create_agent`.
        wrap: Makes a guarded tool of a tool.
        strike: Makes the fault happen, once the run is under way.
    """

    callbacks: Sequence[Any] = ()
    middleware: Sequence[Any] = ()
    wrap: Callable[[BaseTool], BaseTool] = _as_it_is
    strike: Callable[[], None] = nothing


@dataclass(kw_only=True)
class Case:
    """What a path is given.

    Attributes:
        attempt: The call to make.
        fitting: What the guard adds.
    """

    attempt: Attempt
    fitting: Fitting = field(default_factory=Fitting)

    @property
    def config(self) -> RunnableConfig:
        """The config that carries the guard's handlers, if it has any."""
        return {"callbacks": list(self.fitting.callbacks)} if self.fitting.callbacks else {}

    @property
    def callbacks(self) -> Any:
        """The handlers, for entrances that take no config."""
        return self.config.get("callbacks")

    @property
    def arguments(self) -> dict[str, Any]:
        """The tool's arguments, a new dict each time."""
        return dict(self.attempt.arguments)

    @property
    def number(self) -> int:
        """The tool's one argument."""
        return self.attempt.arguments["number"]

    @property
    def call(self) -> ToolCall:
        """The call as a model writes it."""
        return call_tool(self.attempt.tool, self.arguments).tool_calls[0]

    @property
    def tool(self) -> BaseTool:
        """A tool with a sync body."""
        return self._make(None)

    @property
    def async_tool(self) -> BaseTool:
        """A tool with an async body beside the sync one."""
        return self._make(self.attempt.abody)

    def _make(self, coroutine: Any) -> BaseTool:
        def work(number: int) -> str:
            """Look a number up."""
            return self.attempt.body(number)

        made = StructuredTool.from_function(
            func=work, coroutine=coroutine, name=self.attempt.tool, description="Look it up."
        )
        return self.fitting.wrap(made)

    def agent(self, tool: BaseTool) -> Any:
        """An agent whose model asks for the tool; the fault strikes as it does."""
        from langchain.agents import create_agent  # takes seconds

        model = _Planner(
            script=[call_tool(self.attempt.tool, self.arguments), AIMessage("done")],
            model_name="planner",
            max_tokens=10,
            attempt=self.attempt,
        )
        return create_agent(model, [tool], middleware=list(self.fitting.middleware), name="able")

    @property
    def chat(self) -> ScriptedChatModel:
        """A chat model that counts."""
        script = [AIMessage("a b", usage_metadata=_USAGE)]
        return _CountedChat(script=script, **self._model)

    @property
    def completion(self) -> ScriptedCompletionModel:
        """A completion model that counts."""
        return _CountedCompletion(**self._model)

    @property
    def _model(self) -> dict[str, Any]:
        return {
            "model_name": self.attempt.model,
            "max_tokens": self.attempt.max_output_tokens,
            "attempt": self.attempt,
        }

    @property
    def retriever(self) -> ScriptedRetriever:
        """A retriever that counts."""
        return _CountedRetriever(name=self.attempt.source, attempt=self.attempt)


class _Planner(ScriptedChatModel):
    """The model of an agent under test: while it speaks, the fault strikes."""

    attempt: Any = Field(exclude=True)

    def _next(self, messages: list[BaseMessage]) -> AIMessage:
        self.attempt.strike_once()
        return super()._next(messages)


class _CountedChat(ScriptedChatModel):
    attempt: Any = Field(exclude=True)

    def _next(self, messages: list[BaseMessage]) -> AIMessage:
        self.attempt.body()
        return super()._next(messages)


class _CountedCompletion(ScriptedCompletionModel):
    attempt: Any = Field(exclude=True)

    def _call(self, *args: Any, **kwargs: Any) -> str:
        self.attempt.body()
        return super()._call(*args, **kwargs)


class _CountedRetriever(ScriptedRetriever):
    attempt: Any = Field(exclude=True)

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun
    ) -> list[Document]:
        self.attempt.body()
        return super()._get_relevant_documents(query, run_manager=run_manager)

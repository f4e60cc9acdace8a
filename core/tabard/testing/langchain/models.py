"""Scripted LangChain models and retrievers: real dispatch, no network, no key."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from langchain_core.callbacks import CallbackManagerForLLMRun, CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.language_models.llms import LLM
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import Runnable
from pydantic import Field


def call_tool(name: str, arguments: dict[str, Any], *, call_id: str = "call-1") -> AIMessage:
    """What a model says when it wants a tool to be called."""
    call = {"name": name, "args": arguments, "id": call_id, "type": "tool_call"}
    return AIMessage(content="", tool_calls=[call])


class ScriptedChatModel(BaseChatModel):
    """A chat model that plays a script: one message a call, the last one again and again.

    Attributes:
        script: What it says.
        model_name: The name it goes by.
        provider: The provider it claims to be from.
        max_tokens: The limit it sets to its answers, or None.
        fails_with: What every call raises, or None.
        calls: How often it was really called.
        seen: The messages of each call.
    """

    script: list[AIMessage]
    model_name: str = "gpt-4o"
    provider: str = "openai"
    max_tokens: int | None = None
    fails_with: Exception | None = None
    calls: int = 0
    seen: list[list[BaseMessage]] = Field(default_factory=list)

    @property
    def _llm_type(self) -> str:
        return "scripted"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        limit = {} if self.max_tokens is None else {"max_tokens": self.max_tokens}
        return {"model_name": self.model_name, **limit}

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> Any:
        parameters = super()._get_ls_params(stop=stop, **kwargs)
        return {**parameters, "ls_provider": self.provider}

    def bind_tools(
        self, tools: Sequence[Any], **kwargs: Any
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """A script needs no tool descriptions."""
        return self

    def _next(self, messages: list[BaseMessage]) -> AIMessage:
        message = self.script[min(self.calls, len(self.script) - 1)]
        self.calls += 1
        self.seen.append(list(messages))
        if self.fails_with is not None:
            raise self.fails_with
        return message.model_copy(deep=True)

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        message = self._next(messages)
        message.response_metadata["model_name"] = self.model_name
        return ChatResult(generations=[ChatGeneration(message=message)])

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        message = self._next(messages)
        words = str(message.content).split(" ")
        for position, word in enumerate(words):
            last = position == len(words) - 1
            chunk = AIMessageChunk(
                content=word if last else word + " ",
                tool_calls=message.tool_calls if last else [],
                usage_metadata=message.usage_metadata if last else None,
            )
            if run_manager is not None:
                run_manager.on_llm_new_token(word, chunk=ChatGenerationChunk(message=chunk))
            yield ChatGenerationChunk(message=chunk)


class ScriptedCompletionModel(LLM):
    """A completion model that always gives the same answer.

    Attributes:
        answer: What it says.
        model_name: The name it goes by.
        max_tokens: The limit it sets to its answers, or None.
        calls: How often it was really called.
    """

    answer: str = "done"
    model_name: str = "gpt-3.5-turbo-instruct"
    max_tokens: int | None = None
    calls: int = 0

    @property
    def _llm_type(self) -> str:
        return "scripted"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        limit = {} if self.max_tokens is None else {"max_tokens": self.max_tokens}
        return {"model_name": self.model_name, **limit}

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> Any:
        parameters = super()._get_ls_params(stop=stop, **kwargs)
        return {**parameters, "ls_provider": "openai"}

    def _call(
        self,
        prompt: str,
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> str:
        self.calls += 1
        return self.answer


class ScriptedRetriever(BaseRetriever):
    """A retriever that always finds the same documents.

    Attributes:
        found: What it finds.
        calls: How often it really searched.
    """

    found: list[Document] = Field(default_factory=list)
    calls: int = 0

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun
    ) -> list[Document]:
        self.calls += 1
        return list(self.found)

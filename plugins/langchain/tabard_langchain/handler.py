"""The callback handler: admits every tool, model and retriever call of a chain before it runs.

It sees what LangChain tells handlers: tool arguments as they were passed, before the tool's schema
has validated them and filled in defaults. `protect(tool)` sees the arguments that run.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any, Self
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.outputs import LLMResult
from langchain_core.tools import ToolException

from tabard import (
    AccessDenied,
    NotPermitted,
    Permit,
    Retrieval,
    Session,
    ToolCall,
    admit,
)
from tabard_langchain.answer_id import read_provider_id
from tabard_langchain.handover import Handover, hand_over
from tabard_langchain.identity import CurrentSessions, check_session, is_bound
from tabard_langchain.model import UNKNOWN, admit_model, refuse_unknown
from tabard_langchain.progress import OpenPermits
from tabard_langchain.refusal import refuse_unreadable
from tabard_langchain.search import NAME, search_in
from tabard_langchain.usage import read_failed_usage, read_traced_usage, read_usage

SINGLE_INPUT = "input"
"""The argument's name in the policy when a tool is called with plain text."""


class TabardCallbackHandler(BaseCallbackHandler):
    """Asks the guard before each tool, model and retriever call; a refusal stops the call.

    Its hooks are synchronous and inline on purpose: LangChain only logs what an asynchronous hook
    raises, and would run the tool.
    """

    _session: Session | None
    _permits: OpenPermits
    _within: CurrentSessions

    def __new__(cls, *args: object, **kwargs: object) -> Self:
        """Refuse a subclass that could let a call through.

        Checked here, and not only when the class is made: a mixin can swallow that.

        Raises:
            TypeError: It redefines a hook or a switch that enforcement rests on.
        """
        _refuse_redefinition(cls)
        return super().__new__(cls)

    def __init__(self, session: Session | None = None) -> None:
        """Set up a handler.

        Args:
            session: Whose calls these are; default the session that is current at each call.

        Raises:
            ConfigurationError: It is no session.
        """
        check_session("TabardCallbackHandler", session)
        super().__init__()
        # Past `__setattr__`, which keeps everybody else from replacing them.
        object.__setattr__(self, "_session", session)
        object.__setattr__(self, "_permits", OpenPermits())
        object.__setattr__(self, "_within", CurrentSessions(watches=session is not None))

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Refuse a subclass that could let a call through.

        Raises:
            TypeError: It redefines a hook or a switch that enforcement rests on.
        """
        super().__init_subclass__(**kwargs)
        _refuse_redefinition(cls)

    def __setattr__(self, name: str, value: object) -> None:
        """Refuse to replace a hook or a switch on one object, too.

        Raises:
            AttributeError: It is one of those that enforcement rests on.
        """
        if name in _FIXED:
            raise AttributeError(f"`{name}` of a TabardCallbackHandler is fixed")
        super().__setattr__(name, value)

    def __deepcopy__(self, memo: object) -> Self:
        """The handler itself, so that a model or tool that holds one can be copied."""
        return self

    @property
    def raise_error(self) -> bool:  # type: ignore[override]  # a plain attribute can be switched off
        """Always true: otherwise LangChain logs a refusal and runs the tool."""
        return True

    @property
    def run_inline(self) -> bool:  # type: ignore[override]  # a plain attribute can be switched off
        """Always true: otherwise async paths skip or delay the hook."""
        return True

    def _caller(self, parent: UUID | None) -> Session | None:
        """Whose calls these are, None for who is current: see `identity`."""
        return None if is_bound() or self._within.has_changed(parent) else self._session

    def on_tool_start(
        self,
        serialized: dict[str, Any],
        input_str: str,
        *,
        run_id: UUID,
        inputs: dict[str, Any] | None = None,
        tool_call_id: str | None = None,
        parent_run_id: UUID | None = None,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Admit a tool call.

        Raises:
            AccessDenied: It is refused.
        """

        def ask() -> Permit:
            # Never the event's `name`: a caller can set it by `run_name`.
            name = serialized["name"]
            # One copy for decision and handover: the caller may still hold the nested parts.
            arguments = {SINGLE_INPUT: input_str} if inputs is None else copy.deepcopy(inputs)
            permit = admit(ToolCall(name, arguments, call_id=tool_call_id), session=caller)
            hand_over(Handover(self._permits, run_id, arguments, permit))
            return permit

        caller = self._caller(parent_run_id)
        event = (serialized, metadata)
        self._within.begin(run_id)
        if self._permits.share(run_id, event, caller):
            return
        hand_over(None)
        self._admit(run_id, event, ask, caller)

    def on_retriever_start(
        self,
        serialized: dict[str, Any] | None,
        query: str,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Admit a retrieval, under the name `ls_retriever_name` that the retriever gives itself.

        Raises:
            AccessDenied: It is refused.
        """

        def ask() -> Permit:
            # Never the event's `name`: a caller can set it by `run_name`.
            source = str((metadata or {}).get(NAME) or UNKNOWN)
            search = search_in(metadata)
            if search is not None and search.is_for_another():
                # Inside a protected retriever: one that writes no name of its own has none.
                source, search = UNKNOWN, None
            if search is not None:
                permit = search.ask(source, query, caller)
                search.lend(query, permit)
            else:
                permit = admit(Retrieval(source, query), session=caller)
            if source == UNKNOWN:
                refuse_unknown(permit, "no_grant")
            return permit

        caller = self._caller(parent_run_id)
        event = (query, metadata)
        if not self._permits.share(run_id, event, caller):
            self._admit(run_id, event, ask, caller)

    def on_chat_model_start(
        self,
        serialized: dict[str, Any],
        messages: list[list[Any]],
        *,
        run_id: UUID,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Admit a call of a chat model.

        Raises:
            AccessDenied: It is refused.
        """
        self._admit_model(run_id, serialized, metadata, kwargs, messages)

    def on_llm_start(
        self,
        serialized: dict[str, Any],
        prompts: list[str],
        *,
        run_id: UUID,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Admit a call of a completion model.

        Raises:
            AccessDenied: It is refused.
        """
        self._admit_model(run_id, serialized, metadata, kwargs, prompts)

    def on_chain_start(
        self,
        serialized: dict[str, Any] | None,
        inputs: Any,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        metadata: dict[str, Any] | None = None,
        run_type: str | None = None,
        **kwargs: Any,
    ) -> None:
        """Admit a model that LangChain announces as a chain (decision models).

        Raises:
            AccessDenied: It is refused.
        """
        self._within.begin(run_id)
        # Inside a model's run the labels are that model's, handed down.
        labelled = "ls_model_type" in (metadata or {}) and self._permits.get(parent_run_id) is None
        if run_type == "llm" or labelled:
            self._admit_model(
                run_id, serialized, metadata, {**kwargs, "parent_run_id": parent_run_id}, inputs
            )

    def on_llm_new_token(self, token: Any, *, run_id: UUID, **kwargs: Any) -> None:
        """Stop a stream that goes on past the limit the call was admitted, and held for, with.

        Raises:
            NotPermitted: It does; what has been written by then is charged at the whole hold.
        """
        if isinstance(token, str) and self._permits.is_past_limit(run_id, token):
            raise NotPermitted(
                code="model.max_output_tokens",
                reason="the answer is longer than the limit the call was admitted with",
            )

    def on_tool_end(self, output: Any, *, run_id: UUID, **kwargs: Any) -> None:
        """Record that the tool has returned, or that its error was turned into a message."""
        self._within.end(run_id)
        if getattr(output, "status", None) == "error":
            self._permits.fail(run_id, ToolException())
        else:
            self._permits.settle(run_id, getattr(output, "content", output))

    def on_retriever_end(self, documents: Any, *, run_id: UUID, **kwargs: Any) -> None:
        """Record that the retriever has returned."""
        self._permits.settle(run_id, documents)

    def on_chain_end(self, outputs: Any, *, run_id: UUID, **kwargs: Any) -> None:
        """Record that a model announced as a chain has returned."""
        self._within.end(run_id)
        self._permits.settle(run_id, usage=read_traced_usage(outputs))

    def on_llm_end(self, response: LLMResult, *, run_id: UUID, **kwargs: Any) -> None:
        """Record that the model has answered, and how many tokens it says it took."""
        self._permits.settle(
            run_id, usage=read_usage(response), provider_id=read_provider_id(response)
        )

    def on_tool_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        """Record that the tool has failed."""
        self._within.end(run_id)
        self._permits.fail(run_id, error)

    def on_retriever_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        """Record that the retriever has failed."""
        self._permits.fail(run_id, error)

    def on_chain_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        """Record that a model announced as a chain has failed."""
        self._within.end(run_id)
        self._permits.fail(run_id, error)

    def on_llm_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        """Record that the model has failed, or that its stream was broken off."""
        self._permits.fail(run_id, error, usage=read_failed_usage(error, kwargs.get("response")))

    def _admit_model(
        self,
        run_id: UUID,
        serialized: Mapping[str, Any] | None,
        metadata: Mapping[str, Any] | None,
        event: Mapping[str, Any],
        inputs: object,
    ) -> None:
        # Async managers put the messages of a call into a list of its own for each handler.
        asked = (inputs[0] if isinstance(inputs, list) and inputs else inputs, metadata)
        caller = self._caller(event.get("parent_run_id"))
        if self._permits.share(run_id, asked, caller):
            return
        parameters = event.get("invocation_params")
        self._admit(
            run_id,
            asked,
            lambda: admit_model(serialized, parameters, metadata, inputs, session=caller),
            caller,
        )

    def _admit(
        self,
        run_id: UUID,
        event: tuple[object, ...],
        ask: Callable[[], Permit],
        caller: Session | None,
    ) -> None:
        """Admit and remember the permit; whatever goes wrong on the way is a refusal."""
        try:
            self._permits.add(run_id, event, ask())
        except AccessDenied:
            raise
        except Exception as error:
            refuse_unreadable(error, session=caller)


def _refuse_redefinition(kind: type) -> None:
    """Refuse a class in whose bases one of the fixed names is not ours.

    Raises:
        TypeError: There is one.
    """
    added = set(kind.__mro__).difference(TabardCallbackHandler.__mro__)  # with every mixin
    changed = sorted(_FIXED.intersection(name for base in added for name in vars(base)))
    if changed:
        raise TypeError(
            f"{kind.__name__} redefines {', '.join(changed)}: a subclass could fail open; "
            "add a handler of your own beside this one"
        )


_FIXED = frozenset(name for name in vars(TabardCallbackHandler) if not name.startswith("__")) | {
    "__class__",
    "__new__",
    "__getattr__",
    "__getattribute__",
    "__init_subclass__",
    "__setattr__",
    "_permits",
    "_session",
    "_within",
    "ignore_agent",
    "ignore_chain",
    "ignore_chat_model",
    "ignore_custom_event",
    "ignore_llm",
    "ignore_retriever",
    "ignore_retry",
}

"""The callback handler: admits every tool, model and retriever call of a chain before it runs.

It sees what LangChain tells handlers: tool arguments as they were passed, before the tool's schema
has validated them and filled in defaults. `protect(tool)` sees the arguments that run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NoReturn
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.outputs import LLMResult

from tabard import AccessDenied, GuardUnavailable, Retrieval, Session, ToolCall, admit
from tabard.arguments import plain_arguments
from tabard.ticket import Ticket, hand_over
from tabard_langchain.model import admit_model
from tabard_langchain.progress import OpenCalls

SINGLE_INPUT = "input"
"""The argument's name in the policy when a tool is called with plain text."""


class TabardCallbackHandler(BaseCallbackHandler):
    """Asks the guard before each tool, model and retriever call; a refusal stops the call.

    Its hooks are synchronous and inline on purpose: LangChain only logs what an asynchronous hook
    raises, and would run the tool.
    """

    def __init__(self, session: Session | None = None) -> None:
        """Set up a handler.

        Args:
            session: Whose calls these are; default the session that is current at each call.
        """
        super().__init__()
        self._session = session
        self._open = OpenCalls()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Refuse a subclass that could let a call through.

        Raises:
            TypeError: It redefines a hook or a switch that enforcement rests on.
        """
        super().__init_subclass__(**kwargs)
        changed = sorted(_FIXED & cls.__dict__.keys())
        if changed:
            raise TypeError(
                f"{cls.__name__} redefines {', '.join(changed)}: a subclass could fail open; "
                "add a handler of your own beside this one"
            )

    @property
    def raise_error(self) -> bool:  # type: ignore[override]  # a plain attribute can be switched off
        """Always true: otherwise LangChain logs a refusal and runs the tool."""
        return True

    @property
    def run_inline(self) -> bool:  # type: ignore[override]  # a plain attribute can be switched off
        """Always true: otherwise async paths skip or delay the hook."""
        return True

    def on_tool_start(
        self,
        serialized: dict[str, Any],
        input_str: str,
        *,
        run_id: UUID,
        inputs: dict[str, Any] | None = None,
        tool_call_id: str | None = None,
        **kwargs: Any,
    ) -> None:
        """Admit a tool call.

        Raises:
            AccessDenied: It is refused.
        """

        def ask() -> Ticket:
            # Never the event's `name`: a caller can set it by `run_name`.
            name = serialized["name"]
            arguments = {SINGLE_INPUT: input_str} if inputs is None else inputs
            action = ToolCall(name, arguments, call_id=tool_call_id)
            permit = admit(action, session=self._session)
            return Ticket(name, plain_arguments(arguments), permit)

        hand_over(None)
        hand_over(self._admit(run_id, ask))

    def on_retriever_start(
        self,
        serialized: dict[str, Any] | None,
        query: str,
        *,
        run_id: UUID,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Admit a retrieval, under the name `ls_retriever_name` that the retriever gives itself.

        Raises:
            AccessDenied: It is refused.
        """

        def ask() -> Ticket:
            # Never the event's `name`: a caller can set it by `run_name`.
            source = str((metadata or {}).get("ls_retriever_name") or "unknown")
            permit = admit(Retrieval(source, query), session=self._session)
            return Ticket(permit.action.name, {}, permit)

        self._admit(run_id, ask)

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
        self._admit_model(run_id, serialized, metadata, kwargs)

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
        self._admit_model(run_id, serialized, metadata, kwargs)

    def on_chain_start(
        self,
        serialized: dict[str, Any] | None,
        inputs: Any,
        *,
        run_id: UUID,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Admit a model that LangChain announces as a chain (decision models).

        Raises:
            AccessDenied: It is refused.
        """
        if metadata and "ls_model_type" in metadata:
            self._admit_model(run_id, serialized, metadata, kwargs)

    def on_tool_end(self, output: Any, *, run_id: UUID, **kwargs: Any) -> None:
        """Record that the tool has returned."""
        self._open.settle(run_id)

    def on_retriever_end(self, documents: Any, *, run_id: UUID, **kwargs: Any) -> None:
        """Record that the retriever has returned."""
        self._open.settle(run_id)

    def on_chain_end(self, outputs: Any, *, run_id: UUID, **kwargs: Any) -> None:
        """Record that a model announced as a chain has returned."""
        self._open.settle(run_id)

    def on_llm_end(self, response: LLMResult, *, run_id: UUID, **kwargs: Any) -> None:
        """Record that the model has answered, and how many tokens it says it took."""
        self._open.settle(run_id, usage=_usage_of(response))

    def on_tool_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        """Record that the tool has failed."""
        self._open.fail(run_id, error)

    def on_retriever_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        """Record that the retriever has failed."""
        self._open.fail(run_id, error)

    def on_chain_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        """Record that a model announced as a chain has failed."""
        self._open.fail(run_id, error)

    def on_llm_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        """Record that the model has failed, or that its stream was broken off."""
        self._open.fail(run_id, error)

    def _admit_model(
        self,
        run_id: UUID,
        serialized: Mapping[str, Any] | None,
        metadata: Mapping[str, Any] | None,
        event: Mapping[str, Any],
    ) -> None:
        def ask() -> Ticket:
            parameters = event.get("invocation_params")
            permit = admit_model(serialized, parameters, metadata, session=self._session)
            return Ticket(permit.action.name, {}, permit)

        self._admit(run_id, ask)

    def _admit(self, run_id: UUID, ask: Callable[[], Ticket]) -> Ticket:
        """Admit and remember the ticket; whatever goes wrong on the way is a refusal."""
        try:
            ticket = ask()
            self._open.add(run_id, ticket)
        except AccessDenied:
            raise
        except Exception as error:
            _refuse(error)
        return ticket


_FIXED = frozenset(
    name for name in TabardCallbackHandler.__dict__ if name.startswith("on_") or name[0] != "_"
) | {
    "_admit",
    "_admit_model",
    "__init_subclass__",
    "__getattribute__",
    "__getattr__",
    "ignore_agent",
    "ignore_chain",
    "ignore_chat_model",
    "ignore_custom_event",
    "ignore_llm",
    "ignore_retriever",
    "ignore_retry",
}


def _refuse(error: Exception) -> NoReturn:
    kind = type(error).__name__
    raise GuardUnavailable(
        code="hook", reason=f"the call could not be translated into an action: {kind}"
    ) from None


def _usage_of(response: LLMResult) -> Mapping[str, int] | None:
    """The tokens a provider reports; None when it reports none."""
    try:
        message = getattr(response.generations[0][0], "message", None)
        usage = getattr(message, "usage_metadata", None) or {}
        return {name: count for name, count in usage.items() if isinstance(count, int)} or None
    except (AttributeError, IndexError, TypeError):
        return None

"""Middleware for `create_agent`: a refusal reaches the model as a message, and the agent goes on.

What enforces is the callback handler, which the middleware brings along: it is asked where the tool
or the model really runs, behind every other middleware. So a middleware that rewrites arguments
after this one changes nothing, and the order in the list does not matter for what is allowed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from langchain.agents.middleware import AgentMiddleware, ModelRequest, ModelResponse
from langchain_core.messages import ToolMessage
from langgraph.config import get_config
from langgraph.types import Command, interrupt

from tabard import (
    AccessDenied,
    ApprovalRequired,
    Session,
    ToolCall,
    admit,
    current_session,
)
from tabard_langchain.identity import check_session, work_as
from tabard_langchain.net import asking

if TYPE_CHECKING:  # it has moved since langchain 1.0
    from langchain.agents.middleware.types import ToolCallRequest

_Answer = ToolMessage | Command[Any]


class TabardMiddleware(AgentMiddleware[Any, Any]):
    """Asks the guard about every model and tool call of an agent.

    * A refused tool comes back as `ToolMessage(status="error")` with the reason, and the agent goes
      on; a refused model call raises, as there is nobody to go on.
    * The model is only told of tools the agent may use at all.
    * Where a person has to agree first, the graph is interrupted (LangGraph's `interrupt`, which
      needs a checkpointer) with the request's id, and resumes once somebody has answered.

    ```python
    agent = create_agent(model, tools, middleware=[TabardMiddleware()])
    with guard.login(source):
        agent.invoke(question)
    ```
    """

    def __init__(self, session: Session | None = None) -> None:
        """Set up the middleware.

        Args:
            session: Whose calls these are; default the session that is current at each call.

        Raises:
            ConfigurationError: It is no session.
        """
        check_session("TabardMiddleware", session)
        super().__init__()
        self._session = session

    def wrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], ModelResponse[Any]]
    ) -> ModelResponse[Any]:
        """Call the model with the tools the agent may use, if it may call it.

        Raises:
            AccessDenied: It may not.
        """
        with self._as_caller():
            return handler(self._without_hidden(request))

    async def awrap_model_call(
        self,
        request: ModelRequest[Any],
        handler: Callable[[ModelRequest[Any]], Awaitable[ModelResponse[Any]]],
    ) -> ModelResponse[Any]:
        """The same in an event loop.

        Raises:
            AccessDenied: It may not.
        """
        with self._as_caller():
            return await handler(self._without_hidden(request))

    def wrap_tool_call(
        self, request: ToolCallRequest, handler: Callable[[ToolCallRequest], _Answer]
    ) -> _Answer:
        """Run a tool, or tell the model why not."""
        try:
            with self._as_caller():
                self._check_known(request)
                try:
                    return handler(request)
                except ApprovalRequired as question:
                    self._ask_person(question, request)
                    return handler(request)
        except AccessDenied as refusal:
            return _told(refusal, request)

    async def awrap_tool_call(
        self, request: ToolCallRequest, handler: Callable[[ToolCallRequest], Awaitable[_Answer]]
    ) -> _Answer:
        """The same in an event loop."""
        try:
            with self._as_caller():
                self._check_known(request)
                try:
                    return await handler(request)
                except ApprovalRequired as question:
                    self._ask_person(question, request)
                    return await handler(request)
        except AccessDenied as refusal:
            return _told(refusal, request)

    @contextmanager
    def _as_caller(self) -> Iterator[None]:
        """The handler that asks, and the session whose calls these are, for one block."""
        with asking(), nullcontext() if self._session is None else work_as(self._session):
            yield

    def _check_known(self, request: ToolCallRequest) -> None:
        """Put a call of a tool that is not there on record, whatever the policy says of its name.

        Raises:
            AccessDenied: The policy does not allow the name.
        """
        if request.tool is None:
            call = request.tool_call
            action = ToolCall(call["name"], call["args"], call_id=call["id"])
            admit(action, session=self._session).fail("UnknownTool")

    def _ask_person(self, question: ApprovalRequired, request: ToolCallRequest) -> None:
        """Interrupt the graph until somebody has answered.

        Raises:
            ApprovalRequired: The graph cannot be interrupted: it has no checkpointer.
            GraphInterrupt: For LangGraph.
        """
        asked = {
            "type": "tabard.approval",
            "request": question.request,
            "tool": request.tool_call["name"],
            "rule": question.rule,
            "reason": question.reason,
        }
        if not _can_wait():
            raise question
        interrupt(asked)

    def _without_hidden(self, request: ModelRequest[Any]) -> ModelRequest[Any]:
        """The request without the tools that would be refused whatever their arguments."""
        session = self._session or current_session()
        if session is None:
            return request
        shown = [tool for tool in request.tools if session.guard.lists(_name(tool), session)]
        return request if len(shown) == len(request.tools) else request.override(tools=shown)


def _can_wait() -> bool:
    """Whether this graph keeps its state, so that it can be resumed; else an interrupt ends it."""
    try:
        return get_config().get("configurable", {}).get("__pregel_checkpointer") is not None
    except RuntimeError:
        return False  # outside of a graph


def _name(tool: Any) -> str:
    """The name a tool goes by; what a provider runs itself goes by its type."""
    if isinstance(tool, dict):
        function = tool.get("function")
        named = function.get("name") if isinstance(function, dict) else None
        return str(named or tool.get("name") or tool.get("type") or "")
    return str(getattr(tool, "name", ""))


def _told(refusal: AccessDenied, request: ToolCallRequest) -> ToolMessage:
    call = request.tool_call
    return ToolMessage(
        f"Denied: {refusal.reason} (code: {refusal.code})",
        name=call["name"],
        tool_call_id=call["id"] or "",
        status="error",
    )

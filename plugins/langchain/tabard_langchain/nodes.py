"""A `ToolNode` of LangGraph that asks the guard, for graphs without `create_agent`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from langchain_core.tools import BaseTool
from langgraph.prebuilt import ToolNode

from tabard import ConfigurationError, Session
from tabard_langchain.middleware import TabardMiddleware

_WRAPPERS = ("wrap_tool_call", "awrap_tool_call")


def tool_node(
    tools: Sequence[BaseTool], *, session: Session | None = None, **options: Any
) -> ToolNode:
    """A `ToolNode` whose every tool call is admitted first; a refusal is told to the model.

    ```python
    graph.add_node("tools", tool_node([query, pay]))
    ```

    Args:
        tools: The tools.
        session: Whose calls these are; default the session current at the time of each call.
        options: Everything else `ToolNode` takes, such as `handle_tool_errors`.

    Raises:
        ConfigurationError: It brings a wrapper of its own, or `session` is none.
    """
    taken = [name for name in _WRAPPERS if name in options]
    if taken:
        raise ConfigurationError(
            f"tool_node: `{taken[0]}` is what asks the guard; put a wrapper of your own around "
            "TabardMiddleware().wrap_tool_call and use ToolNode"
        )
    around = TabardMiddleware(session)
    return ToolNode(
        tools,
        wrap_tool_call=around.wrap_tool_call,
        awrap_tool_call=around.awrap_tool_call,
        **options,
    )

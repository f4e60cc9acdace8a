"""Protects a LangChain tool itself, whichever way it is called."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from langchain_core.tools import BaseTool

from tabard import ConfigurationError, Session
from tabard_langchain.gate import Gate, is_guarded, outside, outside_async
from tabard_langchain.identity import check_session
from tabard_langchain.parameters import Parameters

_Tool = TypeVar("_Tool", bound=BaseTool)

_FIELDS = ("func", "coroutine")
_METHODS = ("_run", "_arun")
_ENTRIES = (
    *("invoke", "ainvoke", "run", "arun", "batch", "abatch"),
    *("stream", "astream", "transform", "atransform", "__call__"),
)


def protect(tool: _Tool, *, session: Session | None = None) -> _Tool:
    """A copy of a tool that asks the guard before its body runs, on every way into it.

    It stays a tool of the same class with the same schema. The guard decides on the arguments as
    they will run: validated, with their defaults, and with what the host application injects
    (`InjectedToolArg`); what LangChain and LangGraph inject themselves is left out. The body gets
    its own copy of them, so nothing can change them after the decision.

    It covers what callbacks cannot see: `tool.func(...)`, `callbacks=[]`, bare threads (which have
    no current session, and are refused unless `session` is given). The original stays unguarded.
    With a `TabardCallbackHandler` as well, a call is admitted once, and a second time only if its
    arguments are not those the handler saw (a default filled in, a value injected).

    ```python
    @protect
    @tool
    def query(table: str) -> str: ...
    ```

    Args:
        tool: The tool. One that is protected already is returned as it is.
        session: Whose calls these are; default the session current at the time of each call.

    Raises:
        ConfigurationError: It is not a LangChain tool, or one whose body cannot be guarded.
    """
    if not isinstance(tool, BaseTool):
        raise ConfigurationError(_not_a_tool(tool))
    check_session("protect", session)
    for entry in _ENTRIES:
        if _is_own(tool, entry):
            raise ConfigurationError(
                f"protect: {type(tool).__name__} overrides `{entry}`, so its body may run outside "
                "of `_run`; guard the function that does the work with `guard.protect`"
            )
    return _guarded_copy(tool, session)


def protect_all(tools: Iterable[BaseTool], *, session: Session | None = None) -> list[BaseTool]:
    """Protect several tools: see `protect`.

    Args:
        tools: The tools.
        session: Whose calls these are; default the session current at the time of each call.

    Raises:
        ConfigurationError: One of them is not a LangChain tool, or cannot be guarded.
    """
    if isinstance(tools, BaseTool) or not isinstance(tools, Iterable):
        raise ConfigurationError("protect_all: expected a list of tools; for one, `protect`")
    return [protect(tool, session=session) for tool in tools]


def _guarded_copy(tool: _Tool, session: Session | None) -> _Tool:
    """Put a gate in front of the tool's functions, and of the methods its class has of its own."""
    own = [name for name in _METHODS if _is_own(tool, name)]
    fields = [n for n in _FIELDS if n in type(tool).model_fields and getattr(tool, n) is not None]
    if not own and not fields:
        raise ConfigurationError(f"protect: the tool {tool.name!r} has nothing that could run")
    if all(is_guarded(getattr(tool, name)) for name in (*own, *fields)):
        if session is not None:
            raise ConfigurationError(f"protect: {tool.name!r} is protected already, without it")
        return tool
    copied = tool.model_copy()
    members = vars(copied)  # what is put here is found before the class's own methods
    gate = Gate(lambda: copied.name, session=session, passes_self_calls=bool(own))
    for name in (*own, *fields):
        inner = getattr(copied, name)
        if not is_guarded(inner):
            wrap = gate.wrap_async if name in ("coroutine", "_arun") else gate.wrap
            members[name] = wrap(inner, Parameters.of(inner, copied.args_schema))
    if own:
        members["run"] = outside(type(copied).run.__get__(copied))
        members["arun"] = outside_async(type(copied).arun.__get__(copied))
    return copied


def _is_own(tool: BaseTool, name: str) -> bool:
    """Whether a method is defined by the tool's own class and not by LangChain's."""
    for kind in type(tool).__mro__:
        if name in vars(kind):
            return kind.__module__.partition(".")[0] not in ("langchain_core", "builtins")
    return False


def _not_a_tool(tool: object) -> str:
    """What to do instead, for the message."""
    found = f"protect: expected a LangChain tool, found {type(tool).__name__}"
    if callable(tool):
        return f"{found}; put `@protect` above `@tool`, or guard it with `guard.protect`"
    return found

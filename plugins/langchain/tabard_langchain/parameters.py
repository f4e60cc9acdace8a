"""The parameters of a tool's function: which ones a policy decides on, and which it never sees."""

from __future__ import annotations

import copy
import functools
import inspect
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from langchain_core.runnables import RunnableConfig
from langchain_core.tools import InjectedToolArg, InjectedToolCallId

_BY_NAME = frozenset({"callbacks", "run_manager"})  # LangChain fills these in by their names alone
_FRAMEWORKS = ("langchain", "langchain_core", "langgraph")
_ANYTHING = inspect.Signature(
    [
        inspect.Parameter("args", inspect.Parameter.VAR_POSITIONAL),
        inspect.Parameter("kwargs", inspect.Parameter.VAR_KEYWORD),
    ]
)
_SCALARS = (str, int, float, bool, type(None))


@dataclass(frozen=True, slots=True)
class Prepared:
    """One call, with arguments that nobody else can change.

    Attributes:
        args: The positional arguments to run with.
        kwargs: The keyword arguments to run with.
        decided: The arguments by name, as they will run, for the decision.
        injected: Names in `decided` that the host application supplied.
    """

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    decided: dict[str, Any]
    injected: frozenset[str]


@dataclass(frozen=True, slots=True)
class Parameters:
    """How to read the arguments of one function.

    Attributes:
        signature: Of the function, without `self`.
        framework: What LangChain and LangGraph fill in; no policy sees it.
        host: What the host application fills in (`InjectedToolArg`); decided when it is JSON.
        preset: What a `functools.partial` holds already.
    """

    signature: inspect.Signature
    framework: frozenset[str]
    host: frozenset[str]
    preset: frozenset[str]

    @classmethod
    def of(cls, function: Callable[..., Any], schema: object) -> Parameters:
        """Read a function's signature and the tool's argument schema."""
        try:
            signature = inspect.signature(function)
        except (TypeError, ValueError):  # a builtin tells nothing
            signature = _ANYTHING
        framework, host = set[str](), set[str]()
        for name, annotation in _annotations(function, signature, schema):
            owner = _owner(annotation)
            if owner == "framework":
                framework.add(name)
            elif owner == "host":
                host.add(name)
        preset = frozenset(getattr(function, "keywords", None) or ())
        return cls(signature, frozenset(framework), frozenset(host - framework), preset)

    def prepare(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Prepared:
        """Bind a call and copy everything that is decided on, so that it runs as decided.

        Raises:
            TypeError: The arguments do not fit the function.
            ValueError: A name occurs twice.
        """
        bound = self.signature.bind(*args, **kwargs)
        given = frozenset(bound.arguments)
        for name in given:
            kind = self.signature.parameters[name].kind
            bound.arguments[name] = self._copied(name, bound.arguments[name], kind)
        running = (bound.args, bound.kwargs)
        bound.apply_defaults()
        decided: dict[str, Any] = {}
        for name, value in self._named(bound.arguments, unseen=self.preset - given):
            if self._is_left_out(name, value, came=self._came(name, value, given)):
                continue
            if name in decided:
                raise ValueError("an argument name occurs twice")
            decided[name] = value
        told = {name for name, value in decided.items() if self._came(name, value, given)}
        return Prepared(*running, decided, self.host.intersection(decided) - told)

    def _came(self, name: str, value: Any, given: frozenset[str]) -> bool:
        """Whether a value came with the call, and not from a default.

        A model can send a parameter it was never shown, and nothing tells that from the host's:
        so what came with the call is judged like any other argument.
        """
        parameter = self.signature.parameters.get(name)
        if parameter is None:
            return True
        return name in given and not _same(parameter.default, value)

    def _copied(self, name: str, value: Any, kind: Any) -> Any:
        if kind is inspect.Parameter.VAR_KEYWORD:
            single = inspect.Parameter.KEYWORD_ONLY
            return {key: self._copied(key, item, single) for key, item in value.items()}
        return value if self._is_left_out(name, value, came=True) else copy.deepcopy(value)

    def _is_left_out(self, name: str, value: Any, *, came: bool) -> bool:
        """Whether an argument is the framework's, or an object of the host's that is no data.

        With `came`, it came with the call, so a model may have sent it: `False` counts, too.
        """
        if name in self.framework:
            return True
        if name in _BY_NAME:  # LangChain passes None where it has none
            came = came and value is not None
        elif name not in self.host:
            return False
        # A model can send a name LangChain uses elsewhere, but not an object.
        return not ((came or value) and _is_plain(value))

    def _named(
        self, arguments: Mapping[str, Any], *, unseen: frozenset[str]
    ) -> Iterator[tuple[str, Any]]:
        """Every argument by name but the unseen; `**kwargs` spread, `*args` as a list."""
        for name, parameter in self.signature.parameters.items():
            if parameter.kind is inspect.Parameter.VAR_KEYWORD:
                yield from arguments[name].items()
            elif parameter.kind is inspect.Parameter.VAR_POSITIONAL:
                if arguments[name]:
                    yield name, list(arguments[name])
            elif name not in unseen:
                yield name, arguments[name]


def resolve_hints(function: Callable[..., Any]) -> dict[str, Any]:
    """The annotations of a function, a partial or a callable object; {} if one is unresolvable."""
    source: Any = function
    while isinstance(source, functools.partial):
        source = source.func
    if not inspect.isroutine(source):
        source = type(source).__call__
    try:
        return typing.get_type_hints(source, include_extras=True)
    except Exception:
        # Without a hint a parameter counts as the model's: refused sooner than passed over.
        return {}


def _annotations(
    function: Callable[..., Any], signature: inspect.Signature, schema: object
) -> Iterator[tuple[str, Any]]:
    """Every annotation the function and the schema give a parameter, resolved where possible."""
    hints = resolve_hints(function)
    for name, parameter in signature.parameters.items():
        yield name, hints.get(name, parameter.annotation)
    for name, field in getattr(schema, "model_fields", {}).items():
        yield name, field.annotation
        for mark in field.metadata:
            yield name, typing.Annotated[Any, mark]


def _owner(annotation: Any) -> str | None:
    """Who fills in a parameter with this annotation: `framework`, `host`, or None: the model."""
    base = typing.get_origin(annotation)
    if base is typing.Annotated:
        marks = [m if isinstance(m, type) else type(m) for m in annotation.__metadata__]
        injected = [m for m in marks if issubclass(m, InjectedToolArg)]
        if not injected:
            return _owner(annotation.__origin__)
        return "framework" if any(map(_is_frameworks_own, injected)) else "host"
    if base in (typing.Union, types.UnionType):
        owners = {_owner(choice) for choice in typing.get_args(annotation)}
        return "framework" if "framework" in owners else None
    if annotation is RunnableConfig or _is_runtime(base or annotation):
        return "framework"
    return None


def _is_frameworks_own(mark: type) -> bool:
    """Whether the mark is one that LangChain or LangGraph act on, such as `InjectedState`."""
    if mark is InjectedToolArg:
        return False
    return issubclass(mark, InjectedToolCallId) or mark.__module__.split(".")[0] in _FRAMEWORKS


def _is_runtime(kind: Any) -> bool:
    """Whether it is `ToolRuntime`, whose base LangChain keeps private."""
    bases = kind.__mro__ if isinstance(kind, type) else ()
    return any(base.__name__ == "_DirectlyInjectedToolArg" for base in bases)


def _same(default: Any, value: Any) -> bool:
    """Whether a value is its default: `1` is not `True`."""
    return type(default) is type(value) and bool(default == value)


def _is_plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(isinstance(k, str) and _is_plain(v) for k, v in value.items())
    if isinstance(value, list):
        return all(_is_plain(item) for item in value)
    return isinstance(value, _SCALARS)

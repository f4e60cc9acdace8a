"""The hooks around a model call.

CrewAI calls the model when a hook raises anything but `HookAborted`, so nothing else leaves.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from crewai.hooks import HookAborted

from tabard import AccessDenied, ModelCall
from tabard.budget import MESSAGE_TOKENS, TOOLS_TOKENS, add_tokens, most_tokens
from tabard_crewai.caller import admit_of_agent, admit_of_model
from tabard_crewai.models import ModelCalls
from tabard_crewai.refusal import refuse_admitted, untranslatable

SOURCE = "tabard"
_UNKNOWN = "unknown"
_LIMITS = ("max_tokens", "max_completion_tokens")
"""What providers call the limit of an answer."""

_NAMES = (
    "model", "model_name", "model_id", "modelId", "models", "fallbacks",
    "engine", "deployment", "deployment_id", "deployment_name", "azure_deployment",
)  # fmt: skip
_PASSED_ON = ("additional_params", "extra_body", "extra_json", "model_kwargs")

model_calls = ModelCalls()
"""The model calls of this process that have no outcome yet."""


def before_model(context: Any) -> None:
    """Admit a model call, or abort it.

    Raises:
        HookAborted: It is refused, for whatever reason.
    """
    try:
        call = _call_of(context.llm, _most_read(context), _most_written(context.llm))
        if context.agent is None:
            permit = admit_of_model(call, context.llm)
        else:
            permit = admit_of_agent(call, context.agent, context.crew)
        if call.name == _UNKNOWN:
            raise refuse_admitted(
                permit,
                code="model",
                reason="the model's name cannot be established; its class has to have a `model`",
            )
        model_calls.begin(context, permit)
    except AccessDenied as refusal:
        raise HookAborted(f"{refusal.code}: {refusal.reason}", SOURCE) from None
    except Exception as error:
        raise HookAborted(untranslatable(error).reason, SOURCE) from None


def _most_read(context: Any) -> int | None:
    """The most tokens the call can read: its messages, and the tools of whoever calls."""
    counts = [add_tokens([MESSAGE_TOKENS, most_tokens(message)]) for message in context.messages]
    tools = [t for holder in (context.agent, context.task) for t in _tools(holder)]
    if tools:
        counts += [TOOLS_TOKENS, *(most_tokens(_described(tool)) for tool in tools)]
    return add_tokens(counts)


def _tools(holder: Any) -> list[Any]:
    return list(getattr(holder, "tools", None) or ())


def _described(tool: Any) -> object:
    """What a provider is told of a tool."""
    schema = getattr(tool, "args_schema", None)
    described = schema.model_json_schema() if schema is not None else {}
    return [str(getattr(tool, "name", "")), str(getattr(tool, "description", "")), described]


def _most_written(llm: Any) -> int | None:
    """The limit the model object sets to its answers, for every answer it asks for."""
    more = getattr(llm, "additional_params", None)
    limits = [getattr(llm, name, None) for name in _LIMITS]
    limits += [more.get(name) for name in _LIMITS] if isinstance(more, dict) else []
    whole = [limit for limit in limits if type(limit) is int and limit > 0]
    answers = getattr(llm, "n", None)
    return max(whole) * (answers if type(answers) is int and answers > 1 else 1) if whole else None


def _call_of(llm: Any, read: int | None = None, written: int | None = None) -> ModelCall:
    """The model as `provider/model`.

    A slash in the model's own name is no provider: through a router, `openai/gpt-4o` is
    `openrouter/openai/gpt-4o`, and who is granted the one is not granted the other.
    """
    name = llm if isinstance(llm, str) else getattr(llm, "model", None)
    if not isinstance(name, str) or not name:
        return ModelCall(_UNKNOWN)
    provider = getattr(llm, "provider", None)
    name = str.__str__(name)  # plain, where it is an enum's
    if not all(_is_same(name, provider, one) for one in _named_beside(llm)):
        return ModelCall(_UNKNOWN)
    if not isinstance(provider, str) or not provider or name.startswith(f"{provider}/"):
        return ModelCall(name, input_tokens=read, max_output_tokens=written)
    return ModelCall(
        name, provider=str.__str__(provider), input_tokens=read, max_output_tokens=written
    )


def _named_beside(llm: Any) -> Iterator[object]:
    """Whatever stands where a provider looks for a model beside the object's own name.

    CrewAI merges `additional_params` over the model's name, and the SDK does it with `extra_body`.
    """
    for name in _PASSED_ON:
        yield from _named_in(getattr(llm, name, None))


def _named_in(passed_on: object) -> Iterator[object]:
    if not isinstance(passed_on, dict):
        yield passed_on
        return
    for name in _NAMES:
        value = passed_on.get(name)
        yield from value if isinstance(value, list | tuple) else [value]
    for name in _PASSED_ON:
        yield from _named_in(passed_on.get(name))


def _is_same(name: str, provider: object, other: object) -> bool:
    return other is None or (isinstance(other, str) and other in ("", name, f"{provider}/{name}"))


def after_model(context: Any) -> None:
    """Record that the model has answered."""
    model_calls.end(context)


def after_execution(context: Any) -> None:
    """Record that calls the crew has made and nothing was heard of are over."""
    model_calls.close(getattr(context, "crew", None), getattr(context, "flow", None))


def after_event(source: Any, event: Any) -> None:
    """Record how a call ended that CrewAI runs no hook after; it tells of its end all the same."""
    model_calls.heard_of(source)

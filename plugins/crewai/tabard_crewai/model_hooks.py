"""The hooks around a model call.

CrewAI calls the model when a hook raises anything but `HookAborted`, so nothing else leaves.
"""

from __future__ import annotations

from typing import Any

from crewai.hooks import HookAborted

from tabard import AccessDenied, ModelCall, admit
from tabard_crewai.bound import session_of
from tabard_crewai.models import ModelCalls
from tabard_crewai.refusal import refuse_admitted, untranslatable

SOURCE = "tabard"
_UNKNOWN = "unknown"

model_calls = ModelCalls()
"""The model calls of this process that have no outcome yet."""


def before_model(context: Any) -> None:
    """Admit a model call, or abort it.

    Raises:
        HookAborted: It is refused, for whatever reason.
    """
    try:
        call = _call_of(context.llm)
        permit = admit(call, session=session_of(context.agent))
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


def _call_of(llm: Any) -> ModelCall:
    """The model as `provider/model`.

    A slash in the model's own name is no provider: through a router, `openai/gpt-4o` is
    `openrouter/openai/gpt-4o`, and who is granted the one is not granted the other.
    """
    name = llm if isinstance(llm, str) else getattr(llm, "model", None)
    if not isinstance(name, str) or not name:
        return ModelCall(_UNKNOWN)
    provider = getattr(llm, "provider", None)
    if not isinstance(provider, str) or not provider or name.startswith(f"{provider}/"):
        return ModelCall(name)
    return ModelCall(name, provider=provider)


def after_model(context: Any) -> None:
    """Record that the model has answered."""
    model_calls.end(context)


def after_execution(context: Any) -> None:
    """Record that calls the crew has made and nothing was heard of are over."""
    model_calls.close(getattr(context, "crew", None), getattr(context, "flow", None))

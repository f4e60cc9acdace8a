"""A scripted CrewAI model: real crews, real dispatch, no network, no key."""

from __future__ import annotations

import json
from typing import Any

from crewai import BaseLLM
from pydantic import PrivateAttr

Step = str | tuple[str, dict[str, Any]] | list[tuple[str, dict[str, Any]]]
"""A final answer; or a tool call; or (native only) several tool calls at once."""


class ScriptedLLM(BaseLLM):
    """A model that plays a script: one step a call, the last one again and again.

    Attributes:
        script: What it says.
        native: Whether it asks for tools in the provider's own form, or in text (ReAct).
    """

    script: list[Any]
    native: bool = True
    _calls: int = PrivateAttr(default=0)
    _seen: list[list[dict[str, Any]]] = PrivateAttr(default_factory=list)

    @property
    def calls(self) -> int:
        """How often it was really called."""
        return self._calls

    @property
    def seen(self) -> list[list[dict[str, Any]]]:
        """The messages of each call."""
        return self._seen

    def call(self, messages: Any, *args: Any, **kwargs: Any) -> Any:
        """Play the next step."""
        shown = (
            [dict(m) for m in messages] if isinstance(messages, list) else [{"content": messages}]
        )
        if not self._invoke_before_llm_call_hooks(shown, kwargs.get("from_agent")):  # type: ignore[arg-type]
            raise ValueError("blocked by a hook")
        step: Step = self.script[min(self._calls, len(self.script) - 1)]
        self._calls += 1
        self._seen.append(shown)
        self._track_token_usage_internal(
            {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
        )
        return self._say(step)

    async def acall(self, messages: Any, *args: Any, **kwargs: Any) -> Any:
        """Play the next step."""
        return self.call(messages, *args, **kwargs)

    def _say(self, step: Step) -> Any:
        if isinstance(step, str):
            return step if self.native else f"Thought: I know.\nFinal Answer: {step}"
        calls = step if isinstance(step, list) else [step]
        if self.native:
            return [_native_call(number, name, args) for number, (name, args) in enumerate(calls)]
        name, arguments = calls[0]
        return f"Thought: I need it.\nAction: {name}\nAction Input: {json.dumps(arguments)}"

    def supports_function_calling(self) -> bool:
        """Whether tools are asked for natively."""
        return self.native

    def supports_stop_words(self) -> bool:
        """A script does not stop early."""
        return False

    def get_context_window_size(self) -> int:
        """Large enough for any script."""
        return 100_000


def _native_call(number: int, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": f"call-{number}",
        "type": "function",
        "function": {"name": name, "arguments": json.dumps(arguments)},
    }

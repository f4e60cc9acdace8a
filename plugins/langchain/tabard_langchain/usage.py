"""The tokens a model run used, as far as the provider told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def read_usage(response: Any) -> dict[str, int] | None:
    """Input and output tokens of a chat or completion model's answer; None when nobody tells."""
    try:
        for generation in (g for batch in response.generations for g in batch):
            used = getattr(getattr(generation, "message", None), "usage_metadata", None)
            if used:
                return _tokens(used, "input_tokens", "output_tokens")
        output = response.llm_output or {}
        return _tokens(output.get("token_usage") or {}, "prompt_tokens", "completion_tokens")
    except Exception:
        # The call is over and nothing is left to stop; its outcome goes on record without usage.
        return None


def read_traced_usage(outputs: Any) -> dict[str, int] | None:
    """The same of a decision model's answer, which reports it as `usage`."""
    used = getattr(outputs, "usage", None)
    return _tokens(used, "input_tokens", "output_tokens") if isinstance(used, Mapping) else None


def _tokens(used: Mapping[str, Any], read: str, written: str) -> dict[str, int] | None:
    if used.get("total_cost") == 0:
        return {"input_tokens": 0, "output_tokens": 0}  # answered from LangChain's cache
    counts = {"input_tokens": used.get(read), "output_tokens": used.get(written)}
    return {name: count for name, count in counts.items() if isinstance(count, int)} or None

"""The tokens a model run used, as far as the provider told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from langchain_core.messages import BaseMessageChunk
from langchain_core.outputs import GenerationChunk

_CONTENT = ("content", "tool_calls", "invalid_tool_calls", "additional_kwargs", "usage_metadata")
"""Where a message has what a provider wrote."""


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


def read_failed_usage(error: BaseException, partial: Any) -> dict[str, int] | None:
    """What a failed call took: nothing when the provider refused it; else nobody can tell.

    A provider that answers with an HTTP error has written nothing. Whatever was broken off later
    may have been billed, so it is charged at its estimate.
    """
    try:
        status = getattr(error, "status_code", None)
        if type(status) is int and 400 <= status < 600 and not _has_begun(partial):
            return {"input_tokens": 0, "output_tokens": 0}
    except Exception:
        return None  # an odd error is charged like any other
    return None


def _has_begun(partial: Any) -> bool:
    """Whether a part of an answer is there, thoughts included.

    LangChain also wraps the error into an answer: one that is no chunk, and has nothing in it.
    """
    batches = getattr(partial, "generations", None) or []
    return any(
        _is_part(generation)
        for batch in batches
        for generation in (batch if isinstance(batch, list) else [batch])
    )


def _is_part(generation: Any) -> bool:
    message = getattr(generation, "message", None)
    if isinstance(message, BaseMessageChunk) or isinstance(generation, GenerationChunk):
        return True  # the provider has sent something, whatever it is
    return bool(generation.text) or any(getattr(message, name, None) for name in _CONTENT)


def _tokens(used: Mapping[str, Any], read: str, written: str) -> dict[str, int] | None:
    if used.get("total_cost") == 0:
        return {"input_tokens": 0, "output_tokens": 0}  # answered from LangChain's cache
    details = used.get("input_token_details")
    cached = details if isinstance(details, Mapping) else {}
    counts = {
        "input_tokens": used.get(read),
        "output_tokens": used.get(written),
        "cache_read_tokens": cached.get("cache_read"),
        "cache_write_tokens": cached.get("cache_creation"),
    }
    told = {name: count for name, count in counts.items() if isinstance(count, int)}
    # No answer takes no tokens: all zeros are those of a provider that does not count.
    return told if any(told.values()) else None

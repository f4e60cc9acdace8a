"""What the provider calls its answer, so that a bill or a complaint can be traced to an agent."""

from __future__ import annotations

from typing import Any

_LANGCHAINS_OWN = ("run-", "run--", "lc_run")
"""How ids begin that LangChain gives a message where the provider gave none."""


def read_provider_id(response: Any) -> str | None:
    """The provider's id of a chat or completion model's answer; None when nobody tells."""
    try:
        for generation in (g for batch in response.generations for g in batch):
            message = getattr(generation, "message", None)
            told = getattr(message, "response_metadata", None) or {}
            for found in (told.get("id"), told.get("request_id"), getattr(message, "id", None)):
                if isinstance(found, str) and found and not found.startswith(_LANGCHAINS_OWN):
                    return found
        found = (response.llm_output or {}).get("id")
        return found if isinstance(found, str) else None
    except Exception:
        # The call is over; it goes on record without the provider's name for it.
        return None

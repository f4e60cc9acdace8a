"""How providers are spoken to: where the key goes, and which requests are calls of a model.

Everything that is no model call is refused: files, batches, stored answers and fine-tuning are
shared by all who use the key, and cost what nobody has admitted.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Kind = Literal["chat", "text", "responses", "messages", "gemini", "embedding"]
"""What a body has to say: where it names its limits, tools and stored parts."""

_SEGMENT = r"([A-Za-z0-9][A-Za-z0-9._-]{0,199})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """One provider's way.

    Attributes:
        provider: What frameworks call the provider; the first part of a model's name in a policy.
        base_url: Where its API is, if that is the same for everybody.
        header: The header that bears the key.
        prefix: What stands in front of the key there.
        endpoints: The path of each model call below the base URL, as a pattern whose group is the
            model, and what kind of body it takes.
        query: What may stand in the query.
    """

    provider: str
    base_url: str | None
    header: str
    prefix: str = ""
    endpoints: Mapping[str, Kind]
    query: frozenset[str] = frozenset()

    def find(self, path: str) -> tuple[Kind, str | None] | None:
        """The kind of call a path below the base URL is, and the model it names, if it does."""
        for pattern, kind in self.endpoints.items():
            found = re.fullmatch(pattern, path, re.ASCII)
            if found is not None:
                return kind, found[1] if found.groups() else None
        return None


_OPENAI: dict[str, Kind] = {
    "/chat/completions": "chat",
    "/completions": "text",
    "/responses": "responses",
    "/embeddings": "embedding",
}

DIALECTS: Mapping[str, Dialect] = {
    "openai": Dialect(
        provider="openai",
        base_url="https://api.openai.com/v1",
        header="authorization",
        prefix="Bearer ",
        endpoints=_OPENAI,
    ),
    "azure": Dialect(
        provider="azure",
        base_url=None,
        header="api-key",
        endpoints={
            **{f"/openai/deployments/{_SEGMENT}{path}": kind for path, kind in _OPENAI.items()},
            **{f"/openai/v1{path}": kind for path, kind in _OPENAI.items()},
            "/openai/responses": "responses",
        },
        query=frozenset({"api-version"}),
    ),
    "anthropic": Dialect(
        provider="anthropic",
        base_url="https://api.anthropic.com",
        header="x-api-key",
        endpoints={"/v1/messages": "messages"},
        query=frozenset({"beta"}),
    ),
    "gemini": Dialect(
        provider="google_genai",
        base_url="https://generativelanguage.googleapis.com",
        header="x-goog-api-key",
        endpoints={
            f"/v1(?:beta)?/models/{_SEGMENT}:(?:generate|streamGenerate)Content": "gemini",
            f"/v1(?:beta)?/models/{_SEGMENT}:embedContent": "embedding",
        },
        query=frozenset({"alt"}),
    ),
}
"""By the name one chooses the API with."""

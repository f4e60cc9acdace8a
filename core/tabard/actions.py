"""What is about to happen: values that name a call, free of any framework.

>>> ToolCall("claims_db.query", {"table": "claims"}).name
'claims_db.query'
>>> ModelCall("gpt-4o", provider="openai").name
'openai/gpt-4o'
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class ToolCall:
    """An agent is about to run a tool.

    Attributes:
        name: The tool's name as registered, for example `claims_db.query`.
        arguments: The arguments as they will run. Read during admission, never changed or kept.
        injected: Names in `arguments` that the host application supplied, not the model. They may
            be constrained by a grant, and are not refused for being unknown to it.
        call_id: The framework's or provider's id of this call, for correlation only.
    """

    name: str
    arguments: Mapping[str, object] = field(default_factory=dict, repr=False)
    injected: frozenset[str] = field(default=frozenset(), kw_only=True)
    call_id: str | None = field(default=None, kw_only=True)

    kind = "tool"


@dataclass(frozen=True, slots=True)
class ModelCall:
    """An agent is about to call a model.

    Attributes:
        model: The model's name as the provider knows it, or `provider/model`.
        provider: The provider's name, for example `openai`; joined to the model with a slash.
        input_tokens: The most tokens the call can read; None when nobody knows. Needed by budgets.
        max_output_tokens: The limit the call sets to the answer; None when it sets none.
        call_id: The framework's id of this call, for correlation only.
    """

    model: str
    provider: str | None = field(default=None, kw_only=True)
    input_tokens: int | None = field(default=None, kw_only=True)
    max_output_tokens: int | None = field(default=None, kw_only=True)
    call_id: str | None = field(default=None, kw_only=True)

    kind = "model"

    @property
    def name(self) -> str:
        """The name a policy matches: `provider/model`, or the model alone."""
        return f"{self.provider}/{self.model}" if self.provider else self.model


@dataclass(frozen=True, slots=True)
class Retrieval:
    """An agent is about to search a document source.

    A policy grants it like a tool, under the name `retrieval.<source>`, with the argument `query`
    and whatever narrows the search.

    Attributes:
        source: The retriever's name.
        query: What is searched for.
        narrowing: What narrows the search, each an argument of its own: `{"filter.claimant_id":
            "C-1"}`.
        injected: Names in `narrowing` that the host application supplied, as with a `ToolCall`.
        call_id: The framework's id of this call, for correlation only.
    """

    source: str
    query: str = field(default="", repr=False)
    narrowing: Mapping[str, object] = field(default_factory=dict, repr=False, kw_only=True)
    injected: frozenset[str] = field(default=frozenset(), kw_only=True)
    call_id: str | None = field(default=None, kw_only=True)

    kind = "retrieval"

    @property
    def name(self) -> str:
        """The name a policy matches: `retrieval.<source>`."""
        return f"retrieval.{self.source}"

    @property
    def arguments(self) -> Mapping[str, object]:
        """The arguments a grant can constrain."""
        return {**self.narrowing, "query": self.query}


@dataclass(frozen=True, slots=True)
class Delegation:
    """An agent is about to hand work to another agent.

    Attributes:
        to: The name of the agent that takes over.
        tools: The tools and retrievers that are handed over, as names or patterns.
        models: The models; None leaves them to the policies.
        ttl: Seconds it lasts; None when nothing is handed over yet.
        spiffe_id: The identity of that agent, where it is named by that; a proof is then about it.
        call_id: The framework's id of this call, for correlation only.
    """

    to: str
    tools: tuple[str, ...] = field(default=(), kw_only=True)
    models: tuple[str, ...] | None = field(default=None, kw_only=True)
    ttl: float | None = field(default=None, kw_only=True)
    spiffe_id: str | None = field(default=None, kw_only=True)
    call_id: str | None = field(default=None, kw_only=True)

    kind = "delegation"

    @property
    def name(self) -> str:
        """The name a policy matches: the other agent's name."""
        return self.to

    @property
    def arguments(self) -> Mapping[str, object]:
        """What is handed over: on record, and part of what a proof is about."""
        if self.ttl is None:
            return {}
        models = None if self.models is None else list(self.models)
        return {"tools": list(self.tools), "models": models, "ttl": float(self.ttl)}


Action = ToolCall | ModelCall | Retrieval | Delegation

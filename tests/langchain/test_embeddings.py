"""Embedding models: LangChain tells nobody of their calls, so they ask by themselves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from langchain_core.embeddings import DeterministicFakeEmbedding, Embeddings

from tabard import AccessDenied, Authority, ConfigurationError, Guard
from tabard_langchain import protect_embeddings

POLICY = """\
version: 1
currency: EUR
prices: {openai/embedder: {input: "10000", output: "0", currency: EUR}}
agents:
  claims-agent:
    models: {allow: [openai/embedder]}
    budgets: [{per: session, limit: "1.00"}]
  analytics-agent: {models: {allow: [openai/other]}}
"""


@pytest.fixture
def policy_text() -> str:
    return POLICY


class Counted(DeterministicFakeEmbedding):
    """An embedding model with a name, that counts."""

    model: str = "embedder"
    calls: int = 0

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        self.calls += 1
        return super().embed_documents(texts)

    def embed_query(self, text: str) -> list[float]:
        self.calls += 1
        return [0.1]


PATHS: dict[str, Callable[[Embeddings], Any]] = {
    "embed_query": lambda e: e.embed_query("hi"),
    "aembed_query": lambda e: asyncio.run(e.aembed_query("hi")),
    "embed_documents": lambda e: e.embed_documents(["hi"]),
    "aembed_documents": lambda e: asyncio.run(e.aembed_documents(["hi"])),
}


@pytest.fixture
def model() -> Counted:
    return Counted(size=4)


@pytest.mark.parametrize("path", PATHS)
class TestPaths:
    def test_allowed(self, path: str, model: Counted, guard: Guard, authority: Authority) -> None:
        """It is called once, and held and charged for by what it can read."""
        with guard.login(authority.issue("claims-agent")):
            PATHS[path](protect_embeddings(model, provider="openai"))
        outcome = [r for r in guard.records() if r["type"] == "model.outcome"]
        assert model.calls >= 1
        assert [r["action"]["name"] for r in outcome] == ["openai/embedder"]
        assert outcome[0]["cost"]["estimated"] is True

    @pytest.mark.parametrize("who", [None, "analytics-agent"])
    def test_refused(
        self, path: str, who: str | None, model: Counted, guard: Guard, authority: Authority
    ) -> None:
        """B8: nobody, or an agent that may not, embeds nothing."""
        found = protect_embeddings(model, provider="openai")
        if who is None:
            with pytest.raises(AccessDenied, match="no_identity"):
                PATHS[path](found)
        else:
            with guard.login(authority.issue(who)), pytest.raises(AccessDenied, match="model"):
                PATHS[path](found)
        assert model.calls == 0


def test_budget(model: Counted, guard: Guard, authority: Authority) -> None:
    """A text that may cost more than there is left is not sent."""
    found = protect_embeddings(model, provider="openai")
    with guard.login(authority.issue("claims-agent")), pytest.raises(AccessDenied) as caught:
        found.embed_documents(["x" * 1_000])
    assert caught.value.code == "budget"
    assert model.calls == 0


def test_name_switched_later(model: Counted, guard: Guard, authority: Authority) -> None:
    """The name counts that the object has when it is called."""
    found = protect_embeddings(model, provider="openai")
    model.model = "dearer"
    with guard.login(authority.issue("claims-agent")), pytest.raises(AccessDenied, match="model"):
        found.embed_query("hi")
    assert model.calls == 0


@pytest.mark.parametrize(
    "misuse",
    [
        lambda: protect_embeddings(lambda texts: []),  # type: ignore[arg-type]
        lambda: protect_embeddings(DeterministicFakeEmbedding(size=2), provider="openai"),
        lambda: protect_embeddings(Counted(size=2)),
        lambda: protect_embeddings(Counted(size=2), model="other", provider="openai"),
        lambda: protect_embeddings(Counted(size=2), provider="openai", session="x"),  # type: ignore[arg-type]
        lambda: protect_embeddings(protect_embeddings(Counted(size=2), provider="openai")),
    ],
)
def test_misuse(misuse: Callable[[], object]) -> None:
    with pytest.raises(ConfigurationError):
        misuse()

"""Protects an embedding model, whose calls LangChain tells nobody about."""

from __future__ import annotations

import re
from typing import Any

from langchain_core.embeddings import Embeddings

from tabard import ConfigurationError, ModelCall, Permit, Session, admit
from tabard.budget import add_tokens, most_tokens
from tabard_langchain.identity import check_session

_NAMES = ("model", "model_name", "model_id")
_PROVIDER = re.compile(r"langchain_(\w+)")


def protect_embeddings(
    embeddings: Embeddings,
    *,
    model: str | None = None,
    provider: str | None = None,
    session: Session | None = None,
) -> Embeddings:
    """An embedding model that asks the guard before each call, as for any model.

    It is decided as `provider/model` and held for by the most it can read. What it really reads no
    embedding class of LangChain tells, so the estimate is charged.

    Args:
        embeddings: The embedding model. The original stays unguarded.
        model: Its name; default the object's own `model`, `model_name` or `model_id`.
        provider: Its provider; default that of the package (`langchain_openai`: `openai`).
        session: Whose calls these are; default the session current at the time of each call.

    Raises:
        ConfigurationError: It is no embedding model, its name or provider cannot be established, or
            another name is given than the object has.
    """
    if not isinstance(embeddings, Embeddings) or isinstance(embeddings, GuardedEmbeddings):
        found = type(embeddings).__name__
        raise ConfigurationError(f"protect_embeddings: expected an embedding model, found {found}")
    check_session("protect_embeddings", session)
    own = _own_name(embeddings)
    if model is not None and own is not None and model != own:
        raise ConfigurationError(f"protect_embeddings: the model is `{own}`, not `{model}`")
    if not (own or model):
        raise ConfigurationError("protect_embeddings: the model does not tell its name: `model=`")
    made_by = provider or _provider(embeddings)
    if made_by is None:
        raise ConfigurationError("protect_embeddings: whose model is it? `provider=`")
    return GuardedEmbeddings(embeddings, model=model, provider=made_by, session=session)


class GuardedEmbeddings(Embeddings):
    """An embedding model behind the guard; made by `protect_embeddings`."""

    def __init__(
        self, inner: Embeddings, *, model: str | None, provider: str, session: Session | None
    ) -> None:
        self._inner = inner
        self._model = model
        self._provider = provider
        self._session = session

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Embed texts, if the agent may."""
        kept = list(texts)
        with self._admit(kept):
            return self._inner.embed_documents(kept)

    async def aembed_documents(self, texts: list[str]) -> list[list[float]]:
        """The same in an event loop."""
        kept = list(texts)
        with self._admit(kept):
            return await self._inner.aembed_documents(kept)

    def embed_query(self, text: str) -> list[float]:
        """Embed a question, if the agent may."""
        with self._admit([text]):
            return self._inner.embed_query(text)

    async def aembed_query(self, text: str) -> list[float]:
        """The same in an event loop."""
        with self._admit([text]):
            return await self._inner.aembed_query(text)

    def _admit(self, texts: list[str]) -> Permit:
        """Admit one call; the name is read now, as the object may have been switched since."""
        call = ModelCall(
            _own_name(self._inner) or self._model or "",
            provider=self._provider,
            input_tokens=add_tokens(most_tokens(text) for text in texts),
            max_output_tokens=0,
        )
        return admit(call, session=self._session)


def _own_name(embeddings: Any) -> str | None:
    found = (getattr(embeddings, name, None) for name in _NAMES)
    return next((str.__str__(name) for name in found if isinstance(name, str) and name), None)


def _provider(embeddings: Embeddings) -> str | None:
    found = _PROVIDER.match(type(embeddings).__module__)
    return None if found is None or found[1] == "core" else found[1]
